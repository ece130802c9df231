"""`Unixctl`: commands to ovs-vswitchd, as ovs-appctl gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from oko.attached.ovsdb.jsonrpc import call
from oko.errors import AttachError

_DAEMON: Final = "ovs-vswitchd"


def control_socket(rundir: Path) -> Path:
    """The control socket of the ovs-vswitchd whose run directory this is (unixctl_path(7)). Raises AttachError."""
    pidfile = rundir / f"{_DAEMON}.pid"
    try:
        pid = int(pidfile.read_text())
    except (OSError, ValueError) as error:
        raise AttachError(f"{pidfile} does not say which process is {_DAEMON} ({error}): does it run?") from None
    return rundir / f"{_DAEMON}.{pid}.ctl"


class Unixctl:
    """The control socket at `path`, or the one that ovs-vswitchd has at the moment, if that is its run directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def command(self, name: str, *words: str) -> str:
        """What ovs-vswitchd answers, without the last line's end. Raises AttachError when it refuses, or is gone."""
        path = control_socket(self._path) if self._path.is_dir() else self._path
        answer: str = await call(path, name, *words)
        return answer.rstrip("\n")

    async def wait_for_dump(self) -> None:
        """Return when the revalidators have ended a dump of the datapath's flows, the one under way or the next: within
        half a second, or soon after a change to a flow table. Raises AttachError, also when bridges have datapaths of
        several types: ovs-vswitchd does not say which to wait for then."""
        await self.command("revalidator/wait")
