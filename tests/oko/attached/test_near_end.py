"""Ends of ports of a real Open vSwitch, in user space."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from demo.lab import HOST_INTERFACE
from oko.attached.near_end import (
    GROWTH,
    MERGING,
    NearEnd,
    NearEndChange,
    followed,
    in_order,
    prepare,
    restore,
    survey,
    undo,
)
from oko.attached.ovsdb.description import OvsInterface
from oko.errors import AttachError, PortError
from oko.flow import shim
from oko.kernel.ethtool import offloads, set_offloads
from oko.kernel.inject import run_through
from oko.kernel.interface import interface
from oko.kernel.link import attach_xdp
from oko.kernel.namespace import run_in
from oko.kernel.offloads import REQUIRED
from oko.kernel.program import load_program
from tests.e2e.wire import frame
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import following, run
from tests.oko.attached.tap import Tap
from tests.oko.kernel import assembler as asm
from tests.oko.kernel.waiting import wait_until
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]

NAMES = (BRIDGE, "p1", "p2", "p3")


class Ends:
    """The ends of the laboratory's bridge, from within the namespace of its ports."""

    def __init__(self, ovs: Laboratory) -> None:
        self.ovs = ovs
        self.database = Path(ovs.vswitch.remote.removeprefix("unix:"))

    def interfaces(self) -> list[OvsInterface]:
        found: list[OvsInterface] = []

        async def main() -> None:
            async with following(self.ovs) as (follower, _):
                assert follower.bridge is not None
                found.extend(follower.bridge.interfaces)

        run(main())
        return found

    def survey(self, *prepared: NearEnd, datapath_type: str = "netdev") -> list[NearEnd]:
        known = self.interfaces()
        ends = run_in(self.ovs.namespace, lambda: [survey(each, datapath_type, prepared) for each in known])
        return in_order(end for end in ends if end is not None)

    def prepare(self, *ends: NearEnd) -> None:
        for end in ends:
            run_in(self.ovs.namespace, partial(run, prepare(end, self.database)))

    def restore(self, *ends: NearEnd) -> None:
        for end in reversed(ends):
            run_in(self.ovs.namespace, partial(run, restore(end, self.database)))

    def follow(self, *ends: NearEnd, least: int | None = None) -> list[NearEnd]:
        known = {each.name: each for each in self.interfaces()}

        async def main() -> list[NearEnd]:
            return [await followed(end, known[end.name], self.database, least) for end in ends]

        return run_in(self.ovs.namespace, lambda: asyncio.run(main()))

    def mtus(self) -> dict[str, int]:
        return run_in(self.ovs.namespace, lambda: {name: interface(name).mtu for name in NAMES})

    def state(self) -> object:
        """All that attaching may change."""
        requests = self.ovs.vswitch.vsctl("--columns=name,mtu_request", "--format=json", "list", "interface")
        hosts = [run_in(host, lambda: offloads(HOST_INTERFACE)) for host in self.ovs.hosts.values()]
        here = run_in(self.ovs.namespace, lambda: [offloads(name) for name in NAMES])
        return self.mtus(), sorted(json.loads(requests)["data"]), hosts, here

    def ip(self, command: str) -> None:
        subprocess.run(["ip", "-n", self.ovs.namespace.name, *command.split()], check=True)


@pytest.fixture
def ends(ovs: Laboratory) -> Iterator[Ends]:
    made = Ends(ovs)
    before = made.state()
    yield made
    wait_until(lambda: made.state() == before)


def test_an_end_gets_room_for_a_shim_and_back_what_it_had(ends: Ends) -> None:
    run_in(ends.ovs.namespace, lambda: set_offloads("p1", {"rx-gro": True}))
    try:
        before = ends.state()
        surveyed = ends.survey()
        assert ends.state() == before
        assert [end.name for end in surveyed] == list(NAMES)
        ends.prepare(*surveyed)
        assert ends.mtus() == {BRIDGE: 1500, "p1": 1500 + GROWTH, "p2": 1500 + GROWTH, "p3": 1500 + GROWTH}
        assert [end.longest for end in surveyed] == [None, 1518, 1518, 1518]
        here = run_in(ends.ovs.namespace, lambda: offloads("p1"))
        assert not any(here[name].active for name in MERGING)
        far = run_in(ends.ovs.hosts[1], lambda: offloads(HOST_INTERFACE))
        assert {name: far[name].active for name in REQUIRED} == REQUIRED
        recorded = [NearEnd.from_json(json.loads(json.dumps(end.to_json()))) for end in surveyed]
        assert recorded == surveyed
        ends.restore(*recorded)
        wait_until(lambda: ends.state() == before)
    finally:
        run_in(ends.ovs.namespace, lambda: set_offloads("p1", {"rx-gro": False}))


def test_a_change_is_undone_by_its_record_also_without_ovs_vswitchd(ends: Ends) -> None:
    ends.ovs.vswitch.vsctl("set", "interface", "p3", "mtu_request=1500")
    before = ends.state()
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    ends.ovs.vswitch.stop_switch()
    recorded = [NearEndChange(end.to_json(), str(ends.database)) for end in surveyed]
    for change in [*reversed(recorded), *recorded]:
        run_in(ends.ovs.namespace, partial(undo, change))
    ends.ovs.vswitch.start_switch()
    wait_until(lambda: ends.state() == before)
    ends.ovs.vswitch.vsctl("clear", "interface", "p3", "mtu_request")
    ends.ovs.vswitch.stop_database()
    with pytest.raises(AttachError, match="does Open vSwitch run"):
        undo(recorded[0])
    ends.ovs.vswitch.start_database()


def test_preparing_again_changes_nothing(ends: Ends) -> None:
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    prepared = ends.state()
    ends.prepare(*surveyed)
    assert ends.state() == prepared
    ends.restore(*surveyed)


def test_an_xdp_program_does_not_turn_merging_on(ends: Ends) -> None:
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    with (
        load_program("passing", asm.returns(asm.XDP_PASS), "GPL", references={}) as passing,
        run_in(ends.ovs.namespace, lambda: attach_xdp(passing, interface("p1").index)),
    ):
        here = run_in(ends.ovs.namespace, lambda: offloads("p1"))
        assert not any(here[name].active for name in MERGING)
    ends.restore(*surveyed)


def test_what_open_vswitch_keeps_is_asked_of_open_vswitch(ends: Ends) -> None:
    """It would put back what anybody else sets."""
    ends.ovs.vswitch.vsctl("set", "interface", "p1", "mtu_request=1400", "--", "set", "interface", BRIDGE, MTU_1300)
    try:
        before = ends.state()
        surveyed = ends.survey()
        assert BRIDGE not in [end.name for end in surveyed]
        ends.prepare(*surveyed)
        assert ends.ovs.vswitch.vsctl("get", "interface", "p1", "mtu_request").strip() == str(1400 + GROWTH)
        ends.ovs.vswitch.vsctl("set", "interface", "p2", "external_ids:any=change")
        assert ends.mtus() == {BRIDGE: 1300, "p1": 1400 + GROWTH, "p2": 1500 + GROWTH, "p3": 1500 + GROWTH}
        ends.restore(*surveyed)
        ends.ovs.vswitch.vsctl("clear", "interface", "p2", "external_ids")
        wait_until(lambda: ends.state() == before)
    finally:
        clear = ("clear", "interface", "p1", "mtu_request", "--", "clear", "interface", BRIDGE, "mtu_request")
        ends.ovs.vswitch.vsctl(*clear)
        ends.ip("link set p1 mtu 1500")


MTU_1300 = "mtu_request=1300"


def test_an_internal_interface_that_comes_later_is_held_at_what_it_would_have(ends: Ends) -> None:
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    ends.ovs.vswitch.vsctl("add-port", BRIDGE, "later", "--", "set", "interface", "later", "type=internal")
    try:
        (later,) = (end for end in ends.survey(*surveyed) if end.name == "later")
        assert later.mtu == 1500
        ends.prepare(later)
        assert run_in(ends.ovs.namespace, lambda: interface("later").mtu) == 1500
        ends.restore(*surveyed, later)
    finally:
        ends.ovs.vswitch.vsctl("del-port", "later")


def test_what_somebody_has_changed_since_stays(ends: Ends) -> None:
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    ends.ip("link set p1 mtu 1450")
    ends.ovs.vswitch.vsctl("set", "interface", BRIDGE, "mtu_request=1350")
    ends.restore(*surveyed)
    assert ends.mtus() == {BRIDGE: 1350, "p1": 1450, "p2": 1500, "p3": 1500}
    ends.ovs.vswitch.vsctl("clear", "interface", BRIDGE, "mtu_request")
    ends.ip("link set p1 mtu 1500")


def test_an_mtu_that_somebody_changes_is_the_networks(ends: Ends) -> None:
    """By hand or in the database, and what is prepared then is given back as they left it."""
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    assert ends.follow(*surveyed) == surveyed
    (first,) = (end for end in surveyed if end.name == "p1")
    request = ("set", "interface", "p1", "mtu_request=1450")
    clear = ("clear", "interface", "p1", "mtu_request")

    def changed(mtu: int, requested: int | None) -> NearEnd:
        """The end of p1, which is prepared anew."""
        wait_until(lambda: [end.mtu for end in ends.follow(end)] == [mtu])
        (found,) = ends.follow(end)
        assert found == replace(first, mtu=mtu, mtu_request=requested)
        ends.prepare(found)
        assert ends.mtus()["p1"] == mtu + GROWTH
        assert ends.follow(found) == [found]
        return found

    end = first
    ends.ip("link set p1 mtu 1600")
    end = changed(1600, None)
    ends.ip("link set p1 mtu 1300")
    end = changed(1300, None)
    ends.ovs.vswitch.vsctl(*request)
    end = changed(1450, 1450)
    ends.ip("link set p1 mtu 1200")
    wait_until(lambda: ends.mtus()["p1"] == 1450 + GROWTH)
    assert ends.follow(end) == [end]
    ends.ovs.vswitch.vsctl(*clear)
    end = changed(1450, None)
    ends.restore(end)
    assert ends.mtus()["p1"] == 1450
    ends.ip("link set p1 mtu 1500")
    ends.restore(*surveyed)


def test_an_internal_interface_is_held_at_what_its_network_has_then(ends: Ends) -> None:
    surveyed = ends.survey()
    ends.prepare(*surveyed)
    (held,) = (end for end in surveyed if end.internal)
    assert ends.follow(held, least=1500) == [held]
    assert ends.follow(held, least=1400) == [replace(held, mtu=1400)]
    ends.ovs.vswitch.vsctl("set", "interface", BRIDGE, MTU_1300)
    assert ends.follow(held) == [replace(held, mtu=1300, mtu_request=1300)]
    ends.ovs.vswitch.vsctl("clear", "interface", BRIDGE, "mtu_request")
    assert ends.follow(replace(held, mtu=1300, mtu_request=1300), least=1500) == [held]
    ends.restore(*surveyed)


def test_a_port_that_is_gone(ends: Ends) -> None:
    """Another interface may have its number or its name by then."""
    ends.ip("link add gone type veth peer name other")
    try:
        known = OvsInterface("gone", ofport=9, ifindex=run_in(ends.ovs.namespace, lambda: interface("gone").index))
        found = run_in(ends.ovs.namespace, lambda: survey(known, "netdev"))
        assert found is not None
        ends.prepare(found)
        ends.ip("link delete gone")
        ends.restore(found)
        ends.ip(f"link add another index {found.ifindex} mtu {1500 + GROWTH} type veth peer name other")
        ends.restore(found)
        assert run_in(ends.ovs.namespace, lambda: interface("another").mtu) == 1500 + GROWTH
    finally:
        ends.ip("link delete other")


def test_an_mtu_that_cannot_be_raised(ends: Ends) -> None:
    """What could be done before that is given back."""
    ends.ip("link add large mtu 65535 type veth peer name other")
    try:
        index = run_in(ends.ovs.namespace, lambda: interface("large").index)
        found = run_in(ends.ovs.namespace, lambda: survey(OvsInterface("large", ofport=9, ifindex=index), "netdev"))
        assert found is not None
        before = run_in(ends.ovs.namespace, lambda: offloads("other"))
        with pytest.raises(PortError, match=r"port large: .* run 'ip link set dev large mtu 65509', or take it out"):
            ends.prepare(found)
        assert run_in(ends.ovs.namespace, lambda: offloads("other")) == before
    finally:
        ends.ip("link delete large")


def test_an_mtu_that_somebody_else_holds(ends: Ends) -> None:
    surveyed = ends.survey()
    ends.ip("link set p1 mtu 1450")
    with pytest.raises(PortError, match=f"port p1: its MTU is 1450 and should be {1500 + GROWTH}"):
        ends.prepare(*surveyed)
    ends.restore(*surveyed)
    ends.ip("link set p1 mtu 1500")


def test_another_namespace(ends: Ends) -> None:
    with pytest.raises(
        PortError, match="interface number 1 is called lo here: okod has to run in the network namespace"
    ):
        survey(OvsInterface("p1", ofport=1, ifindex=1), "netdev")


@pytest.mark.parametrize("kind", ["vxlan", "patch", "dpdk"])
def test_ports_without_xdp_need_nothing(ends: Ends, kind: str) -> None:
    assert survey(OvsInterface("any", kind, ofport=9, ifindex=1), "netdev") is None


def test_the_datapath_of_the_kernel_needs_the_far_end_only(ends: Ends) -> None:
    surveyed = ends.survey(datapath_type="system")
    assert [end.name for end in surveyed] == ["p1", "p2", "p3"]
    ends.prepare(*surveyed)
    assert set(ends.mtus().values()) == {1500}
    assert all(end.longest is None for end in surveyed)
    ends.restore(*surveyed)


TAG = bytes.fromhex("81000064")
LONGEST = {
    "untagged": frame(1, size=1518),
    "tagged": (whole := frame(1, size=1518))[:12] + TAG + whole[12:],
}
"""The longest frames that Open vSwitch takes at an MTU of 1500."""


@pytest.mark.parametrize("longest", LONGEST.values(), ids=LONGEST.keys())
def test_the_longest_frame_fits_behind_a_shim(ends: Ends, longest: bytes) -> None:
    last = frame(2)
    ends.ovs.add(f"priority=9,dl_type={shim.ETHERTYPE:#x},actions=decap(),decap(),output:2")
    ends.ip("link set p2 mtu 1600")
    subprocess.run(["ip", "-n", ends.ovs.hosts[2].name, "link", "set", HOST_INTERFACE, "mtu", "1600"], check=True)
    index = run_in(ends.ovs.namespace, lambda: interface("p1").index)
    tap = Tap(ends.ovs.hosts[2])
    surveyed = [end for end in ends.survey() if end.name in (BRIDGE, "p1")]
    with load_program("passing", asm.returns(asm.XDP_PASS), "GPL", references={}) as passing:

        def arrived() -> list[bytes]:
            for inner in (longest, last):
                run_in(ends.ovs.namespace, partial(run_through, passing.fd, shim.frame(1, inner), index))
            return tap.until(last)

        assert arrived() == []
        ends.prepare(*surveyed)
        assert arrived() == [longest]
        ends.restore(*surveyed)
        wait_until(lambda: ends.mtus()["p1"] == 1500)
        assert arrived() == []
    tap.close()
    ends.ip("link set p2 mtu 1500")
    subprocess.run(["ip", "-n", ends.ovs.hosts[2].name, "link", "set", HOST_INTERFACE, "mtu", "1500"], check=True)
