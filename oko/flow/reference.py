"""The reference switch: slow, obvious, and by definition right. It says what the compiled pipeline must do.

A packet is looked up in table 0. Of the rules whose header conditions hold, in the order of `Entry.rank`, the
first wins whose filter program says yes or that has none. A program runs at most once per packet, when the first
rule that needs its verdict is reached; the verdict stays for the packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

from oko.errors import BadMatch
from oko.flow.headers import parse
from oko.flow.match import Match
from oko.flow.rule import Entry
from oko.flow.tables import Tables

FilterProgram = Callable[[bytes, int, int], int]
"""(frame, in_port, now in ns) → not 0 for a match. It may keep state between packets."""


class Reason(Enum):
    """Why a packet went where it went."""

    RULE = "rule"  # a rule won; one without actions drops
    MISS = "miss"  # no rule matched: dropped (OpenFlow 1.3.5, 5.4)
    RUNT = "runt"  # too short for an Ethernet header: dropped before any table


@dataclass(frozen=True, slots=True)
class Decision:
    """What the switch did with one packet.

    `entry` is the winner, if any. `outputs` are the ports that the packet left by, in the order of the actions, a
    port as often as an action names it. `verdicts` has the programs that ran, by id, in the order in which they ran.
    """

    reason: Reason
    entry: Entry | None = None
    outputs: tuple[int, ...] = ()
    verdicts: Mapping[int, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """What the switch has counted so far. Bytes are of the whole frame, as it came in, without FCS."""

    packets: Counter[int] = field(default_factory=Counter)  # by slot: packets that the rule won
    bytes: Counter[int] = field(default_factory=Counter)  # by slot
    runs: Counter[int] = field(default_factory=Counter)  # by program id
    matches: Counter[int] = field(default_factory=Counter)  # by program id: the runs that said yes
    sent: Counter[int] = field(default_factory=Counter)  # by port: frames
    to_ingress: int = 0  # outputs to the port that the packet came from: not sent
    to_nowhere: int = 0  # outputs to a port that the switch does not have: not sent
    misses: int = 0
    runts: int = 0


class ReferenceSwitch:
    """A switch with these `tables`, filter `programs` by id, and `ports`.

    It reads all three anew for each packet, so the owner may change them between packets. `counters` only grow.
    """

    def __init__(self, tables: Tables, programs: Mapping[int, FilterProgram], ports: Collection[int]) -> None:
        self.tables = tables
        self.programs = programs
        self.ports = ports
        self.counters = Counters()

    def decide(self, frame: bytes, in_port: int, now: int) -> Decision:
        """Decide one frame that came in by `in_port` at `now` (ns), and count it.

        Raises BadMatch when the lookup reaches a rule whose program is not loaded.
        """
        headers = parse(frame, in_port)
        if headers is None:
            self.counters.runts += 1
            return Decision(Reason.RUNT)
        verdicts: dict[int, bool] = {}
        for entry in self.tables.ranked():
            match = entry.rule.match
            if not _holds(match, headers):
                continue
            if match.program is not None:
                if match.program not in verdicts:
                    verdicts[match.program] = self._run(match.program, frame, in_port, now)
                if not verdicts[match.program]:
                    continue
            self.counters.packets[entry.slot] += 1
            self.counters.bytes[entry.slot] += len(frame)
            return Decision(Reason.RULE, entry, self._send(entry, in_port), verdicts)
        self.counters.misses += 1
        return Decision(Reason.MISS, verdicts=verdicts)

    def _run(self, program: int, frame: bytes, in_port: int, now: int) -> bool:
        if program not in self.programs:
            raise BadMatch(f"filter_prog={program}: no program {program} is loaded", reason="bad-value")
        verdict = self.programs[program](frame, in_port, now) != 0
        self.counters.runs[program] += 1
        self.counters.matches[program] += verdict
        return verdict

    def _send(self, entry: Entry, in_port: int) -> tuple[int, ...]:
        outputs = []
        for action in entry.rule.actions:
            if action.port == in_port:
                self.counters.to_ingress += 1
            elif action.port not in self.ports:
                self.counters.to_nowhere += 1
            else:
                self.counters.sent[action.port] += 1
                outputs.append(action.port)
        return tuple(outputs)


def _holds(match: Match, headers: Mapping[str, int]) -> bool:
    return all(headers[c.field.name] & c.mask == c.value for c in match.headers)
