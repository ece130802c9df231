from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oko.attached.guard import Guard
from oko.errors import NotSupported, PortError
from oko.flow import shim
from oko.kernel.features import EGRESS_PROGRAMS, probe
from oko.kernel.namespace import run_in
from tests.e2e.wire import frame
from tests.oko.attached.conftest import Laboratory
from tests.oko.attached.tap import Tap
from tests.oko.kernel.waiting import wait_until
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]

since_6_6 = pytest.mark.skipif(not probe(EGRESS_PROGRAMS), reason=f"{EGRESS_PROGRAMS.name} are not there")

LAST = frame(99)
WHOLE = shim.frame(7, frame())


def altered(place: int, value: int) -> bytes:
    return WHOLE[:place] + bytes((value,)) + WHOLE[place + 1 :]


FRAMES = {
    "a shim": WHOLE,
    "another id": shim.frame(1 << 23, frame()),
    "another address": altered(0, 0x02),
    "another TTL": altered(15, 0x82),
    "reserved bits": altered(16, 0xF2),
    "NSH with metadata of type 1": altered(16, 0x01),
    "NSH before an IP packet": altered(17, 0x01),
    "another service index": altered(21, 0xFE),
    "another ethertype": altered(13, 0x50),
    "a shim behind a tag": WHOLE[:12] + bytes.fromhex("81000064") + WHOLE[12:],
    "a shim that was cut": WHOLE[:21],
    "no shim": frame(),
}


@pytest.fixture
def guard(ovs: Laboratory, bpffs: Path) -> Iterator[Guard]:
    """At p2, to which a rule sends all frames of host 1."""
    ovs.add("in_port=1,actions=output:2")
    with Guard(bpffs / "guard") as made:
        run_in(ovs.namespace, lambda: made.attach("p2", socket.if_nametoindex("p2")))
        yield made
        made.remove()


def ip(ovs: Laboratory, command: str) -> None:
    subprocess.run(["ip", "-n", ovs.namespace.name, *command.split()], check=True)


def sent(ovs: Laboratory, *frames: bytes) -> list[bytes]:
    """What host 2 receives of what host 1 sends."""
    sender, receiver = Tap(ovs.hosts[1]), Tap(ovs.hosts[2])
    for each in (*frames, LAST):
        sender.send(each)
    try:
        return receiver.until(LAST)
    finally:
        sender.close()
        receiver.close()


@since_6_6
@pytest.mark.parametrize("leaving", FRAMES.values(), ids=FRAMES.keys())
def test_what_has_the_form_of_a_shim_does_not_leave(ovs: Laboratory, guard: Guard, leaving: bytes) -> None:
    forged = shim.is_shim(leaving)
    assert sent(ovs, leaving) == ([] if forged else [leaving])
    assert guard.dropped == int(forged)


@since_6_6
def test_without_the_guard_it_would(ovs: Laboratory, guard: Guard) -> None:
    guard.detach("p2")
    assert guard.ports == {}
    assert sent(ovs, WHOLE) == [WHOLE]
    assert guard.dropped == 0


@since_6_6
def test_it_outlives_okod(ovs: Laboratory, bpffs: Path) -> None:
    ovs.add("in_port=1,actions=output:2")
    index = run_in(ovs.namespace, lambda: socket.if_nametoindex("p2"))
    with Guard(bpffs / "guard") as first:
        run_in(ovs.namespace, lambda: first.attach("p2", index))
    assert sent(ovs, WHOLE) == []
    with Guard(bpffs / "guard") as second:
        assert second.ports == {"p2": index}
        assert second.dropped == 1
        run_in(ovs.namespace, lambda: second.attach("p2", index))
        assert sent(ovs, WHOLE) == []
        assert second.dropped == 2
        second.remove()
    assert not (bpffs / "guard").exists()
    assert sent(ovs, WHOLE) == [WHOLE]


@since_6_6
def test_what_open_vswitch_does_to_the_queues_of_a_port_leaves_it_alone(ovs: Laboratory, guard: Guard) -> None:
    qos = "--id=@q create qos type=linux-htb other-config:max-rate=1000000000 -- set port p2 qos=@q"
    ovs.vswitch.vsctl("set", "interface", "p2", "ingress_policing_rate=10000")
    ovs.vswitch.vsctl("--", *qos.split())
    assert sent(ovs, WHOLE) == []
    ovs.vswitch.vsctl("set", "interface", "p2", "ingress_policing_rate=0")
    ovs.vswitch.vsctl("clear", "port", "p2", "qos", "--", "--all", "destroy", "qos")
    assert sent(ovs, WHOLE) == []
    assert guard.dropped == 2


@since_6_6
def test_a_port_that_is_gone_and_there_again(ovs: Laboratory, guard: Guard) -> None:
    def add() -> int:
        ip(ovs, "link add gone type veth peer name other")
        return socket.if_nametoindex("gone")

    def again(index: int) -> None:
        guard.attach("gone", index)
        assert guard.ports["gone"] == index

    first = run_in(ovs.namespace, add)
    run_in(ovs.namespace, lambda: again(first))
    ip(ovs, "link delete gone")
    wait_until(lambda: guard.ports["gone"] == 0)
    second = run_in(ovs.namespace, add)
    run_in(ovs.namespace, lambda: again(second))
    ip(ovs, "link delete gone")
    guard.detach("gone")


@since_6_6
def test_no_such_interface(ovs: Laboratory, guard: Guard) -> None:
    with pytest.raises(PortError, match="interface number 9999 does not exist"):
        guard.attach("none", 9999)
    assert set(guard.ports) == {"p2"}


@pytest.mark.skipif(bool(probe(EGRESS_PROGRAMS)), reason="they are there")
def test_an_older_kernel(bpffs: Path) -> None:
    with pytest.raises(NotSupported, match=r"needs 6.6 or later\), hence no guard at the ports"):
        Guard(bpffs / "guard")
