from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from ofext.messages import Message, PortStatus, SetConfig
from oko.attached.management import Management
from oko.attached.port_settings import PortSettings, require_usual_fragments
from oko.errors import AttachError
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

pytestmark = needs_ovs

SETTINGS = {"no-receive": "receive", "no-forward": "forward"}


@pytest.fixture(autouse=True)
def given_back(ovs: Laboratory) -> Iterator[None]:
    yield
    for undo in (*SETTINGS.values(), "up", "flood"):
        ovs.vswitch.ofctl("mod-port", BRIDGE, "p1", undo)
    ovs.vswitch.ofctl("set-frags", BRIDGE, "normal")


@asynccontextmanager
async def connected(ovs: Laboratory) -> AsyncIterator[tuple[Management, asyncio.Queue[Message]]]:
    heard: asyncio.Queue[Message] = asyncio.Queue()
    management = await Management.connect(ovs.vswitch.management(BRIDGE), heard.put_nowait, lambda _: None)
    try:
        yield management, heard
    finally:
        management.close()


async def status(heard: asyncio.Queue[Message]) -> PortStatus:
    async with asyncio.timeout(20):
        while not isinstance(found := await heard.get(), PortStatus):
            pass
    return found


@pytest.mark.parametrize("word", SETTINGS)
def test_a_port_that_is_withheld(ovs: Laboratory, word: str) -> None:
    async def main() -> None:
        async with connected(ovs) as (management, heard):
            settings = PortSettings()
            management.send(SetConfig(miss_send_len=0xFFFF))
            await settings.begin(management)
            assert settings.withheld(1) == ""
            await asyncio.to_thread(ovs.vswitch.ofctl, "mod-port", BRIDGE, "p1", word)
            assert settings.hear(await status(heard))
            assert settings.withheld(1) == f"it is set to {word} by 'ovs-ofctl mod-port'"
            assert settings.withheld(2) == ""
            again = PortSettings()
            await again.begin(management)
            assert again.withheld(1) == settings.withheld(1)
            await asyncio.to_thread(ovs.vswitch.ofctl, "mod-port", BRIDGE, "p1", SETTINGS[word])
            assert settings.hear(await status(heard))
            assert settings.withheld(1) == ""

    run(main())


def test_what_does_not_withhold_a_port(ovs: Laboratory) -> None:
    """What Open vSwitch floods is its own; and nothing comes by an interface that is down."""

    async def main() -> None:
        async with connected(ovs) as (management, heard):
            settings = PortSettings()
            management.send(SetConfig(miss_send_len=0xFFFF))
            await settings.begin(management)
            for word in ("no-packet-in", "packet-in"):
                await asyncio.to_thread(ovs.vswitch.ofctl, "mod-port", BRIDGE, "p1", word)
                assert not settings.hear(await status(heard))
            assert settings.withheld(1) == ""

    run(main())


def test_a_port_that_is_deleted(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (management, heard):
            settings = PortSettings()
            management.send(SetConfig(miss_send_len=0xFFFF))
            ovs.vswitch.vsctl("add-port", BRIDGE, "gone", "--", "set", "interface", "gone", "type=internal", NUMBER_9)
            await asyncio.to_thread(ovs.vswitch.ofctl, "mod-port", BRIDGE, "gone", "no-receive")
            await settings.begin(management)
            assert settings.withheld(9) != ""
            await asyncio.to_thread(ovs.vswitch.vsctl, "del-port", "gone")
            while settings.withheld(9):
                settings.hear(await status(heard))

    run(main())


NUMBER_9 = "ofport_request=9"


@pytest.mark.parametrize("mode", ["drop", "nx-match"])
def test_fragments_that_are_handled_otherwise(ovs: Laboratory, mode: str) -> None:
    ovs.vswitch.ofctl("set-frags", BRIDGE, mode)

    async def main() -> None:
        async with connected(ovs) as (management, _):
            with pytest.raises(AttachError, match="run 'ovs-ofctl set-frags BRIDGE normal'"):
                await require_usual_fragments(management)
            await asyncio.to_thread(ovs.vswitch.ofctl, "set-frags", BRIDGE, "normal")
            await require_usual_fragments(management)

    run(main())
