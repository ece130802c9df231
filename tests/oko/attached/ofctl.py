"""ovs-ofctl through a relay, without stopping the event loop that the relay runs in."""

from __future__ import annotations

import asyncio
from pathlib import Path

_PATIENCE = 20


async def ofctl(path: Path, command: str, *words: str, version: str = "OpenFlow13", fails: bool = False) -> list[str]:
    """The lines that it prints for the bridge behind the socket; `command` may begin with options."""
    process = await asyncio.create_subprocess_exec(
        *("ovs-ofctl", "-O", version, *command.split(), f"unix:{path}", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_PATIENCE):
        printed, _ = await process.communicate()
    text = printed.decode()
    assert bool(process.returncode) is fails, text
    return text.splitlines()


async def flows(path: Path, *, version: str = "OpenFlow13") -> list[str]:
    """The flows of table 0, as they are added, by priority."""
    lines = await ofctl(path, "--no-stats --no-names dump-flows", "table=0", version=version)
    return sorted(line.strip() for line in lines if "actions=" in line)
