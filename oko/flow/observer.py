"""Observers: programs that look at packets and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass

from oko.flow.match import Match


@dataclass(frozen=True, slots=True)
class Observer:
    """The program that `match` names runs for every packet that enters `table` and has these headers, before any
    rule is looked at, unless it ran on the packet already. Observers of a table are asked by ascending program id."""

    table: int
    match: Match


@dataclass(frozen=True, slots=True)
class ObserverMod:
    """One change: add `observer`, or take it away."""

    observer: Observer
    add: bool = True
