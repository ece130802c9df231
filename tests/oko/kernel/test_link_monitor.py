from __future__ import annotations

import asyncio
import select
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oko.kernel.interface import interface, set_up
from oko.kernel.link_monitor import LinkEvent, LinkGone, LinkMonitor, LinkState, ResyncNeeded, link_state
from oko.kernel.namespace import run_in
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf  # namespaces need the same privilege


def ip(path: Path, command: str) -> None:
    subprocess.run(["ip", "-n", path.name, *command.split()], check=True)


@pytest.fixture
def here(namespace: Callable[[str], Path]) -> Path:
    """A namespace with the veth pair near – far, down."""
    path = namespace("monitor")
    ip(path, "link add near address 02:00:00:00:00:07 mtu 1400 type veth peer name far")
    return path


@pytest.fixture
def monitor(here: Path) -> Iterator[LinkMonitor]:
    with run_in(here, LinkMonitor) as made:
        yield made


def near(here: Path) -> LinkState:
    found = run_in(here, lambda: link_state(interface("near").index))
    assert isinstance(found, LinkState)
    return found


def told(monitor: LinkMonitor, wanted: LinkEvent) -> list[LinkEvent]:
    """The events up to the round in which the wanted one comes."""
    seen: list[LinkEvent] = []

    def come() -> bool:
        seen.extend(monitor.read())
        return wanted in seen

    wait_until(come)
    return seen


def test_state_of_an_interface(here: Path) -> None:
    state = near(here)
    index = run_in(here, lambda: interface("near").index)
    assert state == LinkState(index, "near", 1400, bytes.fromhex("020000000007"), up=False, running=False)
    assert run_in(here, lambda: link_state(999)) == LinkGone(999)


def test_nothing_to_tell(monitor: LinkMonitor) -> None:
    assert monitor.read() == []


def test_up_and_down_of_either_end(here: Path, monitor: LinkMonitor) -> None:
    state = near(here)
    for command, up, running in (
        ("link set near up", True, False),
        ("link set far up", True, True),
        ("link set far down", True, False),
        ("link set far up", True, True),
        ("link set near down", False, False),
    ):
        ip(here, command)
        expected = replace(state, up=up, running=running)
        told(monitor, expected)
        assert expected.live == running
        assert near(here) == expected


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        ("link set near name other", {"name": "other"}),
        ("link set near mtu 1300", {"mtu": 1300}),
        ("link set near address 02:00:00:00:00:08", {"mac": bytes.fromhex("020000000008")}),
    ],
    ids=["renamed", "MTU", "address"],
)
def test_change(here: Path, monitor: LinkMonitor, command: str, changes: dict[str, Any]) -> None:
    expected = replace(near(here), **changes)
    ip(here, command)
    told(monitor, expected)


def test_new_interface(here: Path, monitor: LinkMonitor) -> None:
    ip(here, "link add third index 77 mtu 1200 type bridge")
    seen = told(monitor, run_in(here, lambda: link_state(77)))
    assert LinkGone(77) not in seen


def test_deleted_with_its_peer(here: Path, monitor: LinkMonitor) -> None:
    gone = run_in(here, lambda: [LinkGone(interface(name).index) for name in ("near", "far")])
    ip(here, "link delete near")
    seen: list[LinkEvent] = []
    for event in gone:
        if event not in seen:
            seen += told(monitor, event)


def test_moved_to_another_namespace(here: Path, monitor: LinkMonitor, namespace: Callable[[str], Path]) -> None:
    index = near(here).index
    ip(here, f"link set near netns {namespace('there').name}")
    told(monitor, LinkGone(index))
    assert run_in(here, lambda: link_state(index)) == LinkGone(index)


def test_leaving_a_bridge_is_not_going_away(here: Path, monitor: LinkMonitor) -> None:
    ip(here, "link add inside type bridge")
    ip(here, "link set near master inside")
    ip(here, "link set near nomaster")
    ip(here, "link set near mtu 1300")
    seen = told(monitor, near(here))
    assert LinkGone(near(here).index) not in seen


def test_overrun_asks_for_a_resync_and_then_all_is_told_again(here: Path, monitor: LinkMonitor) -> None:
    index = near(here).index

    def too_much() -> None:
        for _ in range(500):
            set_up(index)
            set_up(index, False)

    run_in(here, too_much)
    assert monitor.read() == [ResyncNeeded()]
    assert monitor.read() == []
    ip(here, "link set near mtu 1300")
    told(monitor, replace(near(here), mtu=1300))


def test_descriptor_is_readable_while_there_is_something_to_tell(here: Path, monitor: LinkMonitor) -> None:
    waiting = select.poll()
    waiting.register(monitor, select.POLLIN)
    assert not waiting.poll(0)
    ip(here, "link set near mtu 1300")
    assert waiting.poll(10_000)
    told(monitor, near(here))
    wait_until(lambda: not monitor.read() and not waiting.poll(0))


def test_inside_a_running_event_loop(here: Path) -> None:
    async def listen() -> list[LinkEvent]:
        with LinkMonitor() as monitor:
            loop, come = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(monitor, come.set)
            loop.call_soon(set_up, interface("near").index)
            try:
                await asyncio.wait_for(come.wait(), 10)
            finally:
                loop.remove_reader(monitor)
            return monitor.read()

    events = run_in(here, lambda: asyncio.run(listen()))
    assert near(here) in events
    assert near(here).up


def test_other_namespaces_are_none_of_its_business(monitor: LinkMonitor, namespace: Callable[[str], Path]) -> None:
    ip(namespace("there"), "link add third type bridge")
    assert monitor.read() == []


def test_closing_twice(here: Path) -> None:
    monitor = run_in(here, LinkMonitor)
    monitor.close()
    monitor.close()
