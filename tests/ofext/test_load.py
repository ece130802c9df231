"""A program cut into chunks and put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext.extension import LoadFlag, ProgramLoad
from ofext.load import CHUNK, IDLE_LIMIT, Load, LoadAssembler, LoadBudget, LoadError, chunks
from ofext.messages import decode, encode

ELF = bytes(range(256)) * 10


@given(st.binary(max_size=300), st.integers(1, 100))
def test_there_and_back(elf: bytes, size: int) -> None:
    assembler = LoadAssembler()
    results = [assembler.feed(chunk) for chunk in chunks(7, "firewall", elf, LoadFlag.FRESH_MAPS, size)]
    assert results[-1] == Load(7, "firewall", LoadFlag.FRESH_MAPS, elf)
    assert set(results[:-1]) <= {None}


def test_chunks_fit_into_messages() -> None:
    made = list(chunks(1, "n" * 63, bytes(3 * CHUNK + 1)))
    assert [len(chunk.data) for chunk in made] == [CHUNK, CHUNK, CHUNK, 1]
    assert [decode(encode(chunk))[0] for chunk in made] == made


def test_loads_follow_each_other() -> None:
    assembler = LoadAssembler()
    for program in (1, 2):
        *_, last = [assembler.feed(chunk) for chunk in chunks(program, "", ELF, size=1000)]
        assert last == Load(program, "", 0, ELF)


def test_offset_0_begins_anew() -> None:
    assembler = LoadAssembler()
    first, *_ = chunks(1, "old", ELF, size=1000)
    assert assembler.feed(first) is None
    *_, last = [assembler.feed(chunk) for chunk in chunks(2, "new", ELF, size=1000)]
    assert last == Load(2, "new", 0, ELF)


def _middle(change: Callable[[ProgramLoad], ProgramLoad]) -> list[ProgramLoad]:
    first, second, *_ = chunks(1, "p", ELF, size=1000)
    return [first, change(second)]


_FIRST, _SECOND, _THIRD = chunks(1, "p", ELF, size=1000)

REFUSED: dict[str, tuple[list[ProgramLoad], str]] = {
    "no beginning": ([_SECOND], "load-out-of-order"),
    "gap": ([_FIRST, _THIRD], "load-out-of-order"),
    "twice": ([_FIRST, _SECOND, _SECOND], "load-out-of-order"),
    "other program": (_middle(lambda chunk: replace(chunk, program=2)), "load-out-of-order"),
    "other flags": (_middle(lambda chunk: replace(chunk, flags=1)), "load-out-of-order"),
    "other total": (_middle(lambda chunk: replace(chunk, total=5000)), "load-out-of-order"),
    "other digest": (_middle(lambda chunk: replace(chunk, digest=bytes(32))), "load-out-of-order"),
    "other name": (_middle(lambda chunk: replace(chunk, name="q")), "load-out-of-order"),
    "beyond the total": ([_FIRST, replace(_SECOND, data=bytes(2000))], "load-out-of-order"),
    "empty": (_middle(lambda chunk: replace(chunk, data=b"")), "load-out-of-order"),
    "empty at the start": ([replace(_FIRST, data=b"")], "load-out-of-order"),
    "other bytes": ([_FIRST, _SECOND, replace(_THIRD, data=bytes(560))], "load-digest-mismatch"),
    "too large": ([replace(_FIRST, total=4001)], "limit-exceeded"),
}


@pytest.mark.parametrize(("sent", "name"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(sent: list[ProgramLoad], name: str) -> None:
    assembler = LoadAssembler(limit=4000)
    *before, last = sent
    assert [assembler.feed(chunk) for chunk in before] == [None] * len(before)
    with pytest.raises(LoadError) as caught:
        assembler.feed(last)
    assert caught.value.name == name
    assert caught.value.error_type == 0xFFFF
    # The load is given up: what would have continued it is refused, and a new one works.
    with pytest.raises(LoadError, match="no load is in progress"):
        assembler.feed(_SECOND)
    assert [assembler.feed(chunk) for chunk in chunks(3, "r", ELF)] == [Load(3, "r", 0, ELF)]


def test_loads_of_all_connections_share_a_budget() -> None:
    budget = LoadBudget(2 * len(ELF))
    assemblers = [LoadAssembler(budget=budget) for _ in range(3)]
    first, *rest = chunks(1, "p", ELF, size=1000)
    assert [assembler.feed(first) for assembler in assemblers[:2]] == [None, None]
    with pytest.raises(LoadError, match="2560 bytes while loads of 5120 bytes") as caught:
        assemblers[2].feed(first)
    assert caught.value.name == "too-many-loads"
    assert [assemblers[0].feed(chunk) for chunk in rest][-1] == Load(1, "p", 0, ELF)
    assert assemblers[2].feed(first) is None, "one has come to its end"
    assemblers[1].give_up()
    assert assemblers[0].feed(first) is None, "one was given up"
    with pytest.raises(LoadError, match="expected offset 1000"):
        assemblers[0].feed(rest[1])
    assert assemblers[1].feed(first) is None, "one has failed"
    assert assemblers[1].feed(first) is None, "a load that begins anew takes its own room"


def test_a_load_that_is_alone_may_be_larger_than_the_budget() -> None:
    assembler = LoadAssembler(budget=LoadBudget(1))
    assert [assembler.feed(chunk) for chunk in chunks(1, "p", ELF, size=1000)][-1] == Load(1, "p", 0, ELF)


def test_a_load_that_stands_still_is_given_up() -> None:
    now = 0.0
    budget = LoadBudget(len(ELF), lambda: now)
    idle, other = LoadAssembler(budget=budget), LoadAssembler(budget=budget)
    first, second, third = chunks(1, "p", ELF, size=1000)
    assert idle.feed(first) is None
    now = IDLE_LIMIT
    assert idle.feed(second) is None, "it goes on in time"
    with pytest.raises(LoadError):
        other.feed(first)
    now = 2 * IDLE_LIMIT + 1
    assert other.feed(first) is None
    with pytest.raises(LoadError, match="no load is in progress"):
        idle.feed(third)
