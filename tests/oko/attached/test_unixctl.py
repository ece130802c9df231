from __future__ import annotations

from pathlib import Path

import pytest

from oko.attached.unixctl import Unixctl, control_socket
from oko.errors import AttachError
from tests.oko.attached.conftest import Laboratory
from tests.oko.attached.following import run
from tests.ovs import Vswitch, needs_ovs


@needs_ovs
def test_commands(ovs: Laboratory) -> None:
    async def main() -> None:
        control = Unixctl(ovs.vswitch.control)
        assert (await control.command("version")).startswith("ovs-vswitchd (Open vSwitch) ")
        assert "p1" in await control.command("dpif/show")
        with pytest.raises(AttachError, match="is not a valid command"):
            await control.command("no/such")
        await control.wait_for_dump()

    run(main())


@needs_ovs
def test_waiting_for_datapaths_of_several_types(tmp_path: Path) -> None:
    async def main(control: Path) -> None:
        with pytest.raises(AttachError, match="multiple udpifs"):
            await Unixctl(control).wait_for_dump()

    with Vswitch(tmp_path / "run", options=("--enable-dummy",)) as vswitch:
        for name, kind in (("br1", "dummy"), ("br2", "netdev")):
            vswitch.vsctl("--no-wait", "add-br", name, "--", "set", "bridge", name, f"datapath_type={kind}")
        vswitch.vsctl("set", "bridge", "br1", "fail_mode=secure")
        run(main(vswitch.control))


def test_nobody_listens(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(AttachError, match="does Open vSwitch run"):
            await Unixctl(tmp_path / "none.ctl").command("version")

    run(main())


def test_finding_the_socket(tmp_path: Path) -> None:
    (tmp_path / "ovs-vswitchd.pid").write_text("123\n")
    assert control_socket(tmp_path) == tmp_path / "ovs-vswitchd.123.ctl"


@pytest.mark.parametrize("content", [None, "", "many"], ids=["no file", "an empty file", "no number"])
def test_no_process_to_be_found(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ovs-vswitchd.pid").write_text(content)
    with pytest.raises(AttachError, match="does it run"):
        control_socket(tmp_path)
