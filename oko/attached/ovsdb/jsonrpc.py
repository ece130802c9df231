"""`call`: a request over a Unix socket, as OVSDB (RFC 7047, section 4) and ovs-vswitchd's control socket take them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from oko.errors import AttachError

_READ_SIZE: Final = 1 << 16


async def call(path: Path, method: str, *params: Any) -> Any:
    """The result of one request, on a connection of its own. Takes as long as the answer takes.

    Raises AttachError when nobody listens, the answer is an error, or there is none.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise AttachError(f"socket {path}: {error.strerror}: does Open vSwitch run?") from None
    try:
        writer.write(json.dumps({"method": method, "params": params, "id": 0}).encode())
        answer = await _read(reader)
    except OSError as error:
        raise AttachError(f"socket {path}: {method}: {error.strerror}") from None
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if answer is None:
        raise AttachError(f"socket {path}: {method}: the connection ended without an answer")
    if answer.get("error") is not None:
        raise AttachError(f"socket {path}: {method}: {str(answer['error']).strip()}")
    return answer.get("result")


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The message that the stream begins with; None when it ends before. Messages have no delimiter: what cannot be
    parsed yet is not complete."""
    text = b""
    while data := await reader.read(_READ_SIZE):
        text += data
        try:
            answer: dict[str, Any] = json.loads(text)
        except ValueError:
            continue
        return answer
    return None
