"""Emits the main function of an image: packet, ingress port, parser, table after table, action set, the way out.

An attached one begins with the frames that come to no table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oko.compiler.assembler import Assembler, Label
from oko.compiler.emission import FRAME, IN_PORT, PACKET, PORT_INDEX, R0, R1, R6, R7, SCRATCH, Emission
from oko.compiler.execution import Execution
from oko.compiler.hints import Hints
from oko.compiler.image import Filter, Want
from oko.compiler.ingress import Ingress
from oko.compiler.layout import Lowered, PacketLayout
from oko.compiler.leaving import emit_forged, emit_left, emit_length_check, emit_long
from oko.compiler.lookup import Lookup
from oko.compiler.lowering import Pending
from oko.compiler.parsing import emit_parse
from oko.compiler.plan import Group, Plan
from oko.compiler.portset import BACK, PortSets
from oko.compiler.step import Kind, Procedure, Step, Write, WriteField, walk
from oko.flow.action import CONTROLLER
from oko.flow.attachment import Attachment
from oko.flow.drop import Drop
from oko.flow.rule import Entry
from verifier import isa


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table of the pipeline: how it is looked up, the observers (program, what it looks at), the procedures of its
    rules by template, and what is pending when packets enter it."""

    number: int
    plan: Plan
    observers: tuple[tuple[int, Lowered], ...]
    procedures: tuple[Procedure, ...]
    pending: Pending

    @property
    def asked(self) -> Counter[int]:
        """How often each program is asked in the code of this table."""
        asked = Counter(segment.program for segment in self.plan.segments if segment.program is not None)
        asked.update(program for program, _ in self.observers)
        return asked

    @property
    def mask(self) -> int:
        """Every bit of the key that is looked at."""
        mask = self.plan.mask
        for _, lowered in self.observers:
            mask |= lowered.mask
        return mask


@dataclass
class Pipeline:
    """Emits one main function. `tables` are those that packets can reach, ascending. `wants` says what a rule wants, by
    slot. `set_groups` are the groups that an action set may name: number → (index of the data, steps). `attachment` is
    that to Open vSwitch, None without one."""

    tables: Sequence[TablePlan]
    layout: PacketLayout
    filters: Mapping[int, Filter]
    ingress: Ingress
    wants: Mapping[int, Want]
    sets: PortSets
    set_groups: Mapping[int, tuple[int, Sequence[Step]]]
    attachment: Attachment | None = None
    hashed: list[Group] = field(default_factory=list)
    """Afterwards the groups that were hashed, by number."""
    hints: Hints = field(init=False)
    """And the hints for them."""

    def __post_init__(self) -> None:
        self.hints = Hints(self.layout.key.size)

    def emit(self) -> Assembler:
        """The whole function."""
        asked: Counter[int] = Counter()
        for table in self.tables:
            asked += table.asked
        remembers = frozenset(program for program, times in asked.items() if times > 1)
        emission = Emission(
            self.layout,
            self.filters,
            self.ingress,
            keeps_packet=bool(remembers) or self._keeps_packet(),
            remembers=remembers,
            attachment=self.attachment,
        )
        asm = emission.asm
        asm.note("start")
        asm.copy(R6, R1)
        if self.attachment is not None:
            emit_forged(emission)
        if emission.keeps_packet:
            self._emit_packet(emission)
        self._emit_ingress(emission)
        if emission.keeps_packet:
            emit_parse(emission, self._mask, complete=self._calls)
        else:
            asm.store(8, FRAME, IN_PORT, R7)
        execution = Execution(
            emission,
            unions=bool(self.sets.unions),
            lists=bool(self.sets.lists),
            back=BACK in self.sets.numbers,
        )
        begins = {table.number: Label(f"table {table.number}") for table in self.tables}
        lookup = Lookup(emission, self._want, self.hashed, self.hints)
        lookup.emit_reserved(self._reserved)
        for table in self.tables:
            won = Label(f"rule of table {table.number}")
            asm.place(begins[table.number])
            sent = table.pending.sent
            lookup.emit(table.number, table.plan, table.observers, won, len(table.procedures), sent=sent)
            execution.emit_procedures(table.number, won, table.procedures, begins, sent=sent)
        kinds, fields = self._written()
        execution.emit_finish(kinds, fields, self.set_groups)
        execution.emit_send()
        if self.attachment is not None:
            emit_left(emission)
        emission.emit_drop()
        return asm

    @property
    def _reserved(self) -> list[Lowered]:
        return [self.layout.key.lower(match) for match in self.attachment.reserved] if self.attachment else []

    def _want(self, entry: Entry) -> Want:
        return self.wants[entry.slot]

    def _steps(self) -> list[Step]:
        """Every step of every procedure, one of each shape."""
        procedures = [procedure.steps for table in self.tables for procedure in table.procedures]
        return [
            step for steps in (*procedures, *(steps for _, steps in self.set_groups.values())) for step in walk(steps)
        ]

    def _written(self) -> tuple[set[Kind], set[int]]:
        """The kinds of actions that rules write into the set, and the fields of set-fields among them."""
        steps = self._steps()
        kinds = {step.kind for step in steps if isinstance(step, Write)}
        return kinds, {step.number for step in steps if isinstance(step, WriteField)}

    @property
    def _mask(self) -> int:
        """Every bit of the key that is looked at."""
        mask = 0
        for table in self.tables:
            mask |= table.mask
        for lowered in self._reserved:
            mask |= lowered.mask
        return mask

    @property
    def _calls(self) -> bool:
        """Whether some procedure may call runtime functions, which look at the packet's structure."""
        return any(not procedure.direct for table in self.tables for procedure in table.procedures)

    def _keeps_packet(self) -> bool:
        """Whether the image looks at more than the ingress port."""
        offset, size = self.layout.key.members["in_port"]
        in_port = ((1 << size * 8) - 1) << (self.layout.key.size - offset - size) * 8
        return bool(self._mask & ~in_port) or self._calls

    def _emit_packet(self, emission: Emission) -> None:
        """Find the packet's structure, and prepare what is not of the headers."""
        asm, offsets = emission.asm, self.layout.offsets
        found = Label("packet found")
        asm.note("packet")
        asm.store_value(4, FRAME, SCRATCH, 0)
        emission.lookup("packet", SCRATCH)
        asm.jump_if_value(isa.JNE, R0, 0, found, wide=True)
        emission.leave()
        asm.place(found)
        asm.store(8, FRAME, PACKET, R0)
        if emission.remembers:
            asm.store_value(8, R0, offsets["ran"], 0)
            asm.store_value(8, R0, offsets["said"], 0)
        if any(table.pending.sent for table in self.tables):
            asm.store_value(4, R0, offsets["outputs"], 0)
        if any(table.pending.written for table in self.tables) or any(
            isinstance(step, Write | WriteField) for step in self._steps()
        ):
            asm.store_value(8, R0, offsets["set.fields"], 0)
            asm.store_value(4, R0, offsets["set.kinds"], 0)
        asm.store_value(8, R0, offsets["key"] + self.layout.key.members["metadata"][0], 0)

    def _emit_ingress(self, emission: Emission) -> None:
        """R7 = the number of the ingress port, in network order."""
        asm = emission.asm
        asm.note("ingress port")
        self.ingress.load(asm, R6)
        labels = self.ingress.labels()
        stranger, known = Label("stranger"), Label("ingress known")
        self.ingress.search(asm, labels, stranger)
        asm.place(stranger)
        controller = Label("controller")
        self.ingress.unless_controller(asm, controller)
        emission.drop(Drop.STRANGER)
        places = [(label, *self.ingress.ports[key]) for key, label in labels]
        if self.ingress.controller is not None:
            places.append((controller, CONTROLLER, self.ingress.controller))
        limits = self.attachment.longest if self.attachment is not None else {}
        long, too_long = Label("long"), Label("too long")
        for label, number, index in places:
            asm.place(label)
            asm.set(R7, int.from_bytes(number.to_bytes(4, "big"), "little"))
            asm.store_value(4, FRAME, PORT_INDEX, index)
            if number in limits:
                emit_length_check(emission, limits[number], long, too_long)
            asm.jump(known)
        if limits:
            emit_long(emission, long, too_long, known)
        asm.place(known)
