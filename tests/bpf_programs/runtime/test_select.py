"""The hash of select groups in C against the one in Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.flow.fields import FIELDS
from oko.flow.selection import selection_hash
from tests.bpf_programs.runtime.linked import LinkedFunction, build_runtime

MEMBERS = {
    "eth_src": 6, "eth_dst": 6, "eth_type": 2, "vlan_tci": 2, "ip_proto": 1, "ipv4_src": 4, "ipv4_dst": 4,
    "ipv6_src": 16, "ipv6_dst": 16, "tp_src": 2, "tp_dst": 2,
}  # fmt: skip
"""What is hashed, with the bytes of each member of the key."""
HEADERS = st.fixed_dictionaries({name: st.integers(0, (1 << size * 8) - 1) for name, size in MEMBERS.items()})
ZERO = dict.fromkeys(MEMBERS, 0)


def headers(members: dict[str, int]) -> dict[str, int]:
    """The fields, as the parser reads them from a key with these members."""
    return {field.name: members.get(field.member, 0) >> field.shift & field.full for field in FIELDS if field.member}


@pytest.fixture(scope="module")
def select(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedFunction]:
    directory = tmp_path_factory.mktemp("select")
    build_runtime(directory, "select")
    with LinkedFunction(directory, "oko_select_hash") as function:
        yield function


@pytest.mark.needs_bpf
@given(members=HEADERS)
def test_both_agree(select: LinkedFunction, members: dict[str, int]) -> None:
    packet = {f"key.{name}": members[name].to_bytes(size, "big") for name, size in MEMBERS.items()}
    assert select.call(bytes(60), packet).retval & 0xFFFFFFFF == selection_hash(headers(members))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_counts(name: str) -> None:
    assert selection_hash(headers(ZERO | {name: 1})) != selection_hash(headers(ZERO))


def test_what_is_not_of_the_connection_does_not_count() -> None:
    changed = headers(ZERO) | {"ip_dscp": 5, "tcp_flags": 2, "vlan_pcp": 3, "in_port": 9, "metadata": 1}
    assert selection_hash(changed) == selection_hash(headers(ZERO))


def test_connections_spread_over_buckets() -> None:
    """Ports that count up, as those of a client do: each of eight equal buckets gets its share, within a third."""
    chosen = Counter(selection_hash(headers(ZERO | {"tp_src": port, "ip_proto": 6})) * 8 >> 32 for port in range(8000))
    assert len(chosen) == 8
    assert all(667 < count < 1333 for count in chosen.values())
