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
GROUP_ANY: Final = 0xFFFFFFFF
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
