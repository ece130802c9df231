"""`amend`: how the maps of an image change when only rules do, without compiling all tables again.

That is possible when the code of the image does already what the new rules need: their masks are hashed, rules of their
priority are looked for, and what happens when they win has a template. If anything else is the case, all tables are
compiled anew, as after any change of groups, meters, observers, programs and ports. When only the maps have no room for
it, the image is `grown`: the same code with larger maps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from oko.compiler.compile import Compilation
from oko.compiler.counters import room_for
from oko.compiler.hints import HINTS, hint_key, hint_value, named
from oko.compiler.image import Image, ImageMap, Want
from oko.compiler.in_flight import Element, Spot
from oko.compiler.layout import Lowered
from oko.compiler.lookup import hashed_group, rule_value
from oko.compiler.plan import Candidate, Group, Plan, Segment
from oko.compiler.wants import ARGUMENTS
from oko.errors import FlowError, LimitExceeded
from oko.flow.rule import Entry, Rank


class _Anew(Exception):
    """The tables have to be compiled anew."""


@dataclass(slots=True)
class Amendment:
    """`elements` in the order in which they have to go into the maps, and by slot what rules want that are there then,
    None of those that are not. `outgrown`: the maps of the image have no room for them."""

    elements: list[Element] = field(default_factory=list)
    wants: dict[int, Want | None] = field(default_factory=dict)
    outgrown: bool = False

    def apply(self, image: Image) -> None:
        """Let the entries and wants of `image` be what they are now."""
        entries = {each.name: each.entries for each in image.maps}
        for element in self.elements:
            if element.value is None:
                del entries[element.map][element.key]
            else:
                entries[element.map][element.key] = element.value
        for slot, want in self.wants.items():
            if want is None:
                image.wants.pop(slot, None)
            else:
                image.wants[slot] = want


def grown(image: Image, amendment: Amendment, slots: int) -> Image:
    """`image` with the amendment, and with room for it and more. Every slot in use is below `slots`. The image itself
    stays as it was."""
    copy = replace(
        image, maps=tuple(replace(each, entries=dict(each.entries)) for each in image.maps), wants=dict(image.wants)
    )
    amendment.apply(copy)
    return replace(copy, maps=tuple(_with_room(each, slots) for each in copy.maps))


def _with_room(each: ImageMap, slots: int) -> ImageMap:
    """The map, or if it has no room for as many rules, one that has."""
    elements = slots if each.name == "counters" else len(each.entries)
    if elements <= each.spec.max_entries:
        return each
    return replace(each, spec=replace(each.spec, max_entries=room_for(elements)))


def amend(compilation: Compilation, added: Iterable[Entry], removed: Iterable[Entry], slots: int) -> Amendment | None:
    """What makes the image of `compilation` that of its tables without the rules `removed` and with `added`, which come
    by age; None if it has to be compiled anew. Every slot in use is below `slots`.

    Afterwards `compilation` is that of the new tables, but for its image; after None it is good for nothing.

    First come the new rules, by age, then those that take the place of others, then the others go, of each table the
    worst first. What a packet finds in a table on the way is the best of its rules that are there. When that is a new
    rule, it is also the best once all is done or would have been before a better one came; when it is one that will go,
    it was the best just before it went. So each packet is decided as by the tables at some moment of the changes one by
    one, and rules of one table that one change deletes all go at one moment for every packet.
    """
    amending = _Amending(compilation)
    try:
        amending.require_slots(slots)
        for entry in removed:
            amending.remove(entry)
        for entry in added:
            amending.add(entry)
        return amending.amendment()
    except (_Anew, FlowError, LimitExceeded):
        return None


class _Amending:
    """One amendment being made."""

    def __init__(self, compilation: Compilation) -> None:
        self._compilation = compilation
        self._maps = {each.name: each for each in compilation.image.maps}
        self._used = {name: len(each.entries) for name, each in self._maps.items()}
        self._first_argument = compilation.wants.arguments
        self._gone: dict[tuple[int, int], tuple[Rank, Element]] = {}  # by group and value
        self._new: list[Element] = []
        self._replaced: list[Element] = []
        self._hints: dict[bytes, int] = {}  # groups by element
        self._wants: dict[int, Want | None] = {}
        self._outgrown = False

    def amendment(self) -> Amendment:
        """All of it."""
        data = self._compilation.wants.elements(self._first_argument)
        if data and ARGUMENTS not in self._maps:
            raise _Anew
        arguments = [Element(ARGUMENTS, key, value) for key, value in data.items()]
        gone = [element for _, element in sorted(self._gone.values(), key=lambda item: item[0], reverse=True)]
        hints = [Element(HINTS, key, hint_value(bits)) for key, bits in self._hints.items()]
        return Amendment([*arguments, *hints, *self._new, *self._replaced, *gone], self._wants, self._outgrown)

    def require_slots(self, slots: int) -> None:
        counted = self._maps.get("counters")
        if counted is None:
            raise _Anew
        self._outgrown |= slots > counted.spec.max_entries

    def remove(self, entry: Entry) -> None:
        self._wants[entry.slot] = None
        plan = self._compilation.plans.get(entry.rule.table)
        if plan is None:
            return
        lowered = self._compilation.layout.lower(entry.rule.match)
        group = _group_of(plan, entry, lowered)
        if group is None:
            return  # It could not win.
        if group.number is None or lowered.value in group.shadowed:
            raise _Anew
        del group.candidates[lowered.value]
        self._gone[group.number, lowered.value] = entry.rank, self._element(entry, group, lowered, None)

    def add(self, entry: Entry) -> None:
        rule = entry.rule
        plan = self._compilation.plans.get(rule.table)
        if plan is None:
            return  # No packet comes there.
        want = self._compilation.wants.amend(rule)
        lowered = self._compilation.layout.lower(rule.match)
        rank = entry.rank
        segment = _segment_for(plan, rank, rule.match.program, lowered)
        group = None if segment is None else segment.groups.get(lowered.mask)
        if want is None or segment is None or group is None or group.number is None or rule.priority > group.reach:
            raise _Anew
        if lowered.value & group.kind.mask != group.kind.value:
            raise _Anew
        self._wants[entry.slot] = want
        segment.note(rank)
        standing = group.candidates.get(lowered.value)
        if standing is not None:
            group.shadowed.add(lowered.value)
            if standing.entry.rank < rank:
                return
        group.put(Candidate(entry, lowered))
        replaces = self._gone.pop((group.number, lowered.value), None) is not None or standing is not None
        element = self._element(entry, group, lowered, rule_value(entry, want), replaces=replaces)
        if replaces:
            self._replaced.append(element)
            return
        self._hint(group, lowered)
        self._new.append(element)
        self._used[element.map] += 1
        if self._used[element.map] > self._maps[element.map].spec.max_entries:
            self._outgrown = True

    def _element(
        self, entry: Entry, group: Group, lowered: Lowered, value: bytes | None, *, replaces: bool = False
    ) -> Element:
        hashed = hashed_group(self._compilation.layout.size, group)
        if hashed.map not in self._maps:
            raise _Anew  # No packet comes to the code that would look there.
        key = hashed.key(lowered.value)
        assert group.number is not None, "it is hashed"
        return Element(hashed.map, key, value, replaces, Spot(entry.rule.table, group.number, lowered))

    def _hint(self, group: Group, lowered: Lowered) -> None:
        """Let the packets that a new rule is for be told to look into its group."""
        if group.hint is None:
            return
        if HINTS not in self._maps:
            raise _Anew  # No packet comes to the code that would look there.
        standing, key = self._maps[HINTS], hint_key(group.hint.index(lowered.value))
        bits = self._hints[key] if key in self._hints else named(standing.entries, key)
        if bits & group.bit:
            return
        self._hints[key] = bits | group.bit
        if not bits:
            self._used[HINTS] += 1
        if self._used[HINTS] > standing.spec.max_entries // 2:
            raise _Anew  # Too many would be told without need: there are to be more, and none for rules that are gone.


def _group_of(plan: Plan, entry: Entry, lowered: Lowered) -> Group | None:
    """The group where a rule stands; None if it is one that can never win."""
    for segment in plan.segments:
        if segment.program != entry.rule.match.program:
            continue
        group = segment.groups.get(lowered.mask)
        standing = group.candidates.get(lowered.value) if group is not None else None
        if standing is not None and standing.entry.age == entry.age:
            return group
    return None


def _segment_for(plan: Plan, rank: Rank, program: int | None, lowered: Lowered) -> Segment | None:
    """A segment where a new rule may stand: what overlaps it in segments before is better, in those behind worse."""
    home: Segment | None = None
    for segment in plan.segments:
        if home is None and segment.program == program:
            home = segment
            continue
        best, worst = segment.ranks
        misplaced = rank < worst if home is None else best < rank
        if misplaced and segment.overlaps(lowered):
            return None
    return home
