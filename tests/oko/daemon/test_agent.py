from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ofext.constants import VERSION, Role
from ofext.framing import Splitter
from ofext.load import chunks
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    FeaturesReply,
    FeaturesRequest,
    Hello,
    Message,
    RoleReply,
    RoleRequest,
    decode,
    encode,
)
from oko.daemon.agent import Agent
from oko.daemon.settings import Settings
from oko.errors import SettingsError
from tests.oko.conftest import Compile, Rig
from tests.oko.openflow.certificates import Authority
from tests.oko.openflow.peer import add, error_name

pytestmark = pytest.mark.needs_bpf

HOST = "127.0.0.1"


WRITERS: list[asyncio.StreamWriter] = []
"""Of the far ends, to be closed before the loop is."""


class Peer:
    """The far end of a connection, after the hellos."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._splitter = Splitter()
        WRITERS.append(writer)

    async def ask(self, *messages: Message) -> list[Message]:
        """What the switch answers, up to a barrier's reply."""
        self.writer.write(b"".join(encode(message, 1) for message in (*messages, BarrierRequest())))
        heard: list[Message] = []
        while BarrierReply() not in heard:
            data = await self._reader.read(1 << 16)
            assert data, "the connection ended"
            heard += (decode(message)[0] for message in self._splitter.feed(data))
        return heard[:-1]


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Peer:
    peer = Peer(reader, writer)
    assert [type(message) for message in await peer.ask(Hello())] == [Hello]
    return peer


async def heard_from(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, in whatever way."""
    heard = b""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            heard += data
    return heard


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def serve(rig: Rig, management: Path, body: Callable[[Agent], Awaitable[None]], **settings: Any) -> None:
    """Run `body` while an agent with these settings runs. The loopback interface of the namespace is up."""

    async def both() -> None:
        async with asyncio.timeout(30):
            agent = Agent(rig.bridge, Settings(bridge="br0", **settings), management, lambda: None)
            async with agent:
                try:
                    await body(agent)
                finally:
                    for writer in WRITERS:
                        writer.transport.abort()
                    WRITERS.clear()
                    await asyncio.sleep(0)

    rig.inside(lambda: asyncio.run(both()))


@pytest.fixture
def rig(rig: Rig) -> Rig:
    rig.inside(lambda: os.system("ip link set lo up"))
    return rig


def test_several_connections_have_roles_together(rig: Rig, tmp_path: Path) -> None:
    port = free_port()

    async def body(agent: Agent) -> None:
        local = await connected(*await asyncio.open_unix_connection(tmp_path / "mgmt"))
        remote = await connected(*await asyncio.open_connection(HOST, port))
        other = await connected(*await asyncio.open_unix_connection(tmp_path / "other"))
        assert agent.connections == 3
        for path in ("mgmt", "other"):
            assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o600
        assert await local.ask(RoleRequest(Role.MASTER, 5)) == [RoleReply(Role.MASTER, 5)]
        assert await remote.ask(RoleRequest(Role.MASTER, 6)) == [RoleReply(Role.MASTER, 6)]
        assert await local.ask(RoleRequest(Role.NOCHANGE, 0)) == [RoleReply(Role.SLAVE, 6)]
        assert await other.ask(RoleRequest(Role.NOCHANGE, 0)) == [RoleReply(Role.EQUAL, 6)]
        refused = [*await local.ask(add("actions=drop")), *await other.ask(RoleRequest(Role.SLAVE, 4))]
        assert [error_name(answer) for answer in refused] == ["bad-request/is-slave", "role-request-failed/stale"]
        assert await remote.ask(add("actions=drop")) == []
        remote.writer.close()
        while agent.connections != 2:
            await asyncio.sleep(0)
        for peer in (local, other):
            (features,) = await peer.ask(FeaturesRequest())
            assert isinstance(features, FeaturesReply)
            assert (features.datapath_id, features.auxiliary_id) == (0xABC, 0)

    connections = [{"endpoint": f"ptcp:{port}"}, {"endpoint": f"punix:{tmp_path / 'other'}"}]
    serve(rig, tmp_path / "mgmt", body, connections=connections, dpid=0xABC)
    assert not (tmp_path / "mgmt").exists()


def test_who_may_load_is_a_matter_of_the_endpoint(
    rig: Rig, tmp_path: Path, counting: Compile, caplog: pytest.LogCaptureFixture
) -> None:
    ports = {may: free_port() for may in (False, True)}
    (load,) = chunks(1, "counter", counting())

    async def body(_agent: Agent) -> None:
        stranger = await connected(*await asyncio.open_connection(HOST, ports[False]))
        friend = await connected(*await asyncio.open_connection(HOST, ports[True]))
        (refused,) = await stranger.ask(load)
        assert error_name(refused) == "bad-request/eperm"
        assert rig.bridge.programs.counted() == []
        await friend.ask(load)
        assert [loaded.name for loaded, _, _ in rig.bridge.programs.counted()] == ["counter"]
        assert await stranger.ask(add("filter_prog=1,actions=drop")) == []
        assert len(rig.bridge.tables) == 1

    with caplog.at_level(logging.INFO, "oko"):
        serve(
            rig,
            tmp_path / "mgmt",
            body,
            connections=[{"endpoint": f"ptcp:{port}", "may_load": may} for may, port in ports.items()],
        )
    said = [re.sub(r"127\.0\.0\.1:\d+$|127\.0\.0\.1:\d+(?=: [rl])", "X", record.message) for record in caplog.records]
    program = f"program 1, name counter, sha256 {load.digest.hex()}"
    assert any(
        line.startswith(f"ptcp:{ports[False]}:127.0.0.1 from X: load: {program}: ProgramLoad: ") for line in said
    )
    assert (
        f"ptcp:{ports[True]}:127.0.0.1 from X: load: program 1, name counter, sha256 {load.digest.hex()}: done" in said
    )


def test_tls_with_certificates_on_both_sides(rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    ours, theirs = authority.sign("switch"), authority.sign("controller")
    without = ssl.create_default_context(cafile=str(authority.certificate))
    without.check_hostname = False

    async def body(agent: Agent) -> None:
        peer = await connected(*await asyncio.open_connection(HOST, port, ssl=theirs.context(server=False)))
        assert await peer.ask(RoleRequest(Role.MASTER, 1)) == [RoleReply(Role.MASTER, 1)]
        # One without a certificate, one that does not speak TLS: neither hears a word.
        reader, writer = await asyncio.open_connection(HOST, port, ssl=without)
        assert await heard_from(reader) == b""
        writer.transport.abort()
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(encode(Hello(), 1))
        assert VERSION not in await heard_from(reader)
        writer.transport.abort()
        peer.writer.close()
        while agent.connections:
            await asyncio.sleep(0)

    tls = dict(zip(("private_key", "certificate", "ca_certificate"),
                   (ours.private_key, ours.certificate, ours.ca_certificate), strict=True))  # fmt: skip
    with caplog.at_level(logging.INFO, "oko"):
        serve(rig, tmp_path / "mgmt", body, connections=[{"endpoint": f"pssl:{port}"}], tls=tls)
    said = " ".join(record.message for record in caplog.records)
    assert "(controller): connected" in said
    assert said.count("refused: TLS: ") == 2


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "ssl"])
def test_controllers_are_connected_to(rig: Rig, tmp_path: Path, secure: bool) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    ours, theirs = authority.sign("switch"), authority.sign("controller")
    heard: list[Message] = []

    async def body(_agent: Agent) -> None:
        done = asyncio.Event()

        async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = await connected(reader, writer)
            heard.extend(await peer.ask(FeaturesRequest()))
            writer.close()
            if len(heard) == 2:
                done.set()

        context = theirs.context(server=True) if secure else None
        server = await asyncio.start_server(control, HOST, port, ssl=context)
        await done.wait()
        server.close()

    serve(
        rig,
        tmp_path / "mgmt",
        body,
        connections=[{"endpoint": f"{'ssl' if secure else 'tcp'}:{HOST}:{port}"}],
        tls={name: getattr(ours, name) for name in ("private_key", "certificate", "ca_certificate")},
        max_backoff=1.0,
    )
    assert [type(message) for message in heard] == [FeaturesReply] * 2


def test_a_controller_of_another_name_is_not_spoken_to(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    ours = authority.sign("switch")
    theirs = {name: authority.sign(name, f"DNS:{name}.example") for name in ("first", "second")}
    ports = {name: free_port() for name in theirs}

    async def body(_agent: Agent) -> None:
        async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await connected(reader, writer)
            greeted.set()

        async def refuse(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            raise AssertionError("it is spoken to")

        greeted = asyncio.Event()
        servers = [
            await asyncio.start_server(how, HOST, ports[name], ssl=theirs[name].context(server=True))
            for name, how in (("first", control), ("second", refuse))
        ]
        await greeted.wait()
        while not any("ismatch" in record.message for record in caplog.records):
            await asyncio.sleep(0.001)
        for server in servers:
            server.close()

    serve(
        rig,
        tmp_path / "mgmt",
        body,
        connections=[{"endpoint": f"ssl:{HOST}:{port}", "peer_name": "first.example"} for port in ports.values()],
        tls={name: getattr(ours, name) for name in ("private_key", "certificate", "ca_certificate")},
    )
    (said,) = [record.message for record in caplog.records if "CERTIFICATE" in record.message]
    assert said.startswith(f"ssl:{HOST}:{ports['second']}: not connected: ")
    assert "first.example" in said


def test_more_peers_than_may_connect(rig: Rig, tmp_path: Path) -> None:
    async def body(_agent: Agent) -> None:
        first = await connected(*await asyncio.open_unix_connection(tmp_path / "other"))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "other")
        assert await heard_from(reader) == b""
        writer.close()
        for _ in range(2):
            await connected(*await asyncio.open_unix_connection(tmp_path / "mgmt"))
        assert await first.ask() == []

    serve(rig, tmp_path / "mgmt", body, connections=[{"endpoint": f"punix:{tmp_path / 'other'}"}], max_connections=1)


@pytest.mark.parametrize("secure", [False, True], ids=["ptcp", "pssl"])
def test_peers_that_say_nothing_keep_nobody_out(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture, secure: bool
) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    ours, theirs = authority.sign("switch"), authority.sign("controller")

    async def body(_agent: Agent) -> None:
        silent = [await asyncio.open_connection(HOST, port) for _ in range(8)]
        WRITERS.extend(writer for _, writer in silent)
        context = theirs.context(server=False) if secure else None
        for _ in range(8):
            await connected(*await asyncio.open_connection(HOST, port, ssl=context))
        for reader, _ in silent[:-1]:
            await heard_from(reader)

    serve(
        rig,
        tmp_path / "mgmt",
        body,
        connections=[{"endpoint": f"{'pssl' if secure else 'ptcp'}:{port}"}],
        tls={name: getattr(ours, name) for name in ("private_key", "certificate", "ca_certificate")},
        max_connections=8,
        inactivity_probe=20.0,
    )
    assert sum("it has said nothing" in record.message for record in caplog.records) == 7, "the last has a place"


def test_loads_of_all_connections_share_a_budget(rig: Rig, tmp_path: Path, counting: Compile) -> None:
    elf = counting()
    first, *rest = chunks(1, "counter", elf, size=len(elf) // 2)

    async def body(agent: Agent) -> None:
        one, other = [await connected(*await asyncio.open_unix_connection(tmp_path / "mgmt")) for _ in range(2)]
        assert await one.ask(first) == []
        assert [error_name(answer) for answer in await other.ask(first)] == ["too-many-loads"]
        one.writer.close()
        while agent.connections != 1:
            await asyncio.sleep(0)
        assert len(await other.ask(first, *rest)) == 1
        assert [loaded.name for loaded, _, _ in rig.bridge.programs.counted()] == ["counter"]

    serve(rig, tmp_path / "mgmt", body, limits={"all_object_bytes": 1})


def test_an_endpoint_that_cannot_be_listened_at(rig: Rig, tmp_path: Path) -> None:
    async def body(_agent: Agent) -> None:
        raise AssertionError("it listens")

    for endpoint, complaint in (
        ("ptcp:7000:127.0.0.1", "cannot listen on 127.0.0.1 port 7000: "),
        (f"punix:{tmp_path}/none/a", "none/a: No such file or directory"),
    ):
        with rig.inside(lambda: socket.create_server((HOST, 7000))), pytest.raises(SettingsError, match=complaint):
            serve(rig, tmp_path / "mgmt", body, connections=[{"endpoint": endpoint}])
        assert not (tmp_path / "mgmt").exists()


def test_only_sockets_are_replaced(rig: Rig, tmp_path: Path) -> None:
    async def body(_agent: Agent) -> None:
        await connected(*await asyncio.open_unix_connection(tmp_path / "other"))

    connections = [{"endpoint": f"punix:{tmp_path / 'other'}"}]
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "other"))
    serve(rig, tmp_path / "mgmt", body, connections=connections)
    (tmp_path / "other").write_text("precious")
    with pytest.raises(SettingsError, match="other is there, and no socket"):
        serve(rig, tmp_path / "mgmt", body, connections=connections)
    assert (tmp_path / "other").read_text() == "precious"
