"""A bridge that is one of Open vSwitch's: what arrives at the host's end of its ports, where Open vSwitch would be."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from oko.errors import BadAction, OkoError
from oko.flow.action import CONTROLLER, TABLE, Action, Continue, Output, Pass
from oko.flow.attachment import Attachment, Shims
from oko.flow.drop import OF_ATTACHED, Drop
from oko.flow.rule import Command, FlowMod
from oko.flow.shim import SIZE, frame
from oko.kernel.link import Link
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath
from oko.switch.objects import read_stub
from oko.switch.pinned import Adoption
from tests.oko.conftest import RUNTIME, Compile, Rig
from tests.oko.flow.written import match, rule
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf

ADDRESSES = bytes.fromhex("020000000001 020000000002")
FRAMES = {
    "minimum": (ADDRESSES + b"\x88\xb5").ljust(60, b"\0"),
    "as long as the MTU lets it be": (ADDRESSES + b"\x88\xb5").ljust(1514, b"\1"),
    "tagged": (ADDRESSES + b"\x81\0\0\5\x88\xb5").ljust(64, b"\2"),
    "tagged, as long as the MTU lets it be": (ADDRESSES + b"\x81\0\0\5\x88\xb5").ljust(1518, b"\3"),
}
PLAIN = FRAMES["minimum"]


def flow(text: str, *actions: Action) -> FlowMod:
    return FlowMod(Command.ADD, rule(text, *actions))


def drops(rig: Rig) -> dict[str, int]:
    return {reason.name: count.packets for reason, count in rig.bridge.drops().items() if count.packets}


@pytest.mark.parametrize("sent", FRAMES.values(), ids=FRAMES.keys())
def test_a_continued_frame_arrives_behind_its_shim(attached_rig: Rig, sent: bytes) -> None:
    assert attached_rig.change(flow("in_port=1", Continue(0x123456))) == []
    attached_rig.attach()
    with attached_rig.listening("p1") as received:
        attached_rig.transmit("h1", sent)
        wait_until(lambda: frame(0x123456, sent) in received())
        assert [len(each) for each in received()] == [len(sent) + SIZE]
    assert attached_rig.won("in_port=1").bytes == len(sent)


def test_what_no_rule_decides_arrives_as_it_came(attached_rig: Rig) -> None:
    assert attached_rig.change(flow("priority=9,in_port=1", Pass()), flow("priority=1", Output(2))) == []
    attached_rig.attach()
    with attached_rig.listening("p1") as passed, attached_rig.listening("h1") as sent:
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: PLAIN in passed())
        assert attached_rig.change(FlowMod(Command.DELETE, rule(""))) == []
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: passed() == [PLAIN, PLAIN])
        assert sent() == []
    assert drops(attached_rig) == {}


def test_a_rule_that_sends_keeps_the_frame_from_open_vswitch(attached_rig: Rig) -> None:
    assert attached_rig.change(flow("in_port=1", Output(2))) == []
    attached_rig.attach()
    with attached_rig.listening("p1") as passed, attached_rig.listening("h2") as sent:
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: sent() == [PLAIN])
        assert passed() == []


def test_a_packet_of_the_controller_enters_by_its_port(attached_rig: Rig, cables: Path) -> None:
    """And Open vSwitch receives it there. Of no port it enters nowhere: the host would receive it."""
    subprocess.run(["ip", "-n", cables.name, "link", "set", "lo", "up"], check=True)
    assert attached_rig.change(flow("in_port=1", Continue(7))) == []
    with attached_rig.listening("p1") as passed, attached_rig.listening("lo") as host:
        for in_port in (CONTROLLER, 1):
            attached_rig.inside(partial(attached_rig.bridge.packet_out, [Output(TABLE)], PLAIN, in_port))
        wait_until(lambda: passed() == [frame(7, PLAIN)])
        assert host() == []
    assert drops(attached_rig) == {"STRANGER": 1}


def test_forged_and_long_frames_arrive_nowhere(attached_rig: Rig, cables: Path) -> None:
    """At a port whose MTU was raised for the shim's sake."""
    for end in ("h1", "p1"):
        subprocess.run(["ip", "-n", cables.name, "link", "set", end, "mtu", "1526"], check=True)
    attached_rig.attach()
    long = PLAIN.ljust(1519, b"\0")
    with attached_rig.listening("p1") as passed:
        attached_rig.transmit("h1", frame(7, PLAIN), long, long[:1518])
        wait_until(lambda: passed() == [long[:1518]])
    assert drops(attached_rig) == {"FORGED": 1, "TOO_LONG": 1}


def test_shims_are_suspended_with_one_word(attached_rig: Rig) -> None:
    """It holds for the images that follow, too."""
    assert attached_rig.change(flow("in_port=1", Continue(7))) == []
    attached_rig.attach()
    with attached_rig.listening("p1") as passed:
        attached_rig.bridge.set_shims(Shims.DROPPED)
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: drops(attached_rig) == {"SUSPENDED": 1})
        assert attached_rig.change(flow("priority=3,dl_type=0x800", Output(2))) == []
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: drops(attached_rig) == {"SUSPENDED": 2})
        attached_rig.bridge.set_shims(Shims.PASSED)
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: passed() == [PLAIN])
        attached_rig.bridge.set_shims(Shims.USED)
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: passed() == [PLAIN, frame(7, PLAIN)])


def test_the_word_outlives_okod(attached_rig: Rig, bpffs: Path) -> None:
    attached_rig.bridge.set_shims(Shims.DROPPED)
    with Datapath("br0", bpffs, read_stub(fail_open=True), RUNTIME(), Adoption.PIPELINE, attached=True) as next_okods:
        assert next_okods.shims is Shims.DROPPED


def test_an_earlier_okods_pipeline_goes_on_until_there_are_rules(attached_rig: Rig, bpffs: Path) -> None:
    ports = attached_rig.bridge.ports
    assert attached_rig.change(flow("in_port=1", Continue(7))) == []
    attached_rig.attach()
    with Datapath("br0", bpffs, read_stub(fail_open=True), RUNTIME(), Adoption.PIPELINE, attached=True) as next_okods:
        bridge = attached_rig.inside(lambda: Bridge("br0", next_okods, RUNTIME(), ports, attachment=Attachment()))
        attached_rig.inside(lambda: bridge.reattach(ports, Attachment(2)))
        with attached_rig.listening("p1") as passed:
            attached_rig.transmit("h1", PLAIN)
            wait_until(lambda: passed() == [frame(7, PLAIN)])
            attached_rig.inside(lambda: bridge.change([flow("in_port=1", Pass())]))
            attached_rig.transmit("h1", PLAIN)
            wait_until(lambda: passed() == [frame(7, PLAIN), PLAIN])


def test_a_port_without_a_pipeline_fails_open(attached_rig: Rig) -> None:
    assert attached_rig.change(flow("", Output(2))) == []
    attached_rig.attach()
    with attached_rig.listening("p1") as passed:
        attached_rig.datapath.pins.joinpath("slot").unlink()
        attached_rig.datapath.close()

        def is_passed() -> bool:  # the kernel empties the slot some time after its last pin is gone
            attached_rig.transmit("h1", PLAIN)
            return PLAIN in passed()

        wait_until(is_passed)
    for pin in sorted((attached_rig.datapath.pins / "links").iterdir()):
        with Link.open(pin) as link:
            link.detach()


def test_reattached_with_other_ports_and_reserved_frames(attached_rig: Rig) -> None:
    """Rules that name a port which is none any more stay, and send nothing there."""
    bridge = attached_rig.bridge
    assert attached_rig.change(flow("in_port=1", Output(2))) == []
    attached_rig.attach()
    attached_rig.inside(lambda: bridge.reattach(bridge.ports[:1], Attachment(reserved=(match("dl_type=0x88cc"),))))
    lldp = PLAIN[:12] + b"\x88\xcc" + PLAIN[14:]
    with attached_rig.listening("p1") as passed:
        attached_rig.transmit("h1", PLAIN, lldp)
        wait_until(lambda: passed() == [lldp])
    assert drops(attached_rig) == {"NO_PORT": 1}


def test_a_bridge_that_cannot_be_attached_so_stays_as_it_was(attached_rig: Rig) -> None:
    """Here as its slot is gone."""
    bridge = attached_rig.bridge
    before = bridge.ports, bridge.attachment
    attached_rig.datapath.close()
    with pytest.raises(OkoError):
        attached_rig.inside(lambda: bridge.reattach(bridge.ports[:1], Attachment(2)))
    assert (bridge.ports, bridge.attachment) == before


@pytest.mark.parametrize("action", [Pass(), Continue(7)], ids=["pass", "continue"])
def test_a_bridge_of_okos_own_leaves_nothing(rig: Rig, action: Action) -> None:
    (error,) = rig.change(flow("", action))
    assert isinstance(error, BadAction)
    assert "only a bridge that is attached to Open vSwitch" in str(error)


def test_a_bridge_of_okos_own_tells_nothing_of_open_vswitch(rig: Rig) -> None:
    assert rig.bridge.drops().keys() == set(Drop) - OF_ATTACHED


def test_an_attached_bridge_tells_all_reasons(attached_rig: Rig) -> None:
    assert attached_rig.bridge.drops().keys() == set(Drop)


def test_an_attached_bridge_refuses_what_is_open_vswitchs(attached_rig: Rig) -> None:
    refused = attached_rig.add("ip,actions=dec_ttl,output:2", "table=1,actions=output:2", "actions=goto_table:1")
    assert [type(error) for error in refused] == [BadAction] * 3
    assert len(attached_rig.bridge.tables) == 0


def test_a_program_decides_who_is_continued(attached_rig: Rig, counting: Compile) -> None:
    """It sees the packet without the shim."""
    attached_rig.load(counting())
    assert attached_rig.change(flow("filter_prog=1", Continue(7))) == []
    attached_rig.attach()
    with attached_rig.listening("p1") as passed:
        attached_rig.transmit("h1", PLAIN)
        wait_until(lambda: passed() == [frame(7, PLAIN)])
