"""Every row of the table of features, on a real Open vSwitch."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oko.attached.features import FEATURES, Column, Treatment, require_attachable, reserved, settings, used
from oko.attached.ovsdb.description import NEEDED, OvsBridge, OvsInterface, OvsPort, Settings
from oko.errors import AttachError
from oko.flow.attachment import Attachment
from oko.flow.match_text import write_match
from oko.flow.port import PortState
from oko.flow.reference import ReferenceSwitch
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import following, run, vsctl
from tests.oko.flow.written import tables_of
from tests.ovs import SCHEMA, needs_ovs

pytestmark = needs_ovs

REFUSED = {
    "mirrors": "--id=@m create mirror name=m -- set bridge br0 mirrors=@m",
    "sFlow": '--id=@s create sflow agent=lo target="127.0.0.1:9" header=128 -- set bridge br0 sflow=@s',
    "NetFlow": '--id=@n create netflow targets="127.0.0.1:9" -- set bridge br0 netflow=@n',
    "IPFIX": '--id=@i create ipfix targets="127.0.0.1:9" -- set bridge br0 ipfix=@i',
    "in-band control": "set-controller br0 tcp:127.0.0.1:9",
    "failing open": "set-controller br0 unix:/nowhere -- set-fail-mode br0 standalone",
    "bonds": "add-bond br0 bond0 none1 none2",
    "STP": "set bridge br0 stp_enable=true",
    "RSTP": "set bridge br0 rstp_enable=true",
    "QoS": "--id=@q create qos type=linux-htb -- set port p1 qos=@q",
    "policing in kbit/s": "set interface p1 ingress_policing_rate=1000",
    "policing in packets": "set interface p1 ingress_policing_kpkts_rate=1000",
    "forwarding of BPDUs": "set bridge br0 other_config:forward-bpdu=true",
    "hardware offload": "set Open_vSwitch . other_config:hw-offload=true",
    "TSO in user space": "set Open_vSwitch . other_config:userspace-tso-enable=true",
    "restoring flows": "set Open_vSwitch . other_config:flow-restore-wait=true",
    "other datapaths": "set bridge br0 datapath_type=dummy",
    "OpenFlow without 1.3": "set bridge br0 protocols=OpenFlow10,OpenFlow14",
    "eviction": "--id=@t create flow_table overflow_policy=evict -- set bridge br0 flow_tables:0=@t",
}
"""A command that turns the feature on."""

BEFORE = {
    "LACP": ("set port p1 lacp=passive", "clear port p1 lacp"),
    "BFD": ("set interface p1 bfd:enable=true", "clear interface p1 bfd"),
    "CFM": ("set interface p1 cfm_mpid=1", "clear interface p1 cfm_mpid"),
    "LLDP": ("set interface p1 lldp:enable=true", "clear interface p1 lldp"),
}
"""Commands that turn it on and off."""

HONOURED = {
    "access and trunk ports": ("set port p1 vlan_mode=native-tagged", "clear port p1 vlan_mode"),
    "VLAN tag of a port": ("set port p1 tag=0", "clear port p1 tag"),
    "VLAN trunks": ("set port p1 trunks=5,6", "clear port p1 trunks"),
    "customer VLANs": ("set port p1 cvlans=5,6", "clear port p1 cvlans"),
    "protected ports": ("set port p1 protected=true", "set port p1 protected=false"),
    "fake bridges": ("set port p1 fake_bridge=true", "set port p1 fake_bridge=false"),
    "flooded VLANs": ("set bridge br0 flood_vlans=5", "clear bridge br0 flood_vlans"),
    "multicast snooping": (
        "set bridge br0 mcast_snooping_enable=true",
        "set bridge br0 mcast_snooping_enable=false",
    ),
    "Auto Attach": (
        "--id=@a create autoattach system_name=any -- set bridge br0 auto_attach=@a",
        "clear bridge br0 auto_attach",
    ),
    "more VLAN tags": (
        "set Open_vSwitch . other_config:vlan-limit=2",
        "remove Open_vSwitch . other_config vlan-limit",
    ),
    "MTU of an interface": ("set interface p1 mtu_request=1500", "clear interface p1 mtu_request"),
    "limits of tables": (
        "--id=@t create flow_table flow_limit=1000000 -- set bridge br0 flow_tables:5=@t",
        "clear bridge br0 flow_tables",
    ),
    "standalone without a controller": (
        "set bridge br0 fail_mode=standalone -- set-controller br0 ptcp:0",
        "set bridge br0 fail_mode=secure -- del-controller br0",
    ),
}


OTHERS = {
    **{name: (Treatment.BEFORE, *commands) for name, commands in BEFORE.items()},
    **{name: (Treatment.HONOURED, *commands) for name, commands in HONOURED.items()},
}

NEUTRAL = {
    "Open_vSwitch": (
        *("cur_cfg", "datapath_types", "datapaths", "db_version", "dpdk_initialized", "dpdk_version", "external_ids"),
        *("iface_types", "next_cfg", "ovs_version", "ssl", "statistics", "system_type", "system_version"),
    ),
    "Bridge": ("datapath_version", "external_ids", "rstp_status", "status"),
    "Port": (
        *("bond_active_slave", "bond_downdelay", "bond_fake_iface", "bond_mode", "bond_updelay"),  # of bonds
        *("external_ids", "mac", "other_config", "rstp_statistics", "rstp_status", "statistics", "status"),
    ),
    "Interface": (
        *("admin_state", "duplex", "lacp_current", "link_resets", "link_speed", "link_state"),
        *("bfd_status", "cfm_fault", "cfm_fault_status", "cfm_flap_count", "cfm_health", "cfm_remote_mpids"),
        *("cfm_remote_opstate", "external_ids", "ingress_policing_burst", "ingress_policing_kpkts_burst", "mac"),
        *("mac_in_use", "ofport_request", "options", "statistics", "status"),
    ),
    "Flow_Table": ("external_ids", "flow_limit", "groups", "name", "prefixes"),
}
"""Columns that are no feature: states and statistics, names, and what tunes a feature that has a row."""

NEUTRAL_KEYS = {
    "Open_vSwitch": (
        r"stats-update-interval|flow-limit|max-idle|max-revalidator|min-revalidate-pps|n-offload-threads|tc-policy|"
        r"dpdk-.*|pmd-.*|vhost-.*|per-port-memory|shared-mempool-config|tx-flush-interval|smc-enable|"
        r"n-(handler|revalidator)-threads|emc-insert-inv-prob|bundle-idle-timeout|offload-rebalance|"
        r"enable-statistics|private_key|certificate|ca_cert|ipsec_skb_mark"
    ),
    "Bridge": (
        r"datapath-id|dp-desc|dp-sn|disable-in-band|in-band-queue|controller-queue-size|r?stp-.*|mcast-snooping-.*|"
        r"hwaddr|mac-aging-time|mac-table-size"
    ),
    "Port": (
        r"qinq-ethtype|priority-tags|bond-.*|lb-output-action|all-members-active|lacp-.*|r?stp-.*|mcast-snooping-.*|"
        r"transient"
    ),
    "Interface": r"pmd-rxq-affinity|tx-steering|emc-enable|cfm_.*|lacp-.*",
}
"""Keys of other_config that are none: threads, caches and memory, what NORMAL and DPDK do, and what tunes a feature."""


def uses(name: str) -> Callable[[OvsBridge | None], bool]:
    """Whether a bridge uses the feature of this name."""

    def meets(bridge: OvsBridge | None) -> bool:
        return bridge is not None and any(
            name == feature.name for each in Treatment for feature, _ in used(bridge, each)
        )

    return meets


def test_every_feature_of_the_database_has_a_row_here() -> None:
    assert {feature.name for feature in FEATURES if not isinstance(feature.uses, str)} == {*REFUSED, *OTHERS}
    assert {feature.name for feature in FEATURES if feature.frames is not None} == {*BEFORE}
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


def test_every_column_of_the_database_is_accounted_for() -> None:
    """Those of other_config are below."""
    tables = json.loads(SCHEMA.read_text())["tables"]
    looked_at = settings()
    for table, neutral in NEUTRAL.items():
        known = {*NEEDED.get(table, ()), *looked_at.get(table, ()), *neutral, "other_config"}
        assert tables[table]["columns"].keys() <= known, table
        assert not {*neutral} & {*looked_at.get(table, ())}


MANUAL = Path("/usr/share/man/man5/ovs-vswitchd.conf.db.5.gz")


@pytest.mark.skipif(not MANUAL.exists(), reason="the manual is not installed")
def test_every_key_of_other_config_is_accounted_for() -> None:
    tables = {"Open_vSwitch TABLE": "Open_vSwitch", "Bridge TABLE": "Bridge", "Port TABLE": "Port"}
    tables["Interface TABLE"] = "Interface"
    missing = []
    for table, key in _manual_keys():
        if (name := tables.get(table)) is None:
            continue
        ours = {each.uses.key for each in FEATURES if isinstance(each.uses, Column) and each.uses.table == name}
        if key not in ours and not re.fullmatch(NEUTRAL_KEYS[name], key):
            missing.append((name, key))
    assert not missing


def _manual_keys() -> Iterator[tuple[str, str]]:
    """Table and key of each entry of other_config."""
    table = ""
    for line in gzip.decompress(MANUAL.read_bytes()).decode().splitlines():
        if heading := re.match(r'\.SH "?(.* TABLE)"?', line):
            table = heading[1]
        if entry := re.match(r'\.IP "\\fBother_config : (.*?)\\fR', line):
            yield table, entry[1].replace("\\-", "-")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_how_to_turn_it_off(ovs: Laboratory, name: str) -> None:
    async def main() -> None:
        async with following(ovs) as (follower, seen):
            # The change to the database is what counts; ovs-vswitchd need not be able to do it.
            await vsctl(ovs, "--no-wait", "--", *REFUSED[name].split())
            bridge = await seen.until(uses(name))
            assert bridge is not None
            with pytest.raises(AttachError, match=f"{name} of .*: run 'ovs-vsctl ") as caught:
                require_attachable(bridge)
            words = caught.value.details.split("'")[-2].split()
            assert words[0] == "ovs-vsctl"
            await vsctl(ovs, *words[1:])
            await seen.until(lambda found: not uses(name)(found))
            assert follower.bridge is not None
            require_attachable(follower.bridge)

    try:
        run(main())
    finally:
        ovs.vswitch.vsctl("del-controller", BRIDGE, "--", "set-fail-mode", BRIDGE, "secure")
        ovs.vswitch.vsctl("clear", "bridge", BRIDGE, "protocols", "other_config")


@pytest.mark.parametrize(("name", "treatment", "on", "off"), [(name, *row) for name, row in OTHERS.items()], ids=OTHERS)
def test_what_is_not_refused(ovs: Laboratory, name: str, treatment: Treatment, on: str, off: str) -> None:
    async def main() -> None:
        async with following(ovs) as (_, seen):
            await vsctl(ovs, "--", *on.split())
            bridge = await seen.until(uses(name))
            assert bridge is not None
            assert name in {feature.name for feature, _ in used(bridge, treatment)}
            require_attachable(bridge)
            await vsctl(ovs, "--", *off.split())
            await seen.until(lambda found: not uses(name)(found))

    run(main())


_ETHERNET = "dl_src=02:00:00:00:00:01,dl_dst="
_ANY = _ETHERNET + "02:00:00:00:00:02"
_UDP = ",udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_dst=3784"
_CCM, _EXTENDED = _ETHERNET + "01:80:c2:00:00:30", _ETHERNET + "01:23:20:00:00:30"
TAKEN = {
    "LACP": (
        "set port p1 lacp=active",
        ["dl_type=0x8809"],
        [f"{_ANY},dl_type=0x8809", f"{_ANY},dl_vlan=5,dl_type=0x8809"],
        [f"{_ANY},dl_type=0x88b5"],
    ),
    "BFD": (
        "set interface p1 bfd:enable=true",
        ["udp,tp_dst=3784"],
        [_ANY + _UDP, f"{_ANY},dl_vlan=5{_UDP}"],
        [_ANY + _UDP + ",ip_frag=later", _ANY + _UDP.replace("3784", "3785"), _ANY + ",udp6,udp_dst=3784"],
    ),
    "BFD to an address": (
        "set interface p1 bfd:enable=true bfd:bfd_src_ip=10.0.0.2 bfd:bfd_dst_ip=10.0.0.9",
        ["udp,nw_dst=10.0.0.2,tp_dst=3784"],
        [_ANY + _UDP],
        [_ANY + _UDP.replace("nw_dst=10.0.0.2", "nw_dst=10.0.0.3")],
    ),
    "BFD to a MAC address": (
        "set interface p1 bfd:enable=true bfd:bfd_remote_dst_mac=02:00:00:00:00:77",
        ["udp,dl_dst=02:00:00:00:00:77,tp_dst=3784"],
        [_ETHERNET + "02:00:00:00:00:77" + _UDP],
        [_ANY + _UDP],
    ),
    "BFD to what is no address": (
        "set interface p1 bfd:enable=true bfd:bfd_src_ip=300.1.1.1 bfd:bfd_remote_dst_mac=any",
        ["udp,tp_dst=3784"],
        [_ANY + _UDP],
        [],
    ),
    "CFM": (
        "set interface p1 cfm_mpid=1",
        ["dl_dst=01:80:c2:00:00:30,dl_type=0x8902"],
        [f"{_CCM},dl_type=0x8902", f"{_CCM},dl_vlan=5,dl_type=0x8902"],
        [f"{_ANY},dl_type=0x8902", f"{_EXTENDED},dl_type=0x8902"],
    ),
    "CFM in extended mode": (
        "set interface p1 cfm_mpid=1 other_config:cfm_extended=true",
        ["dl_dst=01:23:20:00:00:30,dl_type=0x8902"],
        [f"{_EXTENDED},dl_type=0x8902"],
        [f"{_CCM},dl_type=0x8902"],
    ),
    "LLDP": (
        "set interface p1 lldp:enable=true",
        ["dl_type=0x88cc"],
        [f"{_ANY},dl_type=0x88cc", f"{_ANY},dl_vlan=5,dl_type=0x88cc"],
        [f"{_ANY},dl_type=0x88b5"],
    ),
    "none": ("set port p1 external_ids:any=thing", [], [], [f"{_ANY},dl_type=0x88cc", _ANY + _UDP]),
}
"""A command; the matches of the frames that Open vSwitch takes then for itself, some of them, and some others."""


@pytest.mark.parametrize(("on", "matches", "taken", "others"), TAKEN.values(), ids=TAKEN.keys())
def test_open_vswitch_takes_what_is_reserved(
    ovs: Laboratory, on: str, matches: list[str], taken: list[str], others: list[str]
) -> None:
    """And no more: what it does not take comes to its tables, and to the filter rules in them."""

    async def main() -> None:
        async with following(ovs) as (follower, seen):
            await vsctl(ovs, *on.split())
            if matches:
                await seen.until(lambda bridge: bridge is not None and bool(reserved(bridge)))
            assert follower.bridge is not None
            found = [sorted(",".join(write_match(match)).split(",")) for match in reserved(follower.bridge)]
            assert found == [sorted(f"in_port=1,{match}".split(",")) for match in matches]

    def is_taken(flow: str) -> bool:
        told = ovs.vswitch.appctl("ofproto/trace", BRIDGE, flow)
        assert ("Datapath actions: drop" in told) is ("Consists of" in told)
        return "Consists of" in told

    ovs.add("actions=output:2")
    try:
        run(main())
        assert [is_taken(f"in_port=p1,{flow}") for flow in taken] == [True] * len(taken)
        assert [is_taken(f"in_port=p1,{flow}") for flow in others] == [False] * len(others)
        assert [is_taken(f"in_port=p3,{flow}") for flow in taken] == [False] * len(taken)
    finally:
        ovs.vswitch.vsctl("clear", "interface", "p1", "bfd", "cfm_mpid", "lldp", "other_config")
        ovs.vswitch.vsctl("clear", "port", "p1", "lacp", "external_ids")


_FROM = bytes.fromhex("020000000001")
_DATAGRAM = bytes.fromhex("45000024 00000000 ff110000 0a000001 0a000002 c0000ec8 00100000").ljust(46, b"\0")
FRAMES = {
    "LACP": bytes.fromhex("0180c2000002") + _FROM + bytes.fromhex("8809").ljust(48, b"\1"),
    "BFD": bytes.fromhex("020000000002") + _FROM + bytes.fromhex("0800") + _DATAGRAM,
    "BFD behind a tag": bytes.fromhex("020000000002") + _FROM + bytes.fromhex("810000050800") + _DATAGRAM,
    "CFM": bytes.fromhex("0180c2000030") + _FROM + bytes.fromhex("8902").ljust(48, b"\1"),
    "LLDP": bytes.fromhex("0180c200000e") + _FROM + bytes.fromhex("88cc").ljust(48, b"\1"),
}
"""Frames that Open vSwitch takes at a port with all of it turned on."""


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_xdp_passes_what_is_reserved(frame: bytes) -> None:
    """At the ports that use the feature; elsewhere the filter rules have it."""
    on: Settings = {"bfd": {"enable": "true"}, "cfm_mpid": (1,), "lldp": {"enable": "true"}}
    ports = (
        OvsPort("p1", (OvsInterface("p1", ofport=1, settings=on),), {"lacp": ("active",)}),
        OvsPort("p2", (OvsInterface("p2", ofport=2),), {"lacp": ("off",)}),
    )
    bridge = OvsBridge("br0", "netdev", "", "secure", (), ports, (), (), ())
    dropping = tables_of("priority=65000,actions=drop")
    switch = ReferenceSwitch(dropping, {}, {1: PortState(), 2: PortState()}, Attachment(1, reserved(bridge)))
    assert switch.decide(frame, 1, 0).left == frame
    assert switch.decide(frame, 2, 0).left is None
    other = frame[:12] + bytes.fromhex("88b5") + frame[14:]
    assert switch.decide(other, 1, 0).left is None


def test_forwarding_of_bpdus_would_let_shims_go(ovs: Laboratory) -> None:
    """Why it is refused."""
    ovs.add("actions=NORMAL")
    shim = "in_port=p1,dl_src=02:00:00:0c:00:00,dl_dst=01:80:c2:00:00:0e,dl_type=0x894f"
    assert "Datapath actions: drop" in ovs.vswitch.appctl("ofproto/trace", BRIDGE, shim)
    ovs.vswitch.vsctl("set", "bridge", BRIDGE, "other_config:forward-bpdu=true")
    try:
        assert "Datapath actions: drop" not in ovs.vswitch.appctl("ofproto/trace", BRIDGE, shim)
    finally:
        ovs.vswitch.vsctl("remove", "bridge", BRIDGE, "other_config", "forward-bpdu")
