from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import KernelError
from oko.kernel import maps as kernel
from verifier.maps import ANY, EXIST, NOEXIST, ArrayMap, HashMap, LpmTrie, LruHashMap, Map, RingBuffer, simulate
from verifier.program import MapSpec, MapType

HASHES = [MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH]
ARRAYS = [MapType.ARRAY, MapType.PERCPU_ARRAY]


def made(type: MapType, *, entries: int = 2, key: int = 4, value: int = 4, initial: bytes | None = None) -> Map:
    return simulate(MapSpec("m", type, key, value, entries, initial=initial))


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def prefix(text: str, length: int) -> bytes:
    return u32(length) + bytes(int(part) for part in text.split("."))


@pytest.mark.parametrize("type", HASHES, ids=lambda type: type.name)
def test_hash(type: MapType) -> None:
    table = made(type)
    assert table.lookup(u32(1)) is None
    assert table.update(u32(1), u32(10), EXIST) == -errno.ENOENT
    assert table.update(u32(1), u32(10), NOEXIST) == 0
    assert table.update(u32(1), u32(11), NOEXIST) == -errno.EEXIST
    assert table.update(u32(1), u32(12), EXIST) == 0
    assert table.update(u32(1), u32(13), 3) == -errno.EINVAL
    assert list(table.items()) == [(u32(1), u32(12))]
    assert table.delete(u32(1)) == 0
    assert table.delete(u32(1)) == -errno.ENOENT


@pytest.mark.parametrize("type", HASHES[:2], ids=lambda type: type.name)
def test_full_hash(type: MapType) -> None:
    table = made(type)
    for key in (1, 2):
        assert table.update(u32(key), u32(0)) == 0
    assert table.update(u32(3), u32(0)) == -errno.E2BIG
    assert table.update(u32(2), u32(5)) == 0


@pytest.mark.parametrize("type", HASHES[2:], ids=lambda type: type.name)
def test_full_lru_forgets_the_oldest_use(type: MapType) -> None:
    table = made(type)
    table.update(u32(1), u32(0))
    table.update(u32(2), u32(0))
    table.lookup(u32(1))
    assert table.update(u32(3), u32(0)) == 0
    assert {key for key, _ in table.items()} == {u32(1), u32(3)}


def test_changes_through_a_lookup_stay() -> None:
    table = made(MapType.HASH)
    table.update(u32(1), u32(0))
    value = table.lookup(u32(1))
    assert isinstance(value, bytearray)
    value[:] = u32(9)
    assert list(table.items()) == [(u32(1), u32(9))]
    table.update(u32(1), u32(5))
    assert value == u32(9)


@pytest.mark.parametrize("type", ARRAYS, ids=lambda type: type.name)
def test_array(type: MapType) -> None:
    array = made(type)
    assert array.lookup(u32(1)) == u32(0)
    assert array.lookup(u32(2)) is None
    assert array.update(u32(1), u32(7)) == 0
    assert array.update(u32(2), u32(7)) == -errno.E2BIG
    assert array.update(u32(1), u32(7), NOEXIST) == -errno.EEXIST
    assert array.delete(u32(1)) == -errno.EINVAL
    assert list(array.items()) == [(u32(0), u32(0)), (u32(1), u32(7))]


def test_data_sections() -> None:
    writable = made(MapType.ARRAY, entries=1, initial=b"abcd")
    assert writable.lookup(u32(0)) == b"abcd"
    assert writable.update(u32(0), b"efgh") == 0
    constant = simulate(MapSpec(".rodata", MapType.ARRAY, 4, 4, 1, initial=b"abcd", frozen=True))
    assert constant.update(u32(0), b"efgh") == -errno.EPERM
    assert list(constant.items()) == [(u32(0), b"abcd")]


def test_longest_prefix() -> None:
    trie = made(MapType.LPM_TRIE, entries=3, key=8)
    assert trie.update(prefix("10.9.9.9", 8), u32(8)) == 0
    assert trie.update(prefix("10.1.0.0", 16), u32(16)) == 0
    assert trie.update(prefix("0.0.0.0", 33), u32(0)) == -errno.EINVAL
    assert trie.lookup(prefix("10.1.2.3", 32)) == u32(16)
    assert trie.lookup(prefix("10.2.2.3", 32)) == u32(8)
    assert trie.lookup(prefix("10.1.2.3", 9)) == u32(8)
    assert trie.lookup(prefix("11.1.2.3", 32)) is None
    assert trie.update(prefix("0.0.0.0", 0), u32(0)) == 0
    assert trie.lookup(prefix("11.1.2.3", 32)) == u32(0)
    assert trie.update(prefix("12.0.0.0", 8), u32(0)) == -errno.ENOSPC
    assert trie.update(prefix("10.0.0.0", 8), u32(9), NOEXIST) == -errno.EEXIST
    assert trie.delete(prefix("10.0.0.0", 8)) == 0
    assert trie.delete(prefix("10.0.0.0", 8)) == -errno.ENOENT
    assert trie.lookup(prefix("10.2.2.3", 32)) == u32(0)


def test_ring_buffer() -> None:
    ring = made(MapType.RINGBUF, entries=4096, key=0, value=0)
    assert isinstance(ring, RingBuffer)
    assert ring.output(b"one") == 0
    assert ring.output(bytes(4088)) == 0
    assert ring.output(bytes(4089)) == -errno.EAGAIN
    assert [len(record) for record in ring.records] == [3, 4088]
    assert ring.lookup(b"") is None
    assert ring.update(b"", b"") == -errno.EINVAL


def test_every_declarable_type_can_be_simulated() -> None:
    for type, expected in {
        MapType.HASH: HashMap,
        MapType.LRU_HASH: LruHashMap,
        MapType.PERCPU_ARRAY: ArrayMap,
        MapType.LPM_TRIE: LpmTrie,
    }.items():
        assert isinstance(made(type, key=8 if type is MapType.LPM_TRIE else 4), expected)


def _kernel_result(operation: str, table: kernel.Map, key: bytes, value: bytes, flags: int) -> int:
    try:
        if operation == "update":
            table.update(key, value, flags)
        elif not table.delete(key):
            return -errno.ENOENT
    except KernelError as error:
        return -error.errno
    return 0


@pytest.mark.needs_bpf
@pytest.mark.parametrize("type", [MapType.HASH, MapType.ARRAY, MapType.LPM_TRIE], ids=lambda type: type.name)
@given(data=st.data())
def test_agrees_with_the_kernel(type: MapType, data: st.DataObject) -> None:
    lpm = type is MapType.LPM_TRIE
    spec = MapSpec("m", type, 6 if lpm else 4, 4, 3, flags=1 if lpm else 0)
    simulated = simulate(spec)
    host = st.lists(st.sampled_from([0, 128, 255]), min_size=2, max_size=2).map(bytes)
    keys = st.builds(lambda length, address: u32(length) + address, st.integers(0, 16), host)
    operations = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["update", "update", "delete"]),
                keys if lpm else st.integers(0, 4).map(u32),
                st.binary(min_size=4, max_size=4),
                st.sampled_from([ANY, NOEXIST, EXIST]),
            ),
            max_size=12,
        )
    )
    with kernel.Map.create("m", int(type), spec.key_size, 4, 3, flags=spec.flags) as real:
        for operation, key, value, flags in operations:
            expected = _kernel_result(operation, real, key, value, flags)
            mine = simulated.update(key, value, flags) if operation == "update" else simulated.delete(key)
            assert mine == expected
            assert simulated.lookup(key) == real.lookup(key)
        assert sorted(simulated.items()) == sorted(real.items())
