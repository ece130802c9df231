"""Steps: what is shared between rules, and where data lies."""

from __future__ import annotations

import pytest

from oko.compiler.step import (
    Call,
    Charge,
    Count,
    Failure,
    Kind,
    Note,
    Procedure,
    Select,
    Send,
    Step,
    Tell,
    Write,
    WriteField,
    offsets,
)
from oko.flow.packet_in import PacketInReason

MAC = bytes(range(16))


def set_field(number: int, value: bytes) -> Call:
    return Call("oko_set_field", Failure.NEVER, number, value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(Send(1), Send(9), True, id="port sets"),
        pytest.param(
            Call("oko_set_field", Failure.NEVER, 3, MAC),
            Call("oko_set_field", Failure.NEVER, 3, MAC[::-1]),
            True,
            id="values",
        ),
        pytest.param(
            Call("oko_set_field", Failure.NEVER, 3, MAC),
            Call("oko_set_field", Failure.NEVER, 4, MAC),
            False,
            id="fields",
        ),
        pytest.param(Charge(0), Charge(7), True, id="meters"),
        pytest.param(Count(0), Count(7), True, id="counters"),
        pytest.param(Note(1, 1), Note(2, 7), True, id="metadata"),
        pytest.param(Write(Kind.OUTPUT, 1), Write(Kind.OUTPUT, 2), True, id="written outputs"),
        pytest.param(Write(Kind.OUTPUT, 1), Write(Kind.GROUP, 1), False, id="kinds"),
        pytest.param(WriteField(3, MAC), WriteField(4, MAC), False, id="written fields"),
        pytest.param(Tell(PacketInReason.ACTION), Tell(PacketInReason.NO_MATCH), False, id="reasons"),
        pytest.param(
            Select((1, 1), ((Send(1),), (Send(2),))), Select((9, 1), ((Send(3),), (Send(4),))), True, id="weights"
        ),
        pytest.param(Select((1, 1), ((Send(1),), ())), Select((1, 1), ((Send(1),), (Send(2),))), False, id="buckets"),
    ],
)
def test_shapes(one: Step, other: Step, same: bool) -> None:
    assert (Procedure((one, Charge(1))).shape == Procedure((other, Charge(1))).shape) is same


def test_rules_that_only_send_have_no_data() -> None:
    procedure = Procedure((Send(9),))
    assert procedure.direct
    assert (procedure.shape, procedure.argument) == (Procedure().shape, 9)
    assert Procedure().argument == 0
    assert not Procedure((Send(9),), goto=3).direct
    assert not Procedure((Send(9),), finish=True).direct


def test_data_lies_aligned_and_that_of_alternatives_behind_their_select() -> None:
    steps = (
        Send(0x01020304),
        Select((2, 3), ((Count(1),), (set_field(3, MAC), Send(5)))),
        Send(6),
    )
    assert [offset for _, offset in offsets(steps)] == [0, 8, 24, 32, 48, 52]
    data = Procedure(steps).data
    assert data[:4] == bytes([4, 3, 2, 1])
    assert [int.from_bytes(data[at : at + 8], "little") for at in (8, 16)] == [5, 2]
    assert (data[24], data[32:48], data[48], data[52], len(data)) == (1, MAC, 5, 6, 56)
