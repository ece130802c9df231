from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oko.errors import KernelError, PortError
from oko.kernel.interface import interface, interface_at, set_mtu, set_up
from oko.kernel.namespace import run_in

pytestmark = pytest.mark.needs_bpf  # namespaces need the same privilege


@pytest.fixture
def pair(namespace: Callable[[str], Path]) -> tuple[Path, Path]:
    """Two namespaces with one end of a veth pair each, `near` and `far`."""
    here, there = namespace("here"), namespace("there")
    command = "link add near address 02:00:00:00:00:07 mtu 1400 type veth peer name far netns"
    subprocess.run(["ip", "-n", here.name, *command.split(), there.name], check=True)
    return here, there


def test_what_an_interface_is(pair: tuple[Path, Path]) -> None:
    here, there = pair
    near = run_in(here, lambda: interface("near"))
    far = run_in(there, lambda: interface("far"))
    assert (near.name, near.mtu, near.mac, near.kind) == ("near", 1400, bytes.fromhex("020000000007"), "veth")
    assert (near.peer_index, far.peer_index) == (far.index, near.index)
    assert near.peer_namespace_id is not None
    assert run_in(here, lambda: interface_at(near.index)) == near


def test_peer_is_seen_from_here(pair: tuple[Path, Path]) -> None:
    here, _ = pair

    def peer_name() -> str:
        near = interface("near")
        assert near.peer_index is not None
        return interface_at(near.peer_index, namespace_id=near.peer_namespace_id).name

    assert run_in(here, peer_name) == "far"


def test_up_and_down(pair: tuple[Path, Path]) -> None:
    def states() -> list[bool]:
        index = interface("near").index
        seen = [interface("near").up]
        for up in (True, False):
            set_up(index, up)
            seen.append(interface("near").up)
        return seen

    assert run_in(pair[0], states) == [False, True, False]


def test_loopback_has_no_kind_and_no_peer() -> None:
    loopback = interface("lo")
    assert (loopback.index, loopback.kind, loopback.peer_index) == (1, "", None)


def test_inside_a_running_event_loop() -> None:
    async def ask() -> int:
        return interface("lo").index

    assert asyncio.run(ask()) == 1


def test_missing_interface() -> None:
    with pytest.raises(PortError, match="interface nothere does not exist in this network namespace"):
        interface("nothere")
    with pytest.raises(PortError, match="interface number 424242 does not exist"):
        interface_at(424242)


def test_the_mtu_is_set(pair: tuple[Path, Path]) -> None:
    here, there = pair
    index = run_in(here, lambda: interface("near").index)
    run_in(here, lambda: set_mtu(index, 1426))
    assert run_in(here, lambda: interface("near").mtu) == 1426
    assert run_in(there, lambda: interface("far").mtu) == 1500
    with pytest.raises(KernelError, match=f"setting the MTU of interface number {index} to 70000: Invalid argument"):
        run_in(here, lambda: set_mtu(index, 70000))
