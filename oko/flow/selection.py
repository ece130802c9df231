"""The hash by which a group of type select chooses a bucket, in plain Python: what bpf_programs/runtime/select.c does,
said again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_WORD: Final = (1 << 64) - 1
_FACTOR: Final = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, odd: multiplying by it spreads the bits


def selection_hash(headers: Mapping[str, int]) -> int:
    """32 bits that are the same for all packets of a connection in one direction, and for all fragments of a packet.
    `headers` are the values of fields by name, as `oko.flow.headers.parse` gives them."""
    state = 0
    for value in (
        headers["eth_src"],
        headers["eth_dst"],
        headers["eth_type"],
        headers["vlan_vid"],
        headers["ip_proto"],
        headers["ipv4_src"],
        headers["ipv4_dst"],
        headers["ipv6_src"] >> 64,
        headers["ipv6_src"] & _WORD,
        headers["ipv6_dst"] >> 64,
        headers["ipv6_dst"] & _WORD,
        headers["tcp_src"],  # as of any protocol: they share the key's member
        headers["tcp_dst"],
    ):
        state = (state ^ value) * _FACTOR & _WORD
        state ^= state >> 32
    return state & 0xFFFFFFFF
