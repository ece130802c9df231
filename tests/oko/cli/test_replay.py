"""A capture through the rules of files. How packets are decided is tested with the engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oko.replay.capture import Capture, Packet, PortCaptures
from tests.stage import FIREWALL, Stage

FRAME = bytes.fromhex("020000000001 020000000002 0800") + bytes(46)
FLOWS = """
in_port=1 actions=push_vlan:0x8100,set_field:4098->vlan_vid,goto_table:1
table=1,priority=40000,arp,filter_prog=1 actions=drop
table=1 actions=meter:1,group:1,controller
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for name, text in {
        "flows": FLOWS,
        "groups": "group_id=1,type=all,bucket=output:2,bucket=output:3",
        "meters": "meter=1,pktps,bands=type=drop,rate=2",
        "observers": "table=1,filter_prog=1",
    }.items():
        (tmp_path / name).write_text(text)
    with PortCaptures(tmp_path) as captures:
        for number in range(3):
            captures.write(1, Packet(1_700_000_000_000_000_000 + number, FRAME, len(FRAME), 0))
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("prefix", "engine"),
    [
        pytest.param((), "kernel", marks=pytest.mark.needs_bpf),
        (("setpriv", "--bounding-set=-all", "--inh-caps=-all"), "reference"),
    ],
    ids=["kernel", "without the right to load BPF"],
)
def test_tables_groups_and_meters(stage: Stage, prefix: tuple[str, ...], engine: str) -> None:
    files = [
        word for name in ("flows", "groups", "meters", "observers") for word in (f"--{name}", stage.directory / name)
    ]
    out = stage.directory / "out"
    done = Stage(stage.directory, prefix).run(
        *("oko", "replay", stage.directory / "port-1.pcap", "--program", f"1={FIREWALL}", "--in-port", "1"),
        *(*files, "--out-dir", out, "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert ("the reference switch decides" in done.stderr) == (engine == "reference")
    report = json.loads(done.stdout)
    assert report["engine"] == engine
    assert [rule["packets"] for rule in report["rules"]] == [3, 0, 3]
    assert [rule["bytes"] for rule in report["rules"]] == [3 * 60, 0, 3 * 64]
    assert report["ports"] == [{"port": port, "packets": 2, "bytes": 128} for port in (2, 3)]
    assert (report["told"], report["drops"]) == (2, {"meter": 1})
    assert report["programs"][0]["runs"] == 3
    with Capture(out / "port-3.pcap") as capture:
        assert [packet.data for packet in capture] == [FRAME[:12] + bytes.fromhex("81000002") + FRAME[12:]] * 2


BOTH = pytest.mark.parametrize(
    "prefix",
    [
        pytest.param((), id="kernel", marks=pytest.mark.needs_bpf),
        pytest.param(("setpriv", "--bounding-set=-all", "--inh-caps=-all"), id="reference"),
    ],
)


@pytest.fixture
def listed(stage: Stage) -> tuple[str | Path, ...]:
    """A replay of three packets from 10.0.0.1 to 10.0.0.2, with the blocklist as program 1."""
    datagram = bytes.fromhex("45000014 00000000 40110000 0a000001 0a000002")
    frame = (FRAME[:12] + b"\x08\x00" + datagram).ljust(60, b"\0")
    with PortCaptures(stage.directory / "ip") as captures:
        for number in range(3):
            captures.write(1, Packet(number, frame, len(frame), 0))
    (stage.directory / "flows").write_text("filter_prog=1,actions=drop")
    return (
        *("oko", "replay", stage.directory / "ip" / "port-1.pcap", "--flows", stage.directory / "flows", "--json"),
        *("--program", f"1={FIREWALL.with_name('blocklist.o')}"),
    )


SOURCE = ("1.prefixes", "key\n10.0.0.1/32\n")
DESTINATION = ("1.prefixes", "key\n10.0.0.2/32\n")
LOOKED_AT = "key,value.config.side,value.config.counts\n0,DESTINATION,true\n"


@BOTH
@pytest.mark.parametrize(
    ("maps", "matches"),
    [
        pytest.param([DESTINATION], 0, id="entries that do not match"),
        pytest.param([SOURCE, DESTINATION], 3, id="a map twice"),
        pytest.param([DESTINATION, ("1.config", LOOKED_AT)], 3, id="the configuration by its suffix"),
    ],
)
def test_maps(
    stage: Stage,
    listed: tuple[str | Path, ...],
    prefix: tuple[str, ...],
    maps: list[tuple[str, str]],
    matches: int,
) -> None:
    words = []
    for number, (name, text) in enumerate(maps):
        (stage.directory / f"{number}.csv").write_text(text)
        words.append(f"--map={name}={stage.directory / str(number)}.csv")
    done = Stage(stage.directory, prefix).run(*listed, *words)
    assert done.returncode == 0, done.stderr
    assert [program["matches"] for program in json.loads(done.stdout)["programs"]] == [matches]


MANY = "".join(f"{number},SOURCE\n" for number in range(2))


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        pytest.param("1.prefixes", "key\n10.0.0.1\nx\n", "m.csv, line 3: 'x' is no prefix", id="key"),
        pytest.param("1.prefix", "key\n", "program 1 has no map 'prefix'; it has: prefixes, config", id="map"),
        pytest.param("2.prefixes", "key\n", "of program 2: give that with --program", id="program"),
        pytest.param("1.config", f"key,value.config.side\n{MANY}", "beyond its 1 entries", id="beyond the array"),
    ],
)
def test_maps_that_are_refused(
    stage: Stage, listed: tuple[str | Path, ...], name: str, text: str, complaint: str
) -> None:
    (stage.directory / "m.csv").write_text(text)
    assert complaint in stage.error(*listed, f"--map={name}={stage.directory / 'm.csv'}")


@pytest.mark.parametrize("text", ["1=m.csv", "1.prefixes", "0.prefixes=m.csv"])
def test_maps_that_are_not_written_so(stage: Stage, listed: tuple[str | Path, ...], text: str) -> None:
    done = stage.run(*listed, f"--map={text}")
    assert done.returncode == 2
    assert f"'{text}' is no map: write ID.NAME=FILE" in done.stderr


@pytest.mark.needs_bpf
def test_for_people(stage: Stage) -> None:
    (stage.directory / "flows").write_text("actions=meter:1,controller")
    words = [word for name in ("flows", "meters") for word in (f"--{name}", stage.directory / name)]
    lines = stage.output("oko", "replay", stage.directory / "port-1.pcap", *words).splitlines()
    assert lines[0].endswith("port-1.pcap: 3 packets decided in the kernel")
    assert lines[2:] == [
        "PACKETS  BYTES  RULE",
        "      3    180  actions=meter:1,CONTROLLER:65535",
        "given to the controller: 2",
        "dropped, meter: 1",
    ]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("groups", "group_id=1,type=all,bucket=output:2\ngroup_id=x", "groups:2: group_id=x is no number"),
        ("meters", "meter=1", "meters:1: a meter counts kilobits or packets"),
        ("observers", "ip", "observers:1: an observer is a program"),
    ],
)
def test_files_that_cannot_be_read(stage: Stage, name: str, text: str, complaint: str) -> None:
    path = stage.directory / name
    path.write_text(text)
    flows = stage.directory / "flows"
    complained = stage.error(
        *("oko", "replay", stage.directory / "port-1.pcap", "--program", f"1={FIREWALL}", "--flows", flows),
        *(f"--{name}", path),
    )
    assert complaint in complained
