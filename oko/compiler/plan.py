"""How a table is looked up: its rules in segments of one program each, and in groups of one mask each.

A lookup tries the rules in rank order. Rules that stand next to each other in that order and name the same
program (or none) form a *segment*: the best of its rules that match is found first, and only then, once, the
program is asked. If it says no, no rule of the segment can win and the next segment is looked at. So a
program runs exactly when a rule with it is reached, and a segment may be searched in any way that yields its
best rule.

A rule may stand in an earlier segment of the same program when no rule of the segments between overlaps it:
no packet can tell the difference, and a table of many tenants with a few programs keeps few segments.

Within a segment, rules of one mask form a *group*: hashed when they are many. The few of a small group are compared
inline, in *runs*: rules of one mask that stand next to each other, or could, as no packet matches two of them and none
a rule between. A run is searched by halving.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from oko.compiler.hint import Hint
from oko.compiler.layout import ANYTHING, KeyLayout, Lowered
from oko.flow.rule import Entry, Rank

INLINE_LIMIT: Final = 16
"""Rules of one mask that are still compared one by one. A hash costs about 20 ns, a compare 0.5 to 1 ns."""


class Candidate(NamedTuple):
    """An entry with its header conditions lowered to the key. (A named tuple, as there is one for each rule.)"""

    entry: Entry
    lowered: Lowered


@dataclass(slots=True)
class Group:
    """The rules of one mask, by value: in rank order as they were planned, and behind them those that an amendment
    added. `shadowed` are the values of which there was more than one: all but the best can never win.

    Of a group that the code of an image hashes, `number` is what it is called there, and `reach` the highest priority
    that is looked for in it; all its rules have the `kind` that the code compares with before it looks, and with a
    `hint` it looks only if that has the `bit`."""

    mask: int
    candidates: dict[int, Candidate] = field(default_factory=dict)
    shadowed: set[int] = field(default_factory=set)
    number: int | None = None
    reach: int = 0
    kind: Lowered = ANYTHING
    hint: Hint | None = None
    bit: int = 0
    _projections: dict[int, set[int]] = field(default_factory=dict)

    @property
    def hashed(self) -> bool:
        return len(self.candidates) > INLINE_LIMIT

    def shared(self, mask: int) -> Lowered:
        """What all rules here want of the bits `mask`, if they want the same, else nothing."""
        mask &= self.mask
        wanted = {value & mask for value in self.candidates}
        return Lowered(wanted.pop(), mask) if len(wanted) == 1 else ANYTHING

    @property
    def top_priority(self) -> int:
        return next(iter(self.candidates.values())).entry.rule.priority

    def add(self, candidate: Candidate) -> None:
        """Add the next rule in rank order. One with the value of an earlier rule can never win and is left out."""
        value = candidate.lowered.value
        if value in self.candidates:
            self.shadowed.add(value)
            return
        self.put(candidate)

    def put(self, candidate: Candidate) -> None:
        """Let this be the rule of its value."""
        value = candidate.lowered.value
        self.candidates[value] = candidate
        for common, values in self._projections.items():
            values.add(value & common)

    def overlaps(self, lowered: Lowered) -> bool:
        """Whether some packet matches both a rule here and `lowered`."""
        common = self.mask & lowered.mask
        if common == self.mask:
            return lowered.value & common in self.candidates
        if common not in self._projections:
            self._projections[common] = {value & common for value in self.candidates}
        return lowered.value & common in self._projections[common]


_LOOK_BACK: Final = 16
"""Runs that are looked at to find one that a rule may join."""


@dataclass(slots=True)
class Segment:
    """Rules that share a program (None: no program), by mask. `ranks` are the lowest and the highest of all that ever
    stood here."""

    program: int | None
    groups: dict[int, Group] = field(default_factory=dict)
    ranks: list[Rank] = field(default_factory=list)

    @property
    def inline(self) -> list[Candidate]:
        """The rules that are compared one by one, in rank order."""
        return sorted(
            (
                candidate
                for group in self.groups.values()
                if not group.hashed
                for candidate in group.candidates.values()
            ),
            key=lambda candidate: candidate.entry.rank,
        )

    @property
    def runs(self) -> list[Group]:
        """The same rules as runs. A packet matches at most one rule of each; of several runs that have one, the first
        run has the best."""
        runs: list[Group] = []
        for candidate in self.inline:
            lowered = candidate.lowered
            home = None
            for run in reversed(runs[-_LOOK_BACK:]):
                if run.mask == lowered.mask:
                    home = run
                if home is not None or run.overlaps(lowered):
                    break
            if home is None:
                home = Group(lowered.mask)
                runs.append(home)
            home.add(candidate)
        return runs

    @property
    def hashed(self) -> list[Group]:
        """The groups that are hashed, highest priority first."""
        return sorted((group for group in self.groups.values() if group.hashed), key=lambda group: -group.top_priority)

    def add(self, candidate: Candidate) -> None:
        """Add the next rule in rank order."""
        mask = candidate.lowered.mask
        group = self.groups.get(mask)
        if group is None:
            group = self.groups[mask] = Group(mask)
        group.add(candidate)
        self.note(candidate.entry.rank)

    def note(self, rank: Rank) -> None:
        """A rule of this rank stands here."""
        if not self.ranks:
            self.ranks = [rank, rank]
        elif rank > self.ranks[1]:
            self.ranks[1] = rank
        elif rank < self.ranks[0]:
            self.ranks[0] = rank

    def overlaps(self, lowered: Lowered) -> bool:
        """Whether some packet matches both a rule here and `lowered`."""
        return any(group.overlaps(lowered) for group in self.groups.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """The segments of one table, in the order in which they are searched."""

    segments: tuple[Segment, ...]

    @property
    def mask(self) -> int:
        """Every bit of the key that any rule looks at."""
        union = 0
        for segment in self.segments:
            for mask in segment.groups:
                union |= mask
        return union


def plan(ranked: Iterable[Entry], layout: KeyLayout) -> Plan:
    """The plan for these entries, which come in rank order."""
    segments: list[Segment] = []
    for entry in ranked:
        candidate = Candidate(entry, layout.lower(entry.rule.match))
        home = _home(segments, entry.rule.match.program, candidate.lowered)
        if home is None:
            home = Segment(entry.rule.match.program)
            segments.append(home)
        home.add(candidate)
    return Plan(tuple(segments))


def _home(segments: list[Segment], program: int | None, lowered: Lowered) -> Segment | None:
    """The earliest segment of `program` that the rule may stand in: it overlaps nothing in the segments after."""
    first = next((index for index, segment in enumerate(segments) if segment.program == program), None)
    if first is None:
        return None
    home = None
    for segment in reversed(segments[first + 1 :]):
        if segment.program == program:
            home = segment
        if segment.overlaps(lowered):
            return home
    return segments[first]
