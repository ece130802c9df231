"""`open_vswitch`: an Open vSwitch of the benchmark's own, with its userspace datapath."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from oko.errors import OkoError
from tests.ovs import SCHEMA, TOOLS, Vswitch

BRIDGE: Final = "br0"
_SLOWEST: Final = 1_000
"""Rules per second that Open vSwitch takes at least."""


def no_open_vswitch() -> str | None:
    """Why there can be none here, None if there can."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"{absent[0]} is not installed" if absent else None if SCHEMA.exists() else f"{SCHEMA} is not there"


@contextlib.contextmanager
def open_vswitch(
    ports: Sequence[str], kind: str, rules: Sequence[str], *, prefix: Sequence[str] = ()
) -> Iterator[Vswitch]:
    """The bridge BRIDGE with these ports, numbered from 1, and rules. `kind` is that of the ports: afxdp, or system for
    packet sockets (AF_PACKET). `prefix` goes before the daemons, such as an nsenter. Their threads have a processor
    that does not send, if there is one. Raises OkoError."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Vswitch(Path(directory) / "ovs", prefix=(*prefix, *on_others())) as switch,
    ):
        words = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev", "fail-mode=secure"]
        for number, port in enumerate(ports, 1):
            words += ["--", "add-port", BRIDGE, port, "--", "set", "interface", port, f"type={kind}"]
            words.append(f"ofport_request={number}")
            if kind == "afxdp":
                words.append("options:n_rxq=1")
        processors = sum(1 << processor for processor in other_processors())
        switch.vsctl("set", "Open_vSwitch", ".", f"other_config:pmd-cpu-mask={processors:#x}")
        switch.vsctl(*words)
        listed = Path(directory) / "rules"
        listed.write_text("\n".join((*rules, "")))
        switch.ofctl("add-flows", BRIDGE, str(listed), patience=20 + len(rules) / _SLOWEST)
        faults = switch.vsctl("--columns=name,error", "--format=csv", "--no-headings", "list", "interface")
        for line in faults.splitlines():
            if re.search(r'"?[^\[\]",]{3,}"?$', line.partition(",")[2]):
                raise OkoError(f"Open vSwitch: {line}")
        yield switch
        # What it has made of interfaces outlives its processes.
        switch.vsctl("del-br", BRIDGE)


def other_processors() -> list[int]:
    """Those that this process, which sends, is not bound to; all if it is bound to none."""
    everything = set(range(os.cpu_count() or 1))
    return sorted(everything - os.sched_getaffinity(0)) or sorted(everything)


def on_others() -> tuple[str, ...]:
    """Goes before a command whose process is to leave the processor that sends alone. It ends with this one, at the
    latest: a thread of Open vSwitch's that polls would take a processor for ever."""
    return ("setpriv", "--pdeathsig=KILL", "taskset", "--cpu-list", ",".join(map(str, other_processors())))
