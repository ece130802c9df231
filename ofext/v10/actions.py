"""The actions of OpenFlow 1.0 (section 5.2.4) and of Nicira's extension. Those without a class here are kept as
bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any, Final

from ..codec import U8, U16, U32, U64, Elements, Exactly, Family, Pad, Padding, fault, malformed
from ..instructions import UnknownAction
from .constants import NICIRA

_BAD_LEN: Final = fault("bad-action/bad-len")

ACTIONS: Final = Family("action")
NICIRA_ACTIONS: Final = Family("action of Nicira")


@ACTIONS.member(0, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Output:
    """Send to `port`; `max_len` is how many bytes the controller gets, if it is the port."""

    port: U16
    max_len: U16 = 0xFFFF


@ACTIONS.member(1, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetVlanVid:
    """Write the VID, into a new tag if the packet has none."""

    vlan_vid: Annotated[U16, Pad(2)]


@ACTIONS.member(2, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetVlanPcp:
    """Write the priority, into a new tag if the packet has none."""

    vlan_pcp: Annotated[U8, Pad(3)]


@ACTIONS.member(3, lead=4, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class StripVlan:
    """Take the tag away."""


@ACTIONS.member(4, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetDlSrc:
    """Write the Ethernet source address."""

    dl_addr: Annotated[bytes, Exactly(6), Pad(6)]


@ACTIONS.member(5, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetDlDst:
    """Write the Ethernet destination address."""

    dl_addr: Annotated[bytes, Exactly(6), Pad(6)]


@ACTIONS.member(6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetNwSrc:
    """Write the IPv4 source address."""

    nw_addr: U32


@ACTIONS.member(7, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetNwDst:
    """Write the IPv4 destination address."""

    nw_addr: U32


@ACTIONS.member(8, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetNwTos:
    """Write the DSCP, which is the high six bits."""

    nw_tos: Annotated[U8, Pad(3)]


@ACTIONS.member(9, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetTpSrc:
    """Write the TCP or UDP source port."""

    tp_port: Annotated[U16, Pad(2)]


@ACTIONS.member(10, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetTpDst:
    """Write the TCP or UDP destination port."""

    tp_port: Annotated[U16, Pad(2)]


@ACTIONS.member(11, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Enqueue:
    """Send to a queue of a port."""

    port: Annotated[U16, Pad(6)]
    queue_id: U32


# ---- Nicira's, behind their vendor and their subtype of 16 bits


@NICIRA_ACTIONS.member(7, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class RegLoad:
    """Write `value` into bits of the field whose header (class, field, mask bit, length) is `field`: the highest ten
    bits of `bits` say the lowest of them, the others how many they are, less one."""

    bits: U16
    field: U32
    value: U64


@NICIRA_ACTIONS.member(14, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class ResubmitTable:
    """Look the packet up in a table as if it had come in by `in_port` (OFPP_IN_PORT: as it did), and go on."""

    in_port: U16
    table: Annotated[U8, Pad(3)]


@NICIRA_ACTIONS.member(18, lead=6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class DecTtl:
    """Count down the TTL or hop limit of the IP header."""


@NICIRA_ACTIONS.member(22, lead=6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class WriteMetadata:
    """Set the bits of the metadata that `metadata_mask` has."""

    metadata: U64
    metadata_mask: U64


@NICIRA_ACTIONS.member(23, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class PushMpls:
    """Put an MPLS label of `ethertype` in front."""

    ethertype: Annotated[U16, Pad(4)]


@NICIRA_ACTIONS.member(24, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class PopMpls:
    """Take the outermost MPLS label away; `ethertype` says what is below."""

    ethertype: Annotated[U16, Pad(4)]


@NICIRA_ACTIONS.member(25, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class SetMplsTtl:
    """Set the TTL of the outermost label."""

    mpls_ttl: Annotated[U8, Pad(5)]


@NICIRA_ACTIONS.member(26, lead=6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class DecMplsTtl:
    """Count down the TTL of the outermost label."""


@NICIRA_ACTIONS.member(40, lead=2, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Group:
    """Let a group process the packet."""

    group_id: U32


@dataclass(frozen=True, slots=True)
class VendorAction:
    """An action of a vendor that has no class here. `data` is what follows the vendor: 8 bytes, 16, …"""

    vendor: int
    data: bytes


Action = (
    Output
    | SetVlanVid
    | SetVlanPcp
    | StripVlan
    | SetDlSrc
    | SetDlDst
    | SetNwSrc
    | SetNwDst
    | SetNwTos
    | SetTpSrc
    | SetTpDst
    | Enqueue
    | RegLoad
    | ResubmitTable
    | DecTtl
    | WriteMetadata
    | PushMpls
    | PopMpls
    | SetMplsTtl
    | DecMplsTtl
    | Group
    | VendorAction
    | UnknownAction
)


class _VendorPart:
    """The vendor and what it defines: of Nicira, a subtype of 16 bits and a member of its family."""

    extent: Final = "n"
    _vendor: Final = struct.Struct(">I")
    _nicira: Final = struct.Struct(">IH")

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        start = offset + self._nicira.size
        if start > end:
            raise malformed(f"a vendor's action is cut off: {end - offset} bytes left", _BAD_LEN)
        vendor, subtype = self._nicira.unpack_from(data, offset)
        part = NICIRA_ACTIONS.parts.get(subtype) if vendor == NICIRA else None
        if part is None:
            return VendorAction(vendor, data[offset + self._vendor.size : end]), end
        return part.read(data, start, end)

    def write(self, value: Any) -> bytes:
        if not isinstance(value, VendorAction):
            subtype = NICIRA_ACTIONS.number(value)
            return self._nicira.pack(NICIRA, subtype) + NICIRA_ACTIONS.parts[subtype].write(value)
        try:
            return self._vendor.pack(value.vendor) + value.data
        except struct.error:
            raise malformed(f"vendor {value.vendor} has not 32 bits", _BAD_LEN) from None


ACTIONS.add(0xFFFF, _VendorPart(), VendorAction, *NICIRA_ACTIONS.numbers)

ACTION_LIST: Final = Elements(ACTIONS, UnknownAction, padding=Padding.COUNTED, what=_BAD_LEN)
Actions = Annotated[tuple[Action, ...], ACTION_LIST]
