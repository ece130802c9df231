"""Taking a bridge away, with or without its okod."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Final

from oko.errors import BridgeError
from oko.kernel.offloads import SavedOffloads, restore
from oko.switch import store
from oko.switch.datapath import take_down
from oko.switch.local import delete_local
from oko.switch.rundir import RunDirectory

_PATIENCE: Final = 10_000
"""ms that an okod may take to end."""


def remove_bridge(rundir: RunDirectory, bridge: str) -> None:
    """End the bridge's okod if it runs, take its datapath off the ports, give their peers the offloads back, and delete
    its LOCAL port and what is on disk of it.

    Raises BridgeError when there is no such bridge, it is Open vSwitch's, or its okod does not end; KernelError.
    """
    record = rundir.read(bridge)
    if record.is_attached:
        raise BridgeError(
            f"bridge {bridge} is Open vSwitch's, and Oko is attached to it: run 'okod --detach {bridge}', which gives "
            "back all that was changed"
        )
    pid = rundir.pid(bridge)
    if pid is not None:
        end_okod(bridge, pid)
    with rundir.claim(bridge):
        take_down(Path(record.pins))
        for port in record.ports:
            if port.offloads is not None:
                restore(SavedOffloads.from_json(port.offloads))
        if record.local is not None:
            delete_local(record.local)
        store.remove(Path(record.state))
        rundir.forget(bridge)


def end_okod(bridge: str, pid: int) -> None:
    """Raises BridgeError for one that does not end in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(_PATIENCE):
            raise BridgeError(f"bridge {bridge}: its okod (process {pid}) does not end: stop it and try again")
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
