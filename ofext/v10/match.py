"""The two matches of OpenFlow 1.0: `struct ofp_match` of fixed size (OpenFlow 1.0.1, section 5.2.3), and Nicira's
extensible match, which is a list of fields as OXM has them, mostly with numbers of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, get_type_hints

from oko.errors import LimitExceeded

from ..codec import U8, U16, U32, Exactly, Layout, Pad, malformed
from ..oxm import Oxm, read_oxm, write_oxm
from .constants import WILDCARDS_ALL


@dataclass(frozen=True, slots=True)
class Match:
    """Fields of a packet; those that `wildcards` (`constants.Wildcard`) has do not count. `nw_tos` has the DSCP in its
    high six bits. Of ARP, `nw_proto` is the opcode and the addresses are those of the protocol; of ICMP, `tp_src` is
    the type and `tp_dst` the code."""

    wildcards: U32 = WILDCARDS_ALL
    in_port: U16 = 0
    dl_src: Annotated[bytes, Exactly(6)] = bytes(6)
    dl_dst: Annotated[bytes, Exactly(6)] = bytes(6)
    dl_vlan: U16 = 0
    dl_vlan_pcp: Annotated[U8, Pad(1)] = 0
    dl_type: U16 = 0
    nw_tos: U8 = 0
    nw_proto: Annotated[U8, Pad(2)] = 0
    nw_src: U32 = 0
    nw_dst: U32 = 0
    tp_src: U16 = 0
    tp_dst: U16 = 0


MATCH: Final = Layout(Match)


class NxmPart:
    """A tuple of fields, padded to 8 bytes. Their length, 16 bits without the padding, stands `back` bytes before them
    and belongs to the structure around: see `Nxm`."""

    extent: Final = "match"

    def __init__(self, back: int) -> None:
        self.back = back

    def read(self, data: bytes, offset: int, end: int) -> tuple[tuple[Oxm, ...], int]:
        length = int.from_bytes(data[offset - self.back : offset - self.back + 2], "big")
        stop = offset + length
        behind = stop + -length % 8
        if behind > end:
            raise malformed(f"the match has length {length}, {end - offset} bytes left")
        fields = []
        while offset < stop:
            oxm, offset = read_oxm(data, offset, stop)
            fields.append(oxm)
        return tuple(fields), behind

    def write(self, value: tuple[Oxm, ...]) -> bytes:
        fields = _write_fields(value)
        return fields + bytes(-len(fields) % 8)


class Nxm:
    """A structure with a field `match`, which is an `NxmPart`. The declaration has padding where its length stands."""

    def __init__(self, layout: Layout[Any]) -> None:
        self.part = layout
        self.extent = layout.extent
        (match,) = (row for row in layout.rows() if row.name == "match")
        hint = get_type_hints(layout.cls, include_extras=True)["match"]
        self._at = int(match.offset) - hint.__metadata__[0].back

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        return self.part.read(data, offset, end)

    def write(self, value: Any) -> bytes:
        body = self.part.write(value)
        length = len(_write_fields(value.match))
        if length > 0xFFFF:
            raise LimitExceeded("bytes of a match", length, 0xFFFF)
        return body[: self._at] + length.to_bytes(2, "big") + body[self._at + 2 :]


def _write_fields(fields: tuple[Oxm, ...]) -> bytes:
    return b"".join([write_oxm(oxm) for oxm in fields])
