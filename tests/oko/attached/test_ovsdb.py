from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from oko.attached.description import OvsBridge, OvsInterface
from oko.attached.features import Treatment, require_attachable, used
from oko.attached.ovsdb import Follower
from oko.errors import AttachError
from oko.kernel.namespace import run_in
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.ovs import needs_ovs

pytestmark = needs_ovs
_PATIENCE = 20


class Seen:
    """What a follower has told."""

    def __init__(self) -> None:
        self.bridges: asyncio.Queue[OvsBridge | None] = asyncio.Queue()
        self.reached: asyncio.Queue[bool] = asyncio.Queue()

    async def until(self, condition: Callable[[OvsBridge | None], bool]) -> OvsBridge | None:
        """The first description from now on that meets the condition."""
        async with asyncio.timeout(_PATIENCE):
            while not condition(found := await self.bridges.get()):
                pass
        return found

    async def interface(self, name: str, condition: Callable[[OvsInterface], bool]) -> OvsInterface:
        """The interface, from the first description in which it meets the condition."""

        def meets(bridge: OvsBridge | None) -> bool:
            return bridge is not None and any(each.name == name and condition(each) for each in bridge.interfaces)

        bridge = await self.until(meets)
        assert bridge is not None
        return interface(bridge, name)


def interface(bridge: OvsBridge, name: str) -> OvsInterface:
    return next(each for each in bridge.interfaces if each.name == name)


@asynccontextmanager
async def following(ovs: Laboratory, name: str = BRIDGE) -> AsyncIterator[tuple[Follower, Seen]]:
    seen = Seen()
    follower = Follower(ovs.vswitch.remote, name, seen.bridges.put_nowait, seen.reached.put_nowait)
    async with follower:
        yield follower, seen


async def vsctl(ovs: Laboratory, *words: str) -> None:
    await asyncio.to_thread(ovs.vswitch.vsctl, *words)


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 2 * _PATIENCE))


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
            assert ("fail mode standalone", BRIDGE) in [
                (feature.name, row) for feature, row in used(bridge, Treatment.HONOURED)
            ]
            require_attachable(bridge)
            await vsctl(ovs, "del-controller", BRIDGE, "--", "set", "bridge", BRIDGE, "fail_mode=secure")
            await seen.until(lambda found: found is not None and found.fail_mode == "secure" and not found.controllers)

    run(main())


REFUSED = {
    "mirrors": (
        "--id=@m create mirror name=m -- set bridge br0 mirrors=@m",
        "clear bridge br0 mirrors",
    ),
    "sFlow": (
        '--id=@s create sflow agent=lo target="127.0.0.1:9" header=128 -- set bridge br0 sflow=@s',
        "clear bridge br0 sflow",
    ),
    "NetFlow": (
        '--id=@n create netflow targets="127.0.0.1:9" -- set bridge br0 netflow=@n',
        "clear bridge br0 netflow",
    ),
    "IPFIX": ('--id=@i create ipfix targets="127.0.0.1:9" -- set bridge br0 ipfix=@i', "clear bridge br0 ipfix"),
    "in-band control": ("set-controller br0 tcp:127.0.0.1:9", "del-controller br0"),
    "bonds": ("add-bond br0 bond0 none1 none2", "del-port bond0"),
    "QoS": ("--id=@q create qos type=linux-htb -- set port p1 qos=@q", "clear port p1 qos"),
    "policing in kbit/s": (
        "set interface p1 ingress_policing_rate=1000",
        "set interface p1 ingress_policing_rate=0",
    ),
    "policing in packets": (
        "set interface p1 ingress_policing_kpkts_rate=1000",
        "set interface p1 ingress_policing_kpkts_rate=0",
    ),
    "hardware offload": (
        "set Open_vSwitch . other_config:hw-offload=true",
        "remove Open_vSwitch . other_config hw-offload",
    ),
}
"""A command that turns the feature on, and the one that turns it off."""

BEFORE = {
    "STP": ("set bridge br0 stp_enable=true", "set bridge br0 stp_enable=false"),
    "RSTP": ("set bridge br0 rstp_enable=true", "set bridge br0 rstp_enable=false"),
    "LACP": ("set port p1 lacp=passive", "clear port p1 lacp"),
    "BFD": ("set interface p1 bfd:enable=true", "clear interface p1 bfd"),
    "CFM": ("set interface p1 cfm_mpid=1", "clear interface p1 cfm_mpid"),
    "LLDP": ("set interface p1 lldp:enable=true", "clear interface p1 lldp"),
}

HONOURED = {
    "access and trunk ports": ("set port p1 vlan_mode=native-tagged", "clear port p1 vlan_mode"),
    "VLAN tag of a port": ("set port p1 tag=0", "clear port p1 tag"),
    "VLAN trunks": ("set port p1 trunks=5,6", "clear port p1 trunks"),
    "protected ports": ("set port p1 protected=true", "set port p1 protected=false"),
    "flooded VLANs": ("set bridge br0 flood_vlans=5", "clear bridge br0 flood_vlans"),
    "multicast snooping": (
        "set bridge br0 mcast_snooping_enable=true",
        "set bridge br0 mcast_snooping_enable=false",
    ),
    "table limits and eviction": (
        "--id=@t create flow_table flow_limit=1000000 -- set bridge br0 flow_tables:5=@t",
        "clear bridge br0 flow_tables",
    ),
    "fail mode standalone": ("set bridge br0 fail_mode=standalone", "set bridge br0 fail_mode=secure"),
}


@pytest.mark.parametrize(
    ("treatment", "rows"),
    [(Treatment.REFUSED, REFUSED), (Treatment.BEFORE, BEFORE), (Treatment.HONOURED, HONOURED)],
    ids=lambda value: value.value if isinstance(value, Treatment) else "",
)
def test_features_are_recognised(ovs: Laboratory, treatment: Treatment, rows: dict[str, tuple[str, str]]) -> None:
    async def main() -> None:
        async with following(ovs) as (follower, seen):
            for name, (on, off) in rows.items():
                # The change to the database is what counts; ovs-vswitchd need not be able to do it.
                await vsctl(ovs, "--no-wait", "--", *on.split())

                def uses(bridge: OvsBridge | None, name: str = name) -> bool:
                    return bridge is not None and name in {feature.name for feature, _ in used(bridge, treatment)}

                await seen.until(uses)
                assert follower.bridge is not None
                if treatment is Treatment.REFUSED:
                    with pytest.raises(AttachError, match=name):
                        require_attachable(follower.bridge)
                await vsctl(ovs, "--", *off.split())
                await seen.until(lambda bridge: bridge is not None and not uses(bridge))
                require_attachable(follower.bridge)

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
