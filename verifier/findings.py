"""What a walk through a program finds out: `Tracking`, and `Found`, the fault that ends it, with what raises it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from verifier.identity import Identities
from verifier.limits import KERNEL_BUDGET
from verifier.memory import Fault, not_memory
from verifier.state import State
from verifier.values import Stack, Unset, Value


@dataclass(slots=True)
class Tracking:
    """What a walk through a program found out.

    `work` is the instructions times the states in which they were looked at; `ways` is the same as if no states were
    joined, about what the kernel's verifier will look at. `cost` is the work by instruction, `depths` are the bytes of
    stack by the number of the function, `stack` those of the deepest chain of calls. `states` are those before every
    instruction, if they are kept, `identities` what values in them were given.
    """

    work: int = 0
    ways: int = 0
    cost: dict[int, int] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)
    stack: int = 0
    states: dict[int, list[State]] = field(default_factory=dict)
    identities: Identities = field(default_factory=Identities)

    @property
    def may_exceed_the_kernel(self) -> bool:
        """Whether the kernel may give up: its verifier looked at 1.2 to 1.4 times `ways` in what was tried."""
        return self.ways * 4 > KERNEL_BUDGET * 3

    def touch(self, state: State, pointer: Stack, offset: int) -> None:
        """Note how deep the stack of the function that owns the frame is used."""
        function = state.frames[pointer.frame].function
        self.depths[function] = max(self.depths.get(function, 0), -(pointer.offset + offset))


@dataclass(slots=True)
class Found(Exception):
    """A rule is broken: at the instruction `index`, in `state`. `registers` are the numbers of those that matter,
    `tracking` is what was found out until then."""

    fault: Fault
    index: int
    state: State
    registers: tuple[int, ...] = ()
    tracking: Tracking = field(default_factory=Tracking)


def fail(code: str, index: int, state: State, why: str, mend: str, *registers: int) -> NoReturn:
    """Raises Found, for a fault that is told here."""
    raise Found(Fault(code, why, mend), index, state, registers)


def report(fault: Fault, index: int, state: State, *registers: int) -> NoReturn:
    """Raises Found, for a fault that a rule tells."""
    raise Found(fault, index, state, registers)


def require(fault: Fault | None, index: int, state: State, *registers: int) -> None:
    """Raises Found if a rule tells a fault."""
    if fault is not None:
        report(fault, index, state, *registers)


def value_in(register: int, index: int, state: State) -> Value:
    """What a register holds. Raises Found if that is nothing."""
    value = state.registers[register]
    if isinstance(value, Unset):
        report(not_memory(value), index, state, register)
    return value
