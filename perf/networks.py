"""`Network`: destinations that the rules of a scenario are for, and how many are made."""

from __future__ import annotations

from ipaddress import IPv4Address
from random import Random
from typing import Final, NamedTuple

_HOSTS: Final = 0x10000000  # 16.0.0.0, where the clients of `perf.traffic` begin, too
_UNICAST: Final = (0x01000000, 0xE0000000)  # 1.0.0.0 to 223.255.255.255
_LENGTHS: Final = range(16, 33)  # bits
_BENCHMARKED: Final = 0xC6120000  # 198.18.0.0/15, for benchmarks of network devices (RFC 2544, appendix C.2.2)


class Network(NamedTuple):
    """An IPv4 network: its first address as a number, and the bits of its prefix."""

    first: int
    length: int

    def __str__(self) -> str:
        return f"{IPv4Address(self.first)}/{self.length}"


def hosts(number: int) -> list[Network]:
    """So many addresses, one after the other."""
    return [Network(_HOSTS + place, 32) for place in range(number)]


def benchmarked(number: int) -> list[Network]:
    """So many addresses out of those that are set aside for benchmarks, at most 131,072."""
    return [Network(_BENCHMARKED + place, 32) for place in range(number)]


def prefixes(number: int, *, seed: int = 17) -> list[Network]:
    """So many networks, at most 100,000, anywhere, with prefixes of 16 to 32 bits in equal shares: some lie in
    others."""
    random = Random(seed)
    found: dict[Network, None] = {}
    while len(found) < number:
        length = _LENGTHS[len(found) % len(_LENGTHS)]
        mask = -1 << (32 - length)
        found[Network(random.randrange(*_UNICAST) & mask, length)] = None
    return list(found)
