"""A bridge without ports behind a real okod, for the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ofext.extension import ProgramListReply, ProgramListRequest, ProgramUnload, UnloadFlag
from ofext.load import chunks
from oko.cli.client import Client
from oko.flow.group import GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.meter import MeterCommand, MeterMod, MeterSpec
from oko.flow.text import parse_selection
from oko.wire.change import write_flow_mod, write_group_mod, write_meter_mod
from tests.stage import BRIDGE, FIREWALL, Stage, mounted


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with mounted(Stage(tmp_path_factory.mktemp("switch"))) as stage:
        stage.start("--listen", "ptcp:0")
        yield stage


@pytest.fixture
def switch(running: Stage) -> Iterator[Stage]:
    """The bridge, with no rules, groups, meters, observers and programs."""
    yield running
    with Client.connect(BRIDGE, running.rundir) as client:
        client.command(write_flow_mod(parse_selection("")))
        client.command(write_group_mod(GroupMod(GroupCommand.DELETE, GroupSpec(0, GroupType.ALL), all_groups=True)))
        client.command(write_meter_mod(MeterMod(MeterCommand.DELETE, MeterSpec(0, ()), all_meters=True)))
        programs = client.report(ProgramListRequest())
        assert isinstance(programs, ProgramListReply)
        for entry in programs.entries:
            client.command(ProgramUnload(entry.program, UnloadFlag.FORCE))


def load(stage: Stage, path: Path) -> Stage:
    """`stage` with an object as program 1."""
    with Client.connect(BRIDGE, stage.rundir) as client:
        client.request(*chunks(1, "", path.read_bytes()))
    return stage


@pytest.fixture
def firewall(switch: Stage) -> Stage:
    """The bridge with the firewall as program 1."""
    return load(switch, FIREWALL)
