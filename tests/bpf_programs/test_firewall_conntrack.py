"""The firewall and Linux's connection tracking agree, packet by packet, on captures and on generated sessions.

Both sides may open, so a packet matches if Linux calls it new, established or related. Time stands still for both: a
capture takes less than the shortest timeout.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.replay.capture import Capture
from tests.bpf_programs.conntrack import Conntrack, fragment_of
from tests.bpf_programs.harness import Harness, build_test_object
from tests.oko.replay.traffic import CAPTURES

pytestmark = pytest.mark.needs_bpf

ONLY = bytes(4)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    source = Path(__file__).with_name("firewall_harness.c")
    with Harness(build_test_object(source, tmp_path_factory.mktemp("firewall"))) as harness:
        harness.maps["ingress"].update(ONLY, struct.pack("=I", 1))
        yield harness


@pytest.fixture
def firewall(loaded: Harness) -> Harness:
    """A firewall without connections, whose only port may open."""
    for name in ("connections", "fragments"):
        for key, _ in list(loaded.maps[name].items()):
            loaded.maps[name].delete(key)
    return loaded


@pytest.fixture
def conntrack() -> Iterator[Conntrack]:
    try:
        oracle = Conntrack()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs connection tracking in a namespace: {error}")
    with oracle:
        yield oracle


def disagreements(firewall: Harness, conntrack: Conntrack, frames: Sequence[bytes]) -> list[str]:
    """Of the packets that Linux gives a verdict on. What it gives none on must not match either, but for fragments of
    packets that never become whole: Linux waits for the rest of them in vain."""
    ours = [bool(firewall.run(frame).retval) for frame in frames]
    theirs = conntrack.states(frames)
    assert any(theirs), "the oracle has seen nothing"
    judged = list(zip(frames, ours, theirs, strict=True))
    assert not [frame.hex() for frame, matches, state in judged if matches and not state and not fragment_of(frame)]
    return [
        f"packet {number}: {state} there, {'match' if matches else 'no match'} here"
        for number, (_, matches, state) in enumerate(judged)
        if state and matches != (state in {"new", "established", "related"})
    ]


FRAMES_OF = {
    str(path.relative_to(CAPTURES)): path
    for path in sorted(CAPTURES.glob("*/*.pcap*"))
    # Nothing in these is seen by connection tracking: no Ethernet, no IP, or no packet that holds.
    if not path.name.startswith(
        ("linktype", "malformed", "qinq", "tunnel__mpls", "frag4__bad", "tcpopts", "truncated__ip")
    )
}


@pytest.mark.skipif(not FRAMES_OF, reason="the captures are not here")
@pytest.mark.parametrize("capture", FRAMES_OF.values(), ids=FRAMES_OF)
def test_captures(firewall: Harness, conntrack: Conntrack, capture: Path) -> None:
    with Capture(capture) as packets:
        frames = [packet.data for packet in packets if len(packet.data) >= 14]
    found = disagreements(firewall, conntrack, frames)
    assert len(found) <= len(frames) // 1000, found


class End:
    """One end of a connection that sends what a TCP might send, or nearly."""

    def __init__(self, chosen: random.Random) -> None:
        self.next = chosen.choice([1000, 2**32 - 2000, chosen.getrandbits(32)])
        self.window = chosen.choice([1000, 8192, 65535])
        self.options: list[tuple[str, object]] = chosen.choice(
            [
                [],
                [("WScale", 7)],
                [("WScale", 2), ("SAckOK", b"")],
                [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0))],
            ]
        )


SCRIPTS = (
    ("0S", "1SA", "0A"),
    ("0S", "0S", "1SA", "1SA", "0A"),  # sent again
    ("0S", "1S", "0SA", "1SA", "1A", "0A"),  # simultaneous open
    ("0S", "1RA"),  # refused
    ("0S", "1A", "0R", "0S", "1SA", "0A"),  # half-open, RFC 9293, section 3.5.1
)
CLOSES = (
    ("0FA", "1A", "1FA", "0A"),
    ("1FA", "0FA", "1A", "0A"),
    ("0FA", "1A", "1PA", "0A", "1FA", "0A"),
    ("0R",),
    ("1RA",),
)


def sessions(seed: int, count: int, wildness: float) -> Iterator[bytes]:
    """TCP sessions, one after the other: opened, used, closed or reset. With the probability `wildness`, a segment is
    not where it belongs."""
    chosen = random.Random(seed)
    for number in range(count):
        ends = (End(chosen), End(chosen))
        data = [chosen.choice(("0PA", "1PA", "0A", "1A")) for _ in range(chosen.randrange(12))]
        for step in (*chosen.choice(SCRIPTS), *data, *chosen.choice(CLOSES)):
            side, flags = int(step[0]), step[1:]
            if chosen.random() < wildness:
                side, flags = chosen.randrange(2), chosen.choice(("A", "PA", "FA", "R", "RA", "S", "SA"))
            yield segment(chosen, ends, side, flags, wildness, 10000 + number)


def segment(
    chosen: random.Random, ends: tuple[End, End], side: int, flags: str, wildness: float, client_port: int
) -> bytes:
    mine, other = ends[side], ends[1 - side]
    length = chosen.choice((1, 100, 1460)) if "P" in flags else 0
    seq, ack = mine.next, other.next if "A" in flags else 0
    if chosen.random() < wildness:
        seq += chosen.choice((-1, 1, -100, -1460, -70000, 1460, 5000, 70000, 2**31))
    if "A" in flags and chosen.random() < wildness:
        ack += chosen.choice((-1, 1, -1000, -70000, 1000, 70000))
    options = list(mine.options) if "S" in flags else []
    if flags == "A" and chosen.random() < 0.1:
        options = [("NOP", None), ("NOP", None), ("SAck", ((ack - 300) % 2**32, (ack - 200) % 2**32))]
    again = "P" in flags and chosen.random() < 0.1
    if not again and "R" not in flags:
        mine.next = (mine.next + length + ("S" in flags) + ("F" in flags)) % 2**32
    elif again:
        seq -= length
    addresses, ports = (("10.1.0.1", "10.1.0.2"), (client_port, 80))
    return bytes(
        ETHER
        / IP(src=addresses[side], dst=addresses[1 - side])
        / TCP(
            sport=ports[side],
            dport=ports[1 - side],
            flags=flags,
            seq=seq % 2**32,
            ack=ack % 2**32,
            window=mine.window,
            options=options,
        )
        / Raw(bytes(length))
    )


@pytest.mark.parametrize(
    ("wildness", "allowed"), [(0.0, 0.0), (0.02, 0.001), (0.2, 0.005)], ids=["orderly", "disturbed", "wild"]
)
def test_generated_sessions(firewall: Harness, conntrack: Conntrack, wildness: float, allowed: float) -> None:
    frames = list(sessions(1, 400, wildness))
    found = disagreements(firewall, conntrack, frames)
    assert len(found) <= allowed * len(frames), found


def conversations() -> Iterator[Packet]:
    """UDP, queries and errors of ICMP, other protocols; of both versions, tagged and not."""
    for there, back, echo, answer in (
        (
            IP(src="10.2.0.1", dst="10.2.0.2"),
            IP(src="10.2.0.2", dst="10.2.0.1"),
            ICMP(type=8, id=9),
            ICMP(type=0, id=9),
        ),
        (
            IPv6(src="2001:db8::1", dst="2001:db8::2"),
            IPv6(src="2001:db8::2", dst="2001:db8::1"),
            ICMPv6EchoRequest(id=9),
            ICMPv6EchoReply(id=9),
        ),
    ):
        yield ETHER / back / UDP(sport=53, dport=4000)
        yield ETHER / there / UDP(sport=4000, dport=53)
        yield ETHER / Dot1Q(vlan=7) / there / UDP(sport=4001, dport=53) / Raw(b"query")
        yield ETHER / there / UDP(sport=4002, dport=53, len=7)
        yield ETHER / there / UDP(sport=4003, dport=53, len=99)
        yield ETHER / back / answer
        yield ETHER / there / echo
        yield ETHER / back / answer
        yield ETHER / back / echo
    for kind in (3, 4, 11, 12):
        quoted = IP(src="10.2.0.1", dst="10.2.0.2") / UDP(sport=4000, dport=53)
        yield ETHER / IP(src="192.0.2.1", dst="10.2.0.1") / ICMP(type=kind) / Raw(bytes(quoted))
        yield ETHER / IP(src="192.0.2.1", dst="10.2.0.9") / ICMP(type=kind) / Raw(bytes(quoted))
        yield ETHER / IP(src="192.0.2.1", dst="10.2.0.1") / ICMP(type=kind) / Raw(bytes(quoted)[:20])
    yield (
        ETHER
        / IPv6(src="2001:db8::9", dst="2001:db8::1")
        / ICMPv6TimeExceeded()
        / IPv6(src="2001:db8::1", dst="2001:db8::2")
        / UDP(sport=4000, dport=53)
    )
    for kind, code in ((13, 0), (14, 0), (17, 0), (18, 0), (8, 1), (0, 1), (9, 0), (10, 0), (40, 0)):
        source, destination = ("10.2.0.2", "10.2.0.1") if kind in (0, 14, 18) else ("10.2.0.1", "10.2.0.2")
        yield ETHER / IP(src=source, dst=destination) / ICMP(type=kind, code=code, id=3)
    for protocol in (2, 50, 89):
        yield ETHER / IP(src="10.2.0.1", dst="10.2.0.2", proto=protocol) / Raw(bytes(40))
        yield ETHER / IP(src="10.2.0.2", dst="10.2.0.1", proto=protocol) / Raw(bytes(40))


def test_conversations(firewall: Harness, conntrack: Conntrack) -> None:
    assert not disagreements(firewall, conntrack, [bytes(packet) for packet in conversations()])
