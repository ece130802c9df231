from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oko.errors import PortError
from oko.kernel.ethtool import offloads, set_offloads
from oko.kernel.namespace import run_in

pytestmark = pytest.mark.needs_bpf  # namespaces need the same privilege


@pytest.fixture
def here(namespace: Callable[[str], Path]) -> Path:
    """A namespace with the veth pair near – far."""
    path = namespace("ethtool")
    subprocess.run(["ip", "-n", path.name, "link", "add", "near", "type", "veth", "peer", "name", "far"], check=True)
    return path


def as_ethtool_says(path: Path, interface: str) -> dict[str, bool]:
    """What is active, by the features' own names, from the listing of ethtool(8)."""
    command = ["nsenter", f"--net={path}", "ethtool", "-k", interface]
    lines = subprocess.check_output(command, text=True).splitlines()[1:]
    pairs = (line.strip().split(": ", 1) for line in lines)
    return {name: state.startswith("on") for name, state in pairs}


def test_offloads_are_those_that_ethtool_lists(here: Path) -> None:
    found = run_in(here, lambda: offloads("near"))
    listed = as_ethtool_says(here, "near")
    common = found.keys() & listed.keys()
    assert {"tx-checksum-ip-generic", "tx-vlan-stag-hw-insert", "tx-checksum-sctp"} <= common
    assert {name: found[name].active for name in common} == {name: listed[name] for name in common}


@pytest.mark.parametrize("name", ["tx-checksum-ip-generic", "tx-vlan-stag-hw-insert", "rx-gro"])
def test_only_the_named_offload_changes(here: Path, name: str) -> None:
    before = run_in(here, lambda: offloads("near"))
    wanted = not before[name].wanted
    run_in(here, lambda: set_offloads("near", {name: wanted}))
    after = run_in(here, lambda: offloads("near"))
    assert after[name].active == wanted
    assert {n: o.wanted for n, o in after.items() if n != name} == {n: o.wanted for n, o in before.items() if n != name}


@pytest.mark.parametrize(
    ("interface", "name", "message"),
    [
        ("nothere", "rx-gro", "interface nothere: its offloads cannot be reached: No such device"),
        ("near", "tx-magic", "interface near: this kernel knows no offload called tx-magic"),
    ],
    ids=["interface", "offload"],
)
def test_unknown_names(here: Path, interface: str, name: str, message: str) -> None:
    with pytest.raises(PortError, match=message):
        run_in(here, lambda: set_offloads(interface, {name: True}))
