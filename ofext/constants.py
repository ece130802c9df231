"""Numbers of OpenFlow 1.3.5 that both sides must agree on, apart from message types and error codes."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

VERSION: Final = 4
"""The wire version of OpenFlow 1.3."""

MAX_LENGTH: Final = 0xFFFF
"""The most bytes that a message can have: its length field has 16 bits."""

NO_BUFFER: Final = 0xFFFFFFFF
PORT_ANY: Final = 0xFFFFFFFF
GROUP_ALL: Final = 0xFFFFFFFC
GROUP_ANY: Final = 0xFFFFFFFF
METER_ALL: Final = 0xFFFFFFFF
QUEUE_ALL: Final = 0xFFFFFFFF
TABLE_ALL: Final = 0xFF
CONTROLLER_NO_BUFFER: Final = 0xFFFF
"""OFPCML_NO_BUFFER: an output to the controller sends the whole packet."""

MULTIPART_MORE: Final = 1
"""OFPMPF_REQ_MORE and OFPMPF_REPLY_MORE: other parts follow."""


class ReservedPort(IntEnum):
    """Section 7.2.1."""

    IN_PORT = 0xFFFFFFF8
    TABLE = 0xFFFFFFF9
    NORMAL = 0xFFFFFFFA
    FLOOD = 0xFFFFFFFB
    ALL = 0xFFFFFFFC
    CONTROLLER = 0xFFFFFFFD
    LOCAL = 0xFFFFFFFE


class FlowModFlag(IntFlag):
    """Section 7.3.4.1."""

    SEND_FLOW_REM = 1
    CHECK_OVERLAP = 2
    RESET_COUNTS = 4
    NO_PKT_COUNTS = 8
    NO_BYT_COUNTS = 16


class ConfigFlag(IntFlag):
    """What happens to IP fragments; normally they are matched with ports of 0 (section 7.3.2)."""

    FRAG_DROP = 1
    FRAG_REASM = 2


class GroupType(IntEnum):
    """Section 7.3.4.2."""

    ALL = 0
    SELECT = 1
    INDIRECT = 2
    FAST_FAILOVER = 3


class GroupCapability(IntFlag):
    """Section 7.3.5.9."""

    SELECT_WEIGHT = 1
    SELECT_LIVENESS = 2
    CHAINING = 4
    CHAINING_CHECKS = 8


class MeterFlag(IntFlag):
    """The unit of a meter's rates, whether they have bursts, and whether it is counted (section 7.3.4.4)."""

    KBPS = 1
    PKTPS = 2
    BURST = 4
    STATS = 8


class Capability(IntFlag):
    """Section 7.3.1."""

    FLOW_STATS = 1
    TABLE_STATS = 2
    PORT_STATS = 4
    GROUP_STATS = 8
    IP_REASM = 32
    QUEUE_STATS = 64
    PORT_BLOCKED = 256


class PortConfig(IntFlag):
    """Section 7.2.1."""

    PORT_DOWN = 1
    NO_RECV = 4
    NO_FWD = 32
    NO_PACKET_IN = 64


class PortState(IntFlag):
    """Section 7.2.1."""

    LINK_DOWN = 1
    BLOCKED = 2
    LIVE = 4


class PortFeature(IntFlag):
    """Section 7.2.1. Speeds are Mbit/s and Gbit/s, half or full duplex."""

    MB_10_HD = 1
    MB_10_FD = 2
    MB_100_HD = 4
    MB_100_FD = 8
    GB_1_HD = 16
    GB_1_FD = 32
    GB_10_FD = 64
    GB_40_FD = 128
    GB_100_FD = 256
    TB_1_FD = 512
    OTHER = 1024
    COPPER = 2048
    FIBER = 4096
    AUTONEG = 8192
    PAUSE = 16384
    PAUSE_ASYM = 32768


class PacketInReason(IntEnum):
    """Section 7.4.1."""

    NO_MATCH = 0
    ACTION = 1
    INVALID_TTL = 2


class FlowRemovedReason(IntEnum):
    """Section 7.4.2."""

    IDLE_TIMEOUT = 0
    HARD_TIMEOUT = 1
    DELETE = 2
    GROUP_DELETE = 3
    METER_DELETE = 4


class PortReason(IntEnum):
    """Section 7.4.3."""

    ADD = 0
    DELETE = 1
    MODIFY = 2


class Role(IntEnum):
    """Section 7.3.9."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3
