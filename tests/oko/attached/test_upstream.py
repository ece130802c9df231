from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from ofext.messages import FlowMod
from ofext.oxm import Oxm
from oko.attached import shim
from oko.attached.management import Management
from oko.attached.unixctl import Unixctl
from oko.attached.upstream import Changed, Followed, Lost, Paused, PortsSet, Resumed, Upstream
from oko.errors import AttachError, RemoteError
from tests.e2e.wire import EXPERIMENTAL, frame
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.connected import connected, described, told
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

pytestmark = needs_ovs

COMMANDS = {
    "an add": (("add-flow", "priority=5,udp,actions=output:1"), ["ADDED priority=5,udp"]),
    "an add in place of another": (("add-flow", "priority=7,ip,actions=output:2"), ["ADDED priority=7,ip"]),
    "an add to another table": (("add-flow", "table=3,priority=5,udp,actions=output:1"), []),
    "a modification": (("mod-flows", "ip,actions=output:3"), ["MODIFIED priority=7,ip"]),
    "a modification that changes nothing": (("mod-flows", "ip,actions=output:1"), []),
    "a deletion": (("del-flows", "ip"), ["DELETED DELETE priority=7,ip"]),
    "a deletion of all": (
        ("del-flows",),
        ["DELETED DELETE priority=6,arp", "DELETED DELETE priority=65534,dl_type=0x894f ?nsh_mdtype ?nsh_np ?nsh_si",
         "DELETED DELETE priority=7,ip"],
    ),
    "a strict deletion": (("--strict del-flows", "priority=6,arp"), ["DELETED DELETE priority=6,arp"]),
}  # fmt: skip
"""A command of ovs-ofctl, and what is told of it."""


@pytest.mark.parametrize(("command", "expected"), COMMANDS.values(), ids=COMMANDS.keys())
def test_what_operators_do_is_told(ovs: Laboratory, command: tuple[str, ...], expected: list[str]) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            assert sorted(described(rule) for rule in upstream.rules) == [
                "priority=6,arp",
                "priority=7,ip",
            ]
            await asyncio.to_thread(ovs.vswitch.ofctl, command[0], BRIDGE, *command[1:])
            await upstream.barrier()
            events = heard.waiting()
            assert all(isinstance(event, Changed) for event in events)
            changes = [change for event in events if isinstance(event, Changed) for change in event.changes]
            assert sorted(told(change) for change in changes) == expected

    ovs.add("priority=7,ip,actions=output:1", "priority=6,arp,actions=output:1")
    run(main())


def test_what_open_vswitch_does_by_itself_is_told(ovs: Laboratory) -> None:
    """It learns a rule from a frame, and forgets it."""

    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            ovs.wires[1].send(frame())
            learned = await heard.change()
            assert told(learned) == "ADDED priority=9,dl_src=02:00:00:00:00:01"
            assert learned.rule.hard_timeout == 1
            assert learned.rule in set(upstream.rules)
            forgotten = await heard.change()
            assert told(forgotten) == "DELETED HARD_TIMEOUT priority=9,dl_src=02:00:00:00:00:01"
            assert learned.rule not in set(upstream.rules)

    ovs.add("priority=5,actions=learn(table=0,priority=9,hard_timeout=1,NXM_OF_ETH_SRC[])")
    run(main())


def test_a_rule_that_is_idle(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (_, heard):
            await asyncio.to_thread(ovs.add, "priority=5,udp,idle_timeout=1,actions=drop")
            assert (await heard.change()).rule.idle_timeout == 1
            assert told(await heard.change()) == "DELETED IDLE_TIMEOUT priority=5,udp"

    run(main())


def test_rules_of_a_group_that_is_deleted(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (_, heard):
            await asyncio.to_thread(ovs.vswitch.ofctl, "del-groups", BRIDGE)
            assert told(await heard.change()) == "DELETED GROUP_DELETE priority=5,udp"

    ovs.vswitch.ofctl("add-group", BRIDGE, "group_id=1,type=all,bucket=output:1")
    ovs.add("priority=5,udp,actions=group:1")
    run(main())


def test_a_rule_that_has_to_go_for_another(ovs: Laboratory) -> None:
    """The table holds as many as there are, Oko's own rule among them. Of the other one nothing is told."""

    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            await asyncio.to_thread(ovs.vswitch.vsctl, *LIMITED.split())
            await asyncio.to_thread(ovs.add, "priority=7,udp,hard_timeout=100,actions=drop")
            assert told(await heard.change()) == "DELETED EVICTION priority=6,udp"
            assert "evicted" in (await heard.next(Lost)).reason
            await heard.next(Followed)
            assert [rule.priority for rule in upstream.rules] == [7]

    ovs.add("priority=6,udp,hard_timeout=100,actions=drop")
    try:
        run(main())
    finally:
        ovs.vswitch.vsctl("clear", "bridge", BRIDGE, "flow_tables")


LIMITED = "--id=@t create flow_table flow_limit=2 overflow_policy=evict -- set bridge br0 flow_tables:0=@t"


def test_settings_of_ports_are_told(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            for word, expected in (("no-forward", True), ("forward", False)):
                await asyncio.to_thread(ovs.vswitch.ofctl, "mod-port", BRIDGE, "p1", word)
                await heard.next(PortsSet)
                assert bool(upstream.ports.withheld(1)) is expected

    run(main())


def test_fragments_that_are_handled_otherwise_keep_it_from_following(
    ovs: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    """And are left as they are."""

    async def main() -> None:
        async def given_back() -> None:
            while "set-frags BRIDGE normal" not in caplog.text:
                await asyncio.sleep(0)
            assert "drop" in await asyncio.to_thread(ovs.vswitch.ofctl, "get-frags", BRIDGE)
            await asyncio.to_thread(ovs.vswitch.ofctl, "set-frags", BRIDGE, "normal")

        giving_back = asyncio.create_task(given_back())
        async with connected(ovs) as (upstream, _):
            await giving_back
            assert upstream.following

    ovs.vswitch.ofctl("set-frags", BRIDGE, "drop")
    run(main())


def test_own_changes_are_not_told(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            await upstream.change([FlowMod(cookie=shim.OWN_COOKIE, priority=65535, match=shim.match(5))])
            await upstream.barrier()
            assert heard.waiting() == []
            assert "nsh_spi=0x5" in await asyncio.to_thread(ovs.vswitch.ofctl, "dump-flows", BRIDGE)
            await asyncio.to_thread(ovs.delete)
            changes = (await heard.next(Changed)).changes
            assert [change.rule.own for change in changes] == [True, True]

    run(main())


def test_changes_together_or_not_at_all(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            before = await asyncio.to_thread(ovs.vswitch.ofctl, "--no-stats dump-flows", BRIDGE)
            with pytest.raises(RemoteError, match="bad-prereq"):
                await upstream.change([FlowMod(priority=3), FlowMod(priority=4, match=UDP_PORT)])
            assert await asyncio.to_thread(ovs.vswitch.ofctl, "--no-stats dump-flows", BRIDGE) == before

    run(main())


def test_own_rules_are_spared_by_their_cookie(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            await asyncio.to_thread(ovs.delete, f"cookie=0/{shim.OWN_COOKIE:#x}")
            await upstream.barrier()
            assert len(upstream.rules) == 0
            left = await asyncio.to_thread(ovs.vswitch.ofctl, "dump-flows", BRIDGE)
            assert left.count("priority=") == 1
            assert f"priority={shim.DROP_PRIORITY}" in left

    ovs.add("priority=5,udp,actions=drop")
    run(main())


def test_a_reader_that_is_slow_knows_all_in_the_end(ovs: Laboratory, tmp_path: Path) -> None:
    """Open vSwitch stops telling when too much waits, says so, and makes up for it."""
    count = 8000
    flows = tmp_path / "flows"
    long = ",".join(f"reg{number}=0xffffffff" for number in range(14))
    flows.write_text(
        "".join(f"priority={priority + 1},{long},actions=output:1\n" for priority in range(count))
        + "".join(f"delete_strict priority={priority + 1},{long}\n" for priority in range(0, count, 2))
    )

    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            # The event loop, and with it the reader, stands still meanwhile.
            ovs.vswitch.ofctl("add-flows", BRIDGE, str(flows))
            await heard.next(Paused)
            assert not upstream.following
            await heard.next(Resumed)
            assert upstream.following
            await upstream.barrier()
            assert {rule.priority for rule in upstream.rules} == set(range(2, count + 1, 2))

    run(main())


@pytest.mark.parametrize("abruptly", [False, True], ids=["ended", "killed"])
def test_open_vswitch_restarts(ovs: Laboratory, abruptly: bool) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, heard):
            await asyncio.to_thread(ovs.add, "priority=5,udp,actions=drop")
            await heard.change()
            await asyncio.to_thread(lambda: ovs.vswitch.stop_switch(abruptly=abruptly))
            assert "by ovs-vswitchd" in (await heard.next(Lost)).reason
            assert not upstream.following
            assert len(upstream.rules) == 0
            with pytest.raises(AttachError, match="does ovs-vswitchd run"):
                await upstream.barrier()
            await asyncio.to_thread(ovs.vswitch.start_switch)
            await heard.next(Followed)
            assert upstream.following
            assert len(upstream.rules) == 0
            assert f"priority={shim.DROP_PRIORITY}" in await asyncio.to_thread(ovs.vswitch.ofctl, "dump-flows", BRIDGE)

    run(main())


def test_a_bridge_that_is_not_there(ovs: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    """It is followed as soon as it is."""

    async def main() -> None:
        async def made() -> None:
            while "does ovs-vswitchd run, with this bridge" not in caplog.text:
                await asyncio.sleep(0)
            await asyncio.to_thread(ovs.vswitch.vsctl, "add-br", "br1", "--", "set", "bridge", "br1", NETDEV, SECURE)

        making = asyncio.create_task(made())
        async with connected(ovs, "br1") as (upstream, heard):
            await making
            assert upstream.following
            await asyncio.to_thread(ovs.vswitch.vsctl, "del-br", "br1")
            await heard.next(Lost)
        assert caplog.text.count("does ovs-vswitchd run") <= 2

    run(main())


UDP_PORT = (Oxm(0x8000, 16, b"\0\7"),)
DELETE_STRICT = 4
NETDEV, SECURE = "datapath_type=netdev", "fail_mode=secure"


def test_a_bridge_without_openflow_13(ovs: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        upstream = Upstream(ovs.vswitch.management(BRIDGE), Unixctl(ovs.vswitch.control), lambda _: None)
        running = asyncio.create_task(upstream.run())
        while "not connected" not in caplog.text:
            await asyncio.sleep(0)
        running.cancel()
        assert "OpenFlow 1.3" in caplog.text or "hello-failed" in caplog.text

    ovs.vswitch.vsctl("set", "bridge", BRIDGE, "protocols=OpenFlow10")
    try:
        run(main())
    finally:
        ovs.vswitch.vsctl("clear", "bridge", BRIDGE, "protocols")


def test_settled_is_settled(ovs: Laboratory) -> None:
    """A rule that drops, added above another that forwards, holds for every frame that comes after settling, although
    the datapath knows a flow of the other."""
    upper = FlowMod(priority=9, match=(Oxm(0x8000, 5, EXPERIMENTAL.to_bytes(2, "big")),))
    rounds = 50

    async def main() -> None:
        controller = await Management.connect(ovs.vswitch.management(BRIDGE), lambda _: None, lambda _: None)
        async with connected(ovs) as (upstream, _):
            for number in range(rounds):
                ovs.wires[1].send(frame(2 * number))
                assert await asyncio.to_thread(ovs.wires[2].receive) == frame(2 * number)
                controller.send(upper)
                await controller.barrier()
                await upstream.settle()
                ovs.wires[1].send(frame(2 * number + 1))
                # It has been dropped when the next one, which another rule sends, has arrived.
                ovs.wires[3].send(frame(2 * number + 1, source=3))
                assert await asyncio.to_thread(ovs.wires[2].receive) == frame(2 * number + 1, source=3)
                controller.send(replace(upper, command=DELETE_STRICT))
                await controller.barrier()
                await upstream.settle()
            assert ovs.wires[2].waiting() == []
        controller.close()

    ovs.add("priority=1,actions=output:2", "priority=10,in_port=3,actions=output:2")
    run(main())


def test_settling_without_a_connection(ovs: Laboratory, tmp_path: Path) -> None:
    async def main() -> None:
        upstream = Upstream(tmp_path / "br0.mgmt", Unixctl(ovs.vswitch.control), lambda _: None)
        with pytest.raises(AttachError, match="not connected"):
            await upstream.settle()

    run(main())


def test_an_ovs_vswitchd_that_does_not_answer_echoes_to_strangers(tmp_path: Path) -> None:
    """What listens is not a switch: the connection ends, and the next attempt comes."""
    path = tmp_path / "br0.mgmt"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        async def main() -> None:
            upstream = Upstream(path, Unixctl(tmp_path / "none"), lambda _: None)
            running = asyncio.create_task(upstream.run())
            for _ in range(2):
                stranger, _ = await asyncio.to_thread(listener.accept)
                stranger.sendall(b"\x04\x00\x00\x03")
                while await asyncio.to_thread(stranger.recv, 4096):
                    pass
                stranger.close()
            running.cancel()

        run(main())
