from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from ofext.framing import Splitter
from ofext.instructions import ApplyActions, Group
from ofext.messages import (
    EchoReply,
    EchoRequest,
    FlowMod,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    Message,
    decode,
    encode,
)
from ofext.multipart import Desc, DescRequest, FlowStatsReply, FlowStatsRequest
from ofext.oxm import Oxm
from oko.attached.management import Management
from oko.errors import AttachError, RemoteError
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

pytestmark = needs_ovs

IPV4 = Oxm(0x8000, 5, b"\x08\x00")
WITHOUT_PREREQUISITE = FlowMod(priority=4, match=(Oxm(0x8000, 16, b"\0\7"),))
"""Matches a port of UDP, but not UDP."""


async def connect(ovs: Laboratory, heard: list[Message] | None = None, ended: list[str] | None = None) -> Management:
    heard, ended = [] if heard is None else heard, [] if ended is None else ended
    return await Management.connect(ovs.vswitch.management(BRIDGE), heard.append, ended.append)


async def priorities(management: Management) -> list[int]:
    report = await management.report(FlowStatsRequest())
    assert isinstance(report, FlowStatsReply)
    return sorted(entry.priority for entry in report.entries)


def test_questions_and_answers(ovs: Laboratory) -> None:
    async def main() -> None:
        heard: list[Message] = []
        management = await connect(ovs, heard)
        assert isinstance(await management.ask(GetConfigRequest()), GetConfigReply)
        assert await management.ask(EchoRequest(b"again")) == EchoReply(b"again")
        description = await management.report(DescRequest())
        assert isinstance(description, Desc)
        assert "Open vSwitch" in description.hw_desc
        assert await asyncio.gather(*(management.ask(EchoRequest(bytes([each]))) for each in range(20))) == [
            EchoReply(bytes([each])) for each in range(20)
        ]
        assert heard == []
        management.close()

    run(main())


def test_an_answer_of_many_parts(ovs: Laboratory) -> None:
    count = 2000

    async def main() -> None:
        management = await connect(ovs)
        for number in range(count):
            management.send(FlowMod(priority=number, match=(IPV4, Oxm(0x8000, 11, number.to_bytes(4, "big")))))
        await management.barrier()
        assert await priorities(management) == list(range(count))
        management.close()

    run(main())


def test_a_barrier_tells_what_failed(ovs: Laboratory) -> None:
    async def main() -> None:
        management = await connect(ovs)
        management.send(WITHOUT_PREREQUISITE)
        management.send(FlowMod(priority=5))
        with pytest.raises(RemoteError, match="bad-prereq"):
            await management.barrier()
        await management.barrier()
        assert await priorities(management) == [5]
        management.close()

    run(main())


def test_an_error_answers_who_asked(ovs: Laboratory) -> None:
    async def main() -> None:
        management = await connect(ovs)
        with pytest.raises(RemoteError, match="bad-prereq"):
            await management.report(FlowStatsRequest(match=WITHOUT_PREREQUISITE.match))
        management.close()

    run(main())


REFUSED = {
    "when it is read": WITHOUT_PREREQUISITE,
    "when it takes effect": FlowMod(priority=6, instructions=(ApplyActions((Group(77),)),)),
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED.keys())
def test_together_or_not_at_all(ovs: Laboratory, message: Message) -> None:
    async def main() -> None:
        management = await connect(ovs)
        await management.change([FlowMod(priority=1), FlowMod(priority=2)])
        with pytest.raises(RemoteError):
            await management.change([FlowMod(priority=3), message, FlowMod(priority=4)])
        assert await priorities(management) == [1, 2]
        await management.change([FlowMod(priority=3)])
        await management.barrier()
        assert await priorities(management) == [1, 2, 3]
        management.close()

    run(main())


def test_the_end(ovs: Laboratory) -> None:
    async def main() -> None:
        ended: list[str] = []
        management = await connect(ovs, ended=ended)
        # In the event loop, which does not hear of it before the questions.
        ovs.vswitch.stop_switch()
        for _ in range(2):
            with pytest.raises(AttachError, match="the connection ended"):
                await management.barrier()
        assert len(ended) == 1
        management.close()

    try:
        run(main())
    finally:
        ovs.vswitch.start_switch()


def test_closing_fails_what_is_waited_for(ovs: Laboratory) -> None:
    async def main() -> None:
        ended: list[str] = []
        management = await connect(ovs, ended=ended)
        waiting = asyncio.create_task(management.barrier())
        await asyncio.sleep(0)
        management.close()
        with pytest.raises(AttachError, match="was closed"):
            await waiting
        assert ended == []

    run(main())


def test_nobody_listens(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(AttachError, match="does ovs-vswitchd run, with this bridge"):
            await Management.connect(tmp_path / "br0.mgmt", lambda _: None, lambda _: None)

    run(main())


def test_nobody_greets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oko.attached.management._PATIENCE", 0.05)
    path = tmp_path / "br0.mgmt"

    async def main() -> None:
        with pytest.raises(AttachError, match="nobody greets within"):
            await Management.connect(path, lambda _: None, lambda _: None)

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        run(main())


def test_echo_requests_are_answered(tmp_path: Path) -> None:
    """Open vSwitch asks when it has heard nothing for a while, and ends the connection without an answer."""
    path = tmp_path / "br0.mgmt"

    async def main() -> None:
        answers: asyncio.Queue[Message] = asyncio.Queue()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(encode(Hello()) + encode(EchoRequest(b"there?"), 7))
            splitter = Splitter()
            while data := await reader.read(4096):
                for each in splitter.feed(data):
                    message, xid = decode(each)
                    assert xid == 7 or isinstance(message, Hello)
                    answers.put_nowait(message)
            writer.close()
            await writer.wait_closed()
            answers.put_nowait(Hello())

        async with await asyncio.start_unix_server(serve, str(path)):
            management = await Management.connect(path, lambda _: None, lambda _: None)
            assert isinstance(await answers.get(), Hello)
            assert await answers.get() == EchoReply(b"there?")
            management.close()
            await answers.get()

    run(main())
