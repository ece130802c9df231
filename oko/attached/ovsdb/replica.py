"""`open_replica` and `describe`: the copy of OVSDB that the library `ovs` keeps, and what it says of a bridge."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from oko.attached.features import settings
from oko.attached.ovsdb.description import NEEDED, OvsBridge, OvsController, OvsInterface, OvsPort, Setting, Settings


@contextmanager
def _not_importing(name: str) -> Iterator[None]:
    """Importing the module `name` fails meanwhile, unless it has been imported before."""
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


# Where eventlet is installed, the library imports it to ask whether it is in use. That alone changes how the whole
# process forks.
with _not_importing("eventlet"):
    from ovs.db.idl import Idl, Row, SchemaHelper
    from ovs.poller import POLLIN, Poller

__all__ = ["DATABASE", "POLLIN", "Idl", "Poller", "describe", "open_replica"]

DATABASE: Final = "Open_vSwitch"
SETTINGS: Final = settings()
_FAILED: Final = -1
"""The ofport of an interface that could not be opened."""


def open_replica(remote: str, schema: Mapping[str, Any]) -> Idl:
    """A copy of the columns that a description is made of, as far as this version of the database has them, and of the
    tables that they refer to one column: of those it only matters that there are rows."""
    helper = SchemaHelper(schema_json=schema)
    tables = schema["tables"]
    for table, needed in NEEDED.items():
        wanted = (*needed, *SETTINGS.get(table, ()))
        present = [name for name in wanted if name in tables[table]["columns"]]
        helper.register_columns(table, present)
        for name in present:
            for other in _referred(tables[table]["columns"][name]["type"]):
                if other not in NEEDED:
                    helper.register_columns(other, [min(tables[other]["columns"])])
    return Idl(remote, helper, leader_only=False)


def _referred(kind: object) -> Iterable[str]:
    """The tables that a column of this type refers to (RFC 7047, section 3.2)."""
    if isinstance(kind, dict):
        for side in ("key", "value"):
            base = kind.get(side)
            if isinstance(base, dict) and "refTable" in base:
                yield base["refTable"]


def describe(idl: Idl, name: str) -> OvsBridge | None:
    """The bridge as the copy has it, None if there is none of this name."""
    systems = list(idl.tables[DATABASE].rows.values())
    for bridge in idl.tables["Bridge"].rows.values():
        if bridge.name == name and systems:
            return _bridge(bridge, systems[0])
    return None


def _bridge(row: Row, system: Row) -> OvsBridge:
    return OvsBridge(
        row.name,
        row.datapath_type,
        _one(row.datapath_id, ""),
        _one(row.fail_mode, ""),
        tuple(sorted(row.protocols)),
        tuple(_port(port) for port in sorted(row.ports, key=lambda port: str(port.name))),
        _remotes(row.controller),
        _remotes(system.manager_options),
        tuple(sorted(number for number, table in row.flow_tables.items() if "evict" in table.overflow_policy)),
        _settings(row, "Bridge"),
        _settings(system, DATABASE),
    )


def _port(row: Row) -> OvsPort:
    interfaces = sorted(row.interfaces, key=lambda interface: str(interface.name))
    return OvsPort(row.name, tuple(_interface(interface) for interface in interfaces), _settings(row, "Port"))


def _interface(row: Row) -> OvsInterface:
    number = _one(row.ofport, None)
    return OvsInterface(
        row.name,
        row.type,
        None if number == _FAILED else number,
        _one(row.ifindex, 0) or None,
        _one(row.mtu, None),
        _one(row.mtu_request, None),
        _one(row.error, ""),
        _settings(row, "Interface"),
    )


def _remotes(rows: Iterable[Row]) -> tuple[OvsController, ...]:
    found = [OvsController(str(row.uuid), row.target, _one(row.connection_mode, "")) for row in rows]
    return tuple(sorted(found, key=lambda remote: remote.target))


def _settings(row: Row, table: str) -> Settings:
    """The columns that turn features on, as far as this version of the database has them."""
    return {name: _frozen(getattr(row, name)) for name in SETTINGS[table] if name in row._table.columns}


def _one(values: list[Any], absent: Any) -> Any:
    """The only element of an optional column."""
    return values[0] if values else absent


def _frozen(value: Any) -> Setting:
    if isinstance(value, dict):
        return {_frozen(key): _frozen(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return tuple(sorted((_frozen(each) for each in value), key=str))
    if isinstance(value, Row):
        return str(value.uuid)
    return value if isinstance(value, str | int | float | bool) else str(value)
