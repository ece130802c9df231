"""The procedures of rules, the end of the pipeline where action sets are executed, and the way out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from oko.compiler.assembler import Label
from oko.compiler.emission import (
    FRAME,
    HELPER_REDIRECT_MAP,
    KEPT,
    PORT_INDEX,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    SCRATCH,
    TABLE,
    TEMPLATE,
    XDP_DROP,
    XDP_REDIRECT,
    Emission,
)
from oko.compiler.lowering import CALLS, CONTROLLER
from oko.compiler.portset import BACK, FIRST_LIST, WITH_INGRESS
from oko.compiler.replay import REPLAY_OUTPUT, REPLAY_RULE
from oko.compiler.step import (
    ARGUMENT,
    Call,
    Charge,
    Clear,
    Continue,
    Count,
    Either,
    Failure,
    Kind,
    Note,
    Parse,
    Pass,
    Procedure,
    Select,
    Send,
    Step,
    Tell,
    Write,
    WriteField,
    offsets,
)
from oko.flow.drop import Drop
from oko.flow.packet_in import PacketInReason
from verifier import isa

BROADCAST: Final = 1 << 3
"""BPF_F_BROADCAST (<linux/bpf.h>, Linux 5.14)."""
EXCLUDE_INGRESS: Final = 1 << 4


@dataclass
class Execution:
    """Emits what happens for rules. `unions`: port sets are joined somewhere; `lists`: a packet may have to go to more
    than one port; `back`: to the port that it came in by."""

    emission: Emission
    unions: bool
    lists: bool
    back: bool
    finishing: Label = field(default_factory=lambda: Label("action set"))

    def emit_procedures(
        self, table: int, won: Label, procedures: Sequence[Procedure], gotos: Mapping[int, Label], *, sent: bool
    ) -> None:
        """From `won` to the end of the pipeline or to the next table. `procedures` are by template, `gotos` has the
        beginning of each table; `sent`: packets may come to this table that have to leave by some port already."""
        asm = self.emission.asm
        asm.note(f"table {table}, count the rule")
        asm.place(won)
        self.emission.count("counters")
        if self.emission.ingress.replay:
            asm.map_value(R1, "replay")
            asm.copy(R2, R7)
            asm.operate_value(isa.ADD, R2, 1)
            asm.store(4, R1, REPLAY_RULE, R2)
        labels = [Label(f"procedure {number} of table {table}") for number in range(len(procedures))]
        if len(labels) > 1:
            asm.load(4, R1, FRAME, TEMPLATE)
            self._dispatch(labels, 0)
        for number, (label, procedure) in enumerate(zip(labels, procedures, strict=True)):
            asm.note(f"table {table}, actions {number}")
            asm.place(label)
            self._procedure(table, procedure, gotos, sent=sent)

    def emit_finish(
        self, kinds: Collection[Kind], fields: Collection[int], groups: Mapping[int, tuple[int, Sequence[Step]]]
    ) -> None:
        """Execute the action set, of which `kinds` and `fields` say what may be in it. `groups` has, by number, the
        index of the data and the steps of those that it may name."""
        emission, asm = self.emission, self.emission.asm
        members = emission.layout.offsets
        asm.note("execute the action set")
        asm.place(self.finishing)
        for kind in sorted(CALLS.keys() & set(kinds)):
            function, failure, operand = CALLS[kind]
            absent = Label(f"no {kind.name} in the set")
            self._unless(kind, absent)
            self._arguments_of_call(function)
            if operand:
                asm.load(4, R4, R2, members[operand])
                asm.copy(R3, R2)
                asm.operate_value(isa.ADD, R3, members["lookup"])
            asm.call(function)
            self._check(failure, None)
            asm.place(absent)
        for number in sorted(fields):
            absent = Label(f"no field {number} in the set")
            emission.packet(R3)
            asm.load(8, R1, R3, members["set.fields"])
            asm.set(R2, 1 << number)
            asm.operate(isa.AND, R1, R2)
            asm.jump_if_value(isa.JEQ, R1, 0, absent, wide=True)
            asm.operate_value(isa.ADD, R3, members["set.values"] + number * ARGUMENT)
            self._arguments_of_call("oko_set_field")
            asm.set(R4, number)
            asm.call("oko_set_field")
            asm.place(absent)
        output = Label("output of the set")
        if groups:
            self._unless(Kind.GROUP, output)
            for number, (index, steps) in sorted(groups.items()):
                other = Label(f"not group {number}")
                emission.packet(R3)
                asm.load(4, R1, R3, members["set.group"])
                asm.jump_if_value(isa.JNE, R1, number, other)
                self._data(index)
                self._steps(steps, None, known_empty=False)
                asm.jump(emission.sending)
                asm.place(other)
            asm.jump(emission.sending)
        asm.place(output)
        if Kind.OUTPUT in kinds:
            to_port = Label("to a port")
            self._unless(Kind.OUTPUT, emission.sending)
            asm.load(4, R1, R3, members["set.output"])
            asm.set(R2, CONTROLLER)
            asm.jump_if(isa.JNE, R1, R2, to_port)
            self._tell(PacketInReason.ACTION, None)
            asm.jump(emission.sending)
            asm.place(to_port)
            self._add_outputs(known_empty=False)
        asm.jump(emission.sending)

    def emit_send(self) -> None:
        """The way out: R8 is the port set."""
        emission, asm = self.emission, self.emission.asm
        asm.note("send")
        asm.place(emission.sending)
        outputs, gone = Label("outputs"), Label("gone")
        asm.jump_if_value(isa.JNE, R8, 0, outputs)
        emission.leave()
        asm.place(outputs)
        one_port, many = Label("to one port"), Label("to many ports")
        if self.lists:
            asm.jump_if_value(isa.JGT, R8, BACK, many)
        asm.load(4, R1, FRAME, PORT_INDEX)
        if self.back:
            asm.jump_if_value(isa.JEQ, R8, BACK, one_port)
        away = Label("away")
        asm.copy(R2, R1)
        asm.operate_value(isa.ADD, R2, 1)
        asm.jump_if(isa.JNE, R2, R8, away)
        emission.drop(Drop.TO_INGRESS)
        asm.place(away)
        asm.copy(R1, R8)
        asm.operate_value(isa.ADD, R1, -1)
        asm.place(one_port)
        if emission.ingress.replay:
            asm.place(many)
            asm.map_value(R1, "replay")
            asm.store(4, R1, REPLAY_OUTPUT, R8)
            emission.leave()
            return
        asm.copy(R2, R1)
        asm.map(R1, "ports")
        asm.set(R3, XDP_DROP)
        asm.call_helper(HELPER_REDIRECT_MAP)
        asm.jump_if_value(isa.JNE, R0, XDP_REDIRECT, gone)
        asm.exit()
        asm.place(many)
        self._send_to_many(gone)
        asm.place(gone)
        emission.drop(Drop.NO_PORT)

    def _send_to_many(self, gone: Label) -> None:
        asm = self.emission.asm
        without = Label("without the ingress port")
        found, found_with = Label("list found"), Label("list with the ingress port found")
        asm.copy(R1, R8)
        asm.set(R2, WITH_INGRESS)
        asm.operate(isa.AND, R1, R2)
        asm.jump_if_value(isa.JEQ, R1, 0, without, wide=True)
        asm.copy(R1, R8)
        asm.set(R2, WITH_INGRESS + FIRST_LIST)
        asm.operate(isa.SUB, R1, R2)
        asm.load(4, R2, FRAME, PORT_INDEX)
        asm.operate(isa.ADD, R1, R2)
        asm.store(4, FRAME, SCRATCH, R1)
        self.emission.lookup("port_sets", SCRATCH)
        asm.jump_if_value(isa.JNE, R0, 0, found_with, wide=True)
        asm.jump(gone)
        asm.place(found_with)
        self._broadcast(BROADCAST)
        asm.place(without)
        asm.copy(R1, R8)
        asm.operate_value(isa.ADD, R1, -FIRST_LIST)
        asm.store(4, FRAME, SCRATCH, R1)
        self.emission.lookup("port_sets", SCRATCH)
        asm.jump_if_value(isa.JNE, R0, 0, found, wide=True)
        asm.jump(gone)
        asm.place(found)
        self._broadcast(BROADCAST | EXCLUDE_INGRESS)

    def _broadcast(self, flags: int) -> None:
        """To every port of the list R0."""
        asm = self.emission.asm
        asm.copy(R1, R0)
        asm.set(R2, 0)
        asm.set(R3, flags)
        asm.call_helper(HELPER_REDIRECT_MAP)
        asm.exit()

    def _dispatch(self, labels: Sequence[Label], first: int) -> None:
        """Jump to the label that R1 names, by halving; `first` is the number of the first one."""
        asm = self.emission.asm
        if len(labels) == 1:
            asm.jump(labels[0])
            return
        middle = len(labels) // 2
        upper = Label("upper half of the procedures")
        asm.jump_if_value(isa.JGE, R1, first + middle, upper)
        self._dispatch(labels[:middle], first)
        asm.place(upper)
        self._dispatch(labels[middle:], first + middle)

    def _procedure(self, table: int, procedure: Procedure, gotos: Mapping[int, Label], *, sent: bool) -> None:
        emission, asm = self.emission, self.emission.asm
        if procedure.direct:
            match procedure.steps:
                case (Pass(),):
                    asm.jump(emission.passing)
                    return
                case (Continue(),):
                    asm.jump(emission.continuing)
                    return
            if sent:
                asm.copy(R1, R8)
                self._pending()
                self._add_outputs(known_empty=False)
            asm.jump(emission.sending)
            return
        if procedure.data:
            self._data(None)
        if sent:
            self._pending()
        else:
            asm.set(R8, 0)
        empty = self._steps(procedure.steps, table, known_empty=not sent)
        if procedure.goto is not None:
            if not empty:
                emission.packet(R2)
                asm.store(4, R2, emission.layout.offsets["outputs"], R8)
            if procedure.parse_again:
                self._arguments_of_call(emission.parser)
                asm.call(emission.parser)
            asm.jump(gotos[procedure.goto])
        elif procedure.finish:
            reason = PacketInReason.NO_MATCH if procedure.miss else PacketInReason.ACTION
            asm.store_value(4, FRAME, TABLE, reason.value | table << 8)
            asm.jump(self.finishing)
        else:
            asm.jump(emission.sending)

    def _pending(self) -> None:
        """R8 = the port set that the packet has to leave by already."""
        self.emission.packet(R3)
        self.emission.asm.load(4, R8, R3, self.emission.layout.offsets["outputs"])

    def _data(self, index: int | None) -> None:
        """R9 = the data at `index` of the map `arguments`, or at R8."""
        asm = self.emission.asm
        there = Label("data found")
        if index is None:
            asm.store(4, FRAME, SCRATCH, R8)
        else:
            asm.store_value(4, FRAME, SCRATCH, index)
        self.emission.lookup("arguments", SCRATCH)
        asm.jump_if_value(isa.JNE, R0, 0, there, wide=True)
        self.emission.leave()
        asm.place(there)
        asm.copy(R9, R0)

    def _steps(self, steps: Sequence[Step], table: int | None, *, known_empty: bool) -> bool:
        """Emit steps, the data of which is at R9. Returns whether R8 is known to be empty behind them."""
        return self._walk(steps, (offset for _, offset in offsets(steps)), table, known_empty=known_empty)

    def _walk(self, steps: Sequence[Step], places: Iterator[int], table: int | None, *, known_empty: bool) -> bool:
        emission, asm = self.emission, self.emission.asm
        members = emission.layout.offsets
        for step in steps:
            at = next(places)
            match step:
                case Call():
                    self._call(step, at, table)
                case Parse():
                    self._arguments_of_call(emission.parser)
                    asm.call(emission.parser)
                case Either(chosen):
                    known_empty = self._walk(chosen, places, table, known_empty=known_empty)
                case Send():
                    asm.load(4, R1, R9, at)
                    self._add_outputs(known_empty=known_empty)
                    known_empty = False
                case Tell(reason):
                    self._tell(reason, table)
                case Charge():
                    self._charge(at, known_empty=known_empty)
                case Count():
                    self._count(at)
                case Note():
                    offset = members["key"] + emission.layout.key.members["metadata"][0]
                    emission.packet(R3)
                    asm.load(8, R1, R3, offset)
                    asm.load(8, R2, R9, at + 8)
                    asm.operate(isa.AND, R1, R2)
                    asm.load(8, R2, R9, at)
                    asm.operate(isa.OR, R1, R2)
                    asm.store(8, R3, offset, R1)
                case Clear():
                    emission.packet(R3)
                    asm.store_value(8, R3, members["set.fields"], 0)
                    asm.store_value(4, R3, members["set.kinds"], 0)
                case Write(kind):
                    emission.packet(R3)
                    member = {Kind.OUTPUT: "set.output", Kind.GROUP: "set.group"}.get(kind) or CALLS[kind][2]
                    if member:
                        asm.load(4, R1, R9, at)
                        asm.store(4, R3, members[member], R1)
                    asm.load(4, R1, R3, members["set.kinds"])
                    asm.operate_value(isa.OR, R1, 1 << kind)
                    asm.store(4, R3, members["set.kinds"], R1)
                case WriteField(number):
                    emission.packet(R3)
                    for half in (0, 8):
                        asm.load(8, R1, R9, at + half)
                        asm.store(8, R3, members["set.values"] + number * ARGUMENT + half, R1)
                    asm.load(8, R1, R3, members["set.fields"])
                    asm.set(R2, 1 << number)
                    asm.operate(isa.OR, R1, R2)
                    asm.store(8, R3, members["set.fields"], R1)
                case Select():
                    known_empty = self._select(step, at, places, table, known_empty=known_empty)
        return known_empty

    def _call(self, step: Call, at: int, table: int | None) -> None:
        asm = self.emission.asm
        self._arguments_of_call(step.function)
        if step.number is not None:
            if step.argument:
                asm.copy(R3, R9)
                asm.operate_value(isa.ADD, R3, at)
            else:
                asm.copy(R3, R2)
                asm.operate_value(isa.ADD, R3, self.emission.layout.offsets["lookup"])
            asm.set(R4, step.number)
        asm.call(step.function)
        self._check(step.failure, table)

    def _arguments_of_call(self, function: str) -> None:
        """R1 and R2 as every runtime function takes them."""
        self.emission.asm.note(function)
        self.emission.asm.copy(R1, R6)
        self.emission.packet(R2)

    def _check(self, failure: Failure, table: int | None) -> None:
        """What becomes of the packet when the function that was called did not return 0."""
        asm = self.emission.asm
        if failure is Failure.NEVER:
            return
        done = Label("done")
        asm.jump_if_value(isa.JEQ, R0, 0, done)
        if failure is Failure.INVALID_TTL:
            self._tell(PacketInReason.INVALID_TTL, table)
            self.emission.drop(Drop.INVALID_TTL)
        else:
            self.emission.drop(Drop.NO_ROOM)
        asm.place(done)

    def _tell(self, reason: PacketInReason, table: int | None) -> None:
        """Give the packet to the controller: the argument is the slot of the rule u32, reason u8, table u8, zeros. In
        an action set (no `table`) the last rule decides whether the reason is ACTION or NO_MATCH."""
        asm = self.emission.asm
        at = self.emission.layout.offsets["lookup"]
        self._arguments_of_call("oko_packet_in")
        asm.copy(R3, R2)
        asm.operate_value(isa.ADD, R3, at)
        asm.store(4, R3, 0, R7)
        if table is None:
            asm.load(4, R4, FRAME, TABLE)
            if reason is PacketInReason.INVALID_TTL:
                asm.operate_value(isa.AND, R4, 0xFF00)
                asm.operate_value(isa.OR, R4, reason.value)
            asm.store(4, R3, 4, R4)
        else:
            asm.store_value(4, R3, 4, reason.value | table << 8)
        asm.store_value(8, R3, 8, 0)
        asm.set(R4, 0)
        asm.call("oko_packet_in")

    def _charge(self, at: int, *, known_empty: bool) -> None:
        asm = self.emission.asm
        conforms = Label("the meter lets it pass")
        self._arguments_of_call("oko_meter")
        asm.copy(R3, R2)
        asm.operate_value(isa.ADD, R3, self.emission.layout.offsets["lookup"])
        asm.load(4, R4, R9, at)
        asm.call("oko_meter")
        asm.jump_if_value(isa.JEQ, R0, 0, conforms)
        if not known_empty:
            asm.jump_if_value(isa.JNE, R8, 0, self.emission.sending)
        self.emission.drop(Drop.METER)
        asm.place(conforms)

    def _count(self, at: int) -> None:
        """Count the packet in the slot that the data names. R7 is kept on the stack meanwhile."""
        asm = self.emission.asm
        asm.store(8, FRAME, KEPT, R7)
        asm.load(4, R7, R9, at)
        self.emission.count("counters")
        asm.load(8, R7, FRAME, KEPT)

    def _select(self, step: Select, at: int, places: Iterator[int], table: int | None, *, known_empty: bool) -> bool:
        asm = self.emission.asm
        chosen = Label("behind the group")
        self._arguments_of_call("oko_select_hash")
        asm.call("oko_select_hash")
        asm.operate_value(isa.LSH, R0, 32)
        asm.operate_value(isa.RSH, R0, 32)
        asm.load(8, R1, R9, at)
        asm.operate(isa.MUL, R0, R1)
        asm.operate_value(isa.RSH, R0, 32)
        labels = [Label(f"bucket {number}") for number in range(len(step.alternatives))]
        for number, label in enumerate(labels[:-1], start=1):
            asm.load(8, R1, R9, at + 8 * number)
            asm.jump_if(isa.JLT, R0, R1, label)
        asm.jump(labels[-1])
        empty = True
        for label, alternative in zip(labels, step.alternatives, strict=True):
            asm.place(label)
            empty &= self._walk(alternative, places, table, known_empty=known_empty)
            asm.jump(chosen)
        asm.place(chosen)
        return empty

    def _add_outputs(self, *, known_empty: bool) -> None:
        """R8 = R8 and the port set R1 together."""
        asm = self.emission.asm
        if known_empty:
            asm.copy(R8, R1)
            return
        first, done, found = Label("first output"), Label("outputs added"), Label("union found")
        asm.jump_if_value(isa.JEQ, R8, 0, first)
        asm.jump_if_value(isa.JEQ, R1, 0, done)
        if self.unions:
            at = self.emission.layout.offsets["lookup"]
            self.emission.packet(R3)
            asm.store(4, R3, at, R8)
            asm.store(4, R3, at + 4, R1)
            self.emission.lookup_scratch("unions")
            asm.jump_if_value(isa.JNE, R0, 0, found, wide=True)
            self.emission.drop(Drop.NO_PORT)
            asm.place(found)
            asm.load(4, R8, R0, 0)
        asm.jump(done)
        asm.place(first)
        asm.copy(R8, R1)
        asm.place(done)

    def _unless(self, kind: Kind, absent: Label) -> None:
        """Jump to `absent` unless the action set holds the kind. R3 is the packet afterwards."""
        asm = self.emission.asm
        self.emission.packet(R3)
        asm.load(4, R1, R3, self.emission.layout.offsets["set.kinds"])
        asm.operate_value(isa.AND, R1, 1 << kind)
        asm.jump_if_value(isa.JEQ, R1, 0, absent)
