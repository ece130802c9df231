"""Traffic: what is in the lists, and that ``traffic.c`` makes the packets of them that Python would."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from struct import Struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from oko.errors import NotReadable
from perf.traffic import (
    BACKBONE,
    LONGEST,
    MOST_VARIANTS,
    SERVICES,
    SHORTEST,
    Phase,
    Template,
    Traffic,
    backbone,
    backbone_model,
    capture,
    datagrams,
    destinations,
    everywhere,
    new_flows,
    segments,
    syn_flood,
    syns,
    template,
)
from perf.xdp import INDEX_0, XdpObject, build

STATE = Struct("<6Q8I")  # struct state of traffic.c
PROTOCOL = 23  # its offset in IPv4 without tags
XDP_DROP = 1
XDP_REDIRECT = 4
LOOPBACK = 1
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

PACKETS = {
    "tcp": LINK / IP(src="16.0.0.0", dst="192.0.2.80") / TCP(sport=1, dport=2, seq=7) / Raw(bytes(30)),
    "udp": LINK / IP(src="16.0.0.0", dst="192.0.2.80") / UDP(sport=1, dport=2) / Raw(bytes(700)),
    "icmp": LINK / IP(src="16.0.0.0", dst="192.0.2.80") / ICMP() / Raw(bytes(56)),
    "options": LINK / IP(src="16.0.0.0", dst="192.0.2.80", options=b"\x01\x01\x01\x01") / TCP(sport=1),
    "ipv6": LINK / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2) / Raw(bytes(10)),
    "tag": LINK / Dot1Q(vlan=5) / IP(src="16.0.0.0") / UDP(),
    "arp": LINK / ARP(),
}


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Each processor goes through the list on its own: the test stays on one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def moved(packet: Packet, variant: int) -> bytes:
    """The packet from another client, with checksums computed anew."""
    made = packet.copy()
    if made.payload.name == "IP":
        made[IP].src = str(IPv4Address(int(IPv4Address(made[IP].src)) + variant))
    elif made.payload.name == "IPv6":
        made[IPv6].src = f"2001:db8::{1 + variant:x}"
    return bytes(made).ljust(SHORTEST, b"\0")


@pytest.mark.needs_bpf
@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS)
def test_the_generator_moves_the_client_and_keeps_checksums_right(packet: Packet) -> None:
    build()
    with XdpObject("traffic") as traffic:
        traffic.aim(LOOPBACK)
        traffic.maps["templates"].update(INDEX_0, template(bytes(packet)).pack())
        for variant in (0, 1, 255, 256, 40_000):
            state = STATE.pack(0, 1, 0, 0, 0, 0, 0, 1, variant, 0, MOST_VARIANTS, 1, 0, 0)
            traffic.maps["states"].update(INDEX_0, state)
            run = traffic.program.test_run(bytes(LONGEST))
            assert (run.retval, run.data) == (XDP_REDIRECT, moved(packet, variant))


@pytest.mark.needs_bpf
@pytest.mark.usefixtures("one_processor")
def test_the_generator_goes_through_list_and_variants_and_then_stops() -> None:
    build()
    phase = Phase([template(bytes(PACKETS[name])) for name in ("tcp", "icmp")], variants=5, first=3)
    with XdpObject("traffic") as traffic:
        traffic.aim(LOOPBACK)
        traffic.maps["templates"].update_batch(
            (number.to_bytes(4, "little"), made.pack()) for number, made in enumerate(phase.templates)
        )
        position = (0, 2, phase.first, phase.first, phase.variants, phase.stride, 0, 0)
        traffic.maps["states"].update(INDEX_0, STATE.pack(0, phase.frames, 0, 0, 0, 0, *position))
        frames = [traffic.program.test_run(bytes(LONGEST)).data for _ in range(phase.frames)]
        assert traffic.program.test_run(bytes(LONGEST)).retval == XDP_DROP
    expected = {moved(PACKETS[name], variant) for name in ("tcp", "icmp") for variant in range(3, 8)}
    assert set(frames) == expected
    assert len(frames) == len(expected)


@pytest.mark.parametrize("variants", [1, 2, 3, 10, 1_000, 1_024, 100_000])
def test_a_stride_meets_every_variant(variants: int) -> None:
    phase = Phase([template(bytes(60))], variants)
    assert len({number * phase.stride % variants for number in range(variants)}) == variants


ALL: dict[str, Callable[[], Traffic]] = {
    "segments": lambda: segments(1_000),
    "datagrams": lambda: datagrams(1_000_000, 1_514),
    "destinations": lambda: destinations(20),
    "everywhere": lambda: everywhere(range(1 << 24, (1 << 24) + 20), clients=5),
    "syns": lambda: syns(1_000),
    "syn flood": syn_flood,
    "new flows": new_flows,
    "backbone": lambda: backbone(1_024),
}


@pytest.mark.parametrize("name", ALL)
def test_templates_are_whole_frames(name: str) -> None:
    traffic = ALL[name]()
    templates = [made for phase in (*traffic.opening, traffic.steady) for made in phase.templates]
    for made in templates:
        assert SHORTEST <= made.length <= LONGEST
        assert checksums_are_right(made)


def checksums_are_right(made: Template) -> bool:
    packet = Ether(made.frame)
    again = packet.copy()
    for layer in (IP, TCP, UDP, ICMP):
        if layer in again:
            del again[layer].chksum
    return bytes(again) == made.frame


def test_connections_are_opened_before_their_data() -> None:
    traffic = segments(50_000)
    assert sum(phase.frames for phase in traffic.opening) == 3 * 50_000
    assert traffic.steady.frames == 50_000
    assert {Ether(made.frame)[TCP].dport for made in traffic.steady.templates} == set(SERVICES)
    # The firewall has room for 32,768 attempts.
    assert max(phase.frames for phase in traffic.opening) <= 16_384


def test_the_backbone_is_as_its_model_says() -> None:
    model = backbone_model()
    templates = backbone().steady.templates
    protocols = Counter(made.headers[PROTOCOL] for made in templates)
    for protocol, name in ((6, "tcp_pkt_pct"), (17, "udp_pkt_pct")):
        assert 100 * protocols[protocol] / len(templates) == pytest.approx(model[name], abs=1)
    # Of OC48, by direction: 510 to 763 bytes of IP.
    assert 450 <= sum(made.length for made in templates) / len(templates) <= 800
    assert {made.length for made in templates} >= {SHORTEST, 590, LONGEST}


def test_without_a_file_the_model_is_the_built_in_one(tmp_path: Path) -> None:
    assert backbone_model(tmp_path / "absent.json") == BACKBONE
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"traces": {}}))
    with pytest.raises(NotReadable, match=r"broken\.json: no model of a backbone"):
        backbone_model(broken)


def test_a_capture_is_replayed_in_both_directions(tmp_path: Path) -> None:
    there = LINK / IP(src="10.0.0.9", dst="10.0.0.1") / UDP(sport=1_000, dport=53) / Raw(bytes(20))
    back = LINK / IP(src="10.0.0.1", dst="10.0.0.9") / UDP(sport=53, dport=1_000) / Raw(bytes(900))
    path = tmp_path / "two.pcap"
    wrpcap(str(path), [there, back, there])
    phase = capture(path).steady
    assert [made.entrance for made in phase.templates] == [0, 1, 0]
    assert [made.address for made in phase.templates] == [26, 30, 26]
    assert [made.length for made in phase.templates] == [len(there), len(back), len(there)]


def test_a_capture_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    wrpcap(str(path), [], linktype=1)
    with pytest.raises(NotReadable, match="there is no frame in it"):
        capture(path)


@pytest.mark.needs_bpf
@pytest.mark.usefixtures("one_processor")
@pytest.mark.parametrize("name", ["tcp", "udp"])
def test_a_probe_differs_in_its_identification_only(name: str) -> None:
    build()
    made = template(bytes(PACKETS[name]))
    with XdpObject("traffic") as traffic:
        traffic.aim(LOOPBACK)
        traffic.maps["templates"].update(INDEX_0, made.pack())
        traffic.maps["states"].update(INDEX_0, STATE.pack(0, 65, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0))
        for number in range(65):
            probe = PACKETS[name].copy()
            probe[IP].id = 0x8000 + number // 64 if number % 64 == 0 else probe[IP].id
            found = traffic.program.test_run(bytes(LONGEST)).data
            assert found == bytes(probe).ljust(SHORTEST, b"\0"), number
        departures = [traffic.maps["departures"].lookup(number.to_bytes(4, "little")) for number in range(3)]
    assert [departed != bytes(8) for departed in departures] == [True, True, False]
