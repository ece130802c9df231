"""An Open vSwitch beside the switch under test: a bridge whose packets go nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.ovs import Vswitch

BRIDGE = "br0"


@contextmanager
def vswitch(directory: Path, ports: Sequence[str]) -> Iterator[str]:
    """A bridge with these ports, numbered from 1, that does nothing by itself. Yields its OpenFlow target."""
    with Vswitch(directory, options=("--enable-dummy",)) as switch:
        added: list[str] = []
        for number, port in enumerate(ports, 1):
            added += ("--", "add-port", BRIDGE, port, "--", "set", "interface", port, "type=dummy")
            added.append(f"ofport_request={number}")
        switch.vsctl("add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy", "fail-mode=secure", *added)
        yield switch.target(BRIDGE)
