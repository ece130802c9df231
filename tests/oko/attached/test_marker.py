from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterator

import pytest

from ofext.messages import Message, PacketIn, SetConfig
from oko.attached import marker
from oko.attached.continuation import port_rule
from oko.attached.management import Management
from oko.attached.marker import Marker
from oko.errors import AttachError, PortError
from oko.kernel.namespace import run_in
from oko.kernel.program import load_program
from tests.e2e.wire import frame
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.connected import connected
from tests.oko.attached.following import run
from tests.oko.kernel import assembler as asm
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]


@pytest.fixture(scope="module")
def passing() -> Iterator[int]:
    """An XDP program that passes every frame."""
    with load_program("passing", asm.returns(asm.XDP_PASS), "GPL", references={}) as program:
        yield program.fd


def index(ovs: Laboratory, name: str) -> int:
    return run_in(ovs.namespace, lambda: socket.if_nametoindex(name))


def inside(ovs: Laboratory, main: Coroutine[object, object, None]) -> None:
    """Run in the namespace of the ports."""
    run_in(ovs.namespace, lambda: run(main))


def test_frames_before_a_marker_have_been_sent(ovs: Laboratory, passing: int) -> None:
    count, rounds = 50, 20

    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            await upstream.change([marker.RULE, port_rule(1), port_rule(2)])
            markers = Marker(upstream, passing)
            ifindex = index(ovs, "p1")
            for _ in range(rounds):
                for number in range(count):
                    ovs.wires[1].send(frame(number))
                await markers.drain(ifindex)
                # They have left by the veth, whose other end hands them over in a moment.
                for number in range(count):
                    assert ovs.wires[2].receive() == frame(number)
                assert ovs.wires[2].waiting() == []

    ovs.add("priority=1,actions=output:2")
    inside(ovs, main())


def test_markers_are_for_okod_only(ovs: Laboratory, passing: int) -> None:
    """Neither another connection nor a host sees one."""

    async def main() -> None:
        heard: list[Message] = []
        controller = await Management.connect(ovs.vswitch.management(BRIDGE), heard.append, lambda _: None)
        controller.send(SetConfig(miss_send_len=0xFFFF))
        await controller.barrier()
        async with connected(ovs) as (upstream, _):
            await upstream.change([marker.RULE, port_rule(1)])
            await Marker(upstream, passing).drain(index(ovs, "p1"))
        await controller.barrier()
        controller.close()
        assert heard == []
        assert [ovs.wires[number].waiting() for number in (1, 2, 3)] == [[], [], []]

    inside(ovs, main())


def test_packets_for_controllers_are_not_for_okod(ovs: Laboratory) -> None:
    async def main() -> None:
        arrived: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        controller = await Management.connect(ovs.vswitch.management(BRIDGE), arrived.set_result, lambda _: None)
        controller.send(SetConfig(miss_send_len=0xFFFF))
        await controller.barrier()
        async with connected(ovs) as (upstream, _):
            heard: list[PacketIn] = []
            upstream.listen(heard.append)
            ovs.wires[1].send(frame())
            packet = await arrived
            await upstream.barrier()
        controller.close()
        assert isinstance(packet, PacketIn)
        assert packet.data == frame()
        assert heard == []

    ovs.add("priority=1,actions=controller")
    run(main())


def test_a_port_without_the_rule(ovs: Laboratory, passing: int) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            await upstream.change([marker.RULE, port_rule(1)])
            with pytest.raises(AttachError, match="did not come back"):
                await Marker(upstream, passing).drain(index(ovs, "p2"))

    inside(ovs, main())


def test_an_interface_that_is_not_there(ovs: Laboratory, passing: int) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            with pytest.raises(PortError):
                await Marker(upstream, passing).drain(9999)

    inside(ovs, main())
