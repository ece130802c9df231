"""`Scenario`: rules, a filter program with its settings, and the traffic that they are measured with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from oko.cli.p0f_signatures import map_entries, parse_database
from oko.switch.schema import Value, schema, write
from perf.networks import Network, benchmarked, hosts, prefixes
from perf.switches import Entry
from perf.traffic import (
    MOST_VARIANTS,
    SERVICES,
    Traffic,
    backbone,
    capture,
    datagrams,
    destinations,
    everywhere,
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
STAGED: Final = "1 k flows"
"""What the scenarios of filter programs are called whose traffic STAGES has, too."""

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
    the baseline that does the same, if there is one. `networks` are the destinations that there is a rule for each, if
    that is what the scenario is about: what others than switches of OpenFlow are given. `seldom` is one that takes
    minutes to set up, and is measured in one round. So many `processors` send."""

    name: str
    text: str
    rules: Callable[[], Sequence[str]]
    by_hand: str | None
    traffic: Callable[[], Traffic]
    program: str | None = None
    networks: Callable[[], Sequence[Network]] | None = None
    seldom: bool = False
    processors: int = 1

    def plain_rules(self) -> list[str]:
        """The rules of a switch that knows no filter programs."""
        return [re.sub(_NAMED, "", rule) for rule in self.rules()]


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


_NAMED: Final = r"filter_prog=\d+,"
_FORWARD: Final = ("in_port=1,actions=output:2", "in_port=2,actions=output:1")
_MASK_FIELDS: Final = (
    "dl_src=02:00:00:00:00:01",
    "dl_dst=02:00:00:00:00:02",
    "nw_src=0.0.0.0/1",
    "nw_tos=0",
    "tp_src=40000",
    "tp_dst=53",
)
"""What all packets of `everywhere` have: each choice of these is another mask, and matches as well."""
_RULES_OF_A_MASK: Final = 64
_SELDOM: Final = 1_000_000


def forward(traffic: Callable[[], Traffic], name: str) -> Scenario:
    """Two rules, from port to port."""
    return Scenario(f"forward, {name}", "in_port → output", lambda: _FORWARD, "forward", traffic)


def doubled(scenario: Scenario) -> Scenario:
    """The same, with two processors that send."""
    return replace(scenario, name=f"2 processors: {scenario.name}", processors=2)


def served(program: str, traffic: Callable[[], Traffic], name: str) -> Scenario:
    """Twenty rules with a filter program."""
    text = f"20 rules with the program {program}"
    return Scenario(f"{program}, {name}", text, _service_rules, program, traffic, program)


def addressed(number: int) -> Scenario:
    """As many rules as destinations."""
    return Scenario(
        f"{number:,} rules",
        "one rule per IPv4 destination, uniform traffic",
        lambda: [f"ip,nw_dst={network},actions=output:2" for network in hosts(number)],
        "addresses",
        lambda: destinations(number),
        networks=lambda: hosts(number),
        seldom=number >= _SELDOM,
    )


def routed(number: int) -> Scenario:
    """As many rules as prefixes, of which the longest wins."""

    def rules() -> list[str]:
        networks = prefixes(number)
        return [f"priority={each.length},ip,nw_dst={each},actions=output:2" for each in networks]

    return Scenario(
        f"{number:,} prefixes",
        "one rule per IPv4 prefix of 16 to 32 bits, the longest wins; one packet into each in turn",
        rules,
        "prefixes",
        lambda: everywhere([network.first for network in prefixes(number)]),
        networks=lambda: prefixes(number),
    )


def masked(number: int, *, clients: int = 1) -> Scenario:
    """Rules of so many masks, at most 64, that differ in which fields they look at beside the destination."""
    destinations = benchmarked(number * _RULES_OF_A_MASK)

    def rules() -> Iterator[str]:
        for place, network in enumerate(destinations):
            mask = place // _RULES_OF_A_MASK
            fields = [text for bit, text in enumerate(_MASK_FIELDS) if mask >> bit & 1]
            yield ",".join(("udp", f"nw_dst={network}", *fields, "actions=output:2"))

    many = ", every packet a new flow" if clients > 1 else ""
    return Scenario(
        f"{number} masks{many}",
        f"{_RULES_OF_A_MASK} rules of each mask, uniform traffic",
        lambda: list(rules()),
        None,
        lambda: everywhere([network.first for network in destinations], clients=clients),
    )


def staged(name: str, text: str, rules: Sequence[str]) -> Scenario:
    """One step of STAGES."""
    return Scenario(f"stage {name}", text, lambda: rules, None, lambda: segments(1_000))


STAGES: Final = (
    staged("action", "to send a packet on, whatever it is", _FORWARD),
    staged("parse", "and to look at its headers", [f"tcp,tp_src=40000,{rule}" for rule in _FORWARD]),
    staged("lookup", "and to find one of twenty rules", [re.sub(_NAMED, "", rule) for rule in _service_rules()]),
)
"""Each does what the one before it does, and one thing more; a filter program behind the same rules is the next step.
All get the same traffic."""


def scenarios(pcap: Path | None = None, *, full: bool = False) -> list[Scenario]:
    """What is measured; with `full`, all of it. `pcap` takes the place of the backbone's mix."""

    def mix() -> Traffic:
        return backbone() if pcap is None else capture(pcap)

    mix_name = "backbone" if pcap is None else pcap.name
    found = [
        forward(lambda: datagrams(1), "1 flow"),
        served("firewall", lambda: segments(1_000), STAGED),
        served("p0f", lambda: syns(1_000), "1 k hosts"),
        served("token_bucket", lambda: segments(1_000), STAGED),
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
        *STAGES,
        doubled(forward(lambda: datagrams(1), "1 flow")),
        doubled(served("firewall", lambda: segments(100_000), "100 k flows")),
        addressed(1),
        addressed(20),
        addressed(100_000),
        addressed(1_000_000),
        routed(100_000),
        *(masked(number) for number in (1, 4, 16, 64)),
        masked(64, clients=MOST_VARIANTS),
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
