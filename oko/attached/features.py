"""What becomes of each feature of Open vSwitch when Oko is attached: `FEATURES`.

What a feature does to packets is done by Open vSwitch, to those that it sees. So a feature is *honoured* where it does
its work in Open vSwitch's own actions, handled *before* the tables where Open vSwitch takes frames for itself, which
XDP then has to pass to it untouched, and *refused* where packets that XDP decides would miss it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from oko.attached.description import OvsBridge, OvsController, Setting, Settings
from oko.errors import AttachError


class Treatment(Enum):
    """What becomes of a feature."""

    HONOURED = "honoured"
    BEFORE = "before the tables"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Column:
    """What turns a feature on: `column` of the rows of a bridge in `table`, if `used` says so of its value."""

    table: str
    column: str
    used: Callable[[Setting], bool] = bool

    def __call__(self, bridge: OvsBridge) -> Iterator[str]:
        """The rows that use it."""
        for name, settings in _rows(bridge, self.table):
            value = settings.get(self.column)
            if value is not None and self.used(value):
                yield name


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature. `outcome` says what becomes of it, or why it is refused; `remedy` is the command that turns it off,
    with ``{}`` for the row that uses it. `uses` names the rows that use it; None where OVSDB does not tell. `frames`
    are matches, in the syntax of ovs-ofctl: the frames that Open vSwitch takes before it looks into a table, at the
    ports that use the feature."""

    name: str
    treatment: Treatment
    outcome: str
    uses: Callable[[OvsBridge], Iterable[str]] | None = None
    remedy: str = ""
    frames: tuple[str, ...] = ()


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


def _says(key: str, *values: str) -> Callable[[Setting], bool]:
    """Whether a map holds one of these values under the key."""
    return lambda setting: isinstance(setting, Mapping) and setting.get(key) in values


def _enabled(key: str) -> Callable[[Setting], bool]:
    return _says(key, "true")


def _bonds(bridge: OvsBridge) -> Iterator[str]:
    return (port.name for port in bridge.ports if len(port.interfaces) > 1)


def _in_band(bridge: OvsBridge) -> Iterator[str]:
    """The controllers and managers that Open vSwitch keeps reachable over the bridge by rules that nobody sees
    (in_band_create in connmgr.c): those that it connects to over IP."""
    if _enabled("disable-in-band")(bridge.settings.get("other_config", {})):
        return
    for remote in (*bridge.controllers, *bridge.managers):
        if _over_ip(remote) and remote.mode != "out-of-band":
            yield f"{'controller' if remote in bridge.controllers else 'manager'} {remote.uuid}"


def _over_ip(remote: OvsController) -> bool:
    return remote.target.startswith(("tcp:", "ssl:"))


_UNSEEN: Final = "the packets that XDP decides would be missing from it"
_NORMAL: Final = "it concerns NORMAL, which is Open vSwitch's"
_H, _B, _R = Treatment.HONOURED, Treatment.BEFORE, Treatment.REFUSED

FEATURES: Final = (
    Feature("mirrors", _R, _UNSEEN, Column("Bridge", "mirrors"), "ovs-vsctl clear bridge {} mirrors"),
    Feature("sFlow", _R, _UNSEEN, Column("Bridge", "sflow"), "ovs-vsctl clear bridge {} sflow"),
    Feature("NetFlow", _R, _UNSEEN, Column("Bridge", "netflow"), "ovs-vsctl clear bridge {} netflow"),
    Feature("IPFIX", _R, _UNSEEN, Column("Bridge", "ipfix"), "ovs-vsctl clear bridge {} ipfix"),
    Feature(
        "in-band control",
        _R,
        "its rules stand above all others and are told to nobody",
        _in_band,
        "ovs-vsctl set {} connection_mode=out-of-band",
    ),
    Feature("bonds", _R, "XDP does not know which interface a bond would choose", _bonds, "ovs-vsctl del-port {}"),
    Feature(
        "QoS",
        _R,
        "packets that XDP sends bypass the queues of a port",
        Column("Port", "qos"),
        "ovs-vsctl clear port {} qos",
    ),
    Feature(
        "policing in kbit/s",
        _R,
        "packets that XDP decides are not counted against the rate",
        Column("Interface", "ingress_policing_rate"),
        "ovs-vsctl set interface {} ingress_policing_rate=0",
    ),
    Feature(
        "policing in packets",
        _R,
        "packets that XDP decides are not counted against the rate",
        Column("Interface", "ingress_policing_kpkts_rate"),
        "ovs-vsctl set interface {} ingress_policing_kpkts_rate=0",
    ),
    Feature(
        "hardware offload",
        _R,
        "packets that a network card forwards by itself do not reach XDP",
        Column("Open_vSwitch", "other_config", _enabled("hw-offload")),
        "ovs-vsctl remove {} . other_config hw-offload",
    ),
    Feature(
        "eviction",
        _R,
        "the flow monitor does not tell of a flow that another was evicted for",
        lambda bridge: (bridge.name for _ in bridge.evicting),
        "ovs-vsctl clear bridge {} flow_tables",
    ),
    Feature("conjunction", _R, "a rule with conj_id depends on several others, which XDP does not look up"),
    Feature(
        "STP",
        _B,
        "its frames are passed, and XDP decides nothing at a port that does not forward",
        Column("Bridge", "stp_enable"),
        frames=("dl_dst=01:80:c2:00:00:00",),
    ),
    Feature(
        "RSTP",
        _B,
        "its frames are passed, and XDP decides nothing at a port that does not forward",
        Column("Bridge", "rstp_enable"),
        frames=("dl_dst=01:80:c2:00:00:00",),
    ),
    Feature("LACP", _B, "its frames are passed", Column("Port", "lacp"), frames=("dl_type=0x8809",)),
    Feature(
        "BFD",
        _B,
        "its frames are passed",
        Column("Interface", "bfd", _enabled("enable")),
        frames=("udp,tp_dst=3784", "udp6,tp_dst=3784"),
    ),
    Feature("CFM", _B, "its frames are passed", Column("Interface", "cfm_mpid"), frames=("dl_type=0x8902",)),
    Feature(
        "LLDP",
        _B,
        "its frames are passed",
        Column("Interface", "lldp", _enabled("enable")),
        frames=("dl_type=0x88cc",),
    ),
    Feature("access and trunk ports", _H, _NORMAL, Column("Port", "vlan_mode")),
    Feature("VLAN tag of a port", _H, _NORMAL, Column("Port", "tag")),
    Feature("VLAN trunks", _H, _NORMAL, Column("Port", "trunks")),
    Feature("protected ports", _H, _NORMAL, Column("Port", "protected")),
    Feature("flooded VLANs", _H, _NORMAL, Column("Bridge", "flood_vlans")),
    Feature("multicast snooping", _H, _NORMAL, Column("Bridge", "mcast_snooping_enable")),
    Feature(
        "limits of tables",
        _H,
        "filter rules are not counted",
        Column("Bridge", "flow_tables"),
    ),
    Feature(
        "fail mode standalone",
        _H,
        "without a controller all that no filter rule decides is NORMAL",
        Column("Bridge", "fail_mode", lambda mode: mode != ("secure",)),
    ),
)
"""All features."""


def used(bridge: OvsBridge, treatment: Treatment) -> Iterator[tuple[Feature, str]]:
    """The features of a treatment that a bridge uses, each with the row that uses it."""
    for feature in FEATURES:
        if feature.treatment is treatment and feature.uses is not None:
            yield from ((feature, row) for row in feature.uses(bridge))


def require_attachable(bridge: OvsBridge) -> None:
    """Raises AttachError for a bridge that uses what is refused: the first in one line, all in `details`."""
    refused = [
        f"{feature.name} of {row}: {feature.outcome}: run '{feature.remedy.format(row)}'"
        for feature, row in used(bridge, Treatment.REFUSED)
    ]
    if refused:
        raise AttachError(f"bridge {bridge.name} cannot be attached to: {refused[0]}", details="\n".join(refused))


_CONFIGURED: Final = {"Open_vSwitch": ("other_config",), "Bridge": ("other_config",)}
"""Columns of which more than one feature, or none alone, is a part."""


def settings() -> dict[str, tuple[str, ...]]:
    """The columns that turn features on, by table."""
    found: dict[str, dict[str, None]] = {table: dict.fromkeys(names) for table, names in _CONFIGURED.items()}
    for feature in FEATURES:
        if isinstance(feature.uses, Column):
            found.setdefault(feature.uses.table, {})[feature.uses.column] = None
    return {table: tuple(names) for table, names in found.items()}
