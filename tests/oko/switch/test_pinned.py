"""A bridge that is made again of what another has pinned and written down, and left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oko.flow.drop import Drop
from oko.kernel.link import Link
from oko.kernel.maps import ARRAY, Map
from oko.switch.bridge import Bridge
from oko.switch.datapath import Count, Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.pinned import Adoption
from oko.switch.state import State
from oko.switch.store import Store
from tests.oko.conftest import Compile, Rig
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf

TARGET = "02:00:00:00:00:02"
AT_TARGET = f"dl_dst={TARGET}"
TO_TARGET = f"{AT_TARGET},actions=output:2"


class Kept(Rig):
    """The rig's bridge with a store, which another bridge can follow."""

    def __init__(self, rig: Rig, bpffs: Path, path: Path) -> None:
        self.namespace, self.datapath, self.events = rig.namespace, rig.datapath, rig.events
        self._bpffs, self._path = bpffs, path
        self._ports = rig.bridge.ports
        self._serve(None)

    def state(self) -> State:
        """What is on disk."""
        state = Store(self._path).read()
        assert state is not None
        return state

    def follow(self, state: State | None = None, adoption: Adoption = Adoption.EVERYTHING) -> None:
        """Let okod be killed, and the next one begin, with this state or what is on disk; that is set aside when
        nobody knows of which tables the pipeline is."""
        self.datapath.close()
        if state is None and adoption is Adoption.PIPELINE:
            Store(self._path).set_aside()
        restored = self.state() if state is None and adoption is Adoption.EVERYTHING else state
        self.datapath = Datapath("br0", self._bpffs, read_stub(), read_runtime(), adoption)
        self._serve(restored)

    def _serve(self, state: State | None) -> None:
        store = Store(self._path)
        store.read()
        self.bridge = self.inside(
            lambda: Bridge("br0", self.datapath, read_runtime(), self._ports, state=state, store=store)
        )
        store.begin(inherits=self.datapath.inherits)
        store.count(self.datapath.take_carried())


@pytest.fixture
def kept(rig: Rig, bpffs: Path, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(rig, bpffs, tmp_path / "state" / "br0")
    yield kept
    kept.datapath.remove()


def hosts(first: int, count: int) -> list[str]:
    return [f"dl_dst=02:00:00:01:{n >> 8:02x}:{n & 255:02x},actions=output:1" for n in range(first, first + count)]


def test_counters_stay(kept: Kept) -> None:
    kept.attach()
    assert kept.add(TO_TARGET) == []
    kept.send("h1", TARGET, 5)
    wait_until(lambda: kept.won(AT_TARGET).packets == 5)
    kept.follow()
    kept.send("h1", TARGET, 2)
    wait_until(lambda: kept.won(AT_TARGET).packets == 7)
    kept.send("h2", "02:00:00:00:00:99")
    wait_until(lambda: kept.bridge.drops()[Drop.MISS].packets == 1)
    assert {"counters", "drops", "meters", "slot", "fallthrough"} <= kept.datapath.adopted


def test_counters_that_have_grown_stay(kept: Kept) -> None:
    kept.attach()
    assert kept.add(TO_TARGET) == []
    kept.send("h1", TARGET, 5)
    wait_until(lambda: kept.won(AT_TARGET).packets == 5)
    assert kept.add(*hosts(0, 1100)) == []
    kept.follow()
    assert kept.won(AT_TARGET).packets == 5
    # When they need not be so many any more.
    assert kept.delete("dl_dst=02:00:00:01:00:00/ff:ff:ff:ff:00:00") == []
    kept.follow()
    assert kept.won(AT_TARGET).packets == 5


def pin_counters(kept: Kept) -> int:
    """Pin a larger map of counters beside the one there is. Returns the packets that it has in slot 0."""
    with Map.create("counters", 6, 4, 16, 2048) as made:
        made.update(bytes(4), (3).to_bytes(8, "little") + (180).to_bytes(8, "little"))
        made.pin(kept.datapath.pins / "maps" / "counters%new")
        return sum(int.from_bytes(value[:8], "little") for value in made.lookup_percpu(bytes(4)) or ())


def test_counters_that_a_load_lets_grow_stay(kept: Kept, counting: Compile) -> None:
    """Rules that went into the running image are more than its counters are made for when it is compiled anew."""
    kept.attach()
    kept.load(counting())
    assert kept.add(TO_TARGET, "in_port=2,filter_prog=1,actions=drop", *hosts(0, 100)) == []
    kept.send("h1", TARGET, 5)
    wait_until(lambda: kept.won(AT_TARGET).packets == 5)
    pipeline = kept.pipeline()
    assert kept.add(*hosts(100, 300)) == []
    assert kept.pipeline() == pipeline
    kept.load(counting())
    assert kept.won(AT_TARGET).packets == 5
    kept.follow()
    assert kept.won(AT_TARGET).packets == 5


def test_killed_while_counters_grew(kept: Kept) -> None:
    """A new map is pinned beside the old one, and nobody knows whether the pipeline counts there already."""
    kept.attach()
    assert kept.add(TO_TARGET) == []
    kept.send("h1", TARGET, 5)
    wait_until(lambda: kept.won(AT_TARGET).packets == 5)
    per_cpu = pin_counters(kept)
    kept.follow()
    assert kept.won(AT_TARGET).packets == 5 + per_cpu
    assert not (kept.datapath.pins / "maps" / "counters%new").exists()
    kept.follow()
    assert kept.won(AT_TARGET).packets == 5 + per_cpu


def test_killed_before_it_was_written_down(kept: Kept) -> None:
    """The rule was there for a moment, and has counted: the next one in its place begins at zero."""
    kept.attach()
    before = kept.state()
    assert kept.add(TO_TARGET) == []
    kept.send("h1", TARGET, 5)
    wait_until(lambda: kept.won(AT_TARGET).packets == 5)
    kept.follow(before)
    assert list(kept.bridge.tables) == []
    assert kept.add(TO_TARGET) == []
    assert kept.won(AT_TARGET) == Count()


def test_killed_before_it_was_written_down_while_counters_grew(kept: Kept) -> None:
    """What the rule has counted is carried from the old counters, and is nobody's all the same."""
    kept.attach()
    before = kept.state()
    assert kept.add(TO_TARGET) == []
    kept.send("h1", TARGET, 5)
    wait_until(lambda: kept.won(AT_TARGET).packets == 5)
    pin_counters(kept)
    kept.follow(before)
    assert kept.datapath.carried == {}
    assert kept.add(TO_TARGET) == []
    assert kept.won(AT_TARGET) == Count()


def test_maps_of_programs_stay(kept: Kept, counting: Compile) -> None:
    kept.load(counting())
    spec, target = kept.bridge.programs.map(1, "settings")
    key, value = bytes(spec.key_size), bytes([7]) * spec.value_size
    target.update(key, value)
    stranger = kept.datapath.pins / "programs" / "9"
    stranger.mkdir()
    with Map.create("left", ARRAY, 4, 4, 1) as left:
        left.pin(stranger / "left")
    kept.follow()
    _, target = kept.bridge.programs.map(1, "settings")
    assert target.lookup(key) == value
    assert kept.bridge.programs.get(1).name == "counting"
    assert not (stranger / "left").exists()


def test_ports_get_another_stub_without_a_gap(kept: Kept) -> None:
    kept.attach()
    assert kept.add(TO_TARGET) == []
    pins = kept.datapath.pins

    def programs() -> set[int]:
        found = set()
        for pin in (pins / "links").iterdir():
            with Link.open(pin) as link:
                found.add(link.info().program_id)
        return found

    (before,) = programs()
    kept.follow()
    assert programs() == {before}
    (pins / "stub").unlink()
    kept.follow()
    (after,) = programs()
    assert after != before
    kept.send("h1", TARGET, 3)
    wait_until(lambda: kept.won(AT_TARGET).packets == 3)


def test_a_map_of_another_shape_begins_anew(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    pin = kept.datapath.pins / "maps" / "drops"
    pin.unlink()
    with Map.create("drops", ARRAY, 4, 8, 3) as other:
        other.pin(pin)
    kept.follow()
    assert caplog.messages == [f"{pin}: the pinned map has another shape than this Oko's: it begins anew"]
    assert kept.bridge.drops()[Drop.MISS].packets == 0
    with Map.open(pin) as made:
        assert made.value_size == 16


@pytest.mark.parametrize("okods", [1, 2, 3])
def test_unknown_tables_decide_until_there_are_others(kept: Kept, counting: Compile, okods: int) -> None:
    kept.attach()
    assert kept.add(TO_TARGET) == []
    pipeline = kept.pipeline()
    kept.follow(adoption=Adoption.PIPELINE)
    for _ in range(1, okods):
        kept.load(counting())
        assert kept.state().inherits
        kept.follow(kept.state(), Adoption.PIPELINE)
        assert [loaded.name for loaded, _, _ in kept.bridge.programs.counted()] == ["counting"]
    kept.inside(lambda: kept.bridge.refresh_ports(again=True))
    assert (kept.pipeline(), list(kept.bridge.tables), kept.datapath.inherits) == (pipeline, [], True)
    with kept.listening("h2") as received:
        kept.send("h1", TARGET)
        wait_until(lambda: len(received()) == 1)
    assert kept.add(*hosts(0, 1)) == []
    assert kept.pipeline() != pipeline
    assert not kept.datapath.inherits
    assert not kept.state().inherits
    assert kept.won("dl_dst=02:00:00:01:00:00") == Count()
    kept.send("h1", TARGET)
    wait_until(lambda: kept.bridge.drops()[Drop.MISS].packets == 1)


def test_a_port_with_another_stub_is_given_back(kept: Kept) -> None:
    kept.attach()
    (kept.datapath.pins / "stub").unlink()
    kept.follow(adoption=Adoption.PIPELINE)
    kept.datapath.detach("p2")
    assert kept.add(TO_TARGET) == []
    assert set(kept.datapath.attached) == {"p1"}
