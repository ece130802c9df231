"""The layouts of `struct oko_key` and `struct oko_packet`, and matches as bytes and masks over the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from oko.errors import NotReadable
from oko.flow.fields import FIELDS, FILTER_PROG, Field
from oko.flow.match import Match
from verifier.btf import Btf, Struct

WORD = 8
"""Bytes of the unit in which masked keys are hashed."""

_PACKET_MEMBERS: Final = (
    "key",
    "network",
    "transport",
    "outputs",
    "ran",
    "said",
    "hint",
    "lookup",
    "set.fields",
    "set.kinds",
    "set.output",
    "set.group",
    "set.pop_mpls",
    "set.push_mpls",
    "set.push_vlan",
    "set.set_mpls_ttl",
    "set.set_ttl",
    "set.values",
)
"""The members of `struct oko_packet` that the emitted code looks at."""


class Lowered(NamedTuple):
    """The header conditions of a match over the key: the key under `mask` must equal `value`.

    Both are as long as the key and big-endian, bit by bit where the packet's own bytes stand. (A named tuple, as there
    is one for each rule.)
    """

    value: int
    mask: int


ANYTHING: Final = Lowered(0, 0)


@dataclass(frozen=True)
class KeyLayout:
    """Where each field stands in the key: `size` bytes, `members` name → (offset, size in bytes)."""

    size: int
    members: dict[str, tuple[int, int]]
    lower: Callable[[Match], Lowered] = field(init=False, repr=False, compare=False)
    """The conditions of a match on headers, as one value and one mask. Cached: tables are lowered over and over."""
    _shifts: dict[Field, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    """How many bits of the key stand below a field."""
    _masks: dict[int, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    """One object for each mask: a key's bits take more memory than the rest of a rule."""

    def __post_init__(self) -> None:
        if self.size % WORD:
            raise NotReadable(f"struct oko_key is {self.size} bytes: it must be a multiple of {WORD}")
        for item in FIELDS:
            if item is FILTER_PROG:
                continue
            if item.member not in self.members:
                raise NotReadable(
                    f"struct oko_key has no member {item.member} for the field {item.name}: rebuild the objects"
                )
            offset, size = self.members[item.member]
            self._shifts[item] = (self.size - offset - size) * 8 + item.shift
        object.__setattr__(self, "lower", lru_cache(maxsize=1 << 17)(self._lower))

    def _lower(self, match: Match) -> Lowered:
        value = mask = 0
        for item, wanted, bits in match.headers:
            shift = self._shifts[item]
            value |= wanted << shift
            mask |= bits << shift
        return Lowered(value, self._masks.setdefault(mask, mask))

    @property
    def kind(self) -> int:
        """The bits that say what kind of packet it is: eth_type and ip_proto."""
        kind = 0
        for name in ("eth_type", "ip_proto"):
            offset, size = self.members[name]
            kind |= ((1 << size * 8) - 1) << (self.size - offset - size) * 8
        return kind

    def words(self, number: int) -> tuple[bytes, ...]:
        """A value or mask of `Lowered` as the key's words, in the order of memory."""
        data = number.to_bytes(self.size, "big")
        return tuple(data[start : start + WORD] for start in range(0, self.size, WORD))


@dataclass(frozen=True)
class PacketLayout:
    """`struct oko_packet`: `size` bytes, and the offset of each member that the emitted code looks at; those of the
    action set are called ``set.NAME``."""

    size: int
    key: KeyLayout
    offsets: Mapping[str, int]

    @staticmethod
    def of(btf: Btf | None) -> PacketLayout:
        """Raises NotReadable if the BTF does not describe the structures."""
        if btf is None:
            raise NotReadable("the runtime's parser.o has no BTF: compile it with -g")
        size, packet = _members(btf, "oko_packet")
        key_size, key = _members(btf, "oko_key")
        _, action_set = _members(btf, "oko_action_set")
        offsets = {name: offset for name, (offset, _) in packet.items()}
        offsets |= {f"set.{name}": offsets["set"] + offset for name, (offset, _) in action_set.items()}
        missing = [name for name in _PACKET_MEMBERS if name not in offsets]
        if missing:
            raise NotReadable(f"struct oko_packet has no {missing[0]}: rebuild the objects")
        return PacketLayout(size, KeyLayout(key_size, key), offsets)


def _members(btf: Btf, name: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """The size of a structure, and its members: name → (offset, size in bytes)."""
    found = btf.id_of(name, Struct)
    if found is None:
        raise NotReadable(f"the runtime's parser.o does not describe struct {name}: rebuild the objects")
    return btf.size_of(found), {
        member.name: (member.offset, btf.size_of(member.type)) for member in btf.members(found) if member.name
    }
