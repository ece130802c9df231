"""Register tracking: every way through the program, followed with abstract values.

The control-flow graph has no cycles, so a function is walked block by block, in an order in which every edge goes
forward. At the beginning of a block the states that lead there are reduced to a few (verifier/merge.py), which bounds
the work. A function is walked anew for every call, with what is known there.

What an instruction does to a state is in verifier/transfer.py and verifier/call.py, what a branch proves in
verifier/branch.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, NoReturn

from verifier import cfg, isa
from verifier.branch import jump
from verifier.call import call_runtime
from verifier.findings import Found, Tracking, fail
from verifier.isa import Instruction
from verifier.limits import DEFAULT, Limits
from verifier.liveness import live_registers, order
from verifier.memory import Regions
from verifier.merge import reduce
from verifier.program import Program, Reference
from verifier.state import Frame, State
from verifier.transfer import Transfer
from verifier.values import Number, Stack, Unset, Value

WORK_LIMIT: Final = 1_000_000
"""Instructions that are looked at, times the states in which they are. More is given up, never a hang."""

_FRAME_UNIT: Final = 32  # the kernel rounds every frame up to this (6.1: round_up(depth, 32))


def track(program: Program, limits: Limits = DEFAULT, *, keep_states: bool = False) -> Tracking:
    """Walk through `program`, which has passed the structural checks. Raises Found.

    With `keep_states` the states at every instruction are kept, for explanations and tests.
    """
    walker = _Walker(program, limits, keep_states)
    try:
        walker.program()
    except Found as found:
        found.tracking = walker.tracking
        raise
    return walker.tracking


class _Walker:
    def __init__(self, program: Program, limits: Limits, keep_states: bool) -> None:
        self._limits = limits
        self._program = program
        self._keep = keep_states
        self._references: dict[int, Reference] = {item.instruction: item for item in program.references}
        self._graphs = [cfg.graph(program, function) for function in program.functions]
        self._orders = [order(graph) for graph in self._graphs]
        self._live = live_registers(program, self._graphs)
        self._numbers = {function.start: number for number, function in enumerate(program.functions)}
        self.tracking = Tracking()
        self._transfer = Transfer(program, Regions.of(program.maps, program.btf, limits.stack), self.tracking)

    def program(self) -> None:
        for state in self._function([State.at_entry()]):
            index = state.frame.returns_to
            if not isinstance(state.registers[0], Number):
                fail(
                    "return-value",
                    index,
                    state,
                    f"R0 is {state.registers[0]} at the end",
                    "return OKO_MATCH or OKO_NO_MATCH on every way",
                    0,
                )
            if state.records:
                fail(
                    "record-leak",
                    index,
                    state,
                    "a ring-buffer record is still reserved at the end",
                    "submit or discard it on every way",
                )
            if state.lock is not None:
                fail("lock", index, state, "a spin lock is still held at the end", "call bpf_spin_unlock first")
        self._check_depth()

    # ---- functions and blocks

    def _function(self, states: list[State]) -> list[State]:
        """The states at the exits of the function that runs on top of `states`; `returns_to` there is the exit."""
        number = states[0].frame.function
        graph = self._graphs[number]
        waiting: dict[int, list[State]] = {graph.function.start: states}
        exits: list[State] = []
        for start in self._orders[number]:
            arrived = waiting.pop(start, [])
            if not arrived:
                continue
            for state in arrived:
                state.forget(~self._live[start])
                state.forget_places()
            kept = reduce(arrived, self.tracking.identities.fresh)
            for successor, state in self._block(graph.blocks[start], kept):
                if successor is None:
                    exits.append(state)
                else:
                    waiting.setdefault(successor, []).append(state)
        return exits

    def _block(self, block: cfg.Block, states: list[State]) -> Iterator[tuple[int | None, State]]:
        index = block.start
        code = self._program.instructions
        while index < block.end:
            instruction = code[index]
            self._count(index, states)
            if cfg.is_jump(instruction):
                for state in states:
                    yield from jump(state, index, instruction)
                return
            if instruction.opcode == isa.OPCODE_EXIT:
                for state in states:
                    self._exit(state, index)
                    yield None, state
                return
            if instruction.opcode == isa.OPCODE_CALL and instruction.src == isa.CALL_LOCAL:
                states = self._call_function(index, instruction, states)
            else:
                for state in states:
                    self._transfer.apply(state, index, instruction)
            index += cfg.width(instruction)
        for state in states:
            yield block.end, state

    def _count(self, index: int, states: list[State]) -> None:
        tracking = self.tracking
        tracking.work += len(states)
        tracking.ways += sum(state.ways for state in states)
        tracking.cost[index] = tracking.cost.get(index, 0) + len(states)
        if tracking.work > WORK_LIMIT:
            costliest = max(tracking.cost, key=lambda item: tracking.cost[item])
            fail(
                "too-complex",
                costliest,
                states[0],
                f"it was looked at {tracking.cost[costliest]} times, {tracking.work} instructions in all",
                "call the function it is in from fewer places, or with fewer branches before it",
            )
        if self._keep:
            tracking.states.setdefault(index, []).extend(state.copy() for state in states)

    def _call_function(self, index: int, instruction: Instruction, states: list[State]) -> list[State]:
        for state in states:
            if state.lock is not None:
                fail("lock", index, state, "a function is called while a spin lock is held", "unlock first")
        reference = self._references.get(index)
        if reference is not None:
            for state in states:
                call_runtime(state, index, reference.name)
            return states
        number = self._numbers[index + 1 + instruction.imm]
        entered = []
        for state in states:
            if len(state.frames) == self._limits.frames:
                self._too_deep(index, state)
            registers: list[Value] = [Unset()] * 11
            registers[1:6] = state.registers[1:6]
            registers[10] = Stack(len(state.frames), 0)
            state.frames.append(Frame(registers, {}, number, index))
            entered.append(state)
        returned = self._function(reduce(entered, self.tracking.identities.fresh))
        for state in returned:
            self._return(state, index)
        return reduce(returned, self.tracking.identities.fresh)

    def _exit(self, state: State, index: int) -> None:
        """The function that runs ends. The program itself remembers where."""
        if len(state.frames) == 1:
            state.frame.returns_to = index
        elif isinstance(state.registers[0], Stack):
            # The kernel refuses that of any frame's stack, and whether the result is used or not.
            fail("return-value", index, state, "a function returns a pointer into the stack", "return a number", 0)

    def _return(self, state: State, index: int) -> None:
        left = state.frames.pop()
        depth = len(state.frames)
        gone = Unset("a pointer into the stack of a function that has returned")
        state.replace(lambda value: gone if isinstance(value, Stack) and value.frame == depth else value)
        state.registers[0] = left.registers[0]
        state.lose_arguments(index)

    def _check_depth(self) -> None:
        """The frames of every chain of calls, together, against the limit."""
        callees: dict[int, set[int]] = {}
        for call in cfg.calls(self._program):
            callees.setdefault(call.caller, set()).add(call.callee)

        @cache
        def deepest(number: int) -> tuple[int, tuple[int, ...]]:
            own = -(-max(self.tracking.depths.get(number, 0), 1) // _FRAME_UNIT) * _FRAME_UNIT
            below = max((deepest(callee) for callee in callees.get(number, ())), default=(0, ()))
            return own + below[0], (number, *below[1])

        @cache
        def longest(number: int) -> tuple[int, ...]:
            return (number, *max((longest(callee) for callee in callees.get(number, ())), key=len, default=()))

        # The kernel counts calls that no way reaches, too.
        if len(longest(0)) > self._limits.frames:
            self._too_deep(self._program.functions[longest(0)[self._limits.frames]].start, State.at_entry())
        total, chain = deepest(0)
        self.tracking.stack = total
        if total > self._limits.stack:
            functions = self._program.functions
            used = ", ".join(f"{functions[item].name} {self.tracking.depths.get(item, 0)}" for item in chain)
            fail(
                "stack-bounds",
                functions[chain[-1]].start,
                State.at_entry(),
                f"the frames of a chain of calls take {total} bytes, limit {self._limits.stack}: {used}",
                "make local variables smaller, or keep them in a per-CPU map",
            )

    def _too_deep(self, index: int, state: State) -> NoReturn:
        fail(
            "call-depth",
            index,
            state,
            f"{self._limits.frames + 1} functions deep, limit {self._limits.frames}",
            "inline a function: static __always_inline",
        )
