"""Observers as text, both ways: a table and a match, written as for a flow.

table=0,ip,filter_prog=3
"""

from __future__ import annotations

from oko.errors import BadFlowMod, BadMatch
from oko.flow.match_text import write_match
from oko.flow.observer import Observer
from oko.flow.text import parse_selection


def parse_observer(text: str) -> Observer:
    """The observer that `text` describes, of table 0 unless it says otherwise. Raises BadMatch, BadFlowMod."""
    selection = parse_selection(text)
    match = selection.rule.match
    if selection.cookie_mask or selection.out_port is not None or selection.out_group is not None:
        raise BadFlowMod("an observer has a table and a match: leave cookie, out_port and out_group out")
    if match.program is None:
        raise BadMatch("an observer is a program: name it with filter_prog=…", reason="bad-value")
    return Observer(selection.rule.table, match)


def print_observer(observer: Observer) -> str:
    """The observer in one line, which `parse_observer` reads back."""
    return ",".join((f"table={observer.table}", *write_match(observer.match)))
