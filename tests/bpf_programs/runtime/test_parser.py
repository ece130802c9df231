"""The C parser against the one in Python, on frames made, mutated and captured."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from oko.errors import CaptureError
from oko.flow.fields import FIELDS
from oko.flow.headers import offsets, parse
from oko.replay.capture import Capture
from tests.bpf_programs.harness import Harness, build_test_object
from tests.bpf_programs.runtime.linked import LinkedFunction, build_runtime
from tests.oko.flow.frames import frames
from verifier import elf
from verifier.btf import Btf, Struct

pytestmark = pytest.mark.needs_bpf

SHARED_CAPTURES = Path(__file__).parents[4] / "shared" / "data" / "pcaps"
SHORTEST_FRAME = 14  # the kernel never hands XDP a runt
LONGEST_FRAME = 3500  # what fits in the one page of a test run, beside headroom and tail
XDP_PASS = 2
ONLY = bytes(4)
VERIFIED_INSTRUCTIONS = 20_000
"""What the kernel's verifier may look at, of the million that it has for a whole image."""


def members(btf: Btf, name: str) -> dict[str, slice]:
    """Where the members of a structure are."""
    found = btf.id_of(name, Struct)
    assert found is not None
    return {
        member.name: slice(member.offset, member.offset + btf.size_of(member.type)) for member in btf.members(found)
    }


class Parser:
    """The C parser in the kernel."""

    def __init__(self, harness: Harness, btf: Btf) -> None:
        self.harness = harness
        self._packet = members(btf, "oko_packet")
        self._key = members(btf, "oko_key")
        found = btf.id_of("oko_packet", Struct)
        assert found is not None
        self._size = btf.size_of(found)
        self._fields = 0
        for field in FIELDS:
            if field.member:
                above = self._packet["key"].stop - self._key[field.member].stop
                self._fields |= field.full << field.shift + 8 * above

    @staticmethod
    def _number(data: bytes) -> int:
        return int.from_bytes(data, "big")

    def check(self, frame: bytes, where: str = "") -> None:
        """What C makes of a frame is what Python makes of it, and all of it was written, except for what the caller
        sets: that, and whatever is not the parser's, is as it was (ones)."""
        parsed = self.harness.maps["parsed"]
        parsed.update(ONLY, b"\xff" * self._size)
        assert self.harness.run(frame).retval == XDP_PASS
        packet = parsed.lookup(ONLY)
        assert packet is not None
        key = packet[self._packet["key"]]
        found = {
            field.name: self._number(key[self._key[field.member]]) >> field.shift & field.full
            for field in FIELDS
            if field.member
        }
        assert found == parse(frame, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF), where or frame.hex()
        network, transport = (int.from_bytes(packet[self._packet[name]], "little") for name in ("network", "transport"))
        expected = offsets(frame)
        assert (network, transport) == (expected.network, expected.transport), where or frame.hex()
        assert not self._number(key) & ~self._fields, f"bits that are of no field: {where or frame.hex()}"
        assert set(packet[self._packet["outputs"].start :]) == {0xFF}


@pytest.fixture(scope="module")
def harness_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_test_object(Path(__file__).with_name("parser_harness.c"), tmp_path_factory.mktemp("parser"))


@pytest.fixture(scope="module")
def parser(harness_object: Path) -> Iterator[Parser]:
    btf = elf.load(harness_object.read_bytes(), section="xdp").btf
    assert btf is not None
    with Harness(harness_object) as harness:
        yield Parser(harness, btf)


def test_the_kernel_verifies_it_in_few_steps(parser: Parser) -> None:
    assert parser.harness.program.info().verified_instructions < VERIFIED_INSTRUCTIONS


def test_it_is_safe_as_a_global_function(harness_object: Path) -> None:
    """bpftool, unlike the harness, gives the kernel the object's BTF: functions that are not static are then verified
    for any arguments, a null packet among them."""
    pin = Path("/sys/fs/bpf") / f"oko_parser_{os.getpid()}"
    command = ["bpftool", "--debug", "prog", "load", str(harness_object), str(pin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pin.unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validating oko_parse()" in done.stdout + done.stderr


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LENGTH = Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LLC_SNAP = LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
ADDRESSES = IP(src="10.0.0.1", dst="192.0.2.255", tos=0xB9)
SEGMENT = TCP(sport=40000, dport=443)
DATAGRAM = UDP(sport=53, dport=5353)
SIX = IPv6(src="fd00::1", dst="fd00::2", tc=0xB9, fl=0x12345)
SOURCE = ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:08")
TARGET = ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:09")
OPTIONS = IP(src="10.0.0.1", dst="10.0.0.2", options=[b"\x01" * 8])

FRAMES: dict[str, Packet] = {
    "Ethernet header only": ETHER / Raw(b""),
    "TCP": ETHER / ADDRESSES / SEGMENT,
    "UDP": ETHER / ADDRESSES / DATAGRAM / Raw(b"x"),
    "ICMP": ETHER / ADDRESSES / ICMP(type=3, code=4),
    "SCTP": ETHER / IP(proto=132) / Raw(bytes(range(1, 13))),
    "SCTP cut off": ETHER / IP(proto=132) / Raw(bytes(range(1, 12))),
    "ARP": ETHER / ARP(op=2, psrc="10.0.0.1", pdst="10.0.0.2", hwsrc="02:00:00:00:00:01", hwdst="02:00:00:00:00:03"),
    "ARP operation beyond a byte": ETHER / ARP(op=0x101),
    "RARP": Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x8035) / ARP(op=3),
    "MPLS": ETHER / Dot1Q(type=0x8847, vlan=9) / Raw(bytes.fromhex("12345bff00000140")),
    "IPv6": ETHER / SIX / SEGMENT,
    "IPv6 and all extension headers": ETHER
    / SIX
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / IPv6ExtHdrRouting(addresses=["fd00::5"])
    / IPv6ExtHdrFragment()
    / IPv6ExtHdrDestOpt()
    / DATAGRAM,
    "eight extension headers": ETHER / IPv6(nh=60) / Raw((b"\x3c\0" + bytes(6)) * 7 + b"\x11" + bytes(7)) / DATAGRAM,
    "nine extension headers": ETHER / IPv6(nh=60) / Raw((b"\x3c\0" + bytes(6)) * 9) / DATAGRAM,
    "first IPv6 fragment": ETHER / SIX / IPv6ExtHdrFragment(m=1) / DATAGRAM,
    "later IPv6 fragment": ETHER / SIX / IPv6ExtHdrFragment(offset=9, nh=17) / Raw(bytes(20)),
    "neighbour solicitation": ETHER / SIX / ICMPv6ND_NS(tgt="fd00::9") / SOURCE,
    "neighbour advertisement": ETHER / SIX / ICMPv6ND_NA(tgt="fd00::9") / TARGET,
    "both addresses of neighbour discovery": ETHER / SIX / ICMPv6ND_NA(tgt="fd00::9") / TARGET / SOURCE,
    "an address of neighbour discovery twice": ETHER / SIX / ICMPv6ND_NA(tgt="fd00::9") / TARGET / SOURCE / TARGET,
    "eight options of neighbour discovery": ETHER
    / SIX
    / ICMPv6ND_NS(tgt="fd00::9")
    / Raw((b"\x0e\1" + bytes(6)) * 7)
    / SOURCE,
    "a source address of another length": ETHER
    / SIX
    / ICMPv6ND_NS(tgt="fd00::9")
    / Raw(b"\1\2" + bytes(range(1, 15)))
    / SOURCE,
    "nine options of neighbour discovery": ETHER
    / SIX
    / ICMPv6ND_NS(tgt="fd00::9")
    / Raw((b"\x0e\1" + bytes(6)) * 8)
    / SOURCE,
    "one tag": ETHER / Dot1Q(vlan=5) / ADDRESSES / SEGMENT,
    "two tags": ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / ADDRESSES / SEGMENT,
    "three tags": ETHER / Dot1Q() / Dot1Q() / Dot1Q(vlan=6) / ADDRESSES / SEGMENT,
    "a tag cut off": Ether(bytes(ETHER)[:12] + b"\x81\x00") / Raw(b"\x00\x05\x08"),
    "a second tag cut off": ETHER / Dot1Q(type=0x88A8) / Raw(b"\x00\x05\x08"),
    "802.3 with SNAP": LENGTH / LLC_SNAP / SNAP(code=0x0800) / ADDRESSES / SEGMENT,
    "802.3 with SNAP behind a tag": ETHER / Dot1Q(type=60) / LLC_SNAP / SNAP(code=0x0800) / ADDRESSES / DATAGRAM,
    "SNAP of an organisation": LENGTH / LLC_SNAP / SNAP(OUI=0xC, code=0x0800) / ADDRESSES,
    "SNAP with a length as its type": LENGTH / LLC_SNAP / SNAP(code=0x0100) / ADDRESSES,
    "SNAP cut off": LENGTH / LLC_SNAP / Raw(bytes(4)),
    "802.3 without SNAP": LENGTH / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35)),
    "options": ETHER / OPTIONS / SEGMENT,
    "total length beyond the frame": ETHER / IP(len=41) / SEGMENT,
    "total length short of the header": ETHER / IP(len=19) / SEGMENT,
    "header length of 16": ETHER / IP(ihl=4) / SEGMENT,
    "header length beyond the total": ETHER / IP(ihl=15, len=40) / SEGMENT / Raw(bytes(40)),
    "version 5": ETHER / IP(version=5) / SEGMENT,
    "padding is not a TCP header": ETHER / IP(len=39, proto=6) / Raw(bytes(range(1, 40))),
    "padding is not a UDP header": ETHER / IP(len=27, proto=17) / Raw(bytes(range(1, 40))),
    "a UDP header exactly": ETHER / IP(len=28, proto=17) / Raw(bytes(range(1, 40))),
    "first fragment": ETHER / IP(flags="MF") / SEGMENT,
    "later fragment": ETHER / IP(frag=1) / SEGMENT,
    "last fragment": ETHER / IP(flags="MF", frag=8191) / DATAGRAM,
    "don't fragment": ETHER / IP(flags="DF") / DATAGRAM,
}


@pytest.mark.parametrize("packet", FRAMES.values(), ids=FRAMES)
def test_made_frames(parser: Parser, packet: Packet) -> None:
    parser.check(bytes(packet))


CUT: dict[str, tuple[Packet, int, int]] = {
    # the frame, where its length field is, and where what that counts starts
    "IPv4": (ETHER / Dot1Q() / OPTIONS / SEGMENT, 20, 18),
    "IPv6": (ETHER / Dot1Q() / SIX / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / SEGMENT, 22, 58),
    "neighbour discovery": (ETHER / SIX / ICMPv6ND_NS(tgt="fd00::9") / TARGET / SOURCE, 18, 54),
    "ARP": (ETHER / Dot1Q() / ARP(), 0, 0),
    "MPLS": (ETHER / Dot1Q(type=0x8848, vlan=9) / Raw(bytes.fromhex("12345bff")), 0, 0),
}


@pytest.mark.parametrize(("packet", "length_field", "counted_from"), CUT.values(), ids=CUT)
def test_every_length_of_a_frame(parser: Parser, packet: Packet, length_field: int, counted_from: int) -> None:
    """Cut anywhere, with the length field as it was and with one that fits."""
    whole = bytes(packet)
    for length in range(SHORTEST_FRAME, len(whole) + 1):
        frame = bytearray(whole[:length])
        parser.check(bytes(frame))
        if length_field and length >= max(counted_from, length_field + 2):
            struct.pack_into(">H", frame, length_field, length - counted_from)
            parser.check(bytes(frame))


@settings(max_examples=2000, deadline=None)
@given(frame=frames())
def test_frames_of_every_kind(parser: Parser, frame: bytes) -> None:
    parser.check(frame)


@pytest.fixture(scope="module")
def one_tag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkedFunction]:
    directory = tmp_path_factory.mktemp("one_tag")
    build_runtime(directory, "parser")
    with LinkedFunction(directory, "oko_parse_one_tag") as function:
        yield function


@settings(max_examples=500, deadline=None)
@given(frame=frames())
def test_frames_of_which_one_tag_is_read(one_tag: LinkedFunction, frame: bytes) -> None:
    """Open vSwitch with vlan-limit=1: tests/oko/attached/test_vlan_limit.py."""
    assert one_tag.call(frame, {}).retval == 0
    found = {
        field.name: int.from_bytes(one_tag.key(field.member), "big") >> field.shift & field.full
        for field in FIELDS
        if field.member
    }
    assert found == parse(frame, 0, vlan_limit=1)


@pytest.mark.skipif(not SHARED_CAPTURES.exists(), reason="the shared captures are not here")
def test_captured_frames(parser: Parser) -> None:
    compared = 0
    for path in sorted(SHARED_CAPTURES.rglob("*.pcap*")):
        try:
            with Capture(path) as capture:
                for number, packet in enumerate(capture, 1):
                    frame = packet.data
                    if SHORTEST_FRAME <= len(frame) <= LONGEST_FRAME:
                        parser.check(frame, f"{path.name}, packet {number}")
                        compared += 1
        except CaptureError:  # another link type, or cut off: what came before it counts
            continue
    assert compared > 10_000
