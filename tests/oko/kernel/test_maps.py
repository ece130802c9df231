from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import KernelError
from oko.kernel import maps
from oko.kernel.cpus import possible_cpus
from oko.kernel.maps import Map

pytestmark = pytest.mark.needs_bpf

BPF_F_NO_PREALLOC = 1


def u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def prefix(number: int) -> bytes:
    """The key of an LPM trie for the address `number`, 32 bits long."""
    return u32(32) + number.to_bytes(4, "big")


KEYED = [
    pytest.param(maps.HASH, 0, u32, id="hash"),
    pytest.param(maps.HASH, BPF_F_NO_PREALLOC, u32, id="hash-no-prealloc"),
    pytest.param(maps.LRU_HASH, 0, u32, id="lru-hash"),
    pytest.param(maps.LPM_TRIE, BPF_F_NO_PREALLOC, prefix, id="lpm-trie"),
]


def keyed(kind: int, flags: int, key: Callable[[int], bytes], entries: int = 4096) -> Map:
    return Map.create("keyed", kind, len(key(0)), 6, entries, flags=flags)


@pytest.mark.parametrize(("kind", "flags", "key"), KEYED)
def test_element_comes_and_goes(kind: int, flags: int, key: Callable[[int], bytes]) -> None:
    with keyed(kind, flags, key) as made:
        assert made.lookup(key(7)) is None
        made.update(key(7), b"abcdef")
        assert made.lookup(key(7)) == b"abcdef"
        assert list(made.items()) == [(key(7), b"abcdef")]
        assert made.delete(key(7)) is True
        assert made.delete(key(7)) is False
        assert list(made.items()) == []


@pytest.mark.parametrize(("kind", "flags", "key"), KEYED)
def test_items_after_a_batch_are_those_of_the_batch(kind: int, flags: int, key: Callable[[int], bytes]) -> None:
    entries = {key(number): number.to_bytes(6, "big") for number in range(2500)}  # more than two commands' worth
    # An LRU map makes room before it is full, on each CPU: give it plenty.
    with keyed(kind, flags, key, entries=65536) as made:
        made.update_batch(entries.items())
        found = list(made.items())
        assert len(found) == len(entries)
        assert dict(found) == entries


@pytest.mark.parametrize(("kind", "flags", "key"), KEYED)
def test_items_survive_deletions_during_the_walk(kind: int, flags: int, key: Callable[[int], bytes]) -> None:
    with keyed(kind, flags, key) as made:
        everything = {key(number): number.to_bytes(6, "big") for number in range(1500)}
        made.update_batch(everything.items())
        staying = set(sorted(everything)[::3])
        found = []
        for got, _ in made.items():
            found.append(got)
            for other in [other for other in everything if other not in staying][:2]:
                made.delete(other)
                del everything[other]
            if got not in staying:  # the key that a walk by keys stands on
                made.delete(got)
                everything.pop(got, None)
        assert len(found) == len(set(found))
        assert staying <= set(found)


@given(st.dictionaries(st.binary(min_size=4, max_size=4), st.binary(min_size=6, max_size=6), max_size=40))
def test_a_hash_is_a_dictionary(model: dict[bytes, bytes]) -> None:
    with Map.create("model", maps.HASH, 4, 6, 40) as made:
        made.update_batch(model.items())
        assert dict(made.items()) == model


def test_array_has_all_its_elements_from_the_start() -> None:
    with Map.create("array", maps.ARRAY, 4, 3, 5) as made:
        made.update(u32(3), b"xyz")
        assert list(made.items()) == [(u32(index), b"xyz" if index == 3 else bytes(3)) for index in range(5)]
        with pytest.raises(KernelError, match="Invalid argument") as refused:
            made.delete(u32(3))
        assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(maps.PERCPU_HASH, id="percpu-hash"),
        pytest.param(maps.PERCPU_ARRAY, id="percpu-array"),
        pytest.param(maps.LRU_PERCPU_HASH, id="lru-percpu-hash"),
    ],
)
@pytest.mark.parametrize("size", [1, 8, 13])
def test_per_cpu_values(kind: int, size: int) -> None:
    with Map.create("percpu", kind, 4, size, 64) as made:
        value = bytes(range(1, size + 1))
        everywhere = (value,) * possible_cpus()
        made.update(u32(0), value)
        assert made.lookup_percpu(u32(0)) == everywhere
        made.update_batch([(u32(number), value) for number in range(3)])
        found = dict(made.items_percpu())
        assert [found[u32(number)] for number in range(3)] == [everywhere] * 3
        assert made.lookup_percpu(u32(99)) is None


def test_per_cpu_and_plain_reads_are_not_confused() -> None:
    with (
        Map.create("percpu", maps.PERCPU_ARRAY, 4, 8, 1) as percpu,
        Map.create("plain", maps.ARRAY, 4, 8, 1) as plain,
    ):
        with pytest.raises(KernelError, match="percpu has a value per CPU"):
            percpu.lookup(u32(0))
        with pytest.raises(KernelError, match="percpu has a value per CPU"):
            percpu.items()
        with pytest.raises(KernelError, match="plain has one value"):
            plain.lookup_percpu(u32(0))


@pytest.mark.parametrize("size", [4, 8])
def test_devmap_holds_an_interface(size: int) -> None:
    with Map.create("ports", maps.DEVMAP_HASH, 4, size, 8) as made:
        loopback = u32(1).ljust(size, b"\0")
        made.update(u32(5), loopback)
        assert list(made.items()) == [(u32(5), loopback)]
        with pytest.raises(KernelError) as refused:
            made.update(u32(6), u32(999999).ljust(size, b"\0"))
        assert refused.value.errno == errno.EINVAL


def test_devmap_skips_empty_places() -> None:
    with Map.create("ports", maps.DEVMAP, 4, 4, 8) as made:
        made.update(u32(3), u32(1))
        assert list(made.items()) == [(u32(3), u32(1))]


def test_map_of_maps_holds_the_inner_map() -> None:
    with (
        Map.create("inner", maps.ARRAY, 4, 8, 1) as inner,
        Map.create("other", maps.HASH, 4, 8, 1) as other,
        Map.create("outer", maps.ARRAY_OF_MAPS, 4, 4, 2, inner=inner) as outer,
    ):
        outer.update(u32(1), u32(inner.fd))
        assert list(outer.items()) == [(u32(1), u32(inner.id))]
        with pytest.raises(KernelError):
            outer.update(u32(0), u32(other.fd))


def test_update_flags_and_a_full_map() -> None:
    with Map.create("small", maps.HASH, 4, 4, 1, flags=BPF_F_NO_PREALLOC) as made:
        with pytest.raises(KernelError) as missing:
            made.update(u32(1), u32(1), maps.EXIST)
        assert missing.value.errno == errno.ENOENT
        made.update(u32(1), u32(1), maps.NOEXIST)
        with pytest.raises(KernelError) as present:
            made.update(u32(1), u32(1), maps.NOEXIST)
        assert present.value.errno == errno.EEXIST
        with pytest.raises(KernelError, match="writing 02000000 to the map small: beyond its 1 entries"):
            made.update(u32(2), u32(2))


def test_batch_names_the_entry_that_does_not_fit_and_keeps_those_before() -> None:
    with Map.create("small", maps.HASH, 4, 4, 2, flags=BPF_F_NO_PREALLOC) as made:
        with pytest.raises(KernelError, match="writing 03000000 to the map small: beyond its 2 entries"):
            made.update_batch([(u32(number), u32(number)) for number in (1, 2, 3, 4)])
        assert dict(made.items()) == {u32(1): u32(1), u32(2): u32(2)}


@pytest.mark.parametrize(("key", "value"), [(b"abc", b"abcd"), (b"abcd", b"abcde")], ids=["key", "value"])
def test_bytes_of_the_wrong_length(key: bytes, value: bytes) -> None:
    with (
        Map.create("sized", maps.HASH, 4, 4, 2) as made,
        pytest.raises(KernelError, match=r"the map sized takes (keys|values) of 4 bytes, not [35]"),
    ):
        made.update(key, value)


def test_frozen_map_cannot_be_written() -> None:
    with Map.create("rodata", maps.ARRAY, 4, 4, 1, flags=0x80) as made:
        made.update(u32(0), b"once")
        made.freeze()
        assert made.lookup(u32(0)) == b"once"
        with pytest.raises(KernelError, match="writing 00000000 to the map rodata: it is frozen"):
            made.update(u32(0), b"more")


def test_pinned_map_is_found_again(bpffs: Path) -> None:
    pin = bpffs / "conn"
    with Map.create("1.connections_of_mine", maps.HASH, 4, 8, 16, flags=BPF_F_NO_PREALLOC) as made:
        made.update(u32(1), b"12345678")
        made.pin(pin)
        with pytest.raises(KernelError, match=f"pinning the map at {pin}: File exists"):
            made.pin(pin)
    with Map.open(pin) as found:
        assert (found.type, found.key_size, found.value_size, found.max_entries) == (maps.HASH, 4, 8, 16)
        assert found.flags == BPF_F_NO_PREALLOC
        assert found.name == "1.connections_o"
        assert found.lookup(u32(1)) == b"12345678"
    with pytest.raises(KernelError, match=r"pinned map .*/none: No such file"):
        Map.open(bpffs / "none")


def test_impossible_map_is_described() -> None:
    with pytest.raises(KernelError, match=r"creating the map odd \(type 2, key 8 bytes, value 4 bytes, 1 entries"):
        Map.create("odd", maps.ARRAY, 8, 4, 1)


def test_closed_map_says_so() -> None:
    made = Map.create("brief", maps.ARRAY, 4, 4, 1)
    made.close()
    made.close()
    with pytest.raises(KernelError, match="this map is closed"):
        made.lookup(u32(0))


def test_keys_one_after_the_other() -> None:
    with Map.create("keys", maps.HASH, 4, 8, 4) as keys:
        assert keys.next_key(None) is None
        written = {number.to_bytes(4, "little") for number in range(3)}
        keys.update_batch((key, bytes(8)) for key in written)
        found = [first := keys.next_key(None)]
        while (following := keys.next_key(found[-1])) is not None:
            found.append(following)
        assert len(found) == 3
        assert set(found) == written
        assert keys.next_key(b"none") == first
        with pytest.raises(KernelError, match="takes keys of 4 bytes"):
            keys.next_key(b"")
