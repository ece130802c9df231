from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ofext.constants import PacketInReason
from ofext.instructions import ApplyActions, Output
from ofext.messages import BarrierReply, BarrierRequest, FeaturesReply, FeaturesRequest, FlowMod, PacketIn
from oko.attached.detach import UNDO
from oko.attached.endpoint import Mode, NameTaken, TargetTaken, answers, give_back_name, give_back_target
from oko.attached.record import Record
from oko.errors import AttachError
from oko.openflow.terms import TRUSTED
from oko.openflow.tls import TlsFiles
from tests.e2e.wire import frame
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run, vsctl
from tests.oko.attached.ofctl import ofctl
from tests.oko.attached.proxied import FakeController, Line, Logged, controllers, free_port, proxied
from tests.oko.openflow.certificates import Authority
from tests.ovs import needs_ovs

pytestmark = needs_ovs

RESERVED = "priority=65535,actions=drop"
"""What Open vSwitch takes, and Oko does not."""


@pytest.fixture
def record(ovs: Laboratory, tmp_path: Path) -> Iterator[Record]:
    """An empty one; what is in it at the end is given back."""
    made = Record(tmp_path / "br0.attached", tuple(UNDO))
    yield made

    async def give_back() -> None:
        for change in made:
            await UNDO[type(change)](change)

    asyncio.run(give_back())
    ovs.vswitch.vsctl("del-controller", BRIDGE)
    left = sorted(path.name for path in ovs.vswitch.directory.glob(f"{BRIDGE}.*"))
    assert left == [f"{BRIDGE}.mgmt", f"{BRIDGE}.snoop"]


# ---- the name


def identity(path: Path) -> list[int]:
    """What tells a socket from another, and who may use it."""
    found = path.stat()
    return [found.st_ino, found.st_mode, found.st_uid, found.st_gid]


def test_tools_reach_oko_by_the_name_of_the_bridge(ovs: Laboratory, record: Record) -> None:
    async def main() -> None:
        name = ovs.vswitch.management(BRIDGE)
        before = identity(name)
        async with proxied(ovs, record) as endpoint:
            assert list(record) == [NameTaken(str(name))]
            inode, *rights = identity(name)
            assert inode != before[0]
            assert rights == before[1:]
            assert identity(endpoint.upstream) == before
            await ofctl(name, "add-flow", RESERVED, fails=True)
            await ofctl(endpoint.upstream, "add-flow", RESERVED)
        await ofctl(name, "show", fails=True)
        await give_back_name(NameTaken(str(name)))
        assert identity(name) == before
        await ofctl(name, "del-flows")
        await give_back_name(NameTaken(str(name)))
        assert identity(name) == before

    run(main())


def test_there_is_always_somebody_at_the_name(ovs: Laboratory, record: Record) -> None:
    """While it is taken, too: whoever connects finds a switch."""
    name = ovs.vswitch.management(BRIDGE)

    async def main() -> None:
        over = threading.Event()

        def knock() -> int:
            times = 0
            while not over.is_set():
                with socket.socket(socket.AF_UNIX) as knocking:
                    knocking.settimeout(5)
                    knocking.connect(str(name))
                    times += 1
                    # One that is taken as the name changes hands may be ended at once.
                    with suppress(ConnectionResetError):
                        knocking.recv(16)
            return times

        knocking = asyncio.create_task(asyncio.to_thread(knock))
        try:
            await asyncio.to_thread(ovs.vswitch.ofctl, "show", BRIDGE)
            async with proxied(ovs, record):
                await asyncio.to_thread(ovs.vswitch.ofctl, "show", BRIDGE)
                over.set()
                assert await knocking > 2
        finally:
            over.set()

    run(main())


@pytest.mark.parametrize("abruptly", [False, True], ids=["ended", "killed"])
def test_open_vswitch_begins_anew(ovs: Laboratory, record: Record, abruptly: bool) -> None:
    name = ovs.vswitch.management(BRIDGE)

    async def main() -> None:
        async with proxied(ovs, record) as endpoint:
            with Logged(f"socket {name}: Open vSwitch has begun anew") as log:
                await asyncio.to_thread(ovs.vswitch.stop_switch, abruptly=abruptly)
                assert name.exists() is abruptly
                await asyncio.to_thread(ovs.vswitch.start_switch)
                await log.written()
            assert answers(endpoint.upstream)
            assert endpoint.upstream.stat().st_ino != name.stat().st_ino
            await ofctl(name, "add-flow", RESERVED, fails=True)
            await ofctl(name, "add-flow", "actions=drop")

    run(main())
    asyncio.run(give_back_name(NameTaken(str(name))))
    assert stat.S_ISSOCK(name.stat().st_mode)
    ovs.vswitch.ofctl("dump-flows", BRIDGE)
    record.remove(NameTaken(str(name)))


def stale(path: Path) -> None:
    """A socket that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(path))


def begun(name: Path, step: int) -> None:
    """What an okod leaves that is killed at this step of taking the name."""
    beside, draft = NameTaken(str(name)).beside, NameTaken(str(name)).draft
    if step == 1:
        os.link(name, draft)
    if step >= 2:
        os.link(name, beside)
    if step >= 3:
        stale(draft)
    if step == 4:
        draft.rename(name)


KILLED = {"a link made": 1, "the other name there": 2, "its own socket bound": 3, "the name taken": 4}


@pytest.mark.parametrize("step", KILLED.values(), ids=KILLED)
def test_an_okod_that_was_killed_while_it_took_the_name(ovs: Laboratory, record: Record, step: int) -> None:
    """Whatever it left, the name can be given back, and be taken again."""
    name = ovs.vswitch.management(BRIDGE)
    taken = NameTaken(str(name))

    async def main() -> None:
        before = identity(name)
        begun(name, step)
        await give_back_name(taken)
        assert identity(name) == before
        assert not taken.beside.exists()
        assert not taken.draft.exists()
        begun(name, step)
        async with proxied(ovs, record) as endpoint:
            assert identity(endpoint.upstream) == before
            assert not taken.draft.exists()
            await ofctl(name, "add-flow", RESERVED, fails=True)

    run(main())


def test_a_name_that_cannot_be_taken_stays_as_it_was(
    ovs: Laboratory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun of it is undone, or harmless."""
    name = ovs.vswitch.management(BRIDGE)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    async def main() -> None:
        before = identity(name)
        with monkeypatch.context() as patch:
            patch.setattr(os, "chown", refused)
            with pytest.raises(AttachError, match="Operation not permitted"):
                async with proxied(ovs, record):
                    pass
        assert identity(name) == before
        assert not NameTaken(str(name)).draft.exists()
        async with proxied(ovs, record):
            await ofctl(name, "show")

    run(main())


def test_a_new_okod_takes_what_an_old_one_has_left(ovs: Laboratory, record: Record) -> None:
    name = ovs.vswitch.management(BRIDGE)

    async def main() -> None:
        before = name.stat().st_ino
        for _ in range(2):
            async with proxied(ovs, Record(record.path, tuple(UNDO))) as endpoint:
                assert endpoint.upstream.stat().st_ino == before
                await ofctl(name, "add-flow", RESERVED, fails=True)
        # Open vSwitch begins anew while no okod runs.
        await asyncio.to_thread(ovs.vswitch.stop_switch)
        await asyncio.to_thread(ovs.vswitch.start_switch)
        async with proxied(ovs, record) as endpoint:
            await ofctl(name, "add-flow", RESERVED, fails=True)
            await ofctl(endpoint.upstream, "show")
        await give_back_name(NameTaken(str(name)))
        record.remove(NameTaken(str(name)))

    run(main())


def test_without_open_vswitch_nothing_is_taken(ovs: Laboratory, record: Record, tmp_path: Path) -> None:
    async def main() -> None:
        ovs.vswitch.stop_switch()
        with pytest.raises(AttachError, match=r"br0\.mgmt: nobody listens"):
            async with proxied(ovs, record):
                pass
        assert not ovs.vswitch.management(BRIDGE).exists()

    try:
        run(main())
    finally:
        ovs.vswitch.start_switch()
        record.remove(NameTaken(str(ovs.vswitch.management(BRIDGE))))


def test_beside_the_bridge(ovs: Laboratory, record: Record, tmp_path: Path) -> None:
    """Nothing of the bridge is touched."""
    name = ovs.vswitch.management(BRIDGE)

    async def main() -> None:
        before = identity(name)
        await vsctl(ovs, "set-controller", BRIDGE, "punix:" + str(ovs.vswitch.directory / f"{BRIDGE}.other"))
        known = await controllers(ovs)
        async with proxied(ovs, record, mode=Mode.LISTEN) as endpoint:
            await endpoint.follow(known)
            await endpoint.listen(tmp_path / "oko", TRUSTED)
            assert endpoint.upstream == name
            assert stat.S_IMODE((tmp_path / "oko").stat().st_mode) == 0o600
            await ofctl(tmp_path / "oko", "add-flow", RESERVED, fails=True)
            await ofctl(name, "add-flow", RESERVED)
            with pytest.raises(AttachError, match="somebody else's"):
                await endpoint.listen(name, TRUSTED)
        assert (identity(name), list(record), await controllers(ovs)) == (before, [], known)

    run(main())


# ---- controllers


async def talks(line: Line) -> None:
    """It is the bridge, Oko's rules hold, and it is told of packets without asking, if it is a controller's."""
    assert (await line.greet()).versions == {1, 4}
    line.send(FeaturesRequest())
    assert isinstance(await line.told(FeaturesReply), FeaturesReply)


@pytest.fixture
def certified(ovs: Laboratory, tmp_path: Path) -> Iterator[TlsFiles]:
    """Open vSwitch has files for TLS; those of a controller."""
    authority = Authority(tmp_path)
    files = authority.sign("switch")
    ovs.vswitch.vsctl("set-ssl", *map(str, (files.private_key, files.certificate, files.ca_certificate)))
    yield authority.sign("controller")
    ovs.vswitch.vsctl("del-ssl")


@pytest.mark.parametrize("scheme", ["tcp", "ssl", "unix"])
def test_a_controller_that_open_vswitch_connects_to(
    ovs: Laboratory, record: Record, certified: TlsFiles, scheme: str
) -> None:
    async def main() -> None:
        fake = FakeController()
        path = ovs.vswitch.directory / "controller"
        if scheme != "unix":
            context = certified.context(server=True) if scheme == "ssl" else None
            server = await asyncio.start_server(fake.accept, "127.0.0.1", 0, ssl=context)
            target = f"{scheme}:127.0.0.1:{server.sockets[0].getsockname()[1]}"
        else:
            server = await asyncio.start_unix_server(fake.accept, path)
            target = f"unix:{path}"
        await vsctl(ovs, "set-controller", BRIDGE, target, "--", "set", "controller", BRIDGE, "max_backoff=1000")
        before = await asyncio.to_thread(_row, ovs)
        async with proxied(ovs, record) as endpoint:
            await endpoint.follow(await controllers(ovs))
            line = await fake.line()
            while True:
                try:
                    await talks(line)
                    break
                except AssertionError:  # Open vSwitch itself, which has been there before
                    line = await fake.line()
            line.send(FlowMod(priority=3, instructions=(ApplyActions((Output(0xFFFFFFFD),)),)))
            line.send(BarrierRequest())
            await line.told(BarrierReply)
            ovs.wires[1].send(frame())
            told = await line.told(PacketIn)
            assert isinstance(told, PacketIn)
            assert told.reason in (PacketInReason.ACTION, PacketInReason.NO_MATCH)
            await asyncio.to_thread(ovs.vswitch.vsctl, "wait-until", "controller", BRIDGE, "is_connected=true")
            # It ends the connection, and Open vSwitch comes again.
            await line.close()
            line = await fake.line()
            await talks(line)
            await line.close()
            known = await controllers(ovs)
            await endpoint.follow(known)
            assert [each.target.partition(":")[0] for each in known] == ["unix"]
        for change in record:
            if isinstance(change, TargetTaken):
                await give_back_target(change)
                await give_back_target(change)
        assert await asyncio.to_thread(_row, ovs) == before
        server.close()
        await fake.close()
        path.unlink(missing_ok=True)

    run(main())


def _row(ovs: Laboratory) -> list[object]:
    """The controller's row, but for what Open vSwitch itself writes there."""
    table = json.loads(ovs.vswitch.vsctl("--format=json", "list", "controller"))
    (row,) = table["data"]
    volatile = ("status", "is_connected", "role")
    return [value for name, value in zip(table["headings"], row, strict=True) if name not in volatile]


@pytest.mark.parametrize("scheme", ["ptcp", "pssl", "punix"])
def test_controllers_that_connect_to_open_vswitch(
    ovs: Laboratory, record: Record, certified: TlsFiles, scheme: str
) -> None:
    path, port = ovs.vswitch.directory / f"{BRIDGE}.passive", free_port()
    target = f"punix:{path}" if scheme == "punix" else f"{scheme}:{port}:127.0.0.1"
    context = certified.context(server=False) if scheme == "pssl" else None

    async def connected() -> Line:
        if scheme != "punix":
            return Line(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
        return Line(*await asyncio.open_unix_connection(path))

    async def main() -> None:
        await vsctl(ovs, "set-controller", BRIDGE, target)
        before = await asyncio.to_thread(_row, ovs)
        async with proxied(ovs, record) as endpoint:
            await endpoint.follow(await controllers(ovs))
            await endpoint.follow(await controllers(ovs))
            line = await connected()
            await talks(line)
            line.send(FlowMod(priority=65535))
            line.send(BarrierRequest())
            await line.told(BarrierReply)
            await line.close()
            assert await asyncio.to_thread(ovs.vswitch.ofctl, "dump-flows", BRIDGE) == (
                "OFPST_FLOW reply (OF1.3) (xid=0x2):\n"
            )
        for change in record:
            if isinstance(change, TargetTaken):
                await give_back_target(change)
        assert await asyncio.to_thread(_row, ovs) == before

    run(main())


def test_what_becomes_of_controllers_is_followed(
    ovs: Laboratory, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with proxied(ovs, record) as endpoint:

            async def follow(*words: str) -> tuple[list[str], list[str]]:
                """The schemes that OVSDB has and the targets that the record has, then."""
                await vsctl(ovs, *words)
                await endpoint.follow(await controllers(ovs))
                taken = [change.target for change in record if isinstance(change, TargetTaken)]
                return sorted(each.target.partition(":")[0] for each in await controllers(ovs)), sorted(taken)

            first, second = (f"tcp:127.0.0.1:{free_port()}" for _ in range(2))
            assert await follow("set-controller", BRIDGE, first) == (["unix"], [first])
            assert await follow("set-controller", BRIDGE, first, second) == (["unix", "unix"], sorted((first, second)))
            assert await follow("set-controller", BRIDGE, second) == (["unix"], [second])
            # Somebody gives the row another target.
            assert await follow("set", "controller", BRIDGE, f'target="{first}"') == (["unix"], [first])
            assert await follow("set-controller", BRIDGE, "ssl:127.0.0.1:6653") == (["ssl"], [])
            assert await follow("set-controller", BRIDGE, "none:of these") == (["none"], [])
            assert await follow("del-controller", BRIDGE) == ([], [])
            assert not list(ovs.vswitch.directory.glob(f"{BRIDGE}.oko-*"))

    run(main())
    left = [record.message for record in caplog.records if "left to Open vSwitch" in record.message]
    assert len(left) == 2
