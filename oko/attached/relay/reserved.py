"""What of Open vSwitch's rules is Oko's own, and may not be used by others: `require_free`.

Two priorities in table 0, a bit of cookies, and two bits of register 15 (`oko.attached.continuation`). Flow_mods are
looked at as the bytes that they are: most of them need no more than a few of them, and the actions of Open vSwitch are
more than are known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ofext.v10.constants import NICIRA
from oko.attached.continuation import MARKS, RESERVED_PRIORITIES
from oko.errors import BadFlowMod

LOWEST_PRIORITY: Final = min(RESERVED_PRIORITIES)
"""From here on, priorities of table 0 are reserved."""

_REGISTERS: Final = {(0x0001, 15): "reg15", (0x8001, 7): "xreg7", (0x0001, 114): "xxreg3"}
"""The fields that register 15 is the last word of, by class and number."""
TRACES: Final = tuple(
    oxm_class.to_bytes(2, "big") + bytes((number << 1 | masked,))
    for oxm_class, number in _REGISTERS
    for masked in (0, 1)
)
"""Without any of these, a message does not name register 15."""

_SET_FIELD: Final = 25  # OFPAT_SET_FIELD
_EXPERIMENTER: Final = 0xFFFF
_MOVE, _LOAD, _LOAD_MASKED = 6, 7, 33  # NXAST_REG_MOVE, NXAST_REG_LOAD, NXAST_REG_LOAD2
_BUCKET: Final = 16
"""Bytes of a bucket before its actions."""
_WITH_ACTIONS: Final = (3, 4)  # OFPIT_WRITE_ACTIONS, OFPIT_APPLY_ACTIONS


def _refused(what: str) -> BadFlowMod:
    return BadFlowMod(
        f"{what}: priorities {LOWEST_PRIORITY} and above in table 0, bit 63 of cookies, and bits 30 and 31 of reg15 "
        "are Oko's own while it is attached: use others",
        reason="eperm",
    )


def refuse_priority(priority: int) -> BadFlowMod:
    """The refusal of a rule of this priority in table 0."""
    return _refused(f"priority {priority} in table 0")


def refuse_cookie(cookie: int) -> BadFlowMod:
    """The refusal of a rule with this cookie."""
    return _refused(f"cookie {cookie:#x}")


_NEARLY: Final = re.compile(b"\x01[" + b"".join(re.escape(trace[2:]) for trace in TRACES) + b"]")
"""What traces have in common; it is found fast, as it begins with a byte that there is no choice of."""


def find_trace(data: bytes, start: int = 0) -> int:
    """Where the first trace of register 15 begins, from `start` on; the length of the data if there is none."""
    for found in _NEARLY.finditer(data, start):
        at = found.start() - 1
        if at >= start and data[at : at + 3] in TRACES:
            return at
    return len(data)


def may_name_register(data: bytes) -> bool:
    """Whether the message has to be looked at by `require_free`."""
    return find_trace(data) < len(data)


def require_free(fields: bytes, instructions: bytes = b"", actions: bytes = b"") -> None:
    """Raises BadFlowMod if bits 30 or 31 of register 15 are matched as 1 or may be set.

    `fields` is the match without its header, as TLVs; `instructions` are those of OpenFlow 1.3, `actions` those of
    1.0. What is cut off or malformed is not looked at: Open vSwitch refuses it.
    """
    for field, value in _fields(fields):
        if value & MARKS:
            raise _refused(f"a match on {field}={value:#x}")
    lists = [actions, *(body[4:] for kind, body in _tlvs(instructions) if kind in _WITH_ACTIONS)]
    for each in lists:
        for kind, body in _tlvs(each):
            _require_free_action(kind, body)


def require_free_buckets(buckets: bytes) -> None:
    """Raises BadFlowMod if an action in a group's buckets, of OpenFlow 1.3, may set bits 30 or 31 of register 15."""
    offset = 0
    while offset + _BUCKET <= len(buckets):
        length = int.from_bytes(buckets[offset : offset + 2], "big")
        if length < _BUCKET:
            return
        require_free(b"", actions=buckets[offset + _BUCKET : offset + length])
        offset += length


def _require_free_action(kind: int, body: bytes) -> None:
    """`body` is what stands behind the length."""
    if not may_name_register(body):
        return
    if kind == _SET_FIELD:
        written = list(_fields(body))
    elif kind == _EXPERIMENTER and int.from_bytes(body[:4], "big") == NICIRA:
        subtype, content = int.from_bytes(body[4:6], "big"), body[6:]
        if subtype == _LOAD:
            written = list(_loaded(content))
        elif subtype == _LOAD_MASKED:
            written = list(_fields(content[6:]))
        elif subtype == _MOVE:
            written = list(_moved(content))
        else:
            written = [(name, MARKS) for name in _named(content)]
    else:
        written = []
    for field, value in written:
        if value & MARKS:
            raise _refused(f"an action that may set bits 30 or 31 of reg15 by {field}")


def _fields(data: bytes) -> Iterator[tuple[str, int]]:
    """The fields among TLVs that register 15 is in, with what is said of its bits."""
    offset = 0
    while offset + 4 <= len(data):
        oxm_class, field, length = int.from_bytes(data[offset : offset + 2], "big"), data[offset + 2], data[offset + 3]
        name = _REGISTERS.get((oxm_class, field >> 1))
        payload = data[offset + 4 : offset + 4 + length]
        if name is not None:
            value = payload[: length // 2] if field & 1 else payload
            yield name, int.from_bytes(value[-4:], "big")
        offset += 4 + length


def _loaded(content: bytes) -> Iterator[tuple[str, int]]:
    """What nx_action_reg_load writes: a value into some bits of a field."""
    for name in _named(content[2:6]):
        value = int.from_bytes(content[6:14], "big") << (int.from_bytes(content[:2], "big") >> 6)
        yield name, value


def _moved(content: bytes) -> Iterator[tuple[str, int]]:
    """The bits that nx_action_reg_move may write."""
    bits, shift = int.from_bytes(content[:2], "big"), int.from_bytes(content[4:6], "big")
    for name in _named(content[10:14]):
        yield name, ((1 << bits) - 1) << shift


def _named(content: bytes) -> Iterator[str]:
    """The fields with register 15 whose headers stand in there."""
    for offset in range(0, len(content) - 2):
        if content[offset : offset + 3] in TRACES:
            yield _REGISTERS[int.from_bytes(content[offset : offset + 2], "big"), content[offset + 2] >> 1]


def _tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Instructions or actions: type, and what stands behind the length."""
    offset = 0
    while offset + 4 <= len(data):
        kind, length = (
            int.from_bytes(data[offset : offset + 2], "big"),
            int.from_bytes(data[offset + 2 : offset + 4], "big"),
        )
        if length < 4:
            return
        yield kind, data[offset + 4 : offset + length]
        offset += length
