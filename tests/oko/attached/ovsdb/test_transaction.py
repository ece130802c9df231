from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from oko.attached.ovsdb.transaction import NOTHING, Cell, change, read
from oko.errors import AttachError
from tests.oko.attached.conftest import Laboratory
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

pytestmark = needs_ovs

REQUEST = Cell("Interface", "name", "p1", "mtu_request")


@pytest.fixture
def database(ovs: Laboratory) -> Iterator[Path]:
    yield Path(ovs.vswitch.remote.removeprefix("unix:"))
    ovs.vswitch.vsctl("clear", "interface", "p1", "mtu_request")
    ovs.vswitch.vsctl("set", "interface", "p1", "mtu_request=1500", "--", "clear", "interface", "p1", "mtu_request")


def test_a_change_has_been_made_when_it_returns(ovs: Laboratory, database: Path) -> None:
    async def main() -> None:
        assert await read(database, REQUEST) == NOTHING
        assert await change(database, REQUEST, NOTHING, 1400)
        assert await read(database, REQUEST) == 1400
        assert await read(database, Cell("Interface", "name", "p1", "mtu")) == 1400
        assert await change(database, REQUEST, 1400, NOTHING)
        assert await read(database, REQUEST) == NOTHING

    run(main())


@pytest.mark.parametrize(
    "cell", [REQUEST, Cell("Interface", "name", "none", "mtu_request")], ids=["another value", "no row"]
)
def test_what_is_not_as_before_is_not_changed(ovs: Laboratory, database: Path, cell: Cell) -> None:
    async def main() -> None:
        assert not await change(database, cell, 1300, 1400)
        assert await read(database, REQUEST) == NOTHING

    run(main())


def test_a_row_by_its_identity(ovs: Laboratory, database: Path) -> None:
    async def main() -> None:
        identity = await read(database, Cell("Interface", "name", "p1", "_uuid"))
        assert await read(database, Cell("Interface", "_uuid", identity, "name")) == "p1"

    run(main())


def test_no_row_to_read(ovs: Laboratory, database: Path) -> None:
    async def main() -> None:
        with pytest.raises(AttachError, match="Interface has no row whose name is none"):
            await read(database, Cell("Interface", "name", "none", "mtu"))

    run(main())


def test_what_the_database_does_not_take(ovs: Laboratory, database: Path) -> None:
    async def main() -> None:
        with pytest.raises(AttachError, match="constraint violation"):
            await change(database, REQUEST, NOTHING, 0)
        with pytest.raises(AttachError, match="not a valid column name"):
            await read(database, Cell("Interface", "name", "p1", "nothing"))
        assert await read(database, REQUEST) == NOTHING

    run(main())


def test_without_ovs_vswitchd(ovs: Laboratory, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oko.attached.ovsdb.transaction._PATIENCE", 50)
    ovs.vswitch.stop_switch()

    async def main() -> None:
        assert await change(database, REQUEST, NOTHING, 1400, wait=False)
        with pytest.raises(AttachError, match="mtu_request of Interface p1 is 1450: does it run"):
            await change(database, REQUEST, 1400, 1450)
        assert await read(database, REQUEST) == 1450
        await asyncio.to_thread(ovs.vswitch.start_switch)

    run(main())
