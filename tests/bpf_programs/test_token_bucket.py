"""The token bucket against the arithmetic of one in Python, packet by packet, in virtual time."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.compiler.runtime import Runtime
from oko.flow.headers import parse
from oko.flow.port import PortState
from oko.flow.text import parse_rule
from oko.replay.capture import Capture
from oko.replay.engine import KernelEngine, ReferenceEngine
from oko.replay.replay import make_tables, whole
from oko.switch.schema import schema, write
from tests.bpf_programs.harness import Harness, build, build_test_object
from tests.oko.replay.traffic import CAPTURES
from verifier import elf
from verifier.btf import Btf, Struct
from verifier.check import check

pytestmark = pytest.mark.needs_bpf

SECOND = 10**9
START = 1_700_000_000 * SECOND  # the clock of a replay shows the time of day
ONLY = bytes(4)
CONFIG = ".data.config"
NEWCOMERS = 0
SOURCES = 131072
FIRST_FORGED = int(ipaddress.IPv4Address("11.0.0.0"))

RECORDED = (
    "backbone/wand_isp_2007.padded.pcap",
    "backbone/wand_isp_2010.padded.pcap",
    "flows/udp_amplification_6k_sources.pcapng",
)

RUN = struct.Struct("=QQQQ")  # now, step, source, matches
WORD = struct.Struct("=Q")
REFUSALS = struct.Struct("=QQQQ")  # excess, newcomers, contended, misplaced

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

Limit = dict[str, Any]
NOBODY: Limit = {"rate": 0, "burst": 0, "unit": "PACKETS", "bucket": 0, "source_length": 0}
UNLIMITED: Limit = NOBODY | {"unit": "UNLIMITED"}


def limit(rate: int, burst: int, unit: str = "PACKETS", bucket: int = 0, source_length: int = 0) -> Limit:
    return {"rate": rate, "burst": burst, "unit": unit, "bucket": bucket, "source_length": source_length}


def from_(source: str, size: int = 64) -> bytes:
    """A frame of `size` bytes."""
    ip = IPv6(src=source, dst="2001:db8::1") if ":" in source else IP(src=source, dst="192.0.2.1")
    packet = ETHER / ip / UDP(sport=1, dport=2)
    return bytes(packet / Raw(bytes(size - len(packet))))


def prefix_key(text: str) -> bytes:
    """A struct oko_prefix."""
    network = ipaddress.ip_network(text)
    if network.version == 4:
        return struct.pack("=I", 96 + network.prefixlen) + bytes(10) + b"\xff\xff" + network.network_address.packed
    return struct.pack("=I", network.prefixlen) + network.network_address.packed


class Tokens:
    """The bucket as a counter: token number k arrives at k / rate seconds, and is lost if the bucket is full."""

    def __init__(self, rate: int, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._last = burst, 0

    def take(self, cost: int, now: int) -> bool:
        arrived = now * self._rate // SECOND - self._last * self._rate // SECOND
        self._tokens, self._last = min(self._burst, self._tokens + arrived), now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("token_bucket_harness.c")
    return build_test_object(source, tmp_path_factory.mktemp("token_bucket"))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the objects of the switch."""
    directory = tmp_path_factory.mktemp("objects")
    build(directory)
    return directory


class Bucket:
    """The token bucket with maps of its own, in which nobody has limits but those that the test sets."""

    def __init__(self, harness: Harness, btf: Btf) -> None:
        self._maps, self._program = harness.maps, harness.program
        value_type = btf.id_of("limit", Struct)
        config_type = btf.id_of("token_bucket_settings", Struct)
        assert value_type is not None
        assert config_type is not None
        self._limit, self._settings = schema(btf, value_type), schema(btf, config_type)
        self._listed: list[bytes] = []
        self._defaults = self._maps[CONFIG].lookup(ONLY) or b""

    def reset(self) -> None:
        for key in self._listed:
            self._maps["limits"].delete(key)
        self._listed.clear()
        for key, _ in self._maps["sources"].items():
            self._maps["sources"].delete(key)
        for number in range(8):
            self.set_word(number, 0)
        self._maps["refused"].update(ONLY, bytes(REFUSALS.size))
        self._maps[CONFIG].update(ONLY, self._defaults)
        self.at(START)

    def configure(self, **members: Any) -> None:
        base = self._maps[CONFIG].lookup(ONLY)
        self._maps[CONFIG].update(ONLY, write(self._settings, members, base))

    def limit(self, prefix: str, value: Limit) -> None:
        self._listed.append(prefix_key(prefix))
        self._maps["limits"].update(self._listed[-1], write(self._limit, value))

    def set_word(self, number: int, word: int) -> None:
        self._maps["buckets"].update(struct.pack("=I", number), WORD.pack(word))

    def at(self, now: int, step: int = 0, source: int = 0) -> None:
        """Set the clock of all processors."""
        self._maps["runs"].update(ONLY, RUN.pack(now, step, source, 0))

    def matches(self, frame: bytes, now: int) -> bool:
        self.at(now)
        return bool(self._run_on(_processors()[0], frame, 1))

    def run(self, frame: bytes, repeat: int) -> None:
        """On the processor of `matches`: each has a clock of its own, and an LRU list."""
        self._run_on(_processors()[0], frame, repeat)

    def run_everywhere(self, frame: bytes, repeat: int) -> None:
        """On every processor, at once."""
        with ThreadPoolExecutor(len(_processors())) as pool:
            list(pool.map(lambda processor: self._run_on(processor, frame, repeat), _processors()))

    def _run_on(self, processor: int, frame: bytes, repeat: int) -> int:
        allowed = os.sched_getaffinity(0)  # of this thread
        os.sched_setaffinity(0, {processor})
        try:
            return self._program.test_run(frame, repeat=repeat).retval
        finally:
            os.sched_setaffinity(0, allowed)

    @property
    def matched(self) -> int:
        """Since the clock was set."""
        return sum(RUN.unpack(value)[3] for value in self._maps["runs"].lookup_percpu(ONLY) or ())

    @property
    def refusals(self) -> tuple[int, ...]:
        values = [REFUSALS.unpack(value) for value in self._maps["refused"].lookup_percpu(ONLY) or ()]
        return tuple(map(sum, zip(*values, strict=True)))

    @property
    def sources(self) -> set[bytes]:
        return {key for key, _ in self._maps["sources"].items()}


@pytest.fixture(scope="module")
def loaded(built: Path) -> Iterator[Bucket]:
    btf = elf.load(built.read_bytes(), section="xdp").btf
    with Harness(built) as harness:
        yield Bucket(harness, cast(Btf, btf))


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0))


@pytest.fixture
def bucket(loaded: Bucket) -> Bucket:
    """In the configuration of the source."""
    loaded.reset()
    return loaded


def drained(bucket: Bucket, frame: bytes, now: int = START) -> int:
    """How many packets match until one does not, at most 1,000."""
    return next((count for count in range(1000) if not bucket.matches(frame, now)), 1000)


# Which packets have a source


MAC = bytes(12)
IPV4, IPV6 = IP(src="10.0.0.1", dst="192.0.2.1") / UDP(), IPv6(src="2001:db8::2", dst="2001:db8::1") / UDP()
SHAPES: dict[str, tuple[Packet | bytes, bool]] = {
    "IPv4": (ETHER / IPV4, True),
    "IPv6": (ETHER / IPV6, True),
    "IPv4, one tag": (ETHER / Dot1Q(vlan=5) / IPV4, True),
    "IPv4, two tags": (ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IPV4, True),
    "IPv6, one tag": (ETHER / Dot1Q(vlan=5) / IPV6, True),
    "IPv6, two tags": (ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IPV6, True),
    "three tags": (ETHER / Dot1AD() / Dot1Q() / Dot1Q() / IPV4, False),
    "IPv4 options": (ETHER / IP(src="10.0.0.1", options=[b"\x01" * 8]) / UDP(), True),
    "IPv4, a later fragment": (ETHER / IP(src="10.0.0.1", frag=100, proto=17) / Raw(b"data"), True),
    "IPv6, a later fragment": (ETHER / IPv6(src="::2") / IPv6ExtHdrFragment(offset=100, nh=17) / Raw(b"data"), True),
    "IPv4, a header of 16 bytes": (ETHER / IP(ihl=4) / UDP(), False),
    "IPv4, longer than the frame": (ETHER / IP(len=60) / UDP(), False),
    "IPv6, longer than the frame": (ETHER / IPv6(plen=60) / UDP(), False),
    "ARP": (ETHER / ARP(), False),
    "Ethernet alone": (MAC + b"\x08\x00", False),
}


@pytest.mark.parametrize(("packet", "matches"), SHAPES.values(), ids=SHAPES)
def test_shapes(bucket: Bucket, packet: Packet | bytes, matches: bool) -> None:
    assert bucket.matches(bytes(packet), START) is matches
    assert len(bucket.sources) == matches
    assert bucket.refusals == (0, 0, 0, 0)


@pytest.mark.parametrize("packet", [ETHER / IPV4, ETHER / Dot1AD() / Dot1Q() / IPV4, ETHER / IPV6], ids=repr)
def test_a_frame_cut_off_never_matches(bucket: Bucket, packet: Packet) -> None:
    whole = bytes(packet)
    for length in range(14, len(whole)):
        assert not bucket.matches(whole[:length], START), length
    assert bucket.matches(whole, START)


# Whose bucket it is


@dataclass(frozen=True)
class Shared:
    """Whether two sources share a bucket under a limit."""

    limits: dict[str, Limit]
    first: str
    second: str
    share: bool


TWO = limit(0, 2)
SHARING: dict[str, Shared] = {
    "hosts": Shared({"10.0.0.0/8": TWO}, "10.0.0.1", "10.0.0.2", False),
    "a host with itself": Shared({"10.0.0.0/8": TWO}, "10.0.0.1", "10.0.0.1", True),
    "a /24": Shared({"10.0.0.0/8": TWO | {"source_length": 24}}, "10.0.0.1", "10.0.0.255", True),
    "two /24": Shared({"10.0.0.0/8": TWO | {"source_length": 24}}, "10.0.0.255", "10.0.1.0", False),
    "a /9": Shared({"10.0.0.0/8": TWO | {"source_length": 9}}, "10.127.0.0", "10.0.1.0", True),
    "two /9": Shared({"10.0.0.0/8": TWO | {"source_length": 9}}, "10.127.0.0", "10.128.0.0", False),
    "longer than an address": Shared({"10.0.0.0/8": TWO | {"source_length": 2**32 - 1}}, "10.0.0.1", "10.0.0.2", False),
    "a /64": Shared({"2001:db8::/32": TWO}, "2001:db8::1", "2001:db8::ffff:0:0:1", True),
    "two /64": Shared({"2001:db8::/32": TWO}, "2001:db8::1", "2001:db8:0:1::1", False),
    "a /128": Shared({"2001:db8::/32": TWO | {"source_length": 128}}, "2001:db8::1", "2001:db8::2", False),
    "a /47": Shared({"2001:db8::/32": TWO | {"source_length": 47}}, "2001:db8:2::", "2001:db8:3::", True),
    "two /47": Shared({"2001:db8::/32": TWO | {"source_length": 47}}, "2001:db8:1::", "2001:db8:2::", False),
    "a numbered bucket": Shared({"10.0.0.0/8": TWO | {"bucket": 1}}, "10.0.0.1", "10.255.0.1", True),
    "one of both versions": Shared(
        {"10.0.0.0/8": TWO | {"bucket": 1}, "2001:db8::/32": TWO | {"bucket": 1}}, "10.0.0.1", "2001:db8::1", True
    ),
    "two numbered buckets": Shared(
        {"10.0.0.0/9": TWO | {"bucket": 1}, "10.128.0.0/9": TWO | {"bucket": 2}}, "10.0.0.1", "10.128.0.1", False
    ),
    "a prefix in another": Shared(
        {"10.0.0.0/8": TWO | {"bucket": 1}, "10.1.0.0/16": TWO}, "10.0.0.1", "10.1.0.1", False
    ),
}


@pytest.mark.parametrize("case", SHARING.values(), ids=SHARING)
def test_whose_bucket_it_is(bucket: Bucket, case: Shared) -> None:
    for prefix, value in case.limits.items():
        bucket.limit(prefix, value)
    assert drained(bucket, from_(case.first)) == 2
    assert drained(bucket, from_(case.second)) == (0 if case.share else 2)


@pytest.mark.parametrize("source", ["10.0.0.1", "2001:db8::1"])
def test_the_longest_prefix_has_the_limit(bucket: Bucket, source: str) -> None:
    everything, net, host = ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.1/32")
    if ":" in source:
        everything, net, host = ("::/0", "2001:db8::/32", "2001:db8::1/128")
    bucket.configure(otherwise=limit(0, 1))
    now = START
    for prefix, value, expected in (
        (None, None, 1),
        (everything, limit(0, 2, bucket=2), 2),
        (net, limit(0, 3, bucket=3), 3),
        (host, limit(0, 4, bucket=4), 4),
        (host, UNLIMITED, 1000),
        (host, limit(0, 0, bucket=5), 0),
    ):
        if prefix is not None:
            bucket.limit(prefix, value)
        assert drained(bucket, from_(source), now) == expected


def test_the_defaults_of_ipv4_are_not_those_of_ipv6(bucket: Bucket) -> None:
    bucket.configure(otherwise=limit(0, 1), ipv4_source_length=16, ipv6_source_length=48)
    for address in ("10.1.0.1", "10.1.2.3", "2001:db8:1::1", "2001:db8:1:2::1"):
        bucket.matches(from_(address), START)
    assert bucket.sources == {prefix_key("10.1.0.0/16"), prefix_key("2001:db8:1::/48")}


def test_a_bucket_that_does_not_exist_never_matches(bucket: Bucket) -> None:
    bucket.limit("10.0.0.0/8", limit(1000, 1000, bucket=65536))
    assert not bucket.matches(from_("10.0.0.1"), START)
    assert bucket.refusals == (0, 0, 0, 1)


# The arithmetic


RATES = st.one_of(st.sampled_from((0, 1, 3, 1000, 10**6, 2**32 - 1)), st.integers(0, 2**32 - 1))
BURSTS = st.one_of(st.sampled_from((0, 1, 59, 60, 3000, 2**32 - 1)), st.integers(0, 10**5))
STEPS = st.one_of(
    st.sampled_from((0, 0, 1, SECOND // 1000, SECOND - 1, SECOND, 10**18)),
    st.integers(0, 10**6),
    st.integers(0, 10**10),
)
ARRIVALS = st.lists(st.tuples(STEPS, st.sampled_from((60, 61, 1500, 3000))), min_size=1, max_size=30)
HYPOTHESIS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HYPOTHESIS
@given(
    rate=RATES,
    burst=BURSTS,
    unit=st.sampled_from(("PACKETS", "BYTES")),
    number=st.integers(0, 1),
    start=st.sampled_from((0, 1, 10**9, START)),
    packets=ARRIVALS,
)
def test_it_matches_what_the_counter_does(
    bucket: Bucket, rate: int, burst: int, unit: str, number: int, start: int, packets: list[tuple[int, int]]
) -> None:
    bucket.reset()
    bucket.limit("10.0.0.0/8", limit(rate, burst, unit, number))
    tokens, now = Tokens(rate, burst), start
    for step, size in packets:
        now += step
        assert bucket.matches(from_("10.0.0.1", size), now) is tokens.take(size if unit == "BYTES" else 1, now)


@HYPOTHESIS
@given(
    rate=st.sampled_from((1, 3, 7, 1000, 999_983)),
    burst=st.integers(1, 10),
    steps=st.lists(st.integers(0, 4), min_size=1, max_size=40),
)
def test_no_stretch_of_time_sees_more_than_the_burst_and_the_rate(
    bucket: Bucket, rate: int, burst: int, steps: list[int]
) -> None:
    """Against a bucket into which tokens flow as water does: in no interval does it let a whole packet more pass."""
    bucket.reset()
    bucket.limit("10.0.0.0/8", limit(rate, burst, bucket=1))
    now, passed = START, []
    for step in steps:
        now += step * SECOND // (2 * rate)
        if bucket.matches(from_("10.0.0.1"), now):
            passed.append(now)
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 < burst + Fraction(rate * (end - begin), SECOND) + 1


OFFERED = {
    # limit, bytes of a frame, ns between packets, tokens that a packet costs
    "10 k packets/s": (limit(10_000, 100), 60, 75_000, 1),
    "100 k packets/s": (limit(100_000, 1000), 60, 7_500, 1),
    "1 M packets/s": (limit(1_000_000, 10_000), 60, 750, 1),
    "100 MB/s": (limit(100_000_000, 150_000, "BYTES"), 1000, 7_500, 1000),
}


@pytest.mark.parametrize(("value", "size", "step", "cost"), OFFERED.values(), ids=OFFERED)
def test_the_rate_over_ten_seconds(bucket: Bucket, value: Limit, size: int, step: int, cost: int) -> None:
    """A third more than the rate is offered, and no token is left unused."""
    bucket.configure(otherwise=value)
    bucket.at(START, step)
    packets = 10 * SECOND // step
    bucket.run(from_("10.0.0.1", size), packets)
    within = 10 * value["rate"] / cost
    assert bucket.matched - value["burst"] // cost == pytest.approx(within, rel=0.01)
    assert bucket.matched == (value["burst"] + (packets - 1) * step * value["rate"] // SECOND) // cost


@pytest.mark.parametrize("step", [800, 1000], ids=lambda step: f"every {step} ns")
def test_what_keeps_to_the_rate_all_matches(bucket: Bucket, step: int) -> None:
    bucket.configure(otherwise=limit(SECOND // step, 1))
    bucket.at(START, step)
    bucket.run(from_("10.0.0.1"), 100_000)
    assert bucket.matched == 100_000


def test_a_clock_read_earlier_makes_no_tokens(bucket: Bucket) -> None:
    """As by a processor that was held up between reading the clock and taking the token."""
    bucket.configure(otherwise=limit(1000, 10))
    assert drained(bucket, from_("10.0.0.1"), START + SECOND) == 10
    assert drained(bucket, from_("10.0.0.1"), START + SECOND // 100) == 0
    assert drained(bucket, from_("10.0.0.1"), START + SECOND) == 0
    assert drained(bucket, from_("10.0.0.1"), START + SECOND + 5 * SECOND // 1000) == 5


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(limit(1000, 10), limit(1, 20), id="slower"),
        pytest.param(limit(1, 10), limit(1000, 20), id="faster"),
    ],
)
def test_a_bucket_starts_full_with_another_rate(bucket: Bucket, before: Limit, after: Limit) -> None:
    bucket.limit("10.0.0.0/8", before)
    assert drained(bucket, from_("10.0.0.1")) == 10
    bucket.limit("10.0.0.0/8", after)
    assert drained(bucket, from_("10.0.0.1")) == 20


@pytest.mark.parametrize(("burst", "left"), [(20, 10), (10, 0), (5, 0)])
def test_a_bucket_keeps_what_was_spent_with_another_burst(bucket: Bucket, burst: int, left: int) -> None:
    bucket.limit("10.0.0.0/8", limit(1000, 10))
    assert drained(bucket, from_("10.0.0.1")) == 10
    bucket.limit("10.0.0.0/8", limit(1000, burst))
    assert drained(bucket, from_("10.0.0.1")) == 0
    assert drained(bucket, from_("10.0.0.1"), START + SECOND // 100) == min(burst, 10)
    assert drained(bucket, from_("10.0.0.1"), START + SECOND) == burst


def test_what_does_not_match_costs_nothing(bucket: Bucket) -> None:
    bucket.limit("10.0.0.0/8", limit(1, 100, "BYTES", bucket=1))
    for _ in range(5):
        assert not bucket.matches(from_("10.0.0.1", 101), START)
    assert bucket.matches(from_("10.0.0.1", 100), START)
    assert not bucket.matches(from_("10.0.0.1", 64), START)
    assert bucket.refusals == (6, 0, 0, 0)


# Several processors


@pytest.mark.parametrize("number", [0, 1], ids=["a source", "a numbered bucket"])
def test_no_token_is_taken_twice_or_lost(bucket: Bucket, number: int) -> None:
    """A bucket that is made by the packets of all processors at once, and emptied by them."""
    tokens, each = 300_000, 400_000
    bucket.limit("10.0.0.0/8", limit(0, tokens, bucket=number))
    bucket.run_everywhere(from_("10.0.0.1"), each)
    assert bucket.matched == tokens
    excess, newcomers, contended, misplaced = bucket.refusals
    assert excess + contended == each * len(_processors()) - tokens
    assert (newcomers, misplaced) == (0, 0)


def test_two_processors_make_one_bucket(bucket: Bucket) -> None:
    """All go through the same new sources, each of which has one token."""
    sources = 60_000
    bucket.configure(otherwise=limit(0, 1), newcomers=UNLIMITED)
    bucket.at(START, source=FIRST_FORGED)
    bucket.run_everywhere(from_("11.0.0.0"), sources)
    assert bucket.matched == sources == len(bucket.sources)


def test_no_token_is_taken_twice_or_lost_while_tokens_arrive(bucket: Bucket) -> None:
    """Each processor goes through the same half second, each at its own pace."""
    rate, burst, each = 1_000_000, 1000, 500_000
    bucket.limit("10.0.0.0/8", limit(rate, burst, bucket=1))
    bucket.matches(from_("10.0.0.1"), START)  # from now on, the bucket is never full
    bucket.at(START, SECOND // 2 // each)
    bucket.run_everywhere(from_("10.0.0.1"), each)
    matched = 1 + bucket.matched
    bucket.at(START + SECOND // 2)
    bucket.run(from_("10.0.0.1"), rate)
    assert matched + bucket.matched == burst + rate // 2


# Floods of forged sources

OFFENDER = "10.0.0.1"
ROUNDS, FORGED = 5, 300_000  # packets in a round, more than twice what the table holds
OFFENDERS_SHARE = 20 + 4 * 2  # the burst, and what arrives from the first round to the last


def flood(bucket: Bucket, packets: int, now: int, step: int, begin: int) -> int:
    """Send packets of so many forged sources, and return how many match."""
    bucket.at(now, step, FIRST_FORGED + begin)
    bucket.run(from_("11.0.0.0"), packets)
    return bucket.matched


def under_a_flood(bucket: Bucket) -> tuple[int, int]:
    """ROUNDS in a second, in each as much as the offender gets through and then FORGED sources: how many packets of the
    flood and of the offender match."""
    of_flood = of_offender = 0
    for number in range(ROUNDS):
        now = START + number * SECOND // ROUNDS
        of_offender += drained(bucket, from_(OFFENDER), now)
        of_flood += flood(bucket, FORGED, now, SECOND // ROUNDS // FORGED, number * FORGED)
    return of_flood, of_offender


def test_a_flood_does_not_let_an_offender_go(bucket: Bucket) -> None:
    bucket.configure(otherwise=limit(10, 20), newcomers=limit(10_000, 5000))
    of_flood, of_offender = under_a_flood(bucket)
    assert of_offender == OFFENDERS_SHARE
    assert 14_000 <= of_flood <= 5000 + 10_000
    assert bucket.refusals[1] == ROUNDS * FORGED - of_flood
    assert len(bucket.sources) == of_flood + 1


def test_without_a_limit_of_newcomers_a_flood_does(bucket: Bucket) -> None:
    """Why there is one."""
    bucket.configure(otherwise=limit(10, 20), newcomers=UNLIMITED)
    of_flood, of_offender = under_a_flood(bucket)
    assert of_flood == ROUNDS * FORGED
    assert of_offender > OFFENDERS_SHARE
    assert len(bucket.sources) <= SOURCES


def test_a_numbered_bucket_outlives_every_flood(bucket: Bucket) -> None:
    bucket.configure(otherwise=limit(10, 20), newcomers=UNLIMITED)
    bucket.limit(f"{OFFENDER}/32", limit(10, 20, bucket=7))
    assert under_a_flood(bucket) == (ROUNDS * FORGED, OFFENDERS_SHARE)


def test_newcomers_are_refused_when_there_are_too_many(bucket: Bucket) -> None:
    bucket.configure(newcomers=limit(0, 2))
    assert [bucket.matches(from_(f"10.0.0.{host}"), START) for host in (1, 2, 3, 1)] == [True, True, False, True]
    assert bucket.refusals == (0, 1, 0, 0)
    bucket.limit("10.0.0.3/32", limit(1, 1, bucket=1))
    assert bucket.matches(from_("10.0.0.3"), START)


def test_a_packet_beyond_the_burst_makes_no_entry(bucket: Bucket) -> None:
    bucket.configure(otherwise=limit(10**9, 100, "BYTES"))
    assert not bucket.matches(from_("10.0.0.1", 101), START)
    assert bucket.sources == set()
    assert bucket.refusals == (1, 0, 0, 0)


# The object of the switch


def made() -> Iterator[tuple[bytes, int]]:
    for number in range(600):
        yield from_(f"10.0.0.{number % 7 % 3}"), START + number * 170_000


def recorded(name: str) -> Iterator[tuple[bytes, int]]:
    now = 0
    with Capture(CAPTURES / name) as capture:
        for packet in capture:
            now = max(now, packet.time_ns)
            yield whole(packet), now


def source_of(frame: bytes) -> int | None:
    """The address of an IPv4 packet; the parser has none if the header is malformed."""
    fields = parse(frame, 1)
    return (fields["ipv4_src"] or None) if fields is not None and fields["eth_type"] == 0x0800 else None


@pytest.mark.parametrize("name", ["", *RECORDED], ids=lambda name: Path(name).stem or "made")
@pytest.mark.parametrize("value", [limit(1, 2), limit(100, 1600, "BYTES")], ids=["packets", "bytes"])
def test_both_engines_replay_it_as_the_counter_does(objects: Path, name: str, value: Limit) -> None:
    if name and not (CAPTURES / name).exists():
        pytest.skip("the capture is not here")
    program = elf.load((objects / "token_bucket.o").read_bytes())
    check(program)
    runtime = Runtime.read(lambda name: (objects / "runtime" / f"{name}.o").read_bytes())
    tables = make_tables([parse_rule("priority=1,filter_prog=1,actions=output:2")], {1})
    ports = {1: PortState(), 2: PortState()}
    spec = next(spec for spec in program.maps if spec.name == CONFIG)
    described = schema(cast(Btf, program.btf), spec.value_type)
    config = write(described, {"config": {"otherwise": value, "newcomers": UNLIMITED}}, spec.initial)
    tokens: dict[int, Tokens] = {}
    outcomes = set()
    with KernelEngine(tables, {1: program}, ports, runtime) as kernel:
        reference = ReferenceEngine(tables, {1: program}, ports, runtime)
        for maps in (kernel.maps, reference.maps):
            maps[f"1.{CONFIG}"].update(ONLY, config)
        for number, (frame, now) in enumerate(recorded(name) if name else made()):
            source, cost = source_of(frame), len(frame) if value["unit"] == "BYTES" else 1
            expected = source is not None and tokens.setdefault(source, Tokens(value["rate"], value["burst"])).take(
                cost, now
            )
            assert bool(kernel.decide(frame, 1, now).sent) is expected, number
            if not name:
                assert bool(reference.decide(frame, 1, now).sent) is expected, number
            outcomes.add(expected)
    assert outcomes == {True, False}
