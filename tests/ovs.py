"""A real Open vSwitch for tests: its daemons with a directory, and if need be a network namespace, of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.oko.kernel.waiting import wait_until
from tests.patience import patience

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
TOOLS = ("ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-vswitchd", "ovs-ofctl", "ovs-appctl")
_PATIENCE = patience(20)

DATAPATH_TYPE = os.environ.get("OKO_DATAPATH_TYPE", "netdev")
"""Of the bridges of tests: Open vSwitch's own in user space, or with ``system`` the kernel's, whose module openvswitch
must be loaded."""

needs_ovs = pytest.mark.skipif(
    os.environ.get("CI") != "true" and not (SCHEMA.exists() and all(map(shutil.which, TOOLS))),
    reason="Open vSwitch is not installed",
)
"""In CI it must be."""


class Vswitch:
    """ovsdb-server and ovs-vswitchd, running while the context lasts. The kernel's datapath is left alone
    unless DATAPATH_TYPE asks for it.

    `directory` is made; it holds the database, the sockets and nothing else. `prefix` goes before the daemons, such as
    an nsenter; `options` are of ovs-vswitchd.
    """

    def __init__(self, directory: Path, *, prefix: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self._prefix = prefix
        self._options = options
        places = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")
        self._environment = {**os.environ, **dict.fromkeys(places, str(directory))}
        self._database = directory / "conf.db"
        self._socket = directory / "db.sock"
        self._server: subprocess.Popen[bytes] | None = None
        self._switch: subprocess.Popen[bytes] | None = None
        directory.mkdir()

    def _listens(self) -> bool:
        """Whether the database takes connections: its socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as tried, suppress(OSError):
            tried.connect(str(self._socket))
            return True
        return False

    @property
    def remote(self) -> str:
        """The database, as ovs-vsctl's ``--db`` names it."""
        return f"unix:{self._socket}"

    @property
    def control(self) -> Path:
        """The socket that ovs-appctl speaks to ovs-vswitchd by, as long as that runs."""
        assert self._switch is not None
        return self.directory / f"ovs-vswitchd.{self._switch.pid}.ctl"

    def management(self, bridge: str) -> Path:
        """The bridge's socket for OpenFlow."""
        return self.directory / f"{bridge}.mgmt"

    def target(self, bridge: str) -> str:
        """The bridge, as ovs-ofctl names it."""
        return f"unix:{self.management(bridge)}"

    def __enter__(self) -> Self:
        try:
            self._run("ovsdb-tool", "create", self._database, SCHEMA)
            self.start_database()
            self.vsctl("--no-wait", "init")
            self.start_switch()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.stop_switch()
        self.stop_database()

    def start_database(self) -> None:
        self._server = self._start(
            "ovsdb-server", f"--remote=punix:{self._socket}", f"--unixctl={self.directory}/db.ctl", self._database
        )
        wait_until(self._listens)

    def stop_database(self) -> None:
        self._server = self._stop(self._server)

    def start_switch(self) -> None:
        """Ready when it has made what the database says."""
        alone = () if DATAPATH_TYPE == "system" else ("--disable-system",)
        self._switch = self._start("ovs-vswitchd", *alone, "--pidfile", *self._options, self.remote)
        # ovs-vsctl waits until the daemon has taken up a change, and this is one.
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:process={self._switch.pid}")

    def stop_switch(self, *, abruptly: bool = False) -> None:
        """With SIGTERM, or `abruptly` with SIGKILL, which leaves its sockets behind."""
        if abruptly and self._switch is not None:
            self._switch.kill()
        self._switch = self._stop(self._switch)

    def vsctl(self, *words: str) -> str:
        """What ovs-vsctl prints. It returns when ovs-vswitchd has done what it says."""
        return self._run("ovs-vsctl", f"--db={self.remote}", f"--timeout={_PATIENCE:.0f}", *words)

    def add_bridge(self, bridge: str, ports: Sequence[str], datapath_type: str, *, interface_type: str = "") -> None:
        """A bridge with these ports, numbered from 1, that does nothing until it has rules."""
        words = ["add-br", bridge, "--", "set", "bridge", bridge, f"datapath_type={datapath_type}", "fail_mode=secure"]
        for number, port in enumerate(ports, 1):
            words += ["--", "add-port", bridge, port, "--", "set", "interface", port, f"ofport_request={number}"]
            if interface_type:
                words.append(f"type={interface_type}")
        self.vsctl(*words)

    def ofctl(
        self, command: str, bridge: str, *words: str, version: str = "OpenFlow13", patience: float = _PATIENCE
    ) -> str:
        """What ovs-ofctl prints; `command` may begin with options. It may take so many seconds."""
        tool = ("ovs-ofctl", "-O", version, *command.split(), self.target(bridge))
        return self._run(*tool, *words, patience=patience)

    def appctl(self, *words: str) -> str:
        """What ovs-vswitchd answers."""
        return self._run("ovs-appctl", "-t", self.control, *words)

    def settle(self) -> None:
        """Have frames that come in from now on decided behind those that came in before: the kernel's datapath lets
        frames of flows that it knows overtake those of others."""
        if DATAPATH_TYPE == "system":
            # The second time for those that go through the tables again (a shim was taken off, ct).
            for _ in range(2):
                self.appctl("revalidator/purge")

    def _run(self, *command: str | Path, patience: float = _PATIENCE) -> str:
        done = subprocess.run(
            command, check=False, env=self._environment, timeout=patience, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        words = (*self._prefix, *command)
        return subprocess.Popen(words, env=self._environment, stderr=subprocess.DEVNULL, cwd=self.directory)

    @staticmethod
    def _stop(process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait(_PATIENCE)
