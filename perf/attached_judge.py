"""Whether what became of a frame is what the tables before a change say of it, or those after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from oko.flow import shim
from oko.flow.attachment import Attachment
from oko.flow.port import PortState
from oko.flow.reference import ReferenceSwitch
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import print_rule
from perf.attached_frames import PORTS, PROGRAMS, stamp_of

Arrival = tuple[int, bytes]
"""The port that a frame left by, and the frame."""

_PROGRAMS: Final = {number: answer for number, (_, answer) in PROGRAMS.items()}
_PORTS: Final = {number: PortState() for number in PORTS}
_SHIM: Final = shim.ETHERTYPE.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Version:
    """Tables as the operator means them, plain rules and filter rules in one, and what made them so. A change past Oko
    may mean the rules that continue filter rules, until okod has put them back: `along` are the tables as if it were
    about filter rules, too."""

    tables: Tables
    cause: str
    along: Tables | None = None


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame that came in by `port` at `time` (s, monotonic), when no version before `earliest` could decide packets
    any more. `window`: somebody was changing rules past Oko."""

    stamp: int
    port: int
    frame: bytes
    earliest: int
    time: float
    window: bool = False


@dataclass(slots=True)
class Judged:
    """Of `frames`, `contested` were sent while more than one version may have decided them; `arrivals` came of all.
    Of the frames that were sent while somebody changed rules past Oko, which are `windowed`, some became what neither
    the rules before nor those after say: `by_plain` what the plain rules alone do, `along` what filter rules would do
    that had been changed, too, `dropped` nothing. `faults` are all others, described; `wrapped` counts frames that left
    with a shim."""

    frames: int = 0
    contested: int = 0
    arrivals: int = 0
    windowed: int = 0
    by_plain: int = 0
    along: int = 0
    dropped: int = 0
    wrapped: int = 0
    unexplained: int = 0
    faults: list[str] = field(default_factory=list)


def plain_only(tables: Tables) -> Tables:
    """The tables without their filter rules."""
    found = tables.copy()
    for entry in tables:
        if entry.rule.match.program is not None:
            found.change(FlowMod(Command.DELETE_STRICT, entry.rule))
    return found


def decide(tables: Tables, frame: bytes, port: int) -> Counter[Arrival]:
    """Where the reference switch sends a frame."""
    # Open vSwitch reads one tag; what no rule is for is left to it, and dropped.
    switch = ReferenceSwitch(tables, _PROGRAMS, _PORTS, Attachment(vlan_limit=1))
    return Counter(switch.decide(frame, port, 0).sent)


def is_wrapped(frame: bytes) -> bool:
    """Whether a frame has a shim, behind tags or not."""
    return _SHIM in (frame[12:14], frame[16:18], frame[20:22])


def judge(
    judged: Judged, versions: Sequence[Version], sent: Iterable[SentFrame], arrivals: Iterable[Arrival]
) -> list[SentFrame]:
    """Look at frames of which everything has arrived; the last of the `versions` is in effect. Returns those of a
    window that neither the rules before nor those after explain."""
    arrived: dict[int, Counter[Arrival]] = {}
    for port, frame in arrivals:
        stamp = stamp_of(frame)
        if is_wrapped(frame):
            judged.wrapped += 1
            judged.faults.append(f"a frame with a shim left by port {port}: {frame.hex()}")
        elif stamp is not None:
            arrived.setdefault(stamp, Counter())[port, frame] += 1
            judged.arrivals += 1
    deviating = []
    plain: Mapping[int, Tables] = {}
    for each in sent:
        found = arrived.pop(each.stamp, Counter[Arrival]())
        candidates = range(each.earliest, len(versions))
        judged.frames += 1
        judged.contested += len(candidates) > 1
        judged.windowed += each.window
        if any(decide(versions[number].tables, each.frame, each.port) == found for number in candidates):
            continue
        if each.window:
            plain = plain or {number: plain_only(version.tables) for number, version in enumerate(versions)}
            if any(decide(plain[number], each.frame, each.port) == found for number in candidates):
                judged.by_plain += 1
                deviating.append(each)
                continue
            changed = [tables for number in candidates if (tables := versions[number].along) is not None]
            if any(decide(tables, each.frame, each.port) == found for tables in changed):
                judged.along += 1
                deviating.append(each)
                continue
            if not found:
                judged.dropped += 1
                deviating.append(each)
                continue
        judged.unexplained += 1
        judged.faults.append(_described(versions, each, found))
    for stamp, left in arrived.items():
        judged.unexplained += 1
        judged.faults.append(f"frame {stamp} was judged before, and arrives again: {_listed(left)}")
    return deviating


def _described(versions: Sequence[Version], sent: SentFrame, found: Counter[Arrival]) -> str:
    lines = [
        f"frame {sent.stamp} in by {sent.port}: {sent.frame.hex()}",
        f"  arrived: {_listed(found)}",
    ]
    for number in range(sent.earliest, len(versions)):
        lines.append(f"  {versions[number].cause}: {_listed(decide(versions[number].tables, sent.frame, sent.port))}")
    known = [
        number for number in range(sent.earliest) if decide(versions[number].tables, sent.frame, sent.port) == found
    ]
    if known:
        lines.append(f"  as the tables said before: {', '.join(versions[number].cause for number in known)}")
    lines.append("  the rules at first:")
    lines += [f"    {print_rule(entry.rule)}" for entry in versions[sent.earliest].tables]
    return "\n".join(lines)


def _listed(found: Counter[Arrival]) -> str:
    return ", ".join(f"port {port} {frame.hex()} ×{count}" for (port, frame), count in found.items()) or "nowhere"
