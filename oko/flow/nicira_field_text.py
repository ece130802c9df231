"""Fields of Open vSwitch's own actions, and parts of them, as text, both ways (ovs-fields(7))."""

from __future__ import annotations

import re
from typing import Final

from oko.errors import BadAction
from oko.flow.fields import OXM_BASIC
from oko.flow.match_text import is_unsupported_field
from oko.flow.nicira_field import FIELDS, NiciraField, Part


def _by_spelling() -> dict[str, NiciraField]:
    """A spelling that several have in common is that of the first, as in Open vSwitch: ``tp_src`` is TCP's."""
    found: dict[str, NiciraField] = {}
    for each in FIELDS:
        standard = [f"OXM_OF_{each.field.name.upper()}"] if each.field.oxm_class == OXM_BASIC else []
        for spelling in (each.name, *standard, each.word, each.field.name, *each.field.aliases):
            found.setdefault(spelling, each)
    return found


_BY_SPELLING: Final = _by_spelling()
_PART: Final = re.compile(r"(\w+)(?:\[(?:(\d+)(?:\.\.(\d+))?)?\])?", re.ASCII)


def is_field(text: str) -> bool:
    """Whether it is a spelling of a field."""
    return text in _BY_SPELLING


def read_part(key: str, text: str) -> Part:
    """``NAME``, ``NAME[]``, ``NAME[3]`` or ``NAME[0..15]``. Raises BadAction."""
    found = _PART.fullmatch(text)
    field = None if found is None else _BY_SPELLING.get(found[1])
    if found is None or field is None:
        known = found is not None and is_unsupported_field(found[1])
        what = "a field that is not known here" if known else "no field, or part of one"
        raise BadAction(f"{key}: {text!r} is {what}: write NXM_NX_REG0[0..15]", reason="bad-argument")
    if found[2] is None:
        return Part(field, 0, field.bits)
    start, end = int(found[2]), int(found[3] or found[2])
    if not start <= end < field.bits:
        raise BadAction(
            f"{key}: {text} is out of range: {field.name} has bits 0 to {field.bits - 1}", reason="bad-argument"
        )
    return Part(field, start, end - start + 1)


def write_part(part: Part) -> str:
    if part.whole:
        return f"{part.field.name}[]"
    end = f"..{part.start + part.bits - 1}" if part.bits > 1 else ""
    return f"{part.field.name}[{part.start}{end}]"
