"""Pages of real maps, while others change them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofext.extension import MapEntry
from oko.errors import BadMapAccess
from oko.kernel.cpus import possible_cpus
from oko.kernel.maps import ARRAY, HASH, LPM_TRIE, LRU_HASH, PERCPU_HASH, Map
from oko.openflow.map_page import REMEMBERED, map_page

pytestmark = pytest.mark.needs_bpf

BPF_F_NO_PREALLOC = 1


def key(number: int) -> bytes:
    return struct.pack("<I", number)


def value(number: int) -> bytes:
    return struct.pack("<Q", number)


def pages(
    source: Map, limit: int, between: Callable[[list[MapEntry]], None] = lambda found: None
) -> Iterator[MapEntry]:
    """All entries, page by page; `between` is called with those of each page."""
    cursor = b""
    while True:
        entries, cursor = map_page(source, limit, cursor)
        assert len(entries) <= limit
        yield from entries
        if not cursor:
            return
        between(list(entries))


@pytest.fixture
def table() -> Iterator[Map]:
    with Map.create("table", HASH, 4, 8, 1000) as table:
        table.update_batch((key(number), value(number)) for number in range(300))
        yield table


KINDS = {"hash": HASH, "lru": LRU_HASH, "array": ARRAY, "per-CPU hash": PERCPU_HASH, "lpm": LPM_TRIE}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_pages_are_the_whole_map(kind: int) -> None:
    trie = kind == LPM_TRIE
    with Map.create("any", kind, 8 if trie else 4, 8, 50, flags=BPF_F_NO_PREALLOC if trie else 0) as source:
        keys = [key(8 + number % 25) + bytes([number, 0, 0, 0]) if trie else key(number) for number in range(50)]
        for number, each in enumerate(keys):
            source.update(each, value(number))
        width = possible_cpus() if kind == PERCPU_HASH else 1
        found = list(pages(source, 7))
        held = list(source.items_percpu()) if source.per_cpu else list(source.items())
        assert sorted(each for each, _ in found) == sorted(each for each, _ in held)
        assert all(each.value == value(keys.index(each.key)) * width for each in found)


def test_an_empty_map_has_one_empty_page() -> None:
    with Map.create("empty", HASH, 4, 8, 10) as source:
        assert map_page(source, 5, b"") == ((), b"")


def test_a_page_fits_into_a_message(table: Map) -> None:
    entries, cursor = map_page(table, 0, b"", room=1000)
    assert len(entries) == (1000 - 70 - REMEMBERED * 4) // 16
    rest, end = map_page(table, 0, cursor)
    assert (len(entries) + len(rest), end) == (300, b"")


def test_the_last_page_has_no_cursor(table: Map) -> None:
    assert map_page(table, 300, b"")[1] == b""
    assert map_page(table, 299, b"")[1] != b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(5, 40))
def test_what_stays_comes_whatever_is_deleted(table: Map, random: Random, limit: int) -> None:
    """As long as one of the last elements of each page stays."""
    gone: set[bytes] = set()

    def delete(entries: list[MapEntry]) -> None:
        spared = random.choice(entries[-REMEMBERED:]).key
        for each in entries:
            if each.key != spared:
                table.delete(each.key)
                gone.add(each.key)

    before = {each for each, _ in table.items()}
    found = [each.key for each in pages(table, limit, delete)]
    assert set(found) == before
    table.update_batch((each, each + bytes(4)) for each in gone)


def test_without_the_elements_of_its_cursor_a_page_is_refused(table: Map) -> None:
    entries, cursor = map_page(table, REMEMBERED, b"")
    for each in entries:
        table.delete(each.key)
    with pytest.raises(BadMapAccess, match="begin again"):
        map_page(table, 5, cursor)


@pytest.mark.parametrize("cursor", [b"123", bytes(4 * (REMEMBERED + 1))], ids=["half a key", "too many keys"])
def test_what_is_no_cursor(table: Map, cursor: bytes) -> None:
    with pytest.raises(BadMapAccess, match="is no cursor"):
        map_page(table, 5, cursor)
