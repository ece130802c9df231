"""`explain`: whether the fate of every frame of a round is that of one version of the tables, and of which."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Final

from oko.flow.drop import Drop

Outcome = tuple[int, int]
"""What has arrived of a frame: the digests of ports 0 and 1, 32 bits each, and those of ports 2 and 3; the first of
both in the low bits. 0 where nothing arrived."""

NOTHING: Final[Outcome] = (0, 0)

Fates = Mapping[Outcome, frozenset[Drop | None]]
"""What may become of the frames of a flow, with the reasons that may be counted for it: None when nothing is."""

TOLD_OF: Final = 1000
"""Frames that nothing explains, before nobody looks for more of them."""


@dataclass(frozen=True, slots=True)
class Version:
    """Tables and programs as they were at some time of a round.

    `possible` is the first stamp of a frame that these may have decided: every frame before had arrived before the
    change began. `certain` is the first stamp that none before these can have decided: it was given out when the change
    was over. Both never fall from one version to the next. `fates` is by flow, and so is `wins`: how many rules win a
    frame, at least and at most.
    """

    possible: int
    certain: int
    fates: Sequence[Fates]
    wins: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Run:
    """Frames of one flow, one behind the other, of which the same has arrived: from stamp `first` to `last`."""

    first: int
    last: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Unexplained:
    """A frame whose outcome no version explains that comes into question. `known` are the versions of the round that
    would have done this."""

    stamp: int
    outcome: Outcome
    earliest: int
    latest: int
    known: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames from stamp `start` to before `end`, decided by versions between `earliest` and `latest`."""

    start: int
    end: int
    earliest: int
    latest: int


@dataclass(slots=True)
class Explanation:
    """What is known of the frames of a round.

    `contested` counts frames that were under way during a change, so that by their stamps alone several versions come
    into question; `open` those of them for which several still do when every frame's outcome is known, `metered` those
    for which a meter decides between two outcomes that are both right. `least` and `most` frames were sent nowhere for
    each reason; `wins` is how often rules won, at least and at most.
    """

    frames: int
    unexplained: list[Unexplained] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    contested: int = 0
    open: int = 0
    metered: int = 0
    nowhere: int = 0
    least: Counter[Drop | None] = field(default_factory=Counter)
    most: Counter[Drop | None] = field(default_factory=Counter)
    wins: tuple[int, int] = (0, 0)

    def versions(self, stamp: int) -> range:
        """The versions that may have decided a frame."""
        found = self.stretches[bisect_right(self.stretches, stamp, key=lambda stretch: stretch.start) - 1]
        return range(found.earliest, found.latest + 1)


def runs(words: memoryview, frames: int, flows: int) -> list[list[Run]]:
    """The outcomes of frames 0 to `frames` - 1, by flow, from two words of 64 bits for each. Frame N is of flow
    N % `flows`."""
    return [list(_runs(words, range(flow, frames, flows))) for flow in range(flows)]


def _runs(words: memoryview, stamps: range) -> Iterator[Run]:
    steps = slice(2 * stamps.start, 2 * stamps.stop, 2 * stamps.step)
    others = slice(steps.start + 1, steps.stop, steps.step)
    index = 0
    for outcome, group in groupby(zip(words[steps], words[others], strict=True)):
        size = sum(1 for _ in group)
        yield Run(stamps[index], stamps[index + size - 1], outcome)
        index += size


def explain(versions: Sequence[Version], outcomes: Sequence[Sequence[Run]], frames: int) -> Explanation:
    """Find a version for every frame, so that no frame was decided by an older one than a frame before it: the switch
    takes one after the other.

    The earliest version of each frame is found from the first frame to the last, the latest one the other way.
    """
    forward = _Walk(versions, outcomes, frames)
    forward.walk()
    backward = _Walk(*_mirrored(versions, outcomes, frames), frames)
    backward.walk()
    latest = sorted((frames - start, len(versions) - 1 - version) for start, version in backward.changes)
    found = Explanation(frames, forward.unexplained)
    found.stretches = list(_stretches(forward.changes, latest, frames))
    _count(found, versions, outcomes)
    return found


class _Walk:
    """Frame after frame, the earliest version that explains it. `changes` says from which stamp on it is which."""

    def __init__(self, versions: Sequence[Version], outcomes: Sequence[Sequence[Run]], frames: int) -> None:
        self.changes = [(0, 0)]
        self.unexplained: list[Unexplained] = []
        self._versions = versions
        self._outcomes = outcomes
        self._frames = frames
        self._places = [0] * len(outcomes)
        self._certain = [version.certain for version in versions]
        self._possible = [version.possible for version in versions]

    def walk(self) -> None:
        start, current = 0, 0
        while (found := self._obstacle(start, current)) is not None and len(self.unexplained) < TOLD_OF:
            stamp, outcome = found
            earliest = max(current, bisect_right(self._certain, stamp) - 1)
            latest = bisect_right(self._possible, stamp) - 1
            flow = stamp % len(self._outcomes)
            start, following = stamp, earliest
            if outcome is not None:
                fitting = (v for v in range(earliest, latest + 1) if outcome in self._versions[v].fates[flow])
                following = next(fitting, -1)
                if following < 0:
                    known = tuple(v for v, version in enumerate(self._versions) if outcome in version.fates[flow])
                    self.unexplained.append(Unexplained(stamp, outcome, earliest, latest, known))
                    start, following = stamp + 1, earliest
            if following != current:
                self.changes.append((stamp, following))
                current = following

    def _obstacle(self, start: int, version: int) -> tuple[int, Outcome | None] | None:
        """The first stamp from `start` on that `version` cannot have decided, with the outcome if that is why."""
        last = version + 1 == len(self._versions)
        limit = self._frames if last else min(max(self._certain[version + 1], start), self._frames)
        found: tuple[int, Outcome | None] | None = (limit, None) if limit < self._frames else None
        for flow, row in enumerate(self._outcomes):
            fates = self._versions[version].fates[flow]
            place = self._places[flow]
            while place < len(row) and row[place].last < start:
                place += 1
            self._places[flow] = place
            while place < len(row) and row[place].first < limit:
                if row[place].outcome not in fates:
                    # The first frame of the flow from `start` on.
                    limit = max(row[place].first, start + (flow - start) % len(self._outcomes))
                    if found is None or limit < found[0]:
                        found = (limit, row[place].outcome)
                    break
                place += 1
        return found


def _mirrored(
    versions: Sequence[Version], outcomes: Sequence[Sequence[Run]], frames: int
) -> tuple[list[Version], list[list[Run]]]:
    """The same round with the last frame first: what was certain from a stamp on is possible until then."""
    ends = [(frames - later.possible, frames - later.certain) for later in versions[1:]]
    bounds = [(0, 0), *((possible, certain) for certain, possible in reversed(ends))]
    mirrored = [
        replace(version, possible=possible, certain=certain)
        for version, (possible, certain) in zip(reversed(versions), bounds, strict=True)
    ]
    flows = len(outcomes)
    rows: list[list[Run]] = [[] for _ in range(flows)]
    for flow, row in enumerate(outcomes):
        rows[(frames - 1 - flow) % flows] = [
            Run(frames - 1 - run.last, frames - 1 - run.first, run.outcome) for run in reversed(row)
        ]
    shifted = [
        replace(version, fates=[version.fates[(frames - 1 - flow) % flows] for flow in range(flows)], wins=())
        for version in mirrored
    ]
    return shifted, rows


def _stretches(
    earliest: Sequence[tuple[int, int]], latest: Sequence[tuple[int, int]], frames: int
) -> Iterator[Stretch]:
    """`earliest` are stamps from which on a version is the earliest one, `latest` stamps before which one is the
    latest."""
    bounds = sorted({stamp for stamp, _ in (*earliest, *latest)} | {0, frames})
    starts = [stamp for stamp, _ in earliest]
    ends = [stamp for stamp, _ in latest]
    for start, end in pairwise(bounds):
        low = earliest[bisect_right(starts, start) - 1][1]
        high = latest[bisect_right(ends, start)][1]
        yield Stretch(start, end, low, max(low, high))


def _count(found: Explanation, versions: Sequence[Version], outcomes: Sequence[Sequence[Run]]) -> None:
    certain = [version.certain for version in versions]
    possible = [version.possible for version in versions]
    bounds = sorted({stamp for stamp in (0, *certain, *possible) if stamp < found.frames} | {found.frames})
    for start, end in pairwise(bounds):
        if bisect_right(certain, start) < bisect_right(possible, start):
            found.contested += end - start
    flows = len(outcomes)
    emptied = [_Empty([run for run in row if run.outcome == NOTHING], flows) for row in outcomes]
    for stretch in found.stretches:
        candidates = versions[stretch.earliest : stretch.latest + 1]
        found.open += (stretch.end - stretch.start) * (len(candidates) > 1)
        for flow in range(flows):
            fates = [version.fates[flow] for version in candidates]
            frames = len(range(stretch.start + (flow - stretch.start) % flows, stretch.end, flows))
            found.metered += frames * any(len(known) > 1 for known in fates)
            fewest = min(version.wins[flow][0] for version in candidates)
            most = max(version.wins[flow][1] for version in candidates)
            found.wins = found.wins[0] + frames * fewest, found.wins[1] + frames * most
            empty = emptied[flow].before(stretch.end) - emptied[flow].before(stretch.start)
            if not empty:
                continue
            found.nowhere += empty
            reasons = frozenset[Drop | None]().union(*(known.get(NOTHING, frozenset()) for known in fates))
            for reason in reasons:
                found.most[reason] += empty
            if len(reasons) == 1:
                found.least.update(dict.fromkeys(reasons, empty))


class _Empty:
    """How many frames of a flow, in these runs, there are before a stamp."""

    def __init__(self, rows: Sequence[Run], flows: int) -> None:
        self._rows = rows
        self._flows = flows
        self._sums = [0]
        for run in rows:
            self._sums.append(self._sums[-1] + (run.last - run.first) // flows + 1)

    def before(self, stamp: int) -> int:
        index = bisect_right(self._rows, stamp - 1, key=lambda run: run.first)
        if not index:
            return 0
        run = self._rows[index - 1]
        return self._sums[index - 1] + min(
            self._sums[index] - self._sums[index - 1], (stamp - 1 - run.first) // self._flows + 1
        )
