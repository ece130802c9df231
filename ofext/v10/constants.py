"""Numbers of OpenFlow 1.0.1 that both sides must agree on and that are not those of OpenFlow 1.3."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

VERSION: Final = 1
"""The wire version of OpenFlow 1.0."""

NICIRA: Final = 0x00002320
"""The vendor id of Nicira, under which Open vSwitch extends OpenFlow."""

MAX_PORT: Final = 0xFF00
"""OFPP_MAX: physical ports are below (section 5.2.1)."""
PORT_NONE: Final = 0xFFFF
"""OFPP_NONE: no port, and in a request all of them."""
VLAN_NONE: Final = 0xFFFF
"""OFP_VLAN_NONE: a `dl_vlan` that means untagged packets (section 5.2.3)."""


class Wildcard(IntFlag):
    """The fields of a match that do not count (section 5.2.3). Of IPv4 addresses, the number of low bits that do not
    count stands in six bits, at NW_SRC_SHIFT and NW_DST_SHIFT; 32 and more leave nothing."""

    IN_PORT = 1 << 0
    DL_VLAN = 1 << 1
    DL_SRC = 1 << 2
    DL_DST = 1 << 3
    DL_TYPE = 1 << 4
    NW_PROTO = 1 << 5
    TP_SRC = 1 << 6
    TP_DST = 1 << 7
    DL_VLAN_PCP = 1 << 20
    NW_TOS = 1 << 21


NW_SRC_SHIFT: Final = 8
NW_DST_SHIFT: Final = 14
NW_BITS: Final = 63
"""Six bits, at each of the shifts."""
WILDCARDS_ALL: Final = (1 << 22) - 1
"""OFPFW_ALL."""


class Capability(IntFlag):
    """Section 5.3.1."""

    FLOW_STATS = 1
    TABLE_STATS = 2
    PORT_STATS = 4
    STP = 8
    IP_REASM = 32
    QUEUE_STATS = 64
    ARP_MATCH_IP = 128


class FlowModFlag(IntFlag):
    """Section 5.3.3."""

    SEND_FLOW_REM = 1
    CHECK_OVERLAP = 2
    EMERG = 4


class FlowFormat(IntEnum):
    """How matches are written, as Nicira's SetFlowFormat chooses."""

    OPENFLOW10 = 0
    NXM = 2
