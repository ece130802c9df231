"""`StandIns`: what decides the packets of a plain rule with a timeout from when Open vSwitch lets it go until XDP
knows.

XDP passes the packets of a plain rule that stands above a filter rule. When the rule's time is over, Open vSwitch would
decide them by the rules below, and no filter rule would have been asked. So each such rule has two of Oko's own,
without timeouts:

    in its stead    its match, and no mark in register 15      one below its priority    its instructions
    beside that     its match, and both marks at once          the highest priority

As long as the rule is there no packet gets to the first: the rule's counters, its idle time and its end are Open
vSwitch's business, and nobody else's. Then what it said is done on until it is gone from the image and all that was
passed for it has been decided; and if no okod runs, until one does.

No packet meets the second. It lets the first win over other rules that are one below: OpenFlow leaves open which of two
rules of equal priority wins, and Open vSwitch looks first among the rules with the mask that the rule of the highest
priority has (classifier_lookup__ in lib/classifier.c of 3.1).
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ofext.messages import FlowMod
from ofext.oxm import Oxm
from oko.attached.continuation import IMPOSSIBLE, UNMARKED
from oko.attached.filter_table import Key, key_of
from oko.attached.plain import PlainRule, PlainRules
from oko.attached.shim import OWN_COOKIE, PRIORITY, STAND_IN_COOKIE
from oko.flow.rule import Command

_COOKIE: Final = OWN_COOKIE | STAND_IN_COOKIE
_ALL_BITS: Final = (1 << 64) - 1
_REGISTER_15: Final = {(0x0001, 15), (0x8001, 7), (0x0001, 114)}
"""reg15, xreg7 and xxreg3."""

DELETE_STAND_INS: Final = FlowMod(cookie=_COOKIE, cookie_mask=_COOKIE, command=Command.DELETE.value)
"""Deletes all stand-ins."""


def is_stand_in(cookie: int) -> bool:
    """Whether it is the cookie of one."""
    return cookie & _COOKIE == _COOKIE


@dataclass(frozen=True, slots=True)
class StandIn:
    """The two rules for `rule`, which has a timeout and can be seen whole. `cookie` is theirs."""

    rule: PlainRule
    cookie: int

    def adds(self) -> Iterator[FlowMod]:
        """Add them, or let them do what the rule does now."""
        # What the rule says of register 15 is that it is 0, or it could not be seen whole.
        match = tuple(oxm for oxm in self.rule.fields if (oxm.oxm_class, oxm.field) not in _REGISTER_15)
        yield FlowMod(
            cookie=self.cookie,
            priority=self.rule.priority - 1,
            match=(*match, UNMARKED),
            instructions=self.rule.instructions,
        )
        yield FlowMod(cookie=self.cookie, priority=PRIORITY, match=(*match, IMPOSSIBLE))

    def removal(self) -> FlowMod:
        """Deletes them."""
        return FlowMod(cookie=self.cookie, cookie_mask=_ALL_BITS, command=Command.DELETE.value)


class StandIns:
    """Those that are in place."""

    RULES: Final = 2
    """How many rules each is."""

    def __init__(self) -> None:
        self.known = False
        """Whether there are no others."""
        self._placed: dict[tuple[int, tuple[Oxm, ...]], StandIn] = {}
        self._by_cookie: dict[int, StandIn] = {}
        self._cookies = itertools.count(_COOKIE)

    def __len__(self) -> int:
        return len(self._placed)

    def __iter__(self) -> Iterator[StandIn]:
        return iter(self._placed.values())

    def missing(self, rules: Iterable[PlainRule]) -> list[StandIn]:
        """What has to be placed so that there is one for each of these rules, as it is now."""
        found = []
        for rule in rules:
            placed = self._placed.get((rule.priority, rule.fields))
            if placed is None:
                found.append(StandIn(rule, next(self._cookies)))
            elif (placed.rule.instructions, placed.rule.cookie) != (rule.instructions, rule.cookie):
                found.append(StandIn(rule, placed.cookie))
        return found

    def place(self, stand_ins: Iterable[StandIn]) -> None:
        """They are in place."""
        for each in stand_ins:
            self._placed[each.rule.priority, each.rule.fields] = each
            self._by_cookie[each.cookie] = each

    def over(self, looked_up: Container[Key], rules: PlainRules) -> list[StandIn]:
        """Those that nobody needs any more, when the image looks up these rules and Open vSwitch has those."""
        return [each for each in self if key_of(each.rule) not in looked_up or _is_lasting(each.rule, rules)]

    def remove(self, stand_ins: Iterable[StandIn]) -> None:
        """They are gone."""
        for each in stand_ins:
            self._placed.pop((each.rule.priority, each.rule.fields), None)
            self._by_cookie.pop(each.cookie, None)

    def forget(self) -> None:
        """Nobody knows which are in place."""
        self.remove(list(self))
        self.known = False

    def cookie_of(self, own: int) -> int | None:
        """The cookie of the rule that one with the cookie `own` stands in for; None if there is none."""
        found = self._by_cookie.get(own)
        return None if found is None else found.rule.cookie


def _is_lasting(rule: PlainRule, rules: PlainRules) -> bool:
    """Whether the rule has been replaced by one without a timeout."""
    now = rules.find(rule.table, rule.priority, rule.fields)
    return now is not None and not now.timed
