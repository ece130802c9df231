"""Attaching and detaching leave no trace: what tools say of the bridge before and after is the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.lab import HOST_INTERFACE
from oko.attached.continuation import FIXED
from oko.attached.detach import Guarded, OwnRules, detach, give_back, open_record
from oko.attached.endpoint import TargetTaken
from oko.attached.guard import Guard
from oko.attached.management import Management
from oko.attached.near_end import NearEndChange, in_order, prepare, survey
from oko.errors import AttachError
from oko.kernel.features import EGRESS_PROGRAMS, probe
from oko.kernel.interface import interface
from oko.kernel.namespace import run_in
from oko.switch.rundir import RunDirectory
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import following, run
from tests.oko.attached.proxied import controllers, database, free_port, proxied
from tests.oko.kernel.waiting import wait_until
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]

RULES = ("priority=7,ip,actions=normal", "table=3,cookie=5,priority=6,arp,actions=output:2", "priority=0,actions=drop")
PORTS = (BRIDGE, "p1", "p2", "p3")
_VOLATILE = {
    *("statistics", "status", "is_connected", "role", "cur_cfg", "next_cfg", "external_ids", "mac_in_use", "ofport"),
    *("link_resets", "_version", "ifindex", "db_version", "ovs_version", "rstp_statistics", "rstp_status", "error"),
}


def tool(ovs: Laboratory, *command: str) -> str:
    """What a tool prints in the namespace of the ports."""
    inside = ("nsenter", f"--net={ovs.namespace}", "--", *command)
    return subprocess.run(inside, check=True, capture_output=True, text=True).stdout


def database_dump(ovs: Laboratory) -> dict[str, list[dict[str, object]]]:
    """All tables, but for what Open vSwitch counts there by itself."""
    found = {}
    for table in ("Open_vSwitch", "Bridge", "Port", "Interface", "Controller", "Manager", "SSL"):
        listed = json.loads(ovs.vswitch.vsctl("--format=json", "list", table))
        rows = [dict(zip(listed["headings"], row, strict=True)) for row in listed["data"]]
        found[table] = [{name: value for name, value in row.items() if name not in _VOLATILE} for row in rows]
        found[table].sort(key=lambda row: str(row["_uuid"]))
    return found


def picture(ovs: Laboratory) -> dict[str, object]:
    """All that tools say of the bridge and its ports."""
    features = {name: tool(ovs, "ethtool", "-k", name) for name in PORTS}
    hosts = {
        number: subprocess.run(
            ["nsenter", f"--net={host}", "--", "ethtool", "-k", HOST_INTERFACE],
            check=True, capture_output=True, text=True,
        ).stdout
        for number, host in ovs.hosts.items()
    }  # fmt: skip
    return {
        "OVSDB": database_dump(ovs),
        "flows": sorted(ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE).splitlines()),
        "features": features,
        "hosts": hosts,
        "MTUs": run_in(ovs.namespace, lambda: {name: interface(name).mtu for name in PORTS}),
        "BPF": json.loads(tool(ovs, "bpftool", "--json", "net")),
        "sockets": sorted(path.name for path in ovs.vswitch.directory.glob(f"{BRIDGE}.*")),
        "socket": ovs.vswitch.management(BRIDGE).stat().st_ino,
    }


@pytest.fixture
def operated(ovs: Laboratory) -> Iterator[Laboratory]:
    """A bridge in use: with rules, and controllers of both kinds."""
    passive = f"ptcp:{free_port()}:127.0.0.1"
    ovs.vswitch.vsctl("set-controller", BRIDGE, passive, f"tcp:127.0.0.1:{free_port()}")
    # A bridge that gets its first controller loses its rules.
    ovs.add(*RULES)
    yield ovs
    ovs.vswitch.vsctl("del-controller", BRIDGE)


def attach(ovs: Laboratory, statedir: Path, bpffs: Path) -> None:
    """Change all that attaching changes, and end as if by SIGKILL."""
    record = open_record(statedir, BRIDGE)
    name = ovs.vswitch.management(BRIDGE)

    async def near_ends() -> None:
        async with following(ovs) as (follower, _):
            assert follower.bridge is not None
            found = [survey(each, "netdev") for each in follower.bridge.interfaces]
        for end in in_order(each for each in found if each is not None):
            record.add(NearEndChange(end.to_json(), str(database(ovs))))
            await prepare(end, database(ovs))

    async def main() -> None:
        record.add(OwnRules(str(name)))
        direct = await Management.connect(name, lambda _: None, lambda _: None)
        await direct.change(FIXED)
        direct.close()
        async with proxied(ovs, record) as endpoint:
            await endpoint.follow(await controllers(ovs))

    run_in(ovs.namespace, lambda: run(near_ends()))
    if probe(EGRESS_PROGRAMS):
        record.add(Guarded(str(bpffs / "guard")))
        with Guard(bpffs / "guard") as guard:
            run_in(ovs.namespace, lambda: guard.attach("p1", interface("p1").index))
    run(main())
    assert len([change for change in record if isinstance(change, TargetTaken)]) == 2


def detached(ovs: Laboratory, statedir: Path) -> None:
    """By the record alone."""
    run_in(ovs.namespace, lambda: asyncio.run(give_back(open_record(statedir, BRIDGE))))


def test_nothing_is_left(operated: Laboratory, tmp_path: Path, bpffs: Path) -> None:
    before = picture(operated)
    attach(operated, tmp_path / "state", bpffs)
    name = operated.vswitch.management(BRIDGE)
    assert name.with_name(f"{name.name}.ovs").stat().st_ino == before["socket"]
    detached(operated, tmp_path / "state")
    wait_until(lambda: picture(operated) == before)
    assert list((tmp_path / "state").iterdir()) == []


def test_open_vswitch_does_not_run(operated: Laboratory, tmp_path: Path, bpffs: Path) -> None:
    """Its database does: what is there is given back, and it finds everything as it was."""
    before = picture(operated)
    attach(operated, tmp_path / "state", bpffs)
    operated.vswitch.stop_switch(abruptly=True)
    try:
        detached(operated, tmp_path / "state")
    finally:
        operated.vswitch.start_switch()
    operated.add(*RULES)
    after = picture(operated)
    del before["socket"], after["socket"]
    assert after == before


def test_the_database_does_not_run(operated: Laboratory, tmp_path: Path, bpffs: Path) -> None:
    """What cannot be given back now is given back the next time."""
    before = picture(operated)
    attach(operated, tmp_path / "state", bpffs)
    operated.vswitch.stop_database()
    try:
        with pytest.raises(AttachError, match="cannot be undone now, and stay in") as caught:
            detached(operated, tmp_path / "state")
    finally:
        operated.vswitch.start_database()
    lines = caught.value.details.splitlines()
    assert [line.partition(":")[0] for line in lines[-2:]] == ["controller tcp", "controller ptcp"]
    assert f"interface {BRIDGE}" in [line.partition(": ")[0] for line in lines]
    detached(operated, tmp_path / "state")
    wait_until(lambda: picture(operated) == before)


def test_a_change_that_was_never_made(operated: Laboratory, tmp_path: Path) -> None:
    """The okod was killed between writing it down and making it."""
    before = picture(operated)
    record = open_record(tmp_path, BRIDGE)
    name = operated.vswitch.management(BRIDGE)
    record.add(OwnRules(str(name)))
    record.add(Guarded(str(tmp_path / "pins")))

    async def known() -> None:
        for each in await controllers(operated):
            record.add(TargetTaken(str(database(operated)), each.uuid, each.target, f"unix:{name}.oko"))

    run(known())
    detached(operated, tmp_path)
    assert picture(operated) == before


def test_a_bridge_that_is_not_attached(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="not attached"):
        detach(RunDirectory(tmp_path / "run"), tmp_path / "state", "br7")


def test_detach(operated: Laboratory, tmp_path: Path, bpffs: Path) -> None:
    before = picture(operated)
    attach(operated, tmp_path / "state", bpffs)
    run_in(operated.namespace, lambda: detach(RunDirectory(tmp_path / "run"), tmp_path / "state", BRIDGE))
    wait_until(lambda: picture(operated) == before)
    assert list((tmp_path / "run").iterdir()) == []
