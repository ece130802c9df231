"""A match: at most one condition per field, checked against the field table when it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from oko.errors import BadMatch
from oko.flow.fields import (
    BY_NAME,
    FILTER_PROG,
    FRAGMENT_ANY,
    FRAGMENT_LATER,
    NEEDED,
    ORDER,
    VLAN_PRESENT,
    Field,
    Prerequisite,
)

PROGRAM_IDS = range(1, 65536)


class Condition(NamedTuple):
    """`field` of the packet, under `mask`, equals `value`. Both are integers as wide as the field.

    (A named tuple, as making one, and comparing two, takes a third of the time: there are millions.)
    """

    field: Field
    value: int
    mask: int

    @property
    def exact(self) -> bool:
        return self.mask == self.field.full


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions in the order of the field table. Build with `Match.of`, which checks them."""

    conditions: tuple[Condition, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.conditions))

    def __hash__(self) -> int:
        """Found out once: a match names its rule in every table it is looked up in."""
        return self._hash

    @staticmethod
    def of(conditions: Iterable[Condition]) -> Match:
        """The match of these conditions. A condition with an all-zero mask is no condition and is dropped.

        Raises BadMatch with OpenFlow's reason (OpenFlow 1.3.5, 7.4.4): ``dup-field``, ``bad-value``,
        ``bad-mask``, ``bad-wildcards``, ``bad-prereq``.
        """
        given = tuple(conditions)
        shape: list[object] = []
        within = True
        for item, value, mask in given:
            shape += (item, mask, value if item in _JUDGED else 0)
            within = within and value & mask == value
        known = tuple(shape)
        order = _ORDERS.get(known) if within else None
        if order is None:
            order = _check_all(given)
            if len(_ORDERS) >= _MOST_ORDERS:
                _ORDERS.clear()
            _ORDERS[known] = order
        return Match(tuple([given[index] for index in order]))

    @property
    def program(self) -> int | None:
        """The filter program that must say yes, if any."""
        last = self.conditions[-1] if self.conditions else None
        return last.value if last is not None and last.field is FILTER_PROG else None

    @property
    def headers(self) -> tuple[Condition, ...]:
        """The conditions on packet headers: all but the filter program."""
        return self.conditions if self.program is None else self.conditions[:-1]

    def covers(self, other: Match) -> bool:
        """Whether every packet (and program) that `other` describes is described here too: each condition
        here is implied by one of `other` (OpenFlow 1.3.5, 6.4: the non-strict commands)."""
        theirs = {condition.field.name: condition for condition in other.conditions}
        for mine in self.conditions:
            condition = theirs.get(mine.field.name)
            if condition is None or mine.mask & ~condition.mask or (condition.value ^ mine.value) & mine.mask:
                return False
        return True

    def overlaps(self, other: Match) -> bool:
        """Whether some packet could match both. Programs keep no packet apart: two may both say yes."""
        theirs = {condition.field.name: condition for condition in other.headers}
        for mine in self.headers:
            condition = theirs.get(mine.field.name)
            if condition is not None and (mine.value ^ condition.value) & mine.mask & condition.mask:
                return False
        return True


def implied(prerequisite: Prerequisite, conditions: Mapping[str, Condition]) -> bool:
    """Whether packets that meet `conditions` (by name of the field) have what `prerequisite` asks for."""
    condition = conditions.get(prerequisite.field)
    if condition is None:
        return False
    mask = condition.field.full if prerequisite.mask is None else prerequisite.mask
    return not mask & ~condition.mask and condition.value & mask in prerequisite.values


def _check_all(conditions: Sequence[Condition]) -> tuple[int, ...]:
    """Raises BadMatch unless there is a match of these conditions. Returns which of them it has, in its order."""
    by_name: dict[str, Condition] = {}
    for condition in conditions:
        _check(condition)
        if condition.field.name in by_name:
            raise BadMatch(f"{condition.field.name} is matched twice: name it once", reason="dup-field")
        by_name[condition.field.name] = condition
    by_name = {name: condition for name, condition in by_name.items() if condition.mask}
    for condition in by_name.values():
        _check_prerequisites(condition.field, by_name)
    indices = [index for index, condition in enumerate(conditions) if condition.mask]
    return tuple(sorted(indices, key=lambda index: ORDER[conditions[index].field.name]))


def _check(condition: Condition) -> None:
    field = condition.field
    if not 0 <= condition.value <= field.full:
        raise BadMatch(f"{field.name}={condition.value:#x} does not fit in {field.bits} bits", reason="bad-value")
    if not 0 <= condition.mask <= field.full:
        raise BadMatch(
            f"{field.name}: the mask {condition.mask:#x} does not fit in {field.bits} bits", reason="bad-mask"
        )
    if condition.mask not in (0, field.full) and not field.maskable:
        raise BadMatch(f"{field.name} takes no mask", reason="bad-mask")
    if condition.value & ~condition.mask:
        raise BadMatch(
            f"{field.name}={condition.value:#x}/{condition.mask:#x}: the value has bits outside the mask",
            reason="bad-wildcards",
        )
    check_value = _VALUE_CHECKS.get(field)
    if check_value is not None and condition.mask:
        check_value(condition)


def _check_program(condition: Condition) -> None:
    if condition.value not in PROGRAM_IDS:
        raise BadMatch(
            f"filter_prog={condition.value} is no program id: use {PROGRAM_IDS[0]}–{PROGRAM_IDS[-1]}",
            reason="bad-value",
        )


def _check_vlan(condition: Condition) -> None:
    """A packet without a tag reads as 0, one with a tag has VLAN_PRESENT (OpenFlow 1.3.5, table 14)."""
    if condition.mask & VLAN_PRESENT and condition.value and not condition.value & VLAN_PRESENT:
        raise BadMatch(
            f"vlan_vid={condition.value:#06x}: no packet has a VID without the bit {VLAN_PRESENT:#06x}: "
            f"write {condition.value | VLAN_PRESENT:#06x}",
            reason="bad-value",
        )


def _check_fragment(condition: Condition) -> None:
    if condition.mask & FRAGMENT_ANY and condition.value == FRAGMENT_LATER:
        raise BadMatch(
            f"ip_frag={condition.value}: a later fragment is also a fragment: write {FRAGMENT_ANY | FRAGMENT_LATER}",
            reason="bad-value",
        )


_VALUE_CHECKS = {
    FILTER_PROG: _check_program,
    BY_NAME["vlan_vid"]: _check_vlan,
    BY_NAME["ip_frag"]: _check_fragment,
}
"""Fields of which some values can never be."""

_JUDGED: Final = NEEDED | _VALUE_CHECKS.keys()
"""Fields of which the value matters for whether a match is right, once it is within its mask."""

_ORDERS: Final[dict[tuple[object, ...], tuple[int, ...]]] = {}
"""What `_check_all` has returned: by the conditions as far as they matter for it, so that the million matches that
differ in an address are looked at once."""
_MOST_ORDERS: Final = 1 << 14
"""Of those that are remembered, before all are forgotten."""


def _check_prerequisites(field: Field, by_name: Mapping[str, Condition]) -> None:
    for prerequisite in field.prerequisites:
        if not implied(prerequisite, by_name):
            raise BadMatch(f"{field.name} needs {prerequisite} in the same match", reason="bad-prereq")
