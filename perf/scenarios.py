"""`Scenario`: rules, a filter program with its settings, and the traffic that they are measured with."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from oko.cli.p0f_signatures import map_entries, parse_database
from oko.switch.schema import Value, schema, write
from perf.switches import Entry
from perf.traffic import (
    SERVICES,
    Traffic,
    address,
    backbone,
    capture,
    datagrams,
    destinations,
    new_flows,
    segments,
    syn_flood,
    syns,
)
from perf.xdp import INDEX_0
from verifier import elf
from verifier.program import Program

SAMPLES: Final = Path(__file__).parents[1] / "build" / "bpf"
PROGRAM_ID: Final = 1
PORTS: Final = ("p1", "p2")

_DATABASE: Final = Path("/etc/p0f/p0f.fp")
_SIGNATURES: Final = """\
classes = win,unix
[tcp:request]
label = s:win:Windows:7 or 8
sys = Windows
sig = *:128:0:*:8192,8:mss,nop,ws,nop,nop,sok:df,id+:0
label = s:unix:Linux:3.11 and newer
sys = Linux
sig = *:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0
"""
"""Where p0f's database is not installed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rules` are in the syntax of ovs-ofctl; those with ``filter_prog`` name `program`, a sample program. `by_hand` is
    the baseline that does the same. `addresses` is how many rules there are for the one destination each, if that is
    what the scenario is about."""

    name: str
    text: str
    rules: Sequence[str]
    by_hand: str
    traffic: Callable[[], Traffic]
    program: str | None = None
    addresses: int = 0

    @property
    def plain_rules(self) -> list[str]:
        """The rules of a switch that knows no filter programs."""
        return [re.sub(r"filter_prog=\d+,", "", rule) for rule in self.rules]


def _service_rules() -> list[str]:
    """Twenty: to and from each service. ``services.h`` has the same."""
    return [
        rule
        for port in SERVICES
        for rule in (
            f"in_port=1,tcp,tp_dst={port},filter_prog={PROGRAM_ID},actions=output:2",
            f"in_port=2,tcp,tp_src={port},filter_prog={PROGRAM_ID},actions=output:1",
        )
    ]


_FORWARD: Final = ("in_port=1,actions=output:2", "in_port=2,actions=output:1")
_SERVED: Final = tuple(_service_rules())


def forward(traffic: Callable[[], Traffic], name: str) -> Scenario:
    """Two rules, from port to port."""
    return Scenario(f"forward, {name}", "in_port → output", _FORWARD, "forward", traffic)


def served(program: str, traffic: Callable[[], Traffic], name: str) -> Scenario:
    """Twenty rules with a filter program."""
    text = f"20 rules with the program {program}"
    return Scenario(f"{program}, {name}", text, _SERVED, program, traffic, program)


def addressed(number: int) -> Scenario:
    """As many rules as destinations."""
    rules = [f"ip,nw_dst={address(place)},actions=output:2" for place in range(number)]
    return Scenario(
        f"{number:,} rules",
        "one rule per IPv4 destination, uniform traffic",
        rules,
        "addresses",
        lambda: destinations(number),
        addresses=number,
    )


def scenarios(pcap: Path | None = None, *, full: bool = False) -> list[Scenario]:
    """What is measured; with `full`, all of it. `pcap` takes the place of the backbone's mix."""

    def mix() -> Traffic:
        return backbone() if pcap is None else capture(pcap)

    mix_name = "backbone" if pcap is None else pcap.name
    found = [
        forward(lambda: datagrams(1), "1 flow"),
        served("firewall", lambda: segments(1_000), "1 k flows"),
        served("p0f", lambda: syns(1_000), "1 k hosts"),
        served("token_bucket", lambda: segments(1_000), "1 k flows"),
        addressed(1_000),
    ]
    if not full:
        return found
    return [
        *found,
        forward(lambda: datagrams(1, 512), "512 bytes"),
        forward(lambda: datagrams(1, 1_514), "1514 bytes"),
        forward(lambda: datagrams(1_000_000), "1 M flows"),
        forward(new_flows, "every packet a new flow"),
        forward(mix, mix_name),
        served("firewall", lambda: segments(100_000), "100 k flows"),
        served("firewall", mix, mix_name),
        served("p0f", syn_flood, "SYN flood"),
        served("p0f", mix, mix_name),
        served("token_bucket", lambda: segments(100_000), "100 k flows"),
        served("token_bucket", mix, mix_name),
        addressed(20),
        addressed(100_000),
    ]


# ---- settings of the programs


def settings(name: str) -> list[Entry]:
    """What is written into the maps of a sample program, the same in every setup: the firewall lets port 1 open
    connections, p0f lets through what has not the signature of a Windows, the token bucket's rate is never reached."""
    program = _program(name)
    if name == "firewall":
        return [_configured(program, {"openers": 1 << 1})]
    if name == "token_bucket":
        plenty: Value = {"rate": 1_000_000_000, "burst": 1_000_000_000, "unit": "PACKETS"}
        return [_configured(program, {"otherwise": plenty, "newcomers": {"unit": "UNLIMITED"}})]
    text = _DATABASE.read_text() if _DATABASE.exists() else _SIGNATURES
    entries = map_entries(parse_database(text, str(_DATABASE)), lambda found: "Windows" in found.label, 0)
    return [
        *(_written(program, table, key, value) for table, pairs in entries.items() for key, value in pairs),
        _configured(program, {"invert": True, "others": True}),
    ]


def limited(rate: int, burst: int) -> Entry:
    """The token bucket's configuration with packets per second and burst of every source."""
    limit: Value = {"rate": rate, "burst": burst, "unit": "PACKETS"}
    return _configured(_program("token_bucket"), {"otherwise": limit, "newcomers": {"unit": "UNLIMITED"}})


@cache
def _program(name: str) -> Program:
    return elf.load((SAMPLES / f"{name}.o").read_bytes())


def _configured(program: Program, config: dict[str, Value]) -> Entry:
    spec = next(spec for spec in program.maps if spec.name == ".data.config")
    described = _schema(program, spec.value_type)
    return spec.name, INDEX_0, write(described, {"config": config}, spec.initial)


def _written(program: Program, table: str, key: Value, value: Value) -> Entry:
    spec = next(spec for spec in program.maps if spec.name == table)
    return table, write(_schema(program, spec.key_type), key), write(_schema(program, spec.value_type), value)


def _schema(program: Program, type_id: int) -> Any:
    assert program.btf is not None  # the sample programs are compiled with it
    return schema(program.btf, type_id)
