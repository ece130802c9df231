from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf

DROPS = ("priority=5,tcp,tp_dst=80 actions=drop", "cookie=0x7, priority=3,arp actions=drop")


def listed(switch: Stage, *selection: str) -> list[str]:
    flows = json.loads(switch.output("oko", "flow", "list", BRIDGE, "--json", *selection))
    return [flow["flow"] for flow in flows]


def test_flows_are_printed_as_ovs_ofctl_does(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, *DROPS)
    first, second = switch.output("oko", "flow", "list", BRIDGE).splitlines()
    head = r"cookie=0x{}, duration=\d+\.\d{{3}}s, table=0, n_packets=0, n_bytes=0, "
    assert re.fullmatch(head.format(0) + re.escape(DROPS[0]), first)
    assert re.fullmatch(head.format(7) + "priority=3,arp actions=drop", second)


def test_json(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, DROPS[1])
    (flow,) = json.loads(switch.output("oko", "flow", "list", BRIDGE, "--json"))
    assert 0 < flow.pop("duration") < 60
    timeouts = {"idle_timeout": 0, "hard_timeout": 0}
    assert flow == {"flow": DROPS[1], "table": 0, "priority": 3, "cookie": 7, "packets": 0, "bytes": 0, **timeouts}


EVERYTHING = (
    "idle_timeout=100, hard_timeout=200, send_flow_rem priority=5,ip actions=dec_ttl,write_metadata:0x5,goto_table:2",
    "table=2, metadata=0x5/0xff actions=push_vlan:0x8100,set_field:4098->vlan_vid,clear_actions,write_actions(IN_PORT)",
)


def test_timeouts_and_tables(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, *EVERYTHING)
    assert listed(switch) == list(EVERYTHING)
    assert listed(switch, "table=2") == [EVERYTHING[1]]
    (first, _) = json.loads(switch.output("oko", "flow", "list", BRIDGE, "--json"))
    assert (first["idle_timeout"], first["hard_timeout"]) == (100, 200)
    switch.output("oko", "flow", "add", BRIDGE, "-", stdin=switch.output("oko", "flow", "list", BRIDGE))
    assert listed(switch) == list(EVERYTHING)


def test_actions_are_changed(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, *DROPS)
    switch.output("oko", "flow", "mod", BRIDGE, "ip,actions=IN_PORT")
    assert listed(switch) == ["priority=5,tcp,tp_dst=80 actions=IN_PORT", DROPS[1]]
    switch.output("oko", "flow", "mod", BRIDGE, "--strict", "arp,actions=IN_PORT", "priority=3,arp,actions=controller")
    assert listed(switch)[1] == "cookie=0x7, priority=3,arp actions=CONTROLLER:65535"


def test_overlap_is_checked_when_asked_for(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, "tcp,actions=drop")
    switch.output("oko", "flow", "add", BRIDGE, "ip,actions=drop")
    assert "overlap" in switch.error("oko", "flow", "add", BRIDGE, "check_overlap,ip,nw_dst=1.2.3.4,actions=drop")


def test_what_is_listed_can_be_added(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, *DROPS)
    printed = switch.output("oko", "flow", "list", BRIDGE)
    before = listed(switch)
    switch.output("oko", "flow", "del", BRIDGE)
    switch.output("oko", "flow", "add", BRIDGE, "-", stdin=printed)
    assert listed(switch) == before


@pytest.mark.parametrize("form", ["--file", "-"])
def test_flows_from_a_file(switch: Stage, tmp_path: Path, form: str) -> None:
    text = "# a comment\n\n" + "\n".join(DROPS) + "\n"
    path = tmp_path / "flows"
    path.write_text(text)
    words = (form, path) if form == "--file" else (form,)
    switch.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=drop", *words, stdin=text)
    assert listed(switch) == ["in_port=1 actions=drop", *DROPS]


def test_many_flows(switch: Stage) -> None:
    lines = [f"dl_dst=02:00:00:00:{number >> 8:02x}:{number & 255:02x},actions=drop" for number in range(5000)]
    switch.output("oko", "flow", "add", BRIDGE, "-", stdin="\n".join(lines))
    assert len(listed(switch)) == 5000


def test_many_refusals_do_not_block(switch: Stage) -> None:
    """More answers than a socket holds come back while the flows are still being sent."""
    lines = [f"in_port={number},actions=output:9" for number in range(1, 20_001)]
    complaint = switch.error("oko", "flow", "add", BRIDGE, "-", stdin="\n".join(lines))
    assert complaint.startswith("20000 of 20000 flows refused, the first: in_port=1 actions=output:9: ")


def test_selection(switch: Stage) -> None:
    switch.output("oko", "flow", "add", BRIDGE, *DROPS)
    assert listed(switch, "ip") == [DROPS[0]]
    assert listed(switch, "cookie=7/-1") == [DROPS[1]]
    switch.output("oko", "flow", "del", BRIDGE, "--strict", "arp")
    assert len(listed(switch)) == 2
    switch.output("oko", "flow", "del", BRIDGE, "--strict", "priority=3,arp")
    assert listed(switch) == [DROPS[0]]
    switch.output("oko", "flow", "del", BRIDGE, "ip")
    assert listed(switch) == []


@pytest.mark.parametrize(
    ("flow", "complaint"),
    [
        pytest.param("bla=1,actions=drop", "unknown field 'bla'", id="unknown key"),
        pytest.param("tp_dst=80,actions=drop", "tp_dst needs tcp, udp or sctp", id="prerequisite"),
        pytest.param("tcp,tp_dst=65536,actions=drop", "tp_dst=65536 is out of range: use 0–65535", id="value"),
        pytest.param("priority=65536,actions=drop", "priority=65536 is out of range", id="priority"),
        pytest.param("filter_prog=0,actions=drop", "filter_prog=0 is no program id", id="program 0"),
        pytest.param("in_port=1", "no actions", id="no actions"),
        pytest.param("actions=normal", "output to NORMAL is for bridges of Open vSwitch's", id="reserved port"),
        pytest.param("ip,actions=ct(commit)", "bad-action/bad-experimenter", id="action of Open vSwitch's"),
        pytest.param("actions=set_field:1->reg0", "bad-action/bad-set-type", id="field of Open vSwitch's"),
        pytest.param("actions=output:9", "bad-action/bad-out-port: output:9: the bridge has no port 9", id="port"),
        pytest.param("filter_prog=9,actions=drop", "filter_prog=9 actions=drop: program 9 is not loaded", id="program"),
        pytest.param("table=254,actions=drop", "table 254", id="table"),
        pytest.param("actions=group:1", "bad-action/bad-out-group", id="group"),
        pytest.param("actions=meter:1", "meter-mod-failed/unknown-meter", id="meter"),
    ],
)
def test_flows_that_are_refused(switch: Stage, flow: str, complaint: str) -> None:
    switch.output("oko", "flow", "add", BRIDGE, DROPS[0])
    assert complaint.lower() in switch.error("oko", "flow", "add", BRIDGE, flow).lower()
    assert listed(switch) == [DROPS[0]]


def test_nothing_is_sent_when_a_line_cannot_be_read(switch: Stage, tmp_path: Path) -> None:
    path = tmp_path / "flows"
    path.write_text("arp,actions=drop\narp,actions=dorp\n")
    assert switch.error("oko", "flow", "add", BRIDGE, "--file", path).startswith(f"{path}:2: ")
    assert listed(switch) == []


def test_one_refused_flow_among_others(switch: Stage) -> None:
    flows = ("arp,actions=drop", "ip,actions=output:9", "ip,actions=output:8", "in_port=2,actions=drop")
    done = switch.run("oko", "flow", "add", BRIDGE, *flows, "--verbose")
    first, *details = done.stderr.splitlines()
    assert done.returncode == 1
    assert first.startswith("oko: 2 of 4 flows refused, the first: ip actions=output:9: ")
    assert [line.split(":")[0] for line in details] == ["ip actions=output", "ip actions=output"]
    assert len(listed(switch)) == 2


def test_file_that_is_not_there(switch: Stage, tmp_path: Path) -> None:
    path = tmp_path / "flows"
    assert switch.error("oko", "flow", "add", BRIDGE, "--file", path) == f"{path}: No such file or directory"
