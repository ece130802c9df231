from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from oko.attached.ovsdb.jsonrpc import call
from oko.errors import AttachError
from tests.oko.attached.following import run

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(*pieces: bytes) -> Serve:
    """A server that answers a request with these bytes, one packet each, and ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.read(4096))
        assert request == {"method": "sum", "params": [1, "two"], "id": 0}
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    return serve


ANSWERS = {
    "a result": ((b'{"id": 0, "result": {"a": 3}, "error": null}',), {"a": 3}),
    "a result in pieces": ((b'{"id": 0, "resu', b'lt": "text with }', b'", "error": null}'), "text with }"),
    "no result": ((b'{"id": 0, "result": null, "error": null}',), None),
}


@pytest.mark.parametrize(("pieces", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(tmp_path: Path, pieces: tuple[bytes, ...], expected: object) -> None:
    async def main() -> None:
        async with await asyncio.start_unix_server(answering(*pieces), str(tmp_path / "socket")):
            assert await call(tmp_path / "socket", "sum", 1, "two") == expected

    run(main())


REFUSALS = {
    "an error": ((b'{"id": 0, "result": null, "error": "no such\\n"}',), "sum: no such$"),
    "nothing": ((), "ended without an answer"),
    "half an answer": ((b'{"id": 0, "res',), "ended without an answer"),
}


@pytest.mark.parametrize(("pieces", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(tmp_path: Path, pieces: tuple[bytes, ...], message: str) -> None:
    async def main() -> None:
        async with await asyncio.start_unix_server(answering(*pieces), str(tmp_path / "socket")):
            with pytest.raises(AttachError, match=message):
                await call(tmp_path / "socket", "sum", 1, "two")

    run(main())
