from __future__ import annotations

import pytest

from oko.compiler.assembler import Assembler, Register
from oko.compiler.image import Filter
from oko.compiler.link import FUNCTION_LIMIT, from_filter, generated, link
from oko.compiler.replay import SUBSTITUTES
from oko.compiler.typeinfo import Prototype
from oko.errors import LimitExceeded
from tests.oko.compiler.objects import filter_program
from verifier import isa
from verifier.isa import Instruction
from verifier.program import ReferenceKind

R0 = Register.R0


def calling(*names: str) -> Assembler:
    asm = Assembler()
    asm.note("start")
    for name in names:
        asm.call(name)
    asm.set(R0, 0)
    asm.exit()
    return asm


def test_calls_lead_to_where_the_parts_were_laid() -> None:
    parts = [
        generated("main", calling("second", "first", "second"), "f"),
        generated("first", calling(), "f"),
        generated("second", calling("first"), "f"),
    ]
    linked = link(parts)
    assert [(f.name, f.start, f.end) for f in linked.functions] == [("main", 0, 5), ("first", 5, 7), ("second", 7, 10)]
    assert {
        index: index + 1 + instruction.imm
        for index, instruction in enumerate(linked.instructions)
        if instruction.opcode == isa.OPCODE_CALL
    } == {0: 7, 1: 5, 2: 7, 7: 5}
    assert [line.instruction for line in linked.lines] == [0, 5, 7]


def test_a_filter_keeps_its_instructions() -> None:
    program = filter_program("per_source")
    main = generated("main", calling("9"), "f")
    linked = link([main, from_filter(Filter(9, 0, program), {})])
    base = len(main.instructions)
    assert linked.instructions[base:] == program.instructions
    assert [(info.name, info.start - base, info.prototype) for info in linked.infos[1:]] == [
        ("per_source", 0, Prototype.CONTEXT),
        ("packets_of", program.functions[1].start, Prototype.STATIC),
    ]
    assert {(r.kind, r.name) for r in linked.references} == {(ReferenceKind.MAP, "9.sources")}
    starts = {line.instruction for line in linked.lines}
    assert all(info.start in starts for info in linked.infos), "the kernel wants a line at each function's beginning"


def test_helpers_are_substituted() -> None:
    part = from_filter(Filter(3, 0, filter_program("spaced")), SUBSTITUTES)
    assert sorted(name for _, name in part.calls) == ["oko_replay_now", "oko_replay_processor"]
    for index, _ in part.calls:
        assert part.instructions[index].src == isa.CALL_HELPER
    now = generated("oko_replay_now", calling(), "f")
    linked = link([part, now, generated("oko_replay_processor", calling(), "f")])
    for index, _ in part.calls:
        assert linked.instructions[index].src == isa.CALL_LOCAL


def test_functions_of_the_runtime_are_called_by_name() -> None:
    part = from_filter(Filter(3, 0, filter_program("odd_port")), {})
    ((index, name),) = part.calls
    assert name == "oko_in_port"
    assert part.instructions[index].src == isa.CALL_LOCAL
    port = generated("oko_in_port", calling(), "f")
    assert link([part, port]).instructions[index] == Instruction(
        isa.OPCODE_CALL, 0, isa.CALL_LOCAL, 0, len(part.instructions) - index - 1
    )


def test_too_many_functions() -> None:
    parts = [generated(f"f{number}", calling(), "f") for number in range(FUNCTION_LIMIT + 1)]
    assert len(link(parts[:-1]).functions) == FUNCTION_LIMIT
    with pytest.raises(LimitExceeded) as raised:
        link(parts)
    assert (raised.value.used, raised.value.limit) == (257, 256)
