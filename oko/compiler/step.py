"""What the pipeline does for a rule that won, as a sequence of steps.

A step has a *shape*, which becomes code, and *data*, which does not: rules whose steps have the same shapes share the
code, and each has its data in the map `arguments`. So a million rules that write different addresses are few
instructions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from oko.flow.packet_in import PacketInReason
from oko.flow.shim import path

ARGUMENT: Final = 16
"""Bytes of `struct oko_argument`."""


class Failure(Enum):
    """What it means that a runtime function does not return 0."""

    NEVER = "never"
    """It always does."""
    INVALID_TTL = "invalid TTL"
    NO_ROOM = "no room"
    """The frame cannot grow or shrink."""


class Kind(IntEnum):
    """A kind of action in an action set: its bit in `kinds`. Set-fields have bits of their own, in `fields`."""

    COPY_TTL_IN = 0
    POP_VLAN = 1
    POP_MPLS = 2
    PUSH_MPLS = 3
    PUSH_VLAN = 4
    COPY_TTL_OUT = 5
    DEC_TTL = 6
    DEC_MPLS_TTL = 7
    SET_TTL = 8
    SET_MPLS_TTL = 9
    GROUP = 10
    OUTPUT = 11


class _Step:
    """Most steps are all of one shape, and have no data."""

    __slots__ = ()

    @property
    def shape(self) -> Hashable:
        return (type(self).__name__.lower(),)

    @property
    def data(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Call(_Step):
    """Call the runtime function `function`: with `number` and the 16 bytes of `argument`, or with neither."""

    function: str
    failure: Failure = Failure.NEVER
    number: int | None = None
    argument: bytes = b""

    @property
    def shape(self) -> Hashable:
        return ("call", self.function, self.failure.value, self.number, bool(self.argument))

    @property
    def data(self) -> bytes:
        return self.argument


@dataclass(frozen=True, slots=True)
class Parse(_Step):
    """Read the headers again, as the packet has changed."""


@dataclass(frozen=True, slots=True)
class Send(_Step):
    """Add the port set `number` to where the packet leaves by."""

    number: int

    @property
    def data(self) -> bytes:
        return self.number.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Tell(_Step):
    """Give the packet to the controller."""

    reason: PacketInReason

    @property
    def shape(self) -> Hashable:
        return ("tell", self.reason.value)


@dataclass(frozen=True, slots=True)
class Charge(_Step):
    """Let the meter in `slot` decide whether the packet is dropped."""

    slot: int

    @property
    def data(self) -> bytes:
        return self.slot.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Count(_Step):
    """Count the packet in `slot` of the counters: that of a group or of a bucket."""

    slot: int

    @property
    def data(self) -> bytes:
        return self.slot.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Note(_Step):
    """The bits of the metadata under `mask` become those of `value`."""

    value: int
    mask: int

    @property
    def data(self) -> bytes:
        """Both as the key has them: in network order."""
        return self.value.to_bytes(8, "big") + (self.mask ^ (2**64 - 1)).to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class Clear(_Step):
    """Empty the action set."""


@dataclass(frozen=True, slots=True)
class Write(_Step):
    """Put an action into the set; `value` is its operand, 0 if it has none."""

    kind: Kind
    value: int = 0

    @property
    def shape(self) -> Hashable:
        return ("write", int(self.kind))

    @property
    def data(self) -> bytes:
        return self.value.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class WriteField(_Step):
    """Put a set-field into the set: the OXM number of the field, and its value as in `struct oko_argument`."""

    number: int
    argument: bytes

    @property
    def shape(self) -> Hashable:
        return ("write-field", self.number)

    @property
    def data(self) -> bytes:
        return self.argument


@dataclass(frozen=True, slots=True)
class Select(_Step):
    """One of `alternatives`, by the hash of the packet's headers: each stands for as many points as its weight. `dead`
    are what it may be when ports have changed: nothing now, but it has to be possible."""

    weights: tuple[int, ...]
    alternatives: tuple[tuple[Step, ...], ...]
    dead: tuple[tuple[Step, ...], ...] = ()

    @property
    def shape(self) -> Hashable:
        return ("select", *(shape_of(steps) for steps in self.alternatives))

    @property
    def data(self) -> bytes:
        """The total weight, then where each alternative but the last ends."""
        ends, end = [], 0
        for weight in self.weights:
            end += weight
            ends.append(end)
        return b"".join(number.to_bytes(8, "little") for number in (end, *ends[:-1]))


@dataclass(frozen=True, slots=True)
class Either(_Step):
    """`chosen`, as long as ports are as they are; `dead` as of a select."""

    chosen: tuple[Step, ...]
    dead: tuple[tuple[Step, ...], ...]

    @property
    def shape(self) -> Hashable:
        return ("either", *shape_of(self.chosen))


@dataclass(frozen=True, slots=True)
class Pass(_Step):
    """Leave the packet to Open vSwitch as it came: all that a procedure does."""


@dataclass(frozen=True, slots=True)
class Continue(_Step):
    """Leave the packet to Open vSwitch behind the shim of `shim_id`: all that a procedure does."""

    shim_id: int

    @property
    def data(self) -> bytes:
        """The end of the shim, as it stands in the packet."""
        return path(self.shim_id)


Step = (
    Call | Parse | Send | Tell | Charge | Count | Note | Clear | Write | WriteField | Select | Either | Pass | Continue
)

_DIRECT: Final = Send | Pass | Continue
"""Steps that a procedure may consist of without any data in the map."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """All that happens for a rule. `goto` is the table where the lookup goes on; `parse_again`: the headers have
    changed; `finish`: the action set may hold something when the pipeline ends here, and then `miss`: the rule is its
    table's miss entry."""

    steps: tuple[Step, ...] = ()
    goto: int | None = None
    parse_again: bool = False
    finish: bool = False
    miss: bool = False

    @property
    def direct(self) -> bool:
        """Whether it does no more than to send to a port set that is known, or to leave the packet to Open vSwitch:
        then the rule's argument is all that there is to know."""
        return (
            self.goto is None
            and not self.finish
            and all(isinstance(step, _DIRECT) for step in self.steps[:1])
            and (len(self.steps) <= 1)
        )

    @property
    def shape(self) -> tuple[Hashable, ...]:
        if self.direct:
            return ("direct", *shape_of(step for step in self.steps if not isinstance(step, Send)))
        return (shape_of(self.steps), self.goto, self.parse_again, self.finish, self.miss)

    @property
    def data(self) -> bytes:
        """The data of the steps, each at the offset that `offsets` gives."""
        data = b""
        for step, offset in offsets(self.steps):
            data = data.ljust(offset, b"\0") + step.data
        return data

    @property
    def argument(self) -> int:
        """The argument of a direct one: its port set, or the end of its shim as a number in host order."""
        return int.from_bytes(self.data, "little")


def shape_of(steps: Iterable[Step]) -> tuple[Hashable, ...]:
    """The shapes of steps."""
    return tuple(step.shape for step in steps)


def offsets(steps: Iterable[Step]) -> Iterator[tuple[Step, int]]:
    """Each step with the offset of its data in bytes, those of alternatives behind those of their select. The same for
    all steps of one shape."""
    position = 0
    for step in walk(steps):
        size = len(step.data)
        align = 8 if size >= 8 else 4
        position = -(-position // align) * align
        yield step, position
        position += size


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps, each select followed by its alternatives, and what was chosen by that."""
    for step in steps:
        yield step
        if isinstance(step, Either):
            yield from walk(step.chosen)
        if isinstance(step, Select):
            for alternative in step.alternatives:
                yield from walk(alternative)
