"""The match fields, declared once: the OXM codec, the text syntax, the key of the compiled pipeline and the
documentation derive from `FIELDS`.

OXM numbers: OpenFlow 1.3.5, table 12 (class 0x8000). `filter_prog` is an experimenter field of Oko
(class 0xffff, experimenter 0xff4f4b4f). A field that a packet does not carry reads as zero, as in Open
vSwitch; prerequisites keep that from ever being seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

OXM_BASIC: Final = 0x8000
OXM_EXPERIMENTER: Final = 0xFFFF


class Syntax(Enum):
    """How a value is written in the ovs-ofctl syntax."""

    DECIMAL = "decimal"
    HEX = "hex"
    MAC = "mac"
    IPV4 = "ipv4"


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """The field called `field` must be matched exactly, with one of `values`."""

    field: str
    values: tuple[int, ...]

    def __str__(self) -> str:
        is_hex = BY_NAME[self.field].syntax is Syntax.HEX
        return " or ".join(f"{self.field}={value:#06x}" if is_hex else f"{self.field}={value}" for value in self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One match field. There is one object per field: compared and hashed by identity, as rules are hashed by the
    million.

    `bits` is its width; values are plain integers (most significant byte first on the wire). `aliases` are
    other spellings that the text syntax reads. `member` is the member of `struct oko_key`
    (bpf_programs/runtime/key.h) that holds it, with `shift` low bits of that member below it.
    """

    name: str
    oxm_class: int
    oxm_field: int
    bits: int
    syntax: Syntax
    maskable: bool = False
    prerequisites: tuple[Prerequisite, ...] = ()
    aliases: tuple[str, ...] = ()
    member: str = ""
    shift: int = 0

    @property
    def full(self) -> int:
        """The mask of an exact match."""
        return (1 << self.bits) - 1

    @property
    def size(self) -> int:
        """Bytes of the value on the wire."""
        return (self.bits + 7) // 8


ETH_TYPE_IPV4: Final = 0x0800
IP_PROTO_TCP: Final = 6
IP_PROTO_UDP: Final = 17

_IPV4: Final = Prerequisite("eth_type", (ETH_TYPE_IPV4,))
_TCP: Final = (_IPV4, Prerequisite("ip_proto", (IP_PROTO_TCP,)))
_UDP: Final = (_IPV4, Prerequisite("ip_proto", (IP_PROTO_UDP,)))

FILTER_PROG: Final = Field("filter_prog", OXM_EXPERIMENTER, 1, 32, Syntax.DECIMAL)

FIELDS: Final[tuple[Field, ...]] = (
    Field("in_port", OXM_BASIC, 0, 32, Syntax.DECIMAL, member="in_port"),
    Field("eth_dst", OXM_BASIC, 3, 48, Syntax.MAC, True, aliases=("dl_dst",), member="eth_dst"),
    Field("eth_src", OXM_BASIC, 4, 48, Syntax.MAC, True, aliases=("dl_src",), member="eth_src"),
    Field("eth_type", OXM_BASIC, 5, 16, Syntax.HEX, aliases=("dl_type",), member="eth_type"),
    Field("ip_dscp", OXM_BASIC, 8, 6, Syntax.DECIMAL, prerequisites=(_IPV4,), member="ip_tos", shift=2),
    Field("ip_ecn", OXM_BASIC, 9, 2, Syntax.DECIMAL, prerequisites=(_IPV4,), aliases=("nw_ecn",), member="ip_tos"),
    Field(
        "ip_proto", OXM_BASIC, 10, 8, Syntax.DECIMAL, prerequisites=(_IPV4,), aliases=("nw_proto",), member="ip_proto"
    ),
    Field("ipv4_src", OXM_BASIC, 11, 32, Syntax.IPV4, True, (_IPV4,), ("nw_src", "ip_src"), "ipv4_src"),
    Field("ipv4_dst", OXM_BASIC, 12, 32, Syntax.IPV4, True, (_IPV4,), ("nw_dst", "ip_dst"), "ipv4_dst"),
    Field("tcp_src", OXM_BASIC, 13, 16, Syntax.DECIMAL, True, _TCP, ("tp_src",), "tp_src"),
    Field("tcp_dst", OXM_BASIC, 14, 16, Syntax.DECIMAL, True, _TCP, ("tp_dst",), "tp_dst"),
    Field("udp_src", OXM_BASIC, 15, 16, Syntax.DECIMAL, True, _UDP, ("tp_src",), "tp_src"),
    Field("udp_dst", OXM_BASIC, 16, 16, Syntax.DECIMAL, True, _UDP, ("tp_dst",), "tp_dst"),
    FILTER_PROG,
)

BY_NAME: Final[dict[str, Field]] = {field.name: field for field in FIELDS}
BY_OXM: Final[dict[tuple[int, int], Field]] = {(field.oxm_class, field.oxm_field): field for field in FIELDS}
ORDER: Final[dict[str, int]] = {field.name: index for index, field in enumerate(FIELDS)}


def table() -> str:
    """`FIELDS` as a Markdown table, for docs/flow-syntax.md."""
    rows: list[tuple[str, ...]] = [
        ("Field", "Also written", "Bits", "Value", "Mask", "Needs", "OXM class:field"),
        ("---",) * 7,
    ]
    rows += [
        (
            f"`{field.name}`",
            ", ".join(f"`{alias}`" for alias in field.aliases) or "–",
            str(field.bits),
            field.syntax.value,
            "yes" if field.maskable else "no",
            ", ".join(f"`{prerequisite}`" for prerequisite in field.prerequisites) or "–",
            f"`{field.oxm_class:#06x}:{field.oxm_field}`",
        )
        for field in FIELDS
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
