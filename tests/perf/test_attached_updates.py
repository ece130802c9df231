"""Changes of an attached bridge's rules, as ``python -m perf attached-updates`` makes them, and what judges of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from oko.flow import shim
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_flow_mod, parse_selection, print_rule
from perf.attached_changes import LONGEST_MOMENT, AttachedChanges, as_text, changed_past
from perf.attached_frames import PORTS, PROGRAMS, frame, stamp_of
from perf.attached_judge import Arrival, Judged, SentFrame, Version, decide, is_wrapped, judge
from tests.ovs import needs_ovs

ROOT = Path(__file__).resolve().parents[2]
RULES = ("priority=10,filter_prog=1,actions=output:2", "priority=5,actions=output:3")


def tables(*rules: str) -> Tables:
    made = Tables()
    for rule in rules:
        made.change(parse_flow_mod(rule))
    return made


def frames(count: int = 40) -> list[tuple[int, bytes]]:
    """With the port that each comes in by, which no rule here sends to."""
    random = Random(1)
    return [(1, frame(random, stamp)) for stamp in range(count)]


def arriving(decided: Tables) -> list[Arrival]:
    return [arrival for port, each in frames() for arrival in decide(decided, each, port).elements()]


def sent(*, earliest: int = 0, window: bool = False) -> list[SentFrame]:
    return [SentFrame(stamp, port, each, earliest, 0.0, window) for stamp, (port, each) in enumerate(frames())]


BEFORE = Version(tables(*RULES), "before")
AFTER = Version(tables(RULES[0], "priority=5,actions=output:4"), "after")


def test_programs_say_the_same_as_their_reference_of_a_source() -> None:
    odd, even = (answer for _, answer in PROGRAMS.values())
    assert {(odd(each, 1, 0), even(each, 1, 0)) for _, each in frames()} == {(0, 1), (1, 0)}


def test_a_frame_has_its_stamp_whatever_comes_before_it() -> None:
    assert [stamp_of(each[4:]) for _, each in frames()] == list(range(40))
    assert stamp_of(bytes(60)) is None
    assert stamp_of(b"") is None


@pytest.mark.parametrize("decided", [BEFORE, AFTER], ids=["before", "after"])
def test_frames_decided_by_either_are_explained(decided: Version) -> None:
    judged = Judged()
    assert judge(judged, [BEFORE, AFTER], sent(), arriving(decided.tables)) == []
    assert (judged.frames, judged.contested, judged.unexplained, judged.faults) == (40, 40, 0, [])
    assert judged.arrivals == 40


@pytest.mark.parametrize(
    "rules",
    [
        (RULES[0], "priority=5,actions=output:2"),
        (RULES[0],),
        (RULES[1],),
        ("priority=10,filter_prog=1,actions=output:2,output:3", RULES[1]),
        ("priority=10,filter_prog=1,actions=set_field:02:00:00:00:00:09->eth_src,output:2", RULES[1]),
    ],
    ids=["a rule changed", "a rule missing", "no filter rules", "a copy too many", "a field set"],
)
def test_frames_decided_otherwise_are_faults(rules: tuple[str, ...]) -> None:
    judged = Judged()
    arrived = arriving(tables(*rules))
    judge(judged, [BEFORE, AFTER], sent(), arrived)
    wrong = [each for port, each in frames() if decide(tables(*rules), each, port) != decide(BEFORE.tables, each, port)]
    assert judged.unexplained == len(wrong) > 10
    assert "arrived: " in judged.faults[0]
    assert print_rule(parse_flow_mod(RULES[0]).rule) in judged.faults[0]


def test_rules_that_are_over_explain_nothing() -> None:
    judged = Judged()
    judge(judged, [BEFORE, AFTER], sent(earliest=1), arriving(BEFORE.tables))
    assert judged.unexplained > 10
    assert "as the tables said before: before" in judged.faults[0]
    assert judged.contested == 0


def test_what_arrives_again_is_a_fault() -> None:
    judged = Judged()
    arrived = arriving(BEFORE.tables)
    judge(judged, [BEFORE], sent(), arrived)
    judge(judged, [BEFORE], [], arrived[:1])
    assert judged.unexplained == 1


@pytest.mark.parametrize(
    ("arrived", "by_plain", "dropped"),
    [(arriving(tables(RULES[1])), True, False), ([], False, True)],
    ids=["by plain rules", "dropped"],
)
def test_the_window_of_changes_past_oko(arrived: list[Arrival], by_plain: bool, dropped: bool) -> None:
    judged = Judged()
    deviating = judge(judged, [BEFORE], sent(window=True), arrived)
    assert judged.unexplained == 0
    assert judged.windowed == 40
    assert (judged.by_plain > 0, judged.dropped > 0) == (by_plain, dropped)
    assert len(deviating) == judged.by_plain + judged.dropped


def test_in_the_window_filter_rules_may_be_changed_along() -> None:
    mod = parse_flow_mod("dl_dst=03:00:00:00:00:01,actions=output:4", Command.MODIFY)
    before = Version(tables("priority=10,dl_dst=03:00:00:00:00:01,filter_prog=1,actions=output:2", RULES[1]), "before")
    along = before.tables.copy()
    along.change(mod)
    after = Version(changed_past(before.tables, mod), "past Oko", along)
    judged = Judged()
    deviating = judge(judged, [before, after], sent(window=True), arriving(along))
    assert judged.unexplained == 0
    assert len(deviating) == judged.along > 5


def test_in_the_window_other_rules_explain_nothing() -> None:
    judged = Judged()
    judge(judged, [BEFORE], sent(window=True), arriving(AFTER.tables))
    assert judged.unexplained > 10


def test_a_frame_with_a_shim_is_a_fault_at_any_time() -> None:
    judged = Judged()
    wrapped = shim.frame(7, frames(1)[0][1])
    tagged = wrapped[:12] + b"\x81\x00\x00\x05" + wrapped[12:]
    assert judge(judged, [BEFORE], [], [(2, wrapped), (3, tagged)]) == []
    assert (judged.wrapped, len(judged.faults)) == (2, 2)
    assert not any(is_wrapped(each) for _, each in frames())


def test_a_change_past_oko_is_of_plain_rules_alone() -> None:
    for mod in (parse_selection(""), parse_flow_mod("table=0,actions=drop", Command.MODIFY)):
        changed = changed_past(BEFORE.tables, mod)
        left = [print_rule(entry.rule) for entry in changed.ranked(0)]
        assert left[0] == print_rule(parse_flow_mod(RULES[0]).rule)
        assert left[1:] in ([], ["priority=5 actions=drop"])


def test_changes_can_be_made_and_what_ovs_ofctl_gets_says_the_same() -> None:
    changes, made = AttachedChanges(Random(3)), Tables()
    updates = changes.initial()
    kinds = set()
    for number in range(400):
        update = updates.pop(0) if updates else changes.update(made, past=number % 3 == 0)
        kinds.add(update.kind)
        for mod in update.mods:
            made.change(mod)
            if isinstance(mod, FlowMod):
                (*options, command), flow = as_text(mod)
                flow = flow.replace("NORMAL", "FLOOD")
                if command == "del-flows":
                    assert parse_selection(flow, strict=bool(options)).rule.match == mod.rule.match
                else:
                    kind = Command.ADD if command == "add-flow" else Command.MODIFY
                    rule = parse_flow_mod(flow, kind).rule
                    assert rule.instructions == mod.rule.instructions
                    assert (rule.idle_timeout, rule.hard_timeout) == (mod.rule.idle_timeout, mod.rule.hard_timeout)
                    if update.expire:
                        assert 0 < rule.hard_timeout <= LONGEST_MOMENT
    assert len(kinds) == 16
    decided = [decide(made, each, port) for port in PORTS for _, each in frames()]
    assert 0 < sum(map(bool, decided)) < len(decided)


def run(changes: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words, "--changes", f"{changes}", "--seed", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@needs_ovs
@pytest.mark.needs_bpf
def test_a_few_changes_are_explained() -> None:
    done = run(6, "-m", "perf", "attached-updates")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert (result["faults"], result["unexplained"], result["wrapped"], result["different"]) == ([], 0, 0, 0)
    assert sum(result["changes"].values()) == 6
    assert result["frames"] >= 6 * 60
    assert result["arrivals"] > 100


PLANTED = """
import sys
from perf import attached_judge
from perf.__main__ import main
attached_judge._PROGRAMS[1] = lambda frame, in_port, now: 1
sys.argv[0:1] = ["perf", "attached-updates"]
sys.exit(main())
"""
"""A reference whose first program says yes to everything."""


@needs_ovs
@pytest.mark.needs_bpf
def test_a_reference_that_decides_otherwise_fails() -> None:
    done = run(1, "-c", PLANTED)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["unexplained"] > 0
