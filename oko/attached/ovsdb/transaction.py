"""`change` and `read`: one column of one row of OVSDB (RFC 7047, section 5.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from oko.attached.ovsdb.jsonrpc import call
from oko.attached.ovsdb.replica import DATABASE
from oko.errors import AttachError

NOTHING: Final = ["set", []]
"""The value of an optional column that has none."""
_PATIENCE: Final = 10_000
"""Milliseconds that ovs-vswitchd may take to do what the database says."""


class Cell(NamedTuple):
    """The column `name` of the rows of a table whose column `key` has this value. Values are as RFC 7047 writes them in
    JSON (section 5.1), a row's own ``_uuid`` as ``["uuid", UUID]``."""

    table: str
    key: str
    value: Any
    name: str

    @property
    def where(self) -> list[list[Any]]:
        """What selects the rows."""
        return [[self.key, "==", self.value]]


async def read(database: Path, cell: Cell) -> Any:
    """The value of the cell in the database behind this socket. Raises AttachError, also when there is no such row."""
    (answer,) = await _transact(
        database, {"op": "select", "table": cell.table, "where": cell.where, "columns": [cell.name]}
    )
    if not answer["rows"]:
        raise AttachError(f"database {database}: {cell.table} has no row whose {cell.key} is {cell.value}")
    return answer["rows"][0][cell.name]


async def change(database: Path, cell: Cell, before: Any, after: Any, *, wait: bool = True) -> bool:
    """Write the cell if it still is as `before`; False, and nothing is changed, if it is not or there is no such row.

    With `wait` it returns when ovs-vswitchd has done what that means, as ovs-vsctl does, too. Raises AttachError, also
    when that takes more than 10 s: then the database has the new value.
    """
    rows = {"table": cell.table, "where": cell.where}
    number = {"table": DATABASE, "where": []}
    unchanged, *_, configured = await _transact(
        database,
        {"op": "wait", "timeout": 0, **rows, "columns": [cell.name], "until": "==", "rows": [{cell.name: before}]},
        {"op": "update", **rows, "row": {cell.name: after}},
        {"op": "mutate", **number, "mutations": [["next_cfg", "+=", 1]]},
        {"op": "select", **number, "columns": ["next_cfg"]},
        may_fail=1,
    )
    if "error" in unchanged:
        return False
    if wait:
        wanted = configured["rows"][0]["next_cfg"]
        pending = {"table": DATABASE, "where": [["cur_cfg", "<", wanted]], "columns": ["cur_cfg"]}
        (done,) = await _transact(
            database, {"op": "wait", "timeout": _PATIENCE, **pending, "until": "==", "rows": []}, may_fail=1
        )
        if "error" in done:
            raise AttachError(
                f"database {database}: ovs-vswitchd did not take up within {_PATIENCE // 1000} s that {cell.name} of "
                f"{cell.table} {cell.value} is {after}: does it run?"
            )
    return True


async def _transact(database: Path, *operations: dict[str, Any], may_fail: int = 0) -> list[dict[str, Any]]:
    """The results of the operations, which take effect together or not at all. The first `may_fail` of them may wait
    in vain; raises AttachError for any other error."""
    results = await call(database, "transact", DATABASE, *operations)
    for number, result in enumerate(results):
        if result and "error" in result and (number >= may_fail or result["error"] != "timed out"):
            detail = result.get("details") or ""
            raise AttachError(f"database {database}: {result['error']}: {detail}".removesuffix(": "))
    return [result or {} for result in results]
