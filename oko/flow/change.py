"""`Change`: what changes tables."""

from __future__ import annotations

from oko.flow.group import GroupMod
from oko.flow.meter import MeterMod
from oko.flow.observer import ObserverMod
from oko.flow.rule import FlowMod

Change = FlowMod | GroupMod | MeterMod | ObserverMod
"""One change of a bridge's tables. `Tables.change` carries it out."""
