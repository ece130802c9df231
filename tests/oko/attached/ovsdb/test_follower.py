from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from oko.attached.features import Treatment, require_attachable, used
from oko.attached.ovsdb.follower import Follower
from oko.errors import AttachError
from oko.kernel.namespace import run_in
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import following, interface, run, vsctl
from tests.ovs import needs_ovs

pytestmark = needs_ovs


def test_the_first_description(ovs: Laboratory) -> None:
    async def main() -> None:
        async with following(ovs) as (follower, _):
            bridge = follower.bridge
        assert bridge is not None
        assert (bridge.name, bridge.datapath_type, bridge.fail_mode) == (BRIDGE, "netdev", "secure")
        assert (bridge.controllers, bridge.managers, bridge.protocols) == ((), (), ())
        assert len(bridge.datapath_id) == 16
        assert bridge.vlan_limit == 1
        assert [port.name for port in bridge.ports] == [BRIDGE, "p1", "p2", "p3"]
        indices = run_in(ovs.namespace, lambda: {name: number for number, name in socket.if_nameindex()})
        for number in (1, 2, 3):
            found = interface(bridge, f"p{number}")
            assert (found.type, found.ofport, found.ifindex, found.mtu) == ("", number, indices[f"p{number}"], 1500)
            assert found.without_xdp == ""
        assert interface(bridge, BRIDGE).type == "internal"
        assert "tap device" in interface(bridge, BRIDGE).without_xdp
        require_attachable(bridge)

    run(main())


def test_ports_come_and_go(ovs: Laboratory) -> None:
    async def main() -> None:
        async with following(ovs) as (follower, seen):
            await vsctl(ovs, "add-port", BRIDGE, "v1", "--", "set", "interface", "v1", "type=vxlan")
            await vsctl(ovs, "set", "interface", "v1", "options:remote_ip=10.0.0.9")
            tunnel = await seen.interface("v1", lambda found: found.ofport is not None)
            assert "tunnel" in tunnel.without_xdp
            await vsctl(ovs, "add-port", BRIDGE, "none")
            missing = await seen.interface("none", lambda found: found.error != "")
            assert (missing.ofport, missing.ifindex) == (None, None)
            assert missing.without_xdp == missing.error
            await vsctl(ovs, "del-port", "v1", "--", "del-port", "none")
            await seen.until(lambda bridge: bridge is not None and len(bridge.ports) == 4)
            assert follower.bridge is not None
            assert {each.name for each in follower.bridge.interfaces} == {BRIDGE, "p1", "p2", "p3"}

    run(main())


def test_controllers_and_the_fail_mode(ovs: Laboratory) -> None:
    async def main() -> None:
        async with following(ovs) as (_, seen):
            await vsctl(ovs, "set-controller", BRIDGE, "ptcp:0", "unix:/nowhere")
            await vsctl(ovs, "set-fail-mode", BRIDGE, "standalone")
            bridge = await seen.until(lambda found: found is not None and found.fail_mode == "standalone")
            assert bridge is not None
            assert [controller.target for controller in bridge.controllers] == ["ptcp:0", "unix:/nowhere"]
            assert ("failing open", BRIDGE) in [(feature.name, row) for feature, row in used(bridge, Treatment.REFUSED)]
            await vsctl(ovs, "del-controller", BRIDGE, "--", "set", "bridge", BRIDGE, "fail_mode=secure")
            await seen.until(lambda found: found is not None and found.fail_mode == "secure" and not found.controllers)

    run(main())


def test_a_bridge_that_is_deleted_and_made_again(ovs: Laboratory) -> None:
    async def main() -> None:
        await vsctl(ovs, "add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=netdev")
        async with following(ovs, "br1") as (follower, seen):
            await vsctl(ovs, "del-br", "br1")
            await seen.until(lambda bridge: bridge is None)
            assert follower.bridge is None
            await vsctl(ovs, "add-br", "br1", "--", "set", "bridge", "br1", "datapath_type=netdev")
            await seen.until(lambda bridge: bridge is not None)
            await vsctl(ovs, "del-br", "br1")

    run(main())


def test_the_database_restarts(ovs: Laboratory) -> None:
    async def main() -> None:
        async with following(ovs) as (follower, seen):
            known = follower.bridge
            await asyncio.to_thread(ovs.vswitch.stop_database)
            assert await seen.reached.get() is False
            assert follower.bridge == known
            await asyncio.to_thread(ovs.vswitch.start_database)
            assert await seen.reached.get() is True
            await vsctl(ovs, "set", "bridge", BRIDGE, "fail_mode=standalone")
            await seen.until(lambda bridge: bridge is not None and bridge.fail_mode == "standalone")
            await vsctl(ovs, "set", "bridge", BRIDGE, "fail_mode=secure")

    run(main())


def test_no_such_bridge(ovs: Laboratory) -> None:
    async def main() -> None:
        with pytest.raises(AttachError, match="no bridge br9: see 'ovs-vsctl list-br'"):
            async with following(ovs, "br9"):
                pass

    run(main())


def test_no_database(tmp_path: Path) -> None:
    async def main() -> None:
        follower = Follower(f"unix:{tmp_path}/db.sock", BRIDGE, lambda _: None, lambda _: None)
        with pytest.raises(AttachError, match="does Open vSwitch run"):
            await follower.__aenter__()

    run(main())


def test_a_database_of_another_machine() -> None:
    with pytest.raises(AttachError, match="write unix:PATH"):
        Follower("tcp:192.0.2.1:6640", BRIDGE, lambda _: None, lambda _: None)
