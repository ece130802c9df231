"""`Pending`: what Open vSwitch has been sent on one connection and has not answered yet."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import suppress
from typing import Any, Final

from oko.attached.relay.statistics import About, Answer

_FIRST_NUMBER: Final = 0x6F6B6F00
"""Of the transaction ids of Oko's own questions."""


class Pending:
    """`asked` are Oko's own questions, `swallowed` its requests whose answers nobody waits for, by transaction id."""

    def __init__(self) -> None:
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.swallowed: dict[int, bytes] = {}
        self._answers: dict[tuple[int, About], deque[Answer]] = {}
        self._barriers: deque[int] = deque()
        self._numbers = itertools.count(_FIRST_NUMBER)

    def own_xid(self) -> int:
        """A transaction id that no barrier of the peer has, and no question of its about flows."""
        while True:
            xid = next(self._numbers) & 0xFFFFFFFF
            if xid not in self._barriers and all(xid != other for other, _ in self._answers):
                return xid

    def expect_barrier(self, xid: int) -> None:
        """The peer's barrier goes to Open vSwitch."""
        self._barriers.append(xid)

    def barrier_done(self, xid: int) -> None:
        """The peer's barrier is answered."""
        with suppress(ValueError):  # it was before, which only an Open vSwitch at fault does
            self._barriers.remove(xid)

    def expect(self, xid: int, kind: About, answer: Answer) -> None:
        """The peer's question about flows goes to Open vSwitch, which answers with messages of this kind; `answer` is
        what is done to those. A peer may ask for several things under one transaction id."""
        self._answers.setdefault((xid, kind), deque()).append(answer)

    def answer(self, xid: int, kind: About) -> Answer | None:
        """Of the oldest question with this transaction id that messages of this kind answer."""
        answers = self._answers.get((xid, kind))
        return answers[0] if answers else None

    def answered(self, xid: int, kind: About) -> None:
        """It has been answered whole."""
        answers = self._answers.get((xid, kind))
        if answers is not None:
            answers.popleft()
            if not answers:
                del self._answers[xid, kind]

    def fail(self, error: Exception) -> None:
        """The connection has ended: nobody answers Oko's questions any more."""
        for asked in self.asked.values():
            if not asked.done():
                asked.set_exception(error)
