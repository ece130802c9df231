"""How headers come into the lookup key: those of the most common packets by a few instructions, those of all others by
the C parser (`bpf_programs/runtime/parser.c`).

The most common packets are Ethernet without a tag; where more of them is looked at, with IPv4 that has no options and
is no fragment, and with TCP or UDP. Only those words of the key are written that are looked at, and each at once: a
word that is stored in pieces and loaded as a whole waits for the pieces to reach the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from oko.compiler.assembler import Label, Register
from oko.compiler.emission import CTX_DATA, CTX_DATA_END, R0, R1, R2, R3, R4, R5, R6, R7, Emission
from oko.compiler.layout import WORD
from oko.flow.drop import Drop
from oko.flow.fields import ETH_TYPE_IPV4, IP_PROTO_TCP, IP_PROTO_UDP
from oko.flow.headers import ETH_HEADER, ETH_TYPE_MIN, FRAGMENT_OFFSET, IPV4_HEADER, L4_HEADER, MORE_FRAGMENTS, TPIDS
from verifier import isa

_ETH_TYPE: Final = 12
_IPV4: Final = ETH_HEADER
_TOTAL_LENGTH: Final = _IPV4 + 2
_FRAGMENT: Final = _IPV4 + 6
_PROTO: Final = _IPV4 + 9
_L4: Final = _IPV4 + IPV4_HEADER
_DATA_OFFSET: Final = _L4 + 12

_WITHOUT_OPTIONS: Final = 0x45
"""The first byte of an IPv4 header of 20 bytes."""
_TCP_FLAGS: Final = 0x0FFF


class _Depth(IntEnum):
    """How much of a packet is looked at."""

    LINK = 0
    NETWORK = 1
    TRANSPORT = 2


class _Source(NamedTuple):
    """Where a member of the key stands in the most common packets: `size` bytes at `offset`. `mask`: in network order,
    the bits that count."""

    offset: int
    size: int
    mask: int | None = None


_LINK: Final = {"eth_dst": _Source(0, 6), "eth_src": _Source(6, 6), "eth_type": _Source(_ETH_TYPE, 2)}
_NETWORK: Final = _LINK | {
    "ip_tos": _Source(_IPV4 + 1, 1),
    "ip_proto": _Source(_PROTO, 1),
    "ipv4_src": _Source(_IPV4 + 12, 4),
    "ipv4_dst": _Source(_IPV4 + 16, 4),
}
_UDP: Final = _NETWORK | {"tp_src": _Source(_L4, 2), "tp_dst": _Source(_L4 + 2, 2)}
_TCP: Final = _UDP | {"tcp_flags": _Source(_DATA_OFFSET, 2, _TCP_FLAGS)}

_KNOWN: Final = {
    _Depth.LINK: _LINK.keys() | {"in_port", "metadata", "vlan_tci"},
    _Depth.NETWORK: _NETWORK.keys() | {"ip_frag", "arp_op", "mpls_lse", "ipv6_src", "ipv6_dst", "ipv6_label"},
}
"""The members that are known at a depth. (Neighbour discovery is not at that of the network: it may be in IPv4.)"""


def emit_parse(emission: Emission, mask: int, *, complete: bool) -> None:
    """Fill the key: from the packet's headers, and in_port from R7, where it is in network order. A runt is dropped.

    `mask` is every bit of the key that the emitted code looks at; `complete`: runtime functions look at all there is
    in the packet's structure."""
    _Parse(emission, mask, complete=complete).emit()


class _Parse:
    def __init__(self, emission: Emission, mask: int, *, complete: bool) -> None:
        self._emission = emission
        self._base = emission.layout.offsets["key"]
        self._complete = complete
        key = emission.layout.key
        self._looked_at = b"".join(key.words((1 << key.size * 8) - 1 if complete else mask))
        self._members = {
            name: (offset, size)
            for name, (offset, size) in key.members.items()
            if any(self._looked_at[offset : offset + size])
        }
        self._other = Label("any other packet")
        self._parsed = Label("parsed")

    def emit(self) -> None:
        emission, asm = self._emission, self._emission.asm
        depth = self._depth()
        asm.note("parse the most common packets")
        emission.packet(R3)
        self._reach({_Depth.LINK: ETH_HEADER, _Depth.NETWORK: _L4}.get(depth, _L4 + L4_HEADER[IP_PROTO_TCP]))
        if depth is _Depth.LINK:
            self._require_type()
            self._fill(_LINK)
        else:
            self._require_ipv4()
        if depth is _Depth.NETWORK:
            self._fill(_NETWORK)
        elif depth is _Depth.TRANSPORT:
            self._transport()
        asm.note("parser")
        asm.place(self._other)
        asm.copy(R1, R6)
        emission.packet(R2)
        asm.call(emission.parser)
        whole = Label("no runt")
        asm.jump_if_value(isa.JEQ, R0, 0, whole)
        emission.drop(Drop.RUNT)
        asm.place(whole)
        emission.packet(R3)
        offset, size = emission.layout.key.members["in_port"]
        asm.store(size, R3, self._base + offset, R7)
        asm.place(self._parsed)

    def _depth(self) -> _Depth:
        """The least at which everything that is looked at is known."""
        known = set[str]()
        for depth, members in _KNOWN.items():
            known |= members
            if self._members.keys() <= known:
                return depth
        return _Depth.TRANSPORT

    def _reach(self, size: int) -> None:
        """R1 = the frame, which has `size` bytes; R2 = its end."""
        asm = self._emission.asm
        asm.load(4, R1, R6, CTX_DATA)
        asm.load(4, R2, R6, CTX_DATA_END)
        asm.copy(R4, R1)
        asm.operate_value(isa.ADD, R4, size)
        asm.jump_if(isa.JGT, R4, R2, self._other)

    def _require_type(self) -> None:
        """There is an Ethernet type, and it is none of a tag."""
        asm = self._emission.asm
        asm.load(2, R4, R1, _ETH_TYPE)
        for tpid in sorted(TPIDS):
            asm.jump_if_value(isa.JEQ, R4, _swapped(tpid), self._other)
        asm.to_big_endian(2, R4)
        asm.jump_if_value(isa.JLT, R4, ETH_TYPE_MIN, self._other)

    def _require_ipv4(self) -> None:
        """R4 = the total length of a good IPv4 packet."""
        asm = self._emission.asm
        asm.load(2, R4, R1, _ETH_TYPE)
        asm.jump_if_value(isa.JNE, R4, _swapped(ETH_TYPE_IPV4), self._other)
        asm.load(1, R4, R1, _IPV4)
        asm.jump_if_value(isa.JNE, R4, _WITHOUT_OPTIONS, self._other)
        asm.load(2, R4, R1, _FRAGMENT)
        asm.jump_if_value(isa.JSET, R4, _swapped(FRAGMENT_OFFSET | MORE_FRAGMENTS), self._other)
        asm.load(2, R4, R1, _TOTAL_LENGTH)
        asm.to_big_endian(2, R4)
        asm.jump_if_value(isa.JLT, R4, IPV4_HEADER, self._other)
        asm.operate(isa.SUB, R2, R1)
        asm.operate_value(isa.ADD, R2, -ETH_HEADER)
        asm.jump_if(isa.JGT, R4, R2, self._other)

    def _transport(self) -> None:
        """A TCP or UDP header that lies within the total length R4."""
        asm = self._emission.asm
        tcp = Label("TCP")
        asm.load(1, R0, R1, _PROTO)
        asm.jump_if_value(isa.JEQ, R0, IP_PROTO_TCP, tcp)
        asm.jump_if_value(isa.JNE, R0, IP_PROTO_UDP, self._other)
        asm.jump_if_value(isa.JLT, R4, IPV4_HEADER + L4_HEADER[IP_PROTO_UDP], self._other)
        self._fill(_UDP)
        asm.place(tcp)
        asm.load(1, R5, R1, _DATA_OFFSET)
        asm.operate_value(isa.RSH, R5, 4)
        asm.operate_value(isa.LSH, R5, 2)
        asm.jump_if_value(isa.JLT, R5, L4_HEADER[IP_PROTO_TCP], self._other)
        asm.operate_value(isa.ADD, R5, IPV4_HEADER)
        asm.jump_if(isa.JGT, R5, R4, self._other)
        self._fill(_TCP)

    def _fill(self, sources: Mapping[str, _Source]) -> None:
        """Write the words that are looked at; what is not among `sources` is zero, but for in_port and metadata."""
        asm = self._emission.asm
        metadata, _ = self._emission.layout.key.members["metadata"]
        for at in range(0, len(self._looked_at), WORD):
            if at == metadata or not any(self._looked_at[at : at + WORD]):
                continue
            filled = False
            for start, source in self._pieces(sources, at):
                target = R5 if filled else R4
                if source is None:
                    asm.copy(target, R7)
                else:
                    self._load(target, source)
                if start:
                    asm.operate_value(isa.LSH, target, start * 8)
                if filled:
                    asm.operate(isa.OR, R4, R5)
                filled = True
            if filled:
                asm.store(8, R3, self._base + at, R4)
            else:
                asm.store_value(8, R3, self._base + at, 0)
        if self._complete:
            asm.store_value(2, R3, self._emission.layout.offsets["network"], _IPV4)
            asm.store_value(2, R3, self._emission.layout.offsets["transport"], _L4)
        asm.jump(self._parsed)

    def _pieces(self, sources: Mapping[str, _Source], at: int) -> list[tuple[int, _Source | None]]:
        """What the word at `at` is made of: where in the word, and from where, None for in_port. Neighbours in the word
        that are neighbours in the packet are one piece."""
        pieces: list[tuple[int, _Source | None]] = []
        for name, (offset, _) in sorted(self._members.items(), key=lambda item: item[1]):
            if not at <= offset < at + WORD or not (name == "in_port" or name in sources):
                continue
            source = None if name == "in_port" else sources[name]
            before = pieces[-1] if pieces else (0, None)
            if source is not None and before[1] is not None and _joins(before[1], source, offset - at - before[0]):
                pieces[-1] = before[0], _Source(before[1].offset, before[1].size + source.size)
            else:
                pieces.append((offset - at, source))
        return pieces

    def _load(self, target: Register, source: _Source) -> None:
        """`target` = the bytes of `source`."""
        asm = self._emission.asm
        width = 1 << (source.size - 1).bit_length()
        asm.load(width, target, R1, source.offset)
        if width > source.size:
            spare = (width - source.size) * 8
            asm.operate_value(isa.LSH, target, spare)
            asm.operate_value(isa.RSH, target, spare)
        if source.mask is not None:
            asm.operate_value(isa.AND, target, _swapped(source.mask))


def _joins(one: _Source, other: _Source, apart: int) -> bool:
    """Whether both can be loaded at once, `other` so many bytes behind the start of `one` in the word."""
    return (
        one.mask is None
        and other.mask is None
        and apart == one.size
        and one.offset + one.size == other.offset
        and one.size == other.size
    )


def _swapped(number: int) -> int:
    """16 bits in network order as a load of them has them."""
    return int.from_bytes(number.to_bytes(2, "big"), "little")
