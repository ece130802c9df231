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
