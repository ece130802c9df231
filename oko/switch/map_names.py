"""What the maps of a program are called: a data section is a map, and its suffix is enough to name it.

`config` names `.data.config` or `.rodata.config`, unless the program has both, or a map that is called so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from oko.errors import UnknownMap

_SECTIONS: Final = (".data.", ".rodata.", ".bss.")


def full_name(name: str, names: Collection[str], program: int | str) -> str:
    """The map that `name` names among the `names` of a program's maps. Raises UnknownMap, with `program` in its
    message."""
    if name in names:
        return name
    meant = sorted(full for full in names if _suffix(full) == name)
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UnknownMap(f"program {program} has {' and '.join(meant)}: write which")
    shown = ", ".join(short_name(full, names) for full in names) or "none"
    raise UnknownMap(f"program {program} has no map {name!r}; it has: {shown}")


def short_name(full: str, names: Collection[str]) -> str:
    """The shortest name of the map `full`, one of `names`."""
    suffix = _suffix(full)
    is_clear = suffix not in names and [_suffix(other) for other in names].count(suffix) == 1
    return suffix if suffix and is_clear else full


def _suffix(full: str) -> str | None:
    """Of the name of a section, what stands behind its kind."""
    return next((full.removeprefix(kind) for kind in _SECTIONS if full.startswith(kind)), None) or None
