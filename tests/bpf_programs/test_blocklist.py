"""The blocklist, in the kernel: which packets match, and what is counted."""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.errors import KernelError
from tests.bpf_programs.harness import Harness, build_test_object
from verifier import elf

pytestmark = pytest.mark.needs_bpf

ONLY = bytes(4)
SOURCE, DESTINATION = 0, 1
MOST = 1 << 20
CONFIG = struct.Struct("=I?3x")  # side, counts
HITS = struct.Struct("=QQ")  # packets, bytes
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def prefix_key(text: str) -> bytes:
    """A struct oko_prefix."""
    return network_key(ipaddress.ip_network(text))


def network_key(network: Network) -> bytes:
    address = network.network_address.packed
    if network.version == 4:
        return struct.pack("=I", 96 + network.prefixlen) + bytes(10) + b"\xff\xff" + address
    return struct.pack("=I", network.prefixlen) + address


class Blocklist:
    """A blocklist with maps of its own."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def reset(self) -> None:
        for key in list(self.hits):
            self._harness.maps["prefixes"].delete(key)
        self.configure()

    def configure(self, side: int = SOURCE, counts: bool = True) -> None:
        self._harness.maps[".data.config"].update(ONLY, CONFIG.pack(side, counts))

    def list(self, *prefixes: str) -> None:
        for prefix in prefixes:
            self._harness.maps["prefixes"].update(prefix_key(prefix), bytes(HITS.size))

    def matches(self, packet: Packet | bytes) -> bool:
        return bool(self._harness.run(bytes(packet)).retval)

    @property
    def hits(self) -> dict[bytes, tuple[int, ...]]:
        return {key: HITS.unpack(value) for key, value in self._harness.maps["prefixes"].items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("blocklist_harness.c")
    return build_test_object(source, tmp_path_factory.mktemp("blocklist"))


@pytest.fixture(scope="module")
def loaded(built: Path) -> Iterator[Harness]:
    with Harness(built) as harness:
        yield harness


@pytest.fixture
def blocklist(loaded: Harness) -> Blocklist:
    """An empty one, in the configuration of the source."""
    fresh = Blocklist(loaded)
    fresh.reset()
    return fresh


def test_sources_are_the_default(built: Path) -> None:
    program = elf.load(built.read_bytes(), section="xdp")
    assert [spec.initial for spec in program.maps if spec.name == ".data.config"] == [CONFIG.pack(SOURCE, True)]


V4 = IP(src="192.0.2.77", dst="198.51.100.9")
V6 = IPv6(src="2001:db8:1:2::77", dst="2001:db8:ffff::9")
SHAPES: dict[str, tuple[Packet | bytes, bool]] = {
    "IPv4": (ETHER / V4 / UDP(), True),
    "IPv6": (ETHER / V6 / UDP(), True),
    "IPv4, one tag": (ETHER / Dot1Q(vlan=5) / V4 / TCP(), True),
    "IPv4, two tags": (ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / V4 / TCP(), True),
    "IPv6, one tag": (ETHER / Dot1Q(vlan=5) / V6 / TCP(), True),
    "IPv6, two tags": (ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / V6 / TCP(), True),
    "three tags": (ETHER / Dot1AD() / Dot1Q() / Dot1Q() / V4 / TCP(), False),
    "IPv4 options": (ETHER / IP(src=V4.src, options=[b"\x01" * 8]) / UDP(), True),
    "IPv4, a later fragment": (ETHER / IP(src=V4.src, frag=100, proto=17) / Raw(b"data"), True),
    "IPv6, a later fragment": (ETHER / V6 / IPv6ExtHdrFragment(offset=100, nh=17) / Raw(b"data"), True),
    "IPv4 with nothing behind": (ETHER / IP(src=V4.src, proto=253), True),
    "IPv4, a header of 16 bytes": (ETHER / IP(src=V4.src, ihl=4) / UDP(), False),
    "IPv4, longer than the frame": (ETHER / IP(src=V4.src, len=60) / UDP(), False),
    "IPv6, longer than the frame": (ETHER / IPv6(src=V6.src, plen=60) / UDP(), False),
    "ARP about a listed address": (ETHER / ARP(psrc=V4.src), False),
    "Ethernet alone": (bytes(12) + b"\x08\x00", False),
}


@pytest.mark.parametrize(("packet", "matches"), SHAPES.values(), ids=SHAPES)
def test_shapes(blocklist: Blocklist, packet: Packet | bytes, matches: bool) -> None:
    blocklist.list("192.0.2.0/24", "2001:db8:1::/48")
    assert blocklist.matches(packet) is matches
    assert sum(packets for packets, _ in blocklist.hits.values()) == matches


@pytest.mark.parametrize("packet", [ETHER / V4, ETHER / Dot1AD() / Dot1Q() / V4, ETHER / V6], ids=repr)
def test_a_frame_cut_off_never_matches(blocklist: Blocklist, packet: Packet) -> None:
    blocklist.list("0.0.0.0/0", "::/0")
    whole = bytes(packet)
    for length in range(14, len(whole)):
        assert not blocklist.matches(whole[:length]), length
    assert blocklist.matches(whole)


# prefixes, whether the source 192.0.2.77 or 2001:db8:1:2::77 matches
LISTS: dict[str, tuple[Packet, tuple[str, ...], bool]] = {
    "nothing listed": (V4, (), False),
    "the address": (V4, ("192.0.2.77/32",), True),
    "its neighbour": (V4, ("192.0.2.76/32",), False),
    "its /31": (V4, ("192.0.2.76/31",), True),
    "the other /31": (V4, ("192.0.2.78/31",), False),
    "its half of the addresses": (V4, ("128.0.0.0/1",), True),
    "the other half": (V4, ("0.0.0.0/1",), False),
    "all of IPv4": (V4, ("0.0.0.0/0",), True),
    "the destination": (V4, ("198.51.100.9/32",), False),
    "an IPv6 prefix with the same bits": (V4, ("c000:24d::/32",), False),
    "all of IPv6, which has IPv4 in it": (V4, ("::/0",), True),
    "the part of IPv6 that is in use": (V4, ("2000::/3",), False),
    "IPv6: nothing listed": (V6, (), False),
    "IPv6: the address": (V6, ("2001:db8:1:2::77/128",), True),
    "IPv6: its neighbour": (V6, ("2001:db8:1:2::76/128",), False),
    "IPv6: its /127": (V6, ("2001:db8:1:2::76/127",), True),
    "IPv6: its /63": (V6, ("2001:db8:1:2::/63",), True),
    "IPv6: the other /64": (V6, ("2001:db8:1:3::/64",), False),
    "IPv6: everything": (V6, ("::/0",), True),
    "IPv6: all of IPv4": (V6, ("0.0.0.0/0",), False),
}


@pytest.mark.parametrize(("ip", "prefixes", "matches"), LISTS.values(), ids=LISTS)
def test_lists(blocklist: Blocklist, ip: Packet, prefixes: tuple[str, ...], matches: bool) -> None:
    blocklist.list(*prefixes)
    assert blocklist.matches(ETHER / ip / UDP()) is matches


@pytest.mark.parametrize(
    ("ip", "source", "destination"),
    [(V4, "192.0.2.0/24", "198.51.100.0/24"), (V6, "2001:db8:1::/48", "2001:db8:ffff::/48")],
    ids=["IPv4", "IPv6"],
)
def test_the_side_is_configuration(blocklist: Blocklist, ip: Packet, source: str, destination: str) -> None:
    blocklist.list(destination)
    assert not blocklist.matches(ETHER / ip / UDP())
    blocklist.configure(DESTINATION)
    assert blocklist.matches(ETHER / ip / UDP())
    blocklist.reset()
    blocklist.configure(DESTINATION)
    blocklist.list(source)
    assert not blocklist.matches(ETHER / ip / UDP())


def test_the_longest_prefix_counts(blocklist: Blocklist) -> None:
    blocklist.list("192.0.0.0/16", "192.0.2.0/24", "2001:db8::/32")
    for packet, times in ((ETHER / V4 / UDP(), 2), (ETHER / Dot1Q() / V4 / UDP(), 1), (ETHER / V6 / UDP(), 1)):
        for _ in range(times):
            assert blocklist.matches(packet)
    assert blocklist.hits == {
        prefix_key("192.0.0.0/16"): (0, 0),
        prefix_key("192.0.2.0/24"): (3, 42 + 42 + 46),
        prefix_key("2001:db8::/32"): (1, 62),
    }


def test_nothing_is_counted_that_is_not_asked_for(blocklist: Blocklist) -> None:
    blocklist.list("192.0.2.0/24")
    blocklist.configure(counts=False)
    assert blocklist.matches(ETHER / V4 / UDP())
    assert blocklist.hits == {prefix_key("192.0.2.0/24"): (0, 0)}


# Few bits that differ, so that prefixes often cover one another and the addresses.
BITS4, BITS6 = 0x0A000000, 0x20010DB8 << 96
ADDRESSES = st.one_of(
    st.integers(0, 15).map(lambda bits: ipaddress.IPv4Address(BITS4 | bits >> 2 << 16 | bits & 3)),
    st.integers(0, 15).map(lambda bits: ipaddress.IPv6Address(BITS6 | bits >> 2 << 64 | bits & 3)),
)
NETWORKS = st.tuples(ADDRESSES, st.integers(0, 128)).map(
    lambda pair: ipaddress.ip_network((pair[0], min(pair[1], pair[0].max_prefixlen)), strict=False)
)


def mapped_address(address: Address) -> ipaddress.IPv6Address:
    """An IPv4 address as an IPv4-mapped one (RFC 4291, section 2.5.5.2)."""
    return ipaddress.IPv6Address(0xFFFF << 32 | int(address)) if address.version == 4 else address


def mapped(network: Network) -> ipaddress.IPv6Network:
    if network.version == 6:
        return network
    return ipaddress.IPv6Network((mapped_address(network.network_address), 96 + network.prefixlen))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks=st.sets(NETWORKS, max_size=8), addresses=st.lists(ADDRESSES, min_size=1, max_size=8))
def test_against_prefixes_in_python(blocklist: Blocklist, networks: set[Network], addresses: list[Address]) -> None:
    blocklist.reset()
    blocklist.list(*map(str, networks))
    hits = dict.fromkeys(networks, 0)
    for address in addresses:
        covering = [network for network in networks if mapped_address(address) in mapped(network)]
        if covering:
            hits[max(covering, key=lambda network: mapped(network).prefixlen)] += 1
        ip = IP(src=str(address)) if address.version == 4 else IPv6(src=str(address))
        assert blocklist.matches(ETHER / ip / UDP()) is bool(covering)
    assert {key: packets for key, (packets, _) in blocklist.hits.items()} == {
        network_key(network): packets for network, packets in hits.items()
    }


def test_a_million_prefixes(built: Path) -> None:
    """Every second /24 of the lower half of IPv4, and as many /48 of 2001::/16."""
    with Harness(built) as harness:
        prefixes, empty = harness.maps["prefixes"], bytes(HITS.size)
        ipv4 = struct.pack("=I", 96 + 24) + bytes(10) + b"\xff\xff"
        ipv6 = struct.pack("=I", 48) + b"\x20\x01"
        for number in range(MOST // 2):
            prefixes.update(ipv4 + (number << 9).to_bytes(4, "big"), empty)
            prefixes.update(ipv6 + (number << 1).to_bytes(4, "big") + bytes(10), empty)
        with pytest.raises(KernelError) as refused:
            prefixes.update(prefix_key("192.0.2.0/24"), empty)
        assert refused.value.errno in (errno.ENOSPC, errno.ENOMEM)
        full = Blocklist(harness)
        for number in (0, 1, 12_345, MOST // 2 - 1):
            for odd in (0, 1):
                source4 = ipaddress.IPv4Address(number << 9 | odd << 8 | 7)
                source6 = ipaddress.IPv6Address(0x2001 << 112 | (number << 1 | odd) << 80 | 7)
                assert full.matches(ETHER / IP(src=str(source4)) / UDP()) is (odd == 0)
                assert full.matches(ETHER / IPv6(src=str(source6)) / UDP()) is (odd == 0)
