"""Why the switch does with a packet what it does: what the reference switch tells of its way, made into sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from oko.flow.action import (
    ApplyActions,
    ClearActions,
    Continue,
    GotoTable,
    Instruction,
    Meter,
    Pass,
    WriteActions,
    WriteMetadata,
)
from oko.flow.action_text import write_actions
from oko.flow.drop import Drop
from oko.flow.fields import BY_NAME, FIELDS, Field
from oko.flow.headers import parse
from oko.flow.match import Condition, Match
from oko.flow.observer_text import print_observer
from oko.flow.packet_in import PacketInReason
from oko.flow.rule import Rule
from oko.flow.tables import Tables
from oko.flow.text import print_rule
from oko.flow.trace import (
    Acted,
    Asked,
    Carried,
    Charged,
    Emptied,
    Ended,
    Entered,
    Event,
    Filled,
    Grouped,
    Left,
    Lost,
    Sending,
    Sent,
    Told,
    Won,
)
from oko.flow.value import write_condition
from oko.flow.words import write_port
from oko.replay.engine import Decided

_LOSSES = {
    Drop.RUNT: "shorter than an Ethernet header: dropped",
    Drop.MISS: "no rule matches: dropped, and the action set is not executed",
    Drop.TO_INGRESS: "not sent: it came in by this port",
    Drop.NO_PORT: "not sent: there is no such port",
    Drop.INVALID_TTL: "its TTL cannot be decremented: nothing more happens to it",
    Drop.METER: "dropped",
    Drop.FORGED: "comes with a shim: dropped",
    Drop.TOO_LONG: "longer than Open vSwitch receives: dropped",
    Drop.SUSPENDED: "cannot be continued now: dropped",
}
_REASONS = {
    PacketInReason.NO_MATCH: "no match",
    PacketInReason.ACTION: "action",
    PacketInReason.INVALID_TTL: "invalid TTL",
}


def explain(
    events: Iterable[Event],
    tables: Tables,
    names: Mapping[int, str],
    most: int | None,
    write: Callable[[Rule], str] = print_rule,
) -> Iterator[str]:
    """The story that the events tell, line by line. They are of one packet, and of these tables. `names` are those of
    the programs; of rules that do not match, at most `most` are told in a table (None: all), as `write` has them."""
    return _Story(tables, names, most, write).lines(events)


def headers_of(headers: Mapping[str, int]) -> str:
    """The fields that a packet has and that are not zero."""
    present = (field for field in FIELDS if field.member and headers[field.name] and _is_present(field, headers))
    return ", ".join(_valued(field, headers) for field in present)


def outcome(decided: Decided) -> Iterator[str]:
    """What became of the packet, line by line."""
    for port, frame in decided.sent:
        yield f"sent to port {write_port(port)}: {len(frame)} bytes: {frame.hex()}"
    for told in decided.told:
        yield f"given to the controller, {_REASONS[told.reason]}: {len(told.frame)} bytes: {told.frame.hex()}"
    if decided.left is not None:
        yield f"left to Open vSwitch: {len(decided.left)} bytes: {decided.left.hex()}"
    if decided.drop is not None:
        yield f"dropped: {decided.drop.name.lower().replace('_', ' ')}"
    elif not decided.sent and decided.left is None:
        yield "sent nowhere"


class _Story:
    def __init__(
        self, tables: Tables, names: Mapping[int, str], most: int | None, write: Callable[[Rule], str]
    ) -> None:
        self._tables = tables
        self._names = names
        self._most = most
        self._write = write
        self._entered: Entered | None = None
        self._asked: list[Asked] = []
        self._depth = 0

    def lines(self, events: Iterable[Event]) -> Iterator[str]:
        for event in events:
            yield from self._event(event)

    def _event(self, event: Event) -> Iterator[str]:
        match event:
            case Entered(table):
                self._entered, self._asked, self._depth = event, [], 1
                yield f"table {table}"
            case Asked():
                self._asked.append(event)
            case Won(entry):
                yield from self._lookup(entry.rule.table, entry.rank)
                yield self._line(f"wins   {self._write(entry.rule)}")
                self._depth = 2
            case Lost(Drop.MISS) if self._entered is not None:
                yield from self._lookup(self._entered.table, None)
                yield self._line(_LOSSES[Drop.MISS])
            case Lost(drop):
                yield self._line(_LOSSES[drop], deeper=drop in (Drop.TO_INGRESS, Drop.NO_PORT))
            case Carried(instruction):
                yield self._line(_instruction(instruction))
            case Charged(meter, ()):
                yield self._line(f"meter {meter.spec.number} lets it pass", deeper=True)
            case Charged(meter, exceeded):
                rates = ", ".join(str(meter.spec.bands[band].rate) for band in exceeded)
                unit = "packets/s" if meter.spec.packets else "kbit/s"
                yield self._line(f"meter {meter.spec.number}: more than {rates} {unit}", deeper=True)
            case Ended(actions):
                self._depth = 1
                yield self._line(f"end: the action set is {write_actions(actions)}" if actions else "end")
            case Acted(action, before, after):
                yield self._line(f"{write_actions([action])}: {_change(before, after)}", deeper=True)
            case Grouped(group, live, chosen):
                kind = group.spec.type.name.lower().replace("_", "-")
                yield self._line(
                    f"group {group.spec.number} ({kind}): live buckets {_numbers(live)}, takes {_numbers(chosen)}",
                    deeper=True,
                )
            case Filled(group, index):
                self._depth += 2
                yield self._line(f"bucket {index}: {write_actions(group.spec.buckets[index].actions)}")
            case Emptied():
                self._depth -= 2
            case Sending(port):
                yield self._line(f"output:{write_port(port)}", deeper=True)
            case Sent(port, frame):
                yield self._line(f"  leaves by port {write_port(port)}, {len(frame)} bytes", deeper=True)
            case Left(frame):
                if self._depth == 1 and self._entered is not None:
                    yield from self._lookup(self._entered.table, None)
                yield self._line(f"left to Open vSwitch, {len(frame)} bytes", deeper=self._depth > 1)
            case Told(told):
                yield self._line(f"  to the controller: {_REASONS[told.reason]}", deeper=True)

    def _line(self, text: str, *, deeper: bool = False) -> str:
        return "  " * (self._depth + deeper) + text

    def _lookup(self, table: int, winner: tuple[int, bool, int] | None) -> Iterator[str]:
        """The observers, and the rules before the winner, each with what came of it."""
        assert self._entered is not None
        headers = self._entered.headers
        asked = iter(self._asked)
        observers = [observer for observer in self._tables.observers if observer.table == table]
        ranked = self._tables.ranked(table)
        matches = [*(observer.match for observer in observers), *(entry.rule.match for entry in ranked)]
        yield self._line(f"looks at {_looked_at(matches, headers) or 'no header that the packet has'}")
        for observer in observers:
            yield self._line(f"observer {print_observer(observer)}: {self._answer(observer.match, headers, asked)}")
        untold = 0
        for index, entry in enumerate(ranked):
            if entry.rank == winner:
                break
            answer = self._answer(entry.rule.match, headers, asked)
            if self._most is None or index < self._most:
                yield self._line(f"not    {self._write(entry.rule)}: {answer}")
            else:
                untold += 1
        if untold:
            yield self._line(f"not    {untold} more rules")
        if winner is not None and (last := next(asked, None)) is not None:
            yield self._line(self._said(last))

    def _answer(self, match: Match, headers: Mapping[str, int], asked: Iterator[Asked]) -> str:
        """Why a match does not hold, or what its program says."""
        for condition in match.headers:
            value = headers[condition.field.name]
            if value & condition.mask != condition.value:
                if not _is_present(condition.field, headers):
                    return f"the packet has no {condition.field.name}"
                return f"{_valued(condition.field, headers)}, not {write_condition(condition)}"
        return self._said(next(asked))

    def _said(self, asked: Asked) -> str:
        name = f" ({self._names[asked.program]})" if asked.program in self._names else ""
        ran = "runs and says" if asked.ran else "has said"
        return f"program {asked.program}{name} {ran} {'yes' if asked.verdict else 'no'}"


def _instruction(instruction: Instruction) -> str:
    match instruction:
        case Meter(number):
            return f"meter:{number}"
        case ApplyActions((Pass(),)):
            return "passes the packet as it came"
        case ApplyActions((Continue(),)):
            return "lets Open vSwitch continue with the packet"
        case ApplyActions(actions):
            return f"applies {write_actions(actions)}"
        case ClearActions():
            return "clears the action set"
        case WriteActions(actions):
            return f"writes {write_actions(actions)} into the action set"
        case WriteMetadata(value, mask):
            return f"writes {value:#x}/{mask:#x} into the metadata"
        case GotoTable(table):
            return f"goes to table {table}"


def _change(before: bytes, after: bytes | None) -> str:
    """What an action changed: the fields by name, then the bytes."""
    if after is None:
        return "not possible"
    if before == after:
        return "changes nothing"
    old, new = parse(before, 0), parse(after, 0)
    assert old is not None, "no packet is a runt here"
    assert new is not None, "no action makes a runt"
    changed = [
        f"{field.name} {_value(field, old)} → {_value(field, new)}"
        for field in FIELDS
        if field.member and old[field.name] != new[field.name] and (_is_present(field, old) or _is_present(field, new))
    ]
    changed += [
        f"at {start} {old_bytes or 'nothing'} → {new_bytes or 'nothing'}"
        for start, old_bytes, new_bytes in _bytes(before, after)
    ]
    return "; ".join(changed)


def _bytes(before: bytes, after: bytes) -> Iterator[tuple[int, str, str]]:
    """Where bytes have changed, with those before and after, hexadecimal."""
    if len(before) != len(after):
        shorter = min(len(before), len(after))
        start = next((index for index in range(shorter) if before[index] != after[index]), shorter)
        longest = shorter - start
        same = next((index for index in range(longest) if before[-1 - index] != after[-1 - index]), longest)
        yield start, before[start : len(before) - same].hex(), after[start : len(after) - same].hex()
        return
    differs = (index for index in range(len(before)) if before[index] != after[index])
    for _, run in groupby(enumerate(differs), key=lambda item: item[1] - item[0]):
        indices = [index for _, index in run]
        there = slice(indices[0], indices[-1] + 1)
        yield indices[0], before[there].hex(), after[there].hex()


def _is_present(field: Field, headers: Mapping[str, int]) -> bool:
    """Whether the packet meets the prerequisites of a field, and theirs."""
    return all(
        headers[needed.field] & (BY_NAME[needed.field].full if needed.mask is None else needed.mask) in needed.values
        and _is_present(BY_NAME[needed.field], headers)
        for needed in field.prerequisites
    )


def _looked_at(matches: Iterable[Match], headers: Mapping[str, int]) -> str:
    names = {condition.field.name for match in matches for condition in match.headers}
    return ", ".join(_valued(field, headers) for field in FIELDS if field.name in names and _is_present(field, headers))


def _valued(field: Field, headers: Mapping[str, int]) -> str:
    return f"{field.name}={_value(field, headers)}"


def _value(field: Field, headers: Mapping[str, int]) -> str:
    return write_condition(Condition(field, headers[field.name], field.full))


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
