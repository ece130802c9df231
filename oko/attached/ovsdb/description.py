"""What OVSDB says of a bridge, as values (ovs-vswitchd.conf.db(5))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

Setting = str | int | float | bool | tuple["Setting", ...] | Mapping["Setting", "Setting"]
"""A value of a column: a set is a tuple in ascending order, what refers to rows a tuple of their UUIDs."""

Settings = Mapping[str, Setting]
"""Values by column."""

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "Open_vSwitch": ("bridges", "manager_options"),
    "Bridge": ("name", "ports", "controller", "datapath_id", "datapath_type", "fail_mode", "protocols", "flow_tables"),
    "Flow_Table": ("overflow_policy",),
    "Port": ("name", "interfaces"),
    "Interface": ("name", "type", "ofport", "ifindex", "mtu", "mtu_request", "error"),
    "Controller": ("target", "connection_mode"),
    "Manager": ("target", "connection_mode"),
}
"""The columns that the values here are made of, by table."""

WITHOUT_XDP: Final[Mapping[str, str]] = {
    "internal": "it is the host's own end, a tap device to Open vSwitch",
    "tap": "it is a tap device that Open vSwitch itself reads",
    "patch": "it has no network interface",
    **dict.fromkeys(
        (
            *("geneve", "gre", "vxlan", "lisp", "stt", "erspan", "ip6erspan", "ip6gre", "gtpu", "bareudp", "srv6"),
            *("ipsec_gre", "ipsec_geneve", "ipsec_vxlan"),
        ),
        "packets of a tunnel come in by another interface, wrapped",
    ),
    **dict.fromkeys(
        ("dpdk", "dpdkr", "dpdkvhost", "dpdkvhostuser", "dpdkvhostuserclient"), "its packets do not pass the kernel"
    ),
    **dict.fromkeys(("afxdp", "afxdp-nonpmd"), "Open vSwitch has an XDP program of its own there"),
}
"""Why an interface of a type cannot carry an XDP program. Its packets are Open vSwitch's alone."""


@dataclass(frozen=True, slots=True)
class OvsInterface:
    """An interface of a port. `type` is empty for one of the system. `ofport` is its number in OpenFlow and `ifindex`
    the kernel's, None until ovs-vswitchd has opened it; `error` says why it cannot. MTUs are bytes without the Ethernet
    header; `mtu_request` is what ovs-vswitchd keeps it at."""

    name: str
    type: str = ""
    ofport: int | None = None
    ifindex: int | None = None
    mtu: int | None = None
    mtu_request: int | None = None
    error: str = ""
    settings: Settings = field(default_factory=dict)

    @property
    def without_xdp(self) -> str:
        """Why it cannot carry an XDP program; empty if nothing here says so."""
        if self.type not in ("", "system"):
            return WITHOUT_XDP.get(self.type, f"nothing is known here of the type {self.type}")
        if self.ifindex is None or self.ofport is None:
            return self.error or "Open vSwitch has not opened it"
        return ""


@dataclass(frozen=True, slots=True)
class OvsPort:
    """A port: one interface, or the several of a bond."""

    name: str
    interfaces: tuple[OvsInterface, ...]
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OvsController:
    """A controller of the bridge, or a manager of the database, by its row. `mode` is ``in-band``, ``out-of-band`` or
    empty, which is in-band."""

    uuid: str
    target: str
    mode: str = ""


@dataclass(frozen=True, slots=True)
class OvsBridge:
    """A bridge. `fail_mode` is ``secure``, ``standalone`` or empty, which is standalone; `protocols` are versions such
    as ``OpenFlow13``, none for the defaults. The tables `evicting` delete a flow when they have no room for another.
    `settings`, here as of ports and interfaces, are what features are turned on by; `system` are those of all of Open
    vSwitch."""

    name: str
    datapath_type: str
    datapath_id: str
    fail_mode: str
    protocols: tuple[str, ...]
    ports: tuple[OvsPort, ...]
    controllers: tuple[OvsController, ...]
    managers: tuple[OvsController, ...]
    evicting: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    system: Settings = field(default_factory=dict)

    @property
    def interfaces(self) -> Iterator[OvsInterface]:
        """Of all ports."""
        return (interface for port in self.ports for interface in port.interfaces)

    @property
    def vlan_limit(self) -> int:
        """How many VLAN tags Open vSwitch reads of a packet; 0 stands for as many as it can."""
        config = self.system.get("other_config", {})
        limit = config.get("vlan-limit") if isinstance(config, Mapping) else None
        return int(limit) if isinstance(limit, str) and limit.isdecimal() else 1
