"""One packet explained: with the rules of files, and with those of a running switch."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from oko.replay.capture import Packet, PortCaptures
from tests.stage import BRIDGE, FIREWALL, Stage

PACKET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2")
SYN = bytes(PACKET / TCP(sport=1024, dport=80, flags="S")).hex()
BACK = bytes(
    Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    / IP(src="10.0.0.2", dst="10.0.0.1")
    / TCP(sport=80, dport=1024, flags="SA")
)
FLOWS = """
priority=9,arp actions=flood
priority=8,ip,in_port=1,filter_prog=1 actions=output:2
priority=8,ip,in_port=2,filter_prog=1 actions=meter:1,group:1
priority=1 actions=goto_table:3
table=3 actions=controller
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """The files, and no switch."""
    for name, text in {
        "flows": FLOWS,
        "all": "actions=output:2",
        "groups": "group_id=1,type=all,bucket=output:1",
        "meters": "meter=1,pktps,bands=type=drop,rate=5",
        "observers": "table=3,filter_prog=1",
    }.items():
        (tmp_path / name).write_text(text)
    return Stage(tmp_path)


def words(stage: Stage) -> list[str | Path]:
    """The options that name the files."""
    named = [
        word for name in ("flows", "groups", "meters", "observers") for word in (f"--{name}", stage.directory / name)
    ]
    return [*named, "--program", f"1={FIREWALL}"]


def captured(directory: Path) -> Path:
    """A capture: the packet that opens a connection, and its answer."""
    with PortCaptures(directory) as captures:
        for number, frame in enumerate((bytes.fromhex(SYN), BACK)):
            captures.write(1, Packet(1_700_000_000_000_000_000 + number, frame, len(frame), 0))
    return directory / "port-1.pcap"


@pytest.mark.needs_bpf
def test_a_frame(stage: Stage) -> None:
    lines = stage.output("oko", "trace", *words(stage), "--in-port", "1", SYN).splitlines()
    assert lines[0].startswith("54 bytes: in_port=1, eth_dst=02:00:00:00:00:02,")
    assert lines[1:] == [
        "table 0",
        "  looks at in_port=1, eth_type=0x0800",
        "  not    priority=9,arp actions=FLOOD: eth_type=0x0800, not 0x0806",
        "  program 1 (firewall) runs and says yes",
        "  wins   priority=8,ip,in_port=1,filter_prog=1 actions=output:2",
        "    applies output:2",
        "      output:2",
        "        leaves by port 2, 54 bytes",
        "  end",
        f"sent to port 2: 54 bytes: {SYN}",
        "the image in the kernel agrees",
    ]


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    ("number", "in_port", "verdict", "end"),
    [
        pytest.param("1", "2", "no", "given to the controller, action", id="stranger"),
        pytest.param("2", "2", "no", "given to the controller, action", id="both from outside"),
        pytest.param("1", "1", "yes", "sent to port 2", id="insider"),
    ],
)
def test_a_packet_of_a_capture(stage: Stage, number: str, in_port: str, verdict: str, end: str) -> None:
    path = captured(stage.directory / "captures")
    lines = stage.output(
        "oko", "trace", *words(stage), "--pcap", path, "--packet", number, "--in-port", in_port
    ).splitlines()
    assert any(line.endswith(f"program 1 (firewall) runs and says {verdict}") for line in lines)
    assert any(line.startswith(end) for line in lines)
    assert lines[-1] == "the image in the kernel agrees"


@pytest.mark.needs_bpf
def test_the_packets_before_it_are_known(stage: Stage) -> None:
    """The first packet has emptied the meter."""
    (stage.directory / "flows").write_text("actions=meter:1,output:2")
    (stage.directory / "meters").write_text("meter=1,pktps,bands=type=drop,rate=1")
    path = captured(stage.directory / "captures")
    lines = stage.output("oko", "trace", *words(stage), "--pcap", path, "--packet", "2", "--in-port", "1").splitlines()
    assert "      meter 1: more than 1 packets/s" in lines
    assert lines[-2:] == ["dropped: meter", "the image in the kernel agrees"]


def test_without_the_right_to_load_bpf(stage: Stage) -> None:
    bare = Stage(stage.directory, ("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    lines = bare.output("oko", "trace", "--flows", stage.directory / "all", "--in-port", "1", SYN).splitlines()
    assert lines[-2] == f"sent to port 2: 54 bytes: {SYN}"
    assert lines[-1].startswith("the image in the kernel was not asked: ")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        pytest.param([], "expected BRIDGE and FRAME", id="nothing"),
        pytest.param(["--flows", "flows"], "expected FRAME", id="no frame"),
        pytest.param(["--flows", "flows", "br0", SYN], "expected FRAME", id="flows and bridge"),
        pytest.param(["--flows", "flows", SYN], "say by --in-port", id="no port"),
        pytest.param(["--flows", "flows", "--pcap", "x"], "--pcap and --packet go together", id="no number"),
        pytest.param(["--groups", "g", "--in-port", "1", "br0", SYN], "a BRIDGE has its own", id="bridge and groups"),
    ],
)
def test_wrong_usage(stage: Stage, given: list[str], complaint: str) -> None:
    done = stage.run("oko", "trace", *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("flows", "options", "complaint"),
    [
        pytest.param("filter_prog=3 actions=drop", ["--in-port", "1", SYN], "names program 3", id="program"),
        pytest.param("actions=drop", ["--in-port", "1", "02x"], "the frame '02x' is not hexadecimal", id="hex"),
        pytest.param("actions=drop", ["--in-port", "1", "00" * 5000], "bytes of the frame: 5000 used", id="long"),
        pytest.param(
            "actions=drop", ["--pcap", "PCAP", "--packet", "3"], "it has 2 packets, and no packet 3", id="number"
        ),
        pytest.param("actions=group:7", ["--in-port", "1", SYN], "group 7 is not there", id="group"),
    ],
)
def test_what_cannot_be_traced(stage: Stage, flows: str, options: list[str], complaint: str) -> None:
    path = stage.directory / "flows"
    path.write_text(flows)
    given = [captured(stage.directory / "captures") if word == "PCAP" else word for word in options]
    assert complaint in stage.error("oko", "trace", "--flows", path, *given)


@pytest.mark.needs_bpf
def test_a_running_switch(firewall: Stage) -> None:
    """Groups that need each other, tables, observers and programs come from there; ports that it has not are told."""
    groups = ("group_id=9,type=all,bucket=IN_PORT", "group_id=2,type=indirect,bucket=group:9")
    firewall.output("oko", "meter", "add", BRIDGE, "meter=1,pktps,bands=type=drop,rate=5")
    firewall.output("oko", "group", "add", BRIDGE, *groups)
    firewall.output("oko", "observer", "add", BRIDGE, "filter_prog=1")
    firewall.output("oko", "flow", "add", BRIDGE, "ip,filter_prog=1,actions=drop", "actions=meter:1,group:2")
    complaint = firewall.error("oko", "trace", BRIDGE, "--in-port", "1", SYN)
    assert complaint.endswith("give --program ID=FILE for 1 (firewall)")
    complaint = firewall.error("oko", "trace", BRIDGE, "--program", f"1={FIREWALL}", "--in-port", "1", SYN)
    assert complaint == "there is no port 1: the ports are none"
