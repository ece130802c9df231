"""What becomes of each feature of Open vSwitch when Oko is attached: `FEATURES`.

What a feature does to packets is done by Open vSwitch, to those that it sees. So a feature is *honoured* where it does
its work in Open vSwitch's own actions, handled *before* the tables where Open vSwitch takes frames for itself, which
XDP then has to pass to it untouched (`reserved`), and *refused* where packets that XDP decides would miss it, where Oko
could not know in time, or where it would undo what keeps shims from going astray.

The columns are those of ovs-vswitchd.conf.db(5) of Open vSwitch 3.1; what turns the rest on is in OpenFlow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from oko.attached.ovsdb.description import OvsBridge, OvsController, Setting, Settings
from oko.errors import AttachError
from oko.flow.match import Match
from oko.flow.text import parse_selection


class Treatment(Enum):
    """What becomes of a feature."""

    HONOURED = "honoured"
    BEFORE = "before the tables"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Column:
    """What turns a feature on: `column` of the rows of a bridge in `table`, or the value under `key` in it, if that is
    one of `values`; without values, if there is any, and it is not 0 or false."""

    table: str
    column: str
    key: str = ""
    values: tuple[str, ...] = ()

    def __call__(self, bridge: OvsBridge) -> Iterator[str]:
        """The rows that use it."""
        return (name for name, _ in self.rows(bridge))

    def rows(self, bridge: OvsBridge) -> Iterator[tuple[str, Settings]]:
        """The rows that use it, with their settings."""
        return ((name, settings) for name, settings in _rows(bridge, self.table) if self.is_on(settings))

    def __str__(self) -> str:
        """As `docs/ovs.md` and ovs-vswitchd.conf.db(5) write it."""
        key = f":{self.key}" if self.key else ""
        return f"{self.table} {self.column}{key}" + (f"={'|'.join(self.values)}" if self.values else "")

    def is_on(self, settings: Settings) -> bool:
        """Whether a row with these settings uses it."""
        value: Setting | None = settings.get(self.column)
        if self.key:
            value = value.get(self.key) if isinstance(value, Mapping) else None
        if self.values:
            return (value[0] if isinstance(value, tuple) and value else value) in self.values
        return bool(value)


@dataclass(frozen=True, slots=True)
class Told:
    """What turns a feature on where one column does not say it all: `rows` are the rows that use it, and `by` says what
    tells."""

    by: str
    rows: Callable[[OvsBridge], Iterable[str]]

    def __call__(self, bridge: OvsBridge) -> Iterable[str]:
        return self.rows(bridge)

    def __str__(self) -> str:
        return self.by


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature. `uses` names the rows of OVSDB that use it, or says what else tells. `outcome` says what becomes of
    it, or why it is refused; `remedy` is the command that turns it off, with ``{}`` for the row that uses it. `frames`
    is the match, in the syntax of ovs-ofctl and by the settings of the row, of the frames that Open vSwitch takes
    before it looks into a table, at the ports of the row."""

    name: str
    treatment: Treatment
    uses: Column | Told | str
    outcome: str
    remedy: str = ""
    frames: Callable[[Settings], str] | None = None


def _rows(bridge: OvsBridge, table: str) -> Iterator[tuple[str, Settings]]:
    match table:
        case "Open_vSwitch":
            yield "Open_vSwitch", bridge.system
        case "Bridge":
            yield bridge.name, bridge.settings
        case "Port":
            yield from ((port.name, port.settings) for port in bridge.ports)
        case "Interface":
            yield from ((interface.name, interface.settings) for interface in bridge.interfaces)


def _bonds(bridge: OvsBridge) -> Iterator[str]:
    return (port.name for port in bridge.ports if len(port.interfaces) > 1)


_IN_BAND_OFF: Final = Column("Bridge", "other_config", "disable-in-band", ("true",))


def _in_band(bridge: OvsBridge) -> Iterator[str]:
    """The controllers and managers that Open vSwitch keeps reachable over the bridge by rules that nobody sees
    (in_band_create in connmgr.c): those that it connects to over IP."""
    if any(_IN_BAND_OFF(bridge)):
        return
    for remote in (*bridge.controllers, *bridge.managers):
        if _over_ip(remote) and remote.mode != "out-of-band":
            yield f"{'controller' if remote in bridge.controllers else 'manager'} {remote.uuid}"


def _over_ip(remote: OvsController) -> bool:
    return remote.target.startswith(("tcp:", "ssl:"))


def _fails_open(bridge: OvsBridge) -> Iterator[str]:
    """Those whose controllers may be lost: a controller that connects to Open vSwitch by itself is not missed
    (update_fail_open in connmgr.c)."""
    if bridge.fail_mode != _SECURE and any(not each.target.startswith(_LISTENING) for each in bridge.controllers):
        yield bridge.name


def _stands_alone(bridge: OvsBridge) -> Iterator[str]:
    if bridge.fail_mode != _SECURE and not any(_fails_open(bridge)):
        yield bridge.name


def _other_datapath(bridge: OvsBridge) -> Iterator[str]:
    if bridge.datapath_type not in _DATAPATHS:
        yield bridge.name


def _without_openflow_13(bridge: OvsBridge) -> Iterator[str]:
    if bridge.protocols and _SPOKEN not in bridge.protocols:
        yield bridge.name


def _bfd(settings: Settings) -> str:
    """bfd_should_process_flow in bfd.c: any packet to the port of BFD, unless it is set which it receives."""
    words = ["udp,tp_dst=3784"]
    bfd = settings.get("bfd")
    if isinstance(bfd, Mapping):
        if _MAC.fullmatch(mac := str(bfd.get("bfd_remote_dst_mac", ""))):
            words.append(f"dl_dst={mac}")
        if _ADDRESS.fullmatch(address := str(bfd.get("bfd_src_ip", _ANY_BFD))) and address != _ANY_BFD:
            words.append(f"nw_dst={address}")
    return ",".join(words)


def _cfm(settings: Settings) -> str:
    """cfm_should_process_flow in cfm.c."""
    extended = Column("Interface", "other_config", "cfm_extended", ("true",)).is_on(settings)
    return f"dl_type=0x8902,dl_dst={'01:23:20:00:00:30' if extended else '01:80:c2:00:00:30'}"


_SECURE: Final = "secure"
_LISTENING: Final = ("ptcp:", "pssl:", "punix:")
_DATAPATHS: Final = ("", "system", "netdev")
_SPOKEN: Final = "OpenFlow13"
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_ADDRESS: Final = re.compile(r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}")
_ANY_BFD: Final = "169.254.1.1"
"""BFD_DEFAULT_SRC_IP of bfd.c: what a bfd_src_ip that is not set stands for, and any address is taken then."""

_UNSEEN: Final = "the packets that XDP decides would be missing from it"
_UNPOLICED: Final = "packets that XDP decides are not counted against the rate"
_PASSED: Final = "its frames are passed"
_NORMAL: Final = "it concerns NORMAL, which is Open vSwitch's"
_CONTINUED: Final = "filter rules with it are continued in Open vSwitch"
_H, _B, _R = Treatment.HONOURED, Treatment.BEFORE, Treatment.REFUSED

FEATURES: Final = (
    Feature("mirrors", _R, Column("Bridge", "mirrors"), _UNSEEN, "ovs-vsctl clear bridge {} mirrors"),
    Feature("sFlow", _R, Column("Bridge", "sflow"), _UNSEEN, "ovs-vsctl clear bridge {} sflow"),
    Feature("NetFlow", _R, Column("Bridge", "netflow"), _UNSEEN, "ovs-vsctl clear bridge {} netflow"),
    Feature("IPFIX", _R, Column("Bridge", "ipfix"), _UNSEEN, "ovs-vsctl clear bridge {} ipfix"),
    Feature(
        "in-band control",
        _R,
        Told("Controller or Manager connection_mode, and a target over IP", _in_band),
        "its rules stand above all others and are told to nobody",
        "ovs-vsctl set {} connection_mode=out-of-band",
    ),
    Feature(
        "failing open",
        _R,
        Told("Bridge fail_mode other than secure, and a controller that Open vSwitch connects to", _fails_open),
        "while the controller is away a rule stands above all others and is told to nobody",
        "ovs-vsctl set-fail-mode {} secure",
    ),
    Feature(
        "bonds",
        _R,
        Told("Port interfaces, more than one", _bonds),
        "XDP does not know which interface a bond would choose",
        "ovs-vsctl del-port {}",
    ),
    Feature(
        "STP",
        _R,
        Column("Bridge", "stp_enable"),
        "XDP would not know in time which ports do not forward",
        "ovs-vsctl set bridge {} stp_enable=false",
    ),
    Feature(
        "RSTP",
        _R,
        Column("Bridge", "rstp_enable"),
        "XDP would not know in time which ports do not forward",
        "ovs-vsctl set bridge {} rstp_enable=false",
    ),
    Feature(
        "QoS",
        _R,
        Column("Port", "qos"),
        "packets that XDP sends bypass the queues of a port",
        "ovs-vsctl clear port {} qos",
    ),
    Feature(
        "policing in kbit/s",
        _R,
        Column("Interface", "ingress_policing_rate"),
        _UNPOLICED,
        "ovs-vsctl set interface {} ingress_policing_rate=0",
    ),
    Feature(
        "policing in packets",
        _R,
        Column("Interface", "ingress_policing_kpkts_rate"),
        _UNPOLICED,
        "ovs-vsctl set interface {} ingress_policing_kpkts_rate=0",
    ),
    Feature(
        "forwarding of BPDUs",
        _R,
        Column("Bridge", "other_config", "forward-bpdu", ("true",)),
        "NORMAL would forward a shim, whose address is one of theirs, if Oko's own rules were deleted",
        "ovs-vsctl remove bridge {} other_config forward-bpdu",
    ),
    Feature(
        "hardware offload",
        _R,
        Column("Open_vSwitch", "other_config", "hw-offload", ("true",)),
        "packets that a network card forwards by itself do not reach XDP",
        "ovs-vsctl remove {} . other_config hw-offload",
    ),
    Feature(
        "TSO in user space",
        _R,
        Column("Open_vSwitch", "other_config", "userspace-tso-enable", ("true",)),
        "its ports receive segments that have yet to be cut, and no shim fits before those",
        "ovs-vsctl remove {} . other_config userspace-tso-enable",
    ),
    Feature(
        "restoring flows",
        _R,
        Column("Open_vSwitch", "other_config", "flow-restore-wait", ("true",)),
        "Open vSwitch goes by none of its rules as long as it waits for them",
        "ovs-vsctl remove {} . other_config flow-restore-wait",
    ),
    Feature(
        "other datapaths",
        _R,
        Told("Bridge datapath_type, neither netdev nor system", _other_datapath),
        "nothing is known here of how they receive packets",
        "ovs-vsctl set bridge {} datapath_type=netdev",
    ),
    Feature(
        "OpenFlow without 1.3",
        _R,
        Told("Bridge protocols, without OpenFlow13", _without_openflow_13),
        "okod speaks 1.3 with Open vSwitch",
        f"ovs-vsctl add bridge {{}} protocols {_SPOKEN}",
    ),
    Feature(
        "eviction",
        _R,
        Told(
            "Flow_Table overflow_policy=evict, of a table in Bridge flow_tables",
            lambda bridge: (bridge.name for _ in bridge.evicting),
        ),
        "the flow monitor does not tell of a flow that another was evicted for",
        "ovs-vsctl clear bridge {} flow_tables",
    ),
    Feature(
        "conjunction",
        _R,
        "a rule's action conjunction or match conj_id, by the flow monitor",
        "a rule with conj_id depends on several others, which XDP does not look up: filter rules below are refused",
    ),
    Feature(
        "fragment handling",
        _R,
        "the flags of OpenFlow's GET_CONFIG reply",
        "XDP matches fragments as Open vSwitch does in its normal mode",
    ),
    Feature(
        "LACP", _B, Column("Port", "lacp", values=("active", "passive")), _PASSED, frames=lambda _: "dl_type=0x8809"
    ),
    Feature("BFD", _B, Column("Interface", "bfd", "enable", ("true",)), _PASSED, frames=_bfd),
    Feature("CFM", _B, Column("Interface", "cfm_mpid"), _PASSED, frames=_cfm),
    Feature("LLDP", _B, Column("Interface", "lldp", "enable", ("true",)), _PASSED, frames=lambda _: "dl_type=0x88cc"),
    Feature("access and trunk ports", _H, Column("Port", "vlan_mode"), _NORMAL),
    Feature("VLAN tag of a port", _H, Column("Port", "tag"), _NORMAL),
    Feature("VLAN trunks", _H, Column("Port", "trunks"), _NORMAL),
    Feature("customer VLANs", _H, Column("Port", "cvlans"), _NORMAL),
    Feature("protected ports", _H, Column("Port", "protected"), _NORMAL),
    Feature("fake bridges", _H, Column("Port", "fake_bridge"), _NORMAL),
    Feature("flooded VLANs", _H, Column("Bridge", "flood_vlans"), _NORMAL),
    Feature("multicast snooping", _H, Column("Bridge", "mcast_snooping_enable"), _NORMAL),
    Feature("Auto Attach", _H, Column("Bridge", "auto_attach"), "it makes VLANs of ports by LLDP, which is passed"),
    Feature(
        "more VLAN tags",
        _H,
        Column("Open_vSwitch", "other_config", "vlan-limit"),
        "XDP reads as many tags as Open vSwitch does, 2 at most",
    ),
    Feature(
        "MTU of an interface",
        _H,
        Column("Interface", "mtu_request"),
        "in user space it is raised as long as Oko is attached; frames that were too long before are dropped",
    ),
    Feature(
        "limits of tables",
        _H,
        Column("Bridge", "flow_tables"),
        "filter rules are not counted, but the two rules of each one that is continued are",
    ),
    Feature(
        "standalone without a controller",
        _H,
        Told("Bridge fail_mode other than secure, and no such controller", _stands_alone),
        "the rule NORMAL that Open vSwitch adds is a plain rule",
    ),
    Feature(
        "ports that do not receive or forward",
        _H,
        "OpenFlow's port settings no-receive and no-forward",
        "such a port goes on without XDP as long as it is set",
    ),
    Feature("groups", _H, "an action", _CONTINUED),
    Feature("meters", _H, "an instruction", _CONTINUED),
    Feature("connection tracking", _H, "the actions ct and nat", _CONTINUED),
    Feature("learn", _H, "an action", "what it adds and deletes is told by the flow monitor"),
    Feature("tunnels", _H, "an output to a tunnel", _CONTINUED),
    Feature("sampling", _H, "the action sample", "of the packets that a rule with it decides"),
)
"""All features."""


def used(bridge: OvsBridge, treatment: Treatment) -> Iterator[tuple[Feature, str]]:
    """The features of a treatment that a bridge uses, each with the row that uses it."""
    for feature in FEATURES:
        if feature.treatment is treatment and not isinstance(feature.uses, str):
            yield from ((feature, row) for row in feature.uses(bridge))


def require_attachable(bridge: OvsBridge) -> None:
    """Raises AttachError for a bridge that uses what is refused: the first in one line, all in `details`."""
    refused = [
        f"{feature.name} of {row}: {feature.outcome}: run '{feature.remedy.format(row)}'"
        for feature, row in used(bridge, Treatment.REFUSED)
    ]
    if refused:
        raise AttachError(f"bridge {bridge.name} cannot be attached to: {refused[0]}", details="\n".join(refused))


def reserved(bridge: OvsBridge) -> tuple[Match, ...]:
    """The frames that Open vSwitch takes before it looks into a table, each at its port."""
    return tuple(_reserved(bridge))


def _reserved(bridge: OvsBridge) -> Iterator[Match]:
    for feature in FEATURES:
        if feature.frames is not None and isinstance(feature.uses, Column):
            for name, settings in feature.uses.rows(bridge):
                for number in _numbers(bridge, feature.uses.table, name):
                    yield parse_selection(f"in_port={number},{feature.frames(settings)}").rule.match


def _numbers(bridge: OvsBridge, table: str, name: str) -> Iterator[int]:
    """The ports of a row, by their number in OpenFlow."""
    for port in bridge.ports:
        for interface in port.interfaces:
            if name == (port.name if table == "Port" else interface.name) and interface.ofport is not None:
                yield interface.ofport


_MORE: Final = {"Open_vSwitch": ("other_config",), "Bridge": ("other_config",), "Interface": ("other_config",)}
"""Columns that are looked at beside those that turn a feature on."""


def settings() -> dict[str, tuple[str, ...]]:
    """The columns that turn features on, or say more of them, by table."""
    found: dict[str, dict[str, None]] = {table: dict.fromkeys(names) for table, names in _MORE.items()}
    for feature in FEATURES:
        if isinstance(feature.uses, Column):
            found.setdefault(feature.uses.table, {})[feature.uses.column] = None
    return {table: tuple(names) for table, names in found.items()}
