from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oko.compiler.hints import HINTS
from oko.errors import BridgeError, KernelError
from oko.flow.drop import Drop
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule, parse_selection
from oko.kernel.grace import wait_for_programs
from oko.kernel.interface import interface
from oko.kernel.maps import Map
from oko.switch import datapath
from oko.switch.datapath import Count, Datapath, take_down
from oko.switch.objects import read_runtime, read_stub
from tests.oko.conftest import Compile, Rig
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf

FRAME = 60  # bytes
TARGET = "02:00:00:00:ff:ff"
AT_TARGET = f"dl_dst={TARGET}"
TO_TARGET = f"{AT_TARGET},actions=output:2"


def hosts(first: int, count: int) -> list[str]:
    """Rules of one mask, each for another address."""
    return [
        f"dl_dst=02:00:00:00:{number >> 8:02x}:{number & 255:02x},actions=output:2"
        for number in range(first, first + count)
    ]


def test_rules_of_a_known_mask_go_into_the_running_image(rig: Rig) -> None:
    assert rig.add(*hosts(0, 100)) == []
    pipeline = rig.pipeline()
    assert rig.add(*hosts(100, 100)) == []
    assert rig.pipeline() == pipeline
    assert len(rig.bridge.tables) == 200


@pytest.mark.parametrize(
    ("targets", "waits", "swapped"),
    [
        pytest.param("ttt", 0, False, id="one group"),
        pytest.param("tss", 1, False, id="on to another group"),
        pytest.param("tsts", 3, False, id="to and fro"),
        pytest.param("tstststs", 0, True, id="too often to and fro"),
    ],
)
def test_no_packet_sees_a_rule_without_those_inserted_before(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, targets: str, waits: int, swapped: bool
) -> None:
    """A packet looks into one group after the other. One that was through with the first when a rule came there must
    not find a later rule in the second."""
    assert rig.add(*hosts(0, 600), *(rule.replace("dl_dst", "dl_src") for rule in hosts(0, 600))) == []
    pipeline, waited = rig.pipeline(), 0

    def wait() -> None:
        nonlocal waited
        waited += 1
        wait_for_programs()

    monkeypatch.setattr(datapath, "wait_for_programs", wait)
    fields = ["dl_dst" if kind == "t" else "dl_src" for kind in targets]
    new = [rule.replace("dl_dst", field) for rule, field in zip(hosts(1000, len(fields)), fields, strict=True)]
    assert rig.add(*new) == []
    assert (waited, rig.pipeline() != pipeline) == (waits, swapped)


CHANGES = [
    pytest.param(lambda rig: rig.add("in_port=1,actions=output:2"), True, id="new mask"),
    pytest.param(lambda rig: rig.add(hosts(0, 1)[0].replace("output:2", "output:1")), True, id="new port"),
    pytest.param(lambda rig: rig.add(hosts(0, 1)[0].replace("output:2", "drop")), False, id="changed action"),
    pytest.param(lambda rig: rig.add("priority=40000," + hosts(0, 1)[0]), False, id="better rule of the same match"),
    pytest.param(lambda rig: rig.add("priority=9," + hosts(0, 1)[0]), False, id="worse rule of the same match"),
    pytest.param(lambda rig: rig.delete("dl_dst=02:00:00:00:00:00"), False, id="deleted rule"),
    pytest.param(lambda rig: rig.delete("dl_dst=02:00:00:00:00:00/ff:ff:ff:ff:ff:c0"), False, id="deleted rules"),
]


@pytest.mark.parametrize(("change", "swapped"), CHANGES)
def test_only_what_the_code_cannot_do_takes_a_new_image(
    rig: Rig, change: Callable[[Rig], list[object]], swapped: bool
) -> None:
    assert rig.add(*hosts(0, 100), "priority=1,actions=drop") == []
    pipeline = rig.pipeline()
    assert change(rig) == []
    assert (rig.pipeline() != pipeline) == swapped


def test_memory_of_a_deleted_rule_is_not_reused_under_readers_eyes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gives it to the next rule that comes, at once: before that, packets have to be through."""
    assert rig.add(*hosts(0, 100)) == []
    pipeline, waited = rig.pipeline(), 0

    def wait() -> None:
        nonlocal waited
        waited += 1
        wait_for_programs()

    monkeypatch.setattr(datapath, "wait_for_programs", wait)
    deleted, added = parse_selection("dl_dst=02:00:00:00:00:07"), FlowMod(Command.ADD, parse_rule(hosts(200, 1)[0]))
    assert rig.change(deleted, added) == []
    assert waited == 1  # Before the counters of the deleted rule are given back: what came, came into fresh memory.
    assert rig.add(hosts(201, 1)[0]) == []
    assert waited == 1
    assert rig.pipeline() == pipeline


def test_data_that_rules_read_are_never_written(rig: Rig) -> None:
    """Not even when they were all zeros, which a map has by itself."""
    rule = "dl_dst=02:00:00:00:01:00,actions=set_field:{}->eth_src,goto_table:1"
    assert rig.add(*hosts(0, 40), rule.format("00:00:00:00:00:00")) == []
    before = arguments(rig)
    changed = parse_rule(rule.format("02:00:00:00:00:99"))
    assert rig.change(FlowMod(Command.MODIFY_STRICT, changed)) == []
    assert before.items() <= arguments(rig).items()
    assert len(arguments(rig)) == len(before) + 1


def arguments(rig: Rig) -> dict[bytes, bytes]:
    """The data of actions, by index."""
    image = rig.bridge.image
    assert image is not None
    return next(dict(each.entries) for each in image.maps if each.name == "arguments")


@pytest.mark.parametrize("others", [0, 100], ids=["compared", "hashed"])
def test_added_rules_decide_and_count(rig: Rig, others: int) -> None:
    rig.attach()
    assert rig.add(*hosts(0, others)) == []
    rig.send("h1", TARGET, 3)
    wait_until(lambda: rig.bridge.drops()[Drop.MISS] == Count(3, 3 * FRAME))
    assert rig.add(TO_TARGET) == []
    rig.send("h1", TARGET, 5)
    wait_until(lambda: rig.won(AT_TARGET) == Count(5, 5 * FRAME))
    assert rig.bridge.drops()[Drop.MISS].packets == 3


def test_a_rule_that_comes_into_one_of_many_hashes_is_found(rig: Rig) -> None:
    """Packets look only where a hint names a group of rules: it comes into the running image before the rule."""
    rig.attach()
    masks = [f"metadata=0/{1 << bit}" for bit in range(6)]
    assert rig.add(*(f"{mask},{rule}" for n, mask in enumerate(masks) for rule in hosts(n * 20, 20))) == []
    assert rig.bridge.image is not None
    assert any(each.name == HINTS for each in rig.bridge.image.maps)
    rig.send("h1", TARGET, 3)
    wait_until(lambda: rig.bridge.drops()[Drop.MISS] == Count(3, 3 * FRAME))
    pipeline = rig.pipeline()
    assert rig.add(f"{masks[4]},{TO_TARGET}") == []
    assert rig.pipeline() == pipeline
    rig.send("h1", TARGET, 5)
    wait_until(lambda: rig.won(f"{masks[4]},{AT_TARGET}") == Count(5, 5 * FRAME))


def test_counters_survive_their_growth(rig: Rig) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []
    rig.send("h1", TARGET, 5)
    wait_until(lambda: rig.won(AT_TARGET).packets == 5)
    assert rig.add(*hosts(0, 1100)) == []
    assert rig.won(AT_TARGET) == Count(5, 5 * FRAME)
    rig.send("h1", TARGET, 3)
    wait_until(lambda: rig.won(AT_TARGET) == Count(8, 8 * FRAME))
    assert rig.add(*hosts(1100, 1100)) == []
    assert rig.won(AT_TARGET) == Count(8, 8 * FRAME)


def test_counters_that_cannot_be_read_cost_their_counts_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []

    def fail(_map: Map) -> None:
        raise KernelError("reading the map counters", errno=5)

    with monkeypatch.context() as patch:
        patch.setattr(Map, "items_percpu", fail)
        assert rig.add(*hosts(0, 1100)) == []
    assert "what rules have counted up to now is lost, in part or whole: " in caplog.messages[-1]
    rig.send("h1", TARGET, 3)
    wait_until(lambda: rig.won(AT_TARGET) == Count(3, 3 * FRAME))
    assert not list((rig.datapath.pins / "maps").glob("*%new"))


@pytest.mark.parametrize("others", [0, 1100], ids=["few rules", "after growth"])
def test_a_slot_that_is_used_again_starts_from_zero(rig: Rig, others: int) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []
    rig.send("h1", TARGET, 4)
    wait_until(lambda: rig.won(AT_TARGET).packets == 4)
    assert rig.add(*hosts(0, others)) == []
    (entry,) = rig.bridge.tables.select(parse_selection(AT_TARGET))
    assert rig.delete(AT_TARGET) == []
    assert rig.add(TO_TARGET) == []
    (again,) = rig.bridge.tables.select(parse_selection(AT_TARGET))
    assert again.slot == entry.slot
    assert rig.won(AT_TARGET) == Count()
    rig.send("h1", TARGET, 2)
    wait_until(lambda: rig.won(AT_TARGET) == Count(2, 2 * FRAME))


def test_replacing_a_rule_keeps_its_counters(rig: Rig) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []
    rig.send("h1", TARGET, 2)
    wait_until(lambda: rig.won(AT_TARGET).packets == 2)
    assert rig.add(TO_TARGET.replace("output:2", "drop")) == []
    assert rig.won(AT_TARGET).packets == 2


def test_a_program_decides_and_its_answers_are_counted(rig: Rig, counting: Compile) -> None:
    rig.attach()
    rig.load(counting())
    assert rig.add("priority=2,filter_prog=1,actions=output:2", "priority=1,actions=drop") == []
    rig.send("h1", TARGET, 3)
    wait_until(lambda: rig.won("filter_prog=1").packets == 3)
    ((_, runs, matches),) = rig.bridge.programs.counted()
    assert (runs, matches) == (3, 3)
    rig.load(counting("-DANSWER=OKO_NO_MATCH"))
    rig.send("h1", TARGET, 2)
    wait_until(lambda: rig.bridge.programs.counted()[0][1:] == (5, 3))


def test_drops_have_reasons(rig: Rig) -> None:
    rig.attach()
    assert rig.add("in_port=1,actions=output:1") == []
    rig.send("h1", TARGET, 2)
    rig.send("h2", TARGET, 1)
    wait_until(lambda: rig.bridge.drops()[Drop.TO_INGRESS].packets == 2)
    wait_until(lambda: rig.bridge.drops()[Drop.MISS].packets == 1)
    assert rig.datapath.fallthrough() == 0


def test_pins_of_somebody_else_are_left_alone(rig: Rig, bpffs: Path) -> None:
    with pytest.raises(BridgeError, match=f"br0 has a datapath at {bpffs}/oko/br0"):
        Datapath("br0", bpffs, read_stub(), read_runtime())
    assert (bpffs / "oko" / "br0" / "slot").exists()


def test_a_directory_that_is_no_bpffs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=f"bpffs is not mounted at {tmp_path}"):
        Datapath("br0", tmp_path, read_stub(), read_runtime())
    assert list(tmp_path.iterdir()) == []


def test_take_down_works_on_the_pins_alone(rig: Rig, bpffs: Path) -> None:
    rig.attach()
    assert rig.inside(lambda: interface("p1")).xdp_mode == "native"
    take_down(bpffs / "oko" / "br0")
    assert rig.inside(lambda: interface("p1")).xdp_mode is None
    assert not (bpffs / "oko").exists()
    take_down(bpffs / "oko" / "br0")
