"""Which of Open vSwitch's rules stand above a filter rule, and what keeps XDP from looking them up there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oko.attached.plain import PlainRule
from oko.attached.upstream import TABLE
from oko.errors import BadFlowMod
from oko.flow.match import Condition, Match
from oko.flow.match_text import write_match
from oko.flow.rule import Rule


def precedes(plain: PlainRule, rule: Rule) -> bool:
    """Whether a plain rule decides packets that the filter rule would get otherwise. At equal priority the rule with a
    program comes first."""
    return (
        plain.table == TABLE and not plain.later and plain.priority > rule.priority and plain.match.overlaps(rule.match)
    )


def above(rule: Rule, plain: Iterable[PlainRule]) -> Iterator[PlainRule]:
    """The plain rules that precede a filter rule."""
    return (other for other in plain if precedes(other, rule))


def intersection(one: Match, other: Match) -> Match:
    """What both matches of two that overlap describe."""
    conditions = {condition.field: condition for condition in one.conditions}
    for condition in other.conditions:
        before = conditions.get(condition.field, Condition(condition.field, 0, 0))
        conditions[condition.field] = Condition(
            condition.field, before.value | condition.value, before.mask | condition.mask
        )
    return Match.of(conditions.values())


def require_visible(plain: PlainRule) -> None:
    """Raises BadFlowMod for a plain rule that cannot stand above a filter rule."""
    if plain.unseen:
        raise BadFlowMod(
            f"{describe(plain)} cannot stand above a filter rule: XDP cannot see {', '.join(plain.unseen)}: "
            "give the filter rule a higher priority",
            reason="eperm",
        )


def describe_hidden(plain: PlainRule) -> str:
    """A plain rule that XDP cannot see all of, and what; or one without a stand-in."""
    if not plain.unseen:
        return f"{describe(plain)} has a timeout, and Open vSwitch takes no rule that stands in for it"
    return f"{describe(plain)} matches on {', '.join(plain.unseen)}"


def describe(plain: PlainRule) -> str:
    """A plain rule, in the middle of a sentence."""
    return f"the plain rule {','.join((f'priority={plain.priority}', *write_match(plain.match)))}"
