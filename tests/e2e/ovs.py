"""An Open vSwitch beside the switch under test: its daemons in a directory, and a bridge whose packets go nowhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.oko.kernel.waiting import wait_until

BRIDGE = "br0"
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
TOOLS = ("ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-vswitchd", "ovs-ofctl")
_PATIENCE = 20  # seconds


@contextmanager
def vswitch(directory: Path, ports: Sequence[str]) -> Iterator[str]:
    """A bridge with these ports, numbered from 1, that does nothing by itself. Yields its OpenFlow target."""
    directory.mkdir()
    environment = {
        **os.environ,
        **dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"), str(directory)),
    }
    database, remote = directory / "conf.db", directory / "db.sock"

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, env=environment, timeout=_PATIENCE, capture_output=True)

    with ExitStack() as daemons:

        def start(*command: str | Path) -> None:
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=directory)

            def end() -> None:
                process.terminate()
                process.wait(_PATIENCE)

            daemons.callback(end)

        run("ovsdb-tool", "create", database, SCHEMA)
        start("ovsdb-server", f"--remote=punix:{remote}", f"--unixctl={directory}/db.ctl", database)
        wait_until(remote.exists)
        control = ("ovs-vsctl", f"--db=unix:{remote}", f"--timeout={_PATIENCE}")
        run(*control, "--no-wait", "init")
        start(
            *("ovs-vswitchd", "--enable-dummy", "--disable-system", f"--unixctl={directory}/switch.ctl"),
            f"unix:{remote}",
        )
        added: list[str] = []
        for number, port in enumerate(ports, 1):
            added += ("--", "add-port", BRIDGE, port, "--", "set", "interface", port, "type=dummy")
            added.append(f"ofport_request={number}")
        made = ("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy", "fail-mode=secure")
        run(*control, *made, *added)
        yield f"unix:{directory}/{BRIDGE}.mgmt"
