"""Stock ovs-ofctl, in the version of OpenFlow that it speaks by default and in 1.3, hears from okod what it hears from
Open vSwitch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from demo.lab import SWITCH, Lab
from tests.e2e.conftest import HOSTS, Switch
from tests.e2e.flow_mods import flow_mods
from tests.ovs import Vswitch, needs_ovs
from tests.stage import BRIDGE, mounted

pytestmark = [pytest.mark.needs_bpf, needs_ovs]

FLOW_MODS = int(os.environ.get("FLOW_MODS", "500"))
SEED = int(os.environ.get("SEED", "1"))
"""How many random flow_mods, and which: the long form has 10,000."""
PORTION = 1000
"""Of them, by one command."""

FLOWS = """\
in_port=2,tcp,tp_dst=22,actions=output:3
cookie=7,priority=5,ip,nw_src=10.0.0.0/8,actions=drop
priority=7,in_port=1,dl_vlan=5,dl_vlan_pcp=3,actions=strip_vlan,output:2
"""

BOTH = (
    "add-flow {switch} in_port=1,actions=output:2",
    "add-flow {switch} cookie=5,priority=7,in_port=2,tcp,tp_dst=22,actions=mod_dl_src:00:00:00:00:00:01,output:1",
    "add-flow {switch} priority=3,udp,idle_timeout=600,hard_timeout=700,send_flow_rem,actions=IN_PORT,output:3",
    "add-flow {switch} priority=4,ip,nw_tos=16,actions=mod_nw_src:10.0.0.1,mod_nw_tos:32,output:3",
    "add-flow {switch} priority=5,icmp,icmp_type=8,nw_dst=10.0.0.0/24,actions=dec_ttl,CONTROLLER:65535",
    "add-flow {switch} priority=6,arp,arp_spa=10.0.0.1,arp_op=1,actions=ALL",
    "add-flow {switch} priority=8,dl_vlan=5,actions=mod_vlan_vid:6,mod_vlan_pcp:3,FLOOD",
    "add-flow {switch} priority=9,vlan_tci=0,in_port=3,actions=output:2",
    "add-flow {switch} priority=10,dl_src=02:00:00:00:00:00/fe:ff:ff:00:00:00,actions=output:1",
    "add-flow {switch} priority=11,ipv6,ipv6_src=2001:db8::/32,nw_ecn=1,ip_frag=later,actions=output:1",
    "add-flow {switch} priority=12,icmp6,icmp_type=135,nd_target=::1,nd_sll=02:00:00:00:00:01,actions=output:1",
    "add-flow {switch} priority=13,tcp6,tcp_flags=+syn-ack,tp_src=0x400/0xfc00,actions=output:1",
    "add-flow {switch} priority=14,sctp,sctp_dst=5,actions=output:2",
    "add-flow {switch} priority=15,mpls,mpls_label=5,mpls_bos=1,actions=pop_mpls:0x0800,output:2",
    "add-flow {switch} priority=16,arp,arp_sha=02:00:00:00:00:01,arp_tha=02:00:00:00:00:02,actions=drop",
    "add-flow {switch} table=1,metadata=5,actions=output:2",
    "--no-stats dump-flows {switch}",
    "--no-stats dump-flows {switch} tcp",
    "--no-stats dump-flows {switch} out_port=2",
    "--no-stats dump-flows {switch} table=1",
    "--no-stats dump-flows {switch} cookie=5/-1",
    "dump-flows {switch} in_port=1",
    "dump-flows {switch} priority=4,ip",
    "dump-aggregate {switch}",
    "dump-aggregate {switch} table=1",
    "--strict mod-flows {switch} priority=7,in_port=2,tcp,tp_dst=22,actions=output:3",
    "mod-flows {switch} in_port=1,actions=output:3",
    "mod-flows {switch} cookie=5/-1,actions=drop",
    "--no-stats dump-flows {switch}",
    "--strict del-flows {switch} in_port=1",
    "del-flows {switch} arp",
    "del-flows {switch} table=1",
    "del-flows {switch} out_port=2",
    "--no-stats dump-flows {switch}",
    "diff-flows {switch} {flows}",
    "replace-flows {switch} {flows}",
    "diff-flows {switch} {flows}",
    "--no-stats dump-flows {switch}",
    "del-flows {switch}",
    "add-flows {switch} {flows}",
    "--no-stats dump-flows {switch}",
    "add-flow {switch} check_overlap,priority=5,ip,nw_dst=10.0.0.0/8,actions=drop",
    "add-flow {switch} ip,actions=group:9",
    "show {switch}",
    "dump-ports-desc {switch}",
    "mod-port {switch} 3 down",
    "mod-port {switch} 3 up",
    "dump-ports {switch} 1",
    "dump-tables {switch}",
    "get-frags {switch}",
    "probe {switch}",
    "packet-out {switch} in_port=1,packet=020000000002020000000001080600000000,actions=output:2",
    "ping {switch} 10",
    "packet-out {switch} in_port=CONTROLLER,packet=020000000002020000000001080600000000,actions=TABLE",
)
"""What both versions of OpenFlow can say, one ovs-ofctl command after the other."""


OURS: dict[str, tuple[str, ...]] = {
    "OpenFlow10": (
        "add-flow {switch} priority=4,ip6,actions=set_field:2001:db8::1->ipv6_src,mod_nw_ttl:4,output:1",
        "add-flow {switch} priority=5,vlan_tci=0,actions=mod_vlan_vid:5,mod_vlan_pcp:3,output:1",
        "add-flow {switch} priority=6,tcp6,actions=mod_tp_src:5,set_field:2->ip_ecn,goto_table:3",
        "add-flow {switch} priority=7,ip,actions=push_mpls:0x8847,set_field:3->mpls_label,set_mpls_ttl(5),output:1",
        "add-flow {switch} priority=8,in_port=2,actions=output:1,write_metadata:5/7",
        "mod-flows {switch} cookie=9,priority=20,in_port=3,actions=output:1",
        "mod-flows {switch} cookie=9/-1,priority=20,in_port=3,actions=output:2",
        "mod-flows {switch} in_port=3,actions=output:1",
        "add-flow {switch} table=2,in_port=1,actions=drop",
        "mod-flows {switch} in_port=1,actions=output:2",
        "--no-stats dump-flows {switch}",
        "-F openflow10 --no-stats dump-flows {switch} in_port=1",
        "-F openflow10 dump-aggregate {switch} in_port=1",
        "-F openflow10 del-flows {switch} in_port=1",
    ),
    "OpenFlow13": (
        "add-group {switch} group_id=1,type=select,bucket=weight:3,output:1,bucket=weight:1,output:2",
        "add-meter {switch} meter=1,pktps,burst,stats,bands=type=drop,rate=5,burst_size=6",
        "add-flow {switch} priority=5,in_port=1,actions=meter:1,group:1",
        "add-flow {switch} priority=6,in_port=1,actions=clear_actions,write_actions(output:2),write_metadata:5/7",
        "add-flow {switch} priority=7,vlan_tci=0,actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:1",
        "--no-stats dump-flows {switch}",
        "dump-groups {switch}",
        "dump-meters {switch}",
        "mod-group {switch} group_id=1,type=all,bucket=output:1",
        "dump-groups {switch}",
        "del-groups {switch}",
        "del-meters {switch}",
        "--no-stats dump-flows {switch}",
    ),
}
"""What only one of them can say, or says in its own way."""


def answers(stage: Switch, version: str, target: str, flows: Path) -> dict[str, str]:
    """What each command prints, alike for every switch."""
    heard = {}
    for number, command in enumerate(("del-flows {switch}", *BOTH, "del-flows {switch}", *OURS[version])):
        words = command.format(switch=target, flows=flows).split()
        done = stage.run("ovs-ofctl", "-O", version, *words)
        heard[f"{number} {command}"] = plain(done.stdout + done.stderr).replace(target, "{switch}")
    return heard


PLAIN = (
    (r"^ LOCAL\(.*\n(     .*\n){3}", ""),
    (r"addr:[0-9a-f:]{17}|dpid:[0-9a-f]{16}", "id"),
    (r"time=[0-9.]+ ms", "time"),
    (r"duration=[0-9.]+s", "duration"),
    (r"idle_age=\d+, ", ""),
    (r"^\S+Z\|\d+\|", ""),
    (r" QUEUE_STATS| enqueue", ""),
    (r"miss_send_len=\d+|max_entries=\d+", "size"),
    (r"(drop|errs|frame|over|crc|coll)=[0?]", "counter"),
    (r"^ +duration\n", ""),
)
"""What differs from switch to switch or from run to run, and what stands for it: Open vSwitch has the port LOCAL,
queues, the time of a flow's last use and the age of a port, but few counters of a port that goes nowhere."""


def plain(text: str) -> str:
    """Without what may differ. Flows of one priority may come in any order."""
    for pattern, instead in PLAIN:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    lines = text.splitlines()
    if lines and "actions=" in lines[-1]:
        lines.sort()
    return "\n".join(lines)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Switch, str]]:
    """A stage with okod, and the target of an Open vSwitch with the same ports."""
    directory = tmp_path_factory.mktemp("ofctl")
    with Lab(HOSTS) as lab, Vswitch(directory / "ovs", options=("--enable-dummy",)) as other:
        other.add_bridge(BRIDGE, [host.port for host in HOSTS], "dummy", interface_type="dummy")
        prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
        with mounted(Switch(directory, lab, prefix)) as switch:
            switch.begin()
            (directory / "flows").write_text(FLOWS)
            yield switch, other.target(BRIDGE)


@pytest.mark.parametrize("version", OURS)
def test_ovs_ofctl_hears_the_same(both: tuple[Switch, str], version: str) -> None:
    switch, other = both
    ours = f"unix:{switch.rundir.socket(BRIDGE)}"
    flows = switch.directory / "flows"
    assert answers(switch, version, ours, flows) == answers(switch, version, other, flows)


def ofctl(switch: Switch, version: str, *words: str | Path) -> str:
    """What a command prints, which must succeed."""
    return switch.output("ovs-ofctl", "-O", version, *words)


def rules(switch: Switch, version: str, target: str) -> list[str]:
    """All of them, in no order."""
    return sorted(plain(ofctl(switch, version, "--no-stats", "dump-flows", target)).splitlines())


@pytest.mark.parametrize(
    ("version", "options", "count", "shapes", "tables"),
    [
        pytest.param("OpenFlow13", ["--bundle"], FLOW_MODS, 150, 4, id="OpenFlow13"),
        # One after the other, with a barrier behind each; so there are fewer, of which most change no code.
        pytest.param("OpenFlow10", [], FLOW_MODS // 5, 2, 1, id="OpenFlow10"),
    ],
)
def test_random_flow_mods(
    both: tuple[Switch, str], version: str, options: list[str], count: int, shapes: int, tables: int
) -> None:
    """Afterwards there are the rules that Open vSwitch has when it is sent the same."""
    switch, other = both
    ours = f"unix:{switch.rundir.socket(BRIDGE)}"
    lines = flow_mods(Random(SEED), count, shapes=shapes, tables=tables)
    for target in (ours, other):
        ofctl(switch, version, "del-flows", target)
    while portion := "\n".join(islice(lines, PORTION)):
        file = switch.directory / "flow_mods"
        file.write_text(portion)
        ofctl(switch, version, *options, "add-flows", ours, file)
        # In one of its own bundles a modify or delete does not meet what was added in it.
        ofctl(switch, version, "add-flows", other, file)
    found = rules(switch, version, ours)
    assert len(found) > count // 2
    assert found == rules(switch, version, other)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        pytest.param("add-flow {switch} in_port=1,actions=output:7", "OFPBAC_BAD_OUT_PORT", id="no such port"),
        pytest.param("add-flow {switch} actions=mod_vlan_vid:5", "OFPBAC_MATCH_INCONSISTENT", id="a tag, perhaps"),
        pytest.param("add-flow {switch} ip,actions=mod_tp_src:5", "OFPBAC_MATCH_INCONSISTENT", id="ports of what"),
        pytest.param("add-flow {switch} actions=resubmit(2,1)", "OFPBAC_BAD_ARGUMENT", id="another port's packet"),
        pytest.param("add-flow {switch} actions=output:NXM_NX_REG0[]", "OFPBAC_BAD_VENDOR_TYPE", id="foreign action"),
        pytest.param("add-flow {switch} reg0=1,actions=drop", "OFPBMC_BAD_FIELD", id="foreign field"),
        pytest.param("add-flow {switch} actions=enqueue:1:2", "OFPBAC_BAD_QUEUE", id="queue"),
        pytest.param("mod-port {switch} 1 no-flood", "OFPBRC_EPERM", id="port"),
        pytest.param("set-frags {switch} drop", "OFPBRC_EPERM", id="fragments"),
        pytest.param("dump-ports {switch} 9", "OFPBRC_BAD_PORT", id="ports that are not there"),
        pytest.param("dump-groups {switch}", "OFPBRC_BAD_SUBTYPE", id="groups"),
    ],
)
def test_what_is_refused_in_openflow10(both: tuple[Switch, str], command: str, complaint: str) -> None:
    switch, _ = both
    words = command.format(switch=f"unix:{switch.rundir.socket(BRIDGE)}").split()
    done = switch.run("ovs-ofctl", *words)
    assert complaint in done.stdout + done.stderr
