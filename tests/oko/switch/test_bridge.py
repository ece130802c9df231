"""What a bridge does when the world around it changes, and when changes come in bulk."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from oko.compiler.packet_in import PacketInRecord
from oko.errors import BadAction, BadGroup, BundleFailed, KernelError, LimitExceeded, OkoError, PortError
from oko.flow.action import CONTROLLER, TABLE, Action, Group, Output
from oko.flow.change import Change
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.meter import MeterCommand, MeterMod
from oko.flow.meter_text import parse_meter
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule, parse_selection
from oko.switch.bridge import Removed
from oko.switch.datapath import Count
from oko.switch.loaded_image import LoadedImage
from oko.switch.timeouts import SECOND, RemovalReason
from tests.oko.conftest import Compile, Rig
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf


def gone(rig: Rig) -> list[int]:
    """The ports whose interface is not there."""
    return rig.inside(lambda: [port.number for port in rig.bridge.ports if not rig.bridge.is_live(port)])


def drops(rig: Rig) -> dict[str, int]:
    return {reason.name: count.packets for reason, count in rig.bridge.drops().items() if count.packets}


def delete_link(rig: Rig) -> None:
    rig.inside(lambda: subprocess.run(["ip", "link", "del", "p2"], check=True))


def move_link(rig: Rig, elsewhere: str) -> None:
    rig.inside(lambda: subprocess.run(["ip", "link", "set", "p2", "netns", elsewhere], check=True))


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_port_that_is_gone_takes_nothing_else_along(rig: Rig, namespace: Callable[[str], object], how: str) -> None:
    rig.attach()
    assert rig.add("in_port=1,actions=output:2") == []
    assert gone(rig) == []
    if how == "deleted":
        delete_link(rig)
    else:
        move_link(rig, str(namespace("elsewhere")))
    assert gone(rig) == [2]
    # Changes that mean it, and changes that do not, go on; what is sent there is dropped and counted.
    assert (
        rig.add("priority=1,in_port=1,tcp,actions=output:2", "in_port=2,actions=output:1", "priority=1,actions=drop")
        == []
    )
    rig.send("h1", "02:00:00:00:00:02", 5)
    assert drops(rig) == {"NO_PORT": 5}
    assert len(rig.bridge.tables) == 4


def test_drops_are_listed_by_reason(rig: Rig) -> None:
    rig.attach()
    rig.send("h1", "02:00:00:00:00:02", 3)
    assert rig.add("in_port=1,actions=output:1") == []
    rig.send("h1", "02:00:00:00:00:02", 2)
    assert drops(rig) == {"MISS": 3, "TO_INGRESS": 2}


def test_what_goes_beyond_a_limit_fails_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch that cannot be compiled together, everything is carried out but what breaks the limit."""
    commit = rig.bridge._commit
    attempts = []

    def at_most_30(draft: Any) -> None:
        attempts.append(len(draft.tables))
        if len(draft.tables) > 30:
            raise LimitExceeded("rules", len(draft.tables), 30)
        commit(draft)

    monkeypatch.setattr(rig.bridge, "_commit", at_most_30)
    mods = [FlowMod(Command.ADD, parse_rule(f"priority={number},in_port=1,actions=output:2")) for number in range(32)]
    mods.insert(3, FlowMod(Command.ADD, parse_rule("actions=output:9")))
    outcomes: list[OkoError | None] = rig.inside(lambda: rig.bridge.change(mods))
    refused = {index: type(error) for index, error in enumerate(outcomes) if error is not None}
    assert refused == {3: BadAction, 31: LimitExceeded, 32: LimitExceeded}
    assert len(rig.bridge.tables) == 30
    assert len(attempts) < len(mods)


def removed(rig: Rig) -> list[tuple[int, RemovalReason, int]]:
    """Of the rules that were told to be gone: cookie, reason, packets."""
    return [
        (event.entry.rule.cookie, event.reason, event.count.packets)
        for event in rig.events
        if isinstance(event, Removed)
    ]


def adds(*flows: str) -> list[FlowMod]:
    return [FlowMod(Command.ADD, parse_rule(flow)) for flow in flows]


def group(command: GroupCommand, text: str) -> GroupMod:
    return GroupMod(command, parse_group(text))


def meter(command: MeterCommand, text: str) -> MeterMod:
    return MeterMod(command, parse_meter(text))


def test_many_that_go_beyond_a_limit_are_not_all_looked_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch costs a bounded number of attempts, and what it deletes goes."""
    commit = rig.bridge._commit
    attempts = []

    def at_most_2(draft: Any) -> None:
        attempts.append(len(draft.tables))
        if len(draft.tables) > 2:
            raise LimitExceeded("rules", len(draft.tables), 2)
        commit(draft)

    monkeypatch.setattr(rig.bridge, "_commit", at_most_2)
    flows = [f"priority={number},in_port=1,actions=output:2" for number in range(256)]
    batch = [*adds(*flows), parse_selection(""), *adds(*flows[:3])]
    outcomes: list[OkoError | None] = rig.inside(lambda: rig.bridge.change(batch))
    assert [index for index, error in enumerate(outcomes) if error is None] == [0, 1, 256]
    assert {type(error) for error in outcomes if error is not None} == {LimitExceeded}
    assert len(rig.bridge.tables) == 0
    assert len(attempts) < 64


ONE_BUCKET = "group_id=1,type=indirect,bucket=output:2"
TWO_BUCKETS = "group_id=1,type=all,bucket=output:1,bucket=output:2"
METER = "meter=1,pktps,burst,bands=type=drop,rate=1,burst_size=5"
TOLD = "cookie=7,send_flow_rem,in_port=1"


@pytest.mark.parametrize(
    ("mod", "reason"),
    [
        pytest.param(parse_selection("in_port=1"), RemovalReason.DELETE, id="rule"),
        pytest.param(group(GroupCommand.DELETE, ONE_BUCKET), RemovalReason.GROUP_DELETE, id="group"),
        pytest.param(meter(MeterCommand.DELETE, METER), RemovalReason.DELETE, id="meter"),
    ],
)
def test_a_rule_that_goes_is_told_with_what_it_won(rig: Rig, mod: Change, reason: RemovalReason) -> None:
    rig.attach()
    assert rig.change(group(GroupCommand.ADD, ONE_BUCKET), meter(MeterCommand.ADD, METER)) == []
    assert rig.add(f"{TOLD},actions=meter:1,group:1", "cookie=8,in_port=2,actions=meter:1,group:1") == []
    rig.send("h1", "02:00:00:00:00:02", 3)
    wait_until(lambda: rig.won("in_port=1").packets == 3)
    assert rig.change(mod) == []
    assert removed(rig) == [(7, reason, 3)]


def test_what_comes_and_goes_in_one_change_is_told_and_keeps_nothing(rig: Rig) -> None:
    told = adds(f"{TOLD},actions=output:2")
    mods: list[Change] = [
        *told,
        parse_selection(""),
        *told,
        parse_selection(""),
        group(GroupCommand.ADD, ONE_BUCKET),
        group(GroupCommand.MODIFY, TWO_BUCKETS),
        group(GroupCommand.DELETE, ONE_BUCKET),
        meter(MeterCommand.ADD, METER),
        meter(MeterCommand.MODIFY, METER),
        meter(MeterCommand.DELETE, METER),
    ]
    rig.inside(lambda: rig.bridge.change_together(mods))
    assert removed(rig) == [(7, RemovalReason.DELETE, 0)] * 2
    before = rig.bridge.tables.slots, rig.bridge.tables.meter_slots
    for _ in range(3):
        rig.inside(lambda: rig.bridge.change_together(mods))
    assert (rig.bridge.tables.slots, rig.bridge.tables.meter_slots) == before
    assert rig.bridge.tables.unused_slots == rig.bridge.tables.unused_meter_slots == set()


def test_a_rule_that_is_replaced_has_the_timeouts_of_the_new_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rig.add("hard_timeout=5,cookie=1,send_flow_rem,in_port=1,actions=output:2") == []
    assert rig.add(f"hard_timeout=60,{TOLD},actions=output:2") == []
    start = time.monotonic_ns()
    for seconds, expected in ((6, []), (61, [(7, RemovalReason.HARD_TIMEOUT, 0)])):
        monkeypatch.setattr(time, "monotonic_ns", lambda now=start + seconds * SECOND: now)
        rig.inside(rig.bridge.expire)
        assert removed(rig) == expected
    assert len(rig.bridge.tables) == 0


def test_groups_count_in_slots_that_begin_at_zero(rig: Rig) -> None:
    rig.attach()
    assert rig.change(group(GroupCommand.ADD, ONE_BUCKET), *adds("in_port=1,actions=group:1")) == []
    rig.send("h1", "02:00:00:00:00:02", 4)
    entry = rig.bridge.tables.groups[1]
    wait_until(lambda: [rig.bridge.count(slot).packets for slot in (entry.slot, *entry.slots)] == [4, 4])
    assert rig.change(group(GroupCommand.MODIFY, TWO_BUCKETS)) == []
    changed = rig.bridge.tables.groups[1]
    assert [rig.bridge.count(slot).packets for slot in (changed.slot, *changed.slots)] == [4, 0, 0]
    assert rig.change(group(GroupCommand.MODIFY, ONE_BUCKET)) == []
    again = rig.bridge.tables.groups[1]
    assert again.slots[0] in (*entry.slots, *changed.slots)
    rig.send("h1", "02:00:00:00:00:02", 1)
    wait_until(lambda: [rig.bridge.count(slot).packets for slot in (again.slot, *again.slots)] == [5, 1])


def test_a_modified_meter_begins_anew(rig: Rig) -> None:
    rig.attach()
    assert rig.change(meter(MeterCommand.ADD, METER), *adds("in_port=1,actions=meter:1,output:2")) == []
    for _ in range(3):
        rig.send("h1", "02:00:00:00:00:02", 20)
        counts = rig.bridge.meter_counts(rig.bridge.tables.meters[1])
        ((dropped, _),) = counts.bands
        assert counts.packets == 20
        assert 13 <= dropped <= 15
        assert rig.change(meter(MeterCommand.MODIFY, METER)) == []
    assert rig.bridge.tables.meter_slots == 2


def test_no_more_meters_than_there_is_room_for(rig: Rig) -> None:
    mods = [meter(MeterCommand.ADD, f"meter={number},kbps,bands=type=drop,rate=9") for number in range(1, 1026)]
    *_, one_too_many = rig.inside(lambda: rig.bridge.change(mods))
    assert isinstance(one_too_many, LimitExceeded)
    assert (one_too_many.used, one_too_many.limit) == (1025, 1024)
    assert len(rig.bridge.tables.meters) == 1024


@pytest.mark.parametrize(
    ("mods", "index", "kind"),
    [
        pytest.param(adds("in_port=1,actions=output:2", "actions=group:9"), 1, BadAction, id="tables"),
        pytest.param(
            adds("in_port=1,actions=output:2", "in_port=2,actions=output:9", "tcp,actions=drop"),
            1,
            BadAction,
            id="compiler",
        ),
        pytest.param([parse_selection(""), group(GroupCommand.MODIFY, ONE_BUCKET)], 1, BadGroup, id="group"),
        pytest.param(adds("actions=output:9"), 0, BadAction, id="only one"),
    ],
)
def test_a_bundle_that_fails_says_where_and_changes_nothing(
    rig: Rig, mods: list[Change], index: int, kind: type[OkoError]
) -> None:
    rig.attach()
    assert rig.change(meter(MeterCommand.ADD, METER), *adds(f"{TOLD},actions=meter:1,output:2")) == []
    before, pipeline = list(rig.bridge.tables), rig.pipeline()
    with pytest.raises(BundleFailed) as failed:
        rig.inside(lambda: rig.bridge.change_together([meter(MeterCommand.MODIFY, METER), *mods]))
    assert (failed.value.index, type(failed.value.cause)) == (index + 1, kind)
    assert list(rig.bridge.tables) == before
    assert rig.pipeline() == pipeline
    assert rig.events == []
    # The meter goes on with what is left in its bucket, and the next change is nobody's second half.
    rig.send("h1", "02:00:00:00:00:02", 20)
    assert rig.bridge.meter_counts(rig.bridge.tables.meters[1]).packets == 20
    assert rig.add("in_port=2,actions=output:1") == []
    assert len(rig.bridge.tables) == 2


def test_the_kernels_refusal_leaves_everything_as_it_was(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.attach()
    assert rig.change(meter(MeterCommand.ADD, METER), *adds(f"{TOLD},actions=meter:1,output:2")) == []

    def refuse(*_: object, **__: object) -> None:
        raise KernelError("no memory", errno=12)

    monkeypatch.setattr(LoadedImage, "load", refuse)
    (refused,) = rig.change(parse_selection(""))
    assert isinstance(refused, KernelError)
    (refused,) = rig.change(meter(MeterCommand.MODIFY, METER))
    assert isinstance(refused, KernelError)
    rig.send("h1", "02:00:00:00:00:02", 2)
    wait_until(lambda: rig.won("in_port=1").packets == 2)
    assert rig.bridge.meter_counts(rig.bridge.tables.meters[1]).packets == 2
    assert rig.events == []


def test_packet_ins_name_a_rule_that_has_gone_meanwhile(rig: Rig) -> None:
    rig.attach()
    assert rig.add("cookie=7,in_port=1,actions=CONTROLLER:65535") == []
    cookies = []

    def listen(event: object) -> None:
        if isinstance(event, PacketInRecord) and event.slot is not None:
            entry = rig.bridge.rule_at(event.slot)
            cookies.append(entry.rule.cookie if entry else None)

    rig.bridge.listen(listen)
    rig.send("h1", "02:00:00:00:00:02", 5)
    assert rig.delete("in_port=1") == []
    assert rig.add("cookie=8,in_port=1,actions=output:2") == []
    rig.bridge.deliver(100)
    assert cookies == [7] * 5


def test_a_packet_out_counts_in_groups(rig: Rig) -> None:
    rig.attach()
    assert rig.add_groups(ONE_BUCKET) == []
    entry = rig.bridge.tables.groups[1]
    with rig.listening("h2") as received:
        rig.inside(lambda: rig.bridge.packet_out((Group(1),), bytes(60), CONTROLLER))
        wait_until(lambda: received() == [bytes(60)])
    assert [rig.bridge.count(slot) for slot in (entry.slot, *entry.slots)] == [Count(1, 60)] * 2


@pytest.mark.parametrize(
    ("actions", "frame", "kind"),
    [
        pytest.param((Group(1), Output(2)), bytes(60), BadAction, id="no such group"),
        pytest.param((Output(2), Output(1)), bytes(3000), PortError, id="longer than the MTU"),
        pytest.param((Output(2), Output(TABLE)), bytes(5000), PortError, id="longer than a page"),
    ],
)
def test_a_packet_out_that_cannot_be(rig: Rig, actions: tuple[Action, ...], frame: bytes, kind: type[OkoError]) -> None:
    rig.attach()
    with pytest.raises(kind):
        rig.inside(lambda: rig.bridge.packet_out(actions, frame, CONTROLLER))


@pytest.mark.parametrize("unloaded", [False, True], ids=["replaced", "unloaded and loaded again"])
def test_rules_run_the_program_that_is_loaded(rig: Rig, counting: Compile, unloaded: bool) -> None:
    """Also when none named it while it was replaced, and the running image still has the code of the one before."""
    rig.load(counting())
    flows = [f"dl_dst=02:00:00:00:00:{number:02x},filter_prog=1,actions=output:2" for number in range(20)]
    assert rig.add(*flows) == []
    pipeline = rig.pipeline()
    assert rig.delete("filter_prog=1") == []
    assert rig.pipeline() == pipeline, "the rules went out of the maps of the image"
    if unloaded:
        rig.inside(lambda: rig.bridge.unload(1))
    rig.load(counting())
    assert rig.add(flows[0]) == []
    assert rig.pipeline() != pipeline
