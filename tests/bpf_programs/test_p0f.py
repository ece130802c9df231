"""p0f, the filter program, in the kernel: the same labels as p0f, the tool, and what is done with them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.cli.p0f_signatures import (
    BANK_SIZE,
    BANKS,
    MAX_CANDIDATES,
    QUIRKS,
    Signature,
    map_entries,
    parse_database,
)
from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.compiler.runtime import Runtime
from oko.replay.capture import Capture
from oko.switch.loaded_image import LoadedImage, create_map
from oko.switch.schema import schema, write
from tests.bpf_programs.harness import Harness, build, build_test_object
from tests.bpf_programs.p0f_oracle import DATABASE, Syn, ask_p0f, options_of, syn_of
from tests.oko.replay.traffic import CAPTURES
from verifier import elf
from verifier.btf import Btf, Enum
from verifier.program import Program

pytestmark = pytest.mark.needs_bpf
needs_p0f = pytest.mark.skipif(
    shutil.which("p0f") is None or not DATABASE.exists(), reason="p0f or its database is not installed"
)

UNKNOWN = "???"
SMALL_DATABASE = """
[tcp:request]
label = s:unix:Penguin:new
sig   = *:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0
label = g:unix:Penguin:
sig   = *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0
label = s:win:Glass:
sig   = *:128:0:*:8192,0:mss,nop,nop,sok:df,id+:0
label = s:!:Map:scan
sig   = *:64-:0:1460:1024,0:mss::0
"""


class Fingerprints:
    """The program with maps of its own."""

    def __init__(self, harness: Harness, program: Program) -> None:
        self._harness = harness
        self._btf = cast(Btf, program.btf)
        self._specs = {spec.name: spec for spec in program.maps}

    def write(self, name: str, entries: Sequence[tuple[Any, Any]]) -> None:
        """Write entries as `oko p0f` does, by what BTF says of them."""
        spec = self._specs[name]
        for key, value in entries:
            key_bytes = write(schema(self._btf, spec.key_type), key) if spec.key_type else key.to_bytes(4, "little")
            self._harness.maps[name].update(key_bytes, write(schema(self._btf, spec.value_type), value))

    def load(
        self, signatures: Sequence[Signature], is_chosen: Callable[[Signature], bool], *, bank: int = 0, **config: bool
    ) -> None:
        for name, entries in map_entries(signatures, is_chosen, bank).items():
            self.write(name, entries)
        self.write(".data.config", [(0, {"config": {"bank": bank, **config}})])

    def choose(self, signatures: Sequence[Signature], is_chosen: Callable[[Signature], bool]) -> None:
        """Change the choice of signatures that are loaded, while no packets come."""
        self.write("signatures", map_entries(signatures, is_chosen, 0)["signatures"])

    def matches(self, frame: bytes | Packet) -> bool:
        return bool(self._harness.run(bytes(frame)).retval)

    def counted(self) -> dict[int, int]:
        """The counts that are not zero, by index."""
        sums = {
            int.from_bytes(key, "little"): sum(int.from_bytes(value, "little") for value in values)
            for key, values in self._harness.maps["counts"].items_percpu()
        }
        return {index: count for index, count in sums.items() if count}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """p0f as a program of its own."""
    return build_test_object(Path(__file__).with_name("p0f_harness.c"), tmp_path_factory.mktemp("p0f"))


@pytest.fixture
def fingerprints(built: Path) -> Iterator[Fingerprints]:
    """The program, nothing loaded into it."""
    with Harness(built) as harness:
        yield Fingerprints(harness, elf.load(built.read_bytes(), section="xdp"))


@pytest.fixture(scope="module")
def database() -> tuple[Signature, ...]:
    return parse_database(DATABASE.read_text(), str(DATABASE))


SMALL = parse_database(SMALL_DATABASE, "small")
PENGUIN, ANY_PENGUIN, GLASS, MAP = (syn_of(signature) for signature in SMALL)
ANY_PENGUIN = replace(ANY_PENGUIN, window=5)


# --- Labels, with p0f as the oracle ---


def disagreements(
    fingerprints: Fingerprints, signatures: Sequence[Signature], frames: Sequence[bytes], labels: Sequence[str | None]
) -> list[tuple[bytes, str | None]]:
    """The frames that the program gives another label than `labels`: with only that label chosen it does not match, or
    with all labels chosen a frame without one does."""
    fingerprints.load(signatures, lambda _: True)
    wrong = []
    for label in sorted({label or UNKNOWN for label in labels}):
        chosen = {signature for signature in signatures if label in (UNKNOWN, signature.label)}
        fingerprints.choose(signatures, chosen.__contains__)
        for frame, theirs in zip(frames, labels, strict=True):
            if (theirs or UNKNOWN) == label and fingerprints.matches(frame) is (label == UNKNOWN):
                wrong.append((frame, theirs))
    return wrong


def multiples(syn: Syn, signature: Signature) -> Iterator[Syn]:
    """Windows that p0f takes for the same multiple of an MSS or MTU."""
    window = signature.window
    if window is None or window.unit == "UNIT_BYTES":
        return
    for unit in (1448, 1460, 1440, 1428, 1500, 1508, 1520, 1528):
        if window.number * unit <= 0xFFFF:
            yield replace(syn, window=window.number * unit)


def variants(signature: Signature) -> Iterator[Syn]:
    """SYNs that fit a signature, and some that differ in one thing."""
    for version in (4, 6):
        syn = syn_of(signature, version)
        yield syn
        yield syn_of(signature, version, mss=1400)
        yield syn_of(signature, version, mss=99)
        yield from (syn_of(replace(signature, scale=scale), version) for scale in (0, 14, 15))
        yield from multiples(syn, signature)
        ttls = {syn.ttl - 1, syn.ttl - 35, syn.ttl - 36, syn.ttl + 1, 255, 1}
        yield from (replace(syn, ttl=ttl) for ttl in ttls if 0 < ttl < 256)
        yield from (replace(syn, ip_ecn=ecn) for ecn in (1, 2, 3))
        yield from (replace(syn, flags=syn.flags | flag) for flag in (0x08, 0x20, 0x40, 0x80))
        yield from (replace(syn, ack=ack) for ack in (1, 0x01000000, 0x02000000))
        yield replace(syn, df=not syn.df)
        yield replace(syn, identification=0)
        yield replace(syn, df=False, identification=0)
        yield replace(syn, df=False, identification=0, ip_ecn=1)
        yield replace(syn, reserved_flag=True)
        yield replace(syn, flow_label=1)
        yield replace(syn, ns=True)
        yield replace(syn, seq=0)
        yield replace(syn, urgent=1)
        yield replace(syn, payload=b"x")
        yield replace(syn, window=(syn.window + 1) & 0xFFFF)
        yield replace(syn, ip_options=bytes(4))
        yield replace(syn, options=(syn.options + b"\x01\x01\x01\x01")[:40])
        yield replace(syn, options=syn.options[:-4])


def garbled(signatures: Sequence[Signature], seed: int, count: int) -> Iterator[Syn]:
    """SYNs of signatures with several things changed at random, options byte by byte."""
    chance = random.Random(seed)
    changes: tuple[Callable[[Syn], Syn], ...] = (
        lambda syn: replace(syn, ttl=chance.choice((1, 30, 32, 60, 64, 100, 128, 200, 255))),
        lambda syn: replace(syn, df=chance.random() < 0.5, identification=chance.choice((0, 1, 256))),
        lambda syn: replace(syn, ip_ecn=chance.randrange(4)),
        lambda syn: replace(syn, window=chance.choice((0, 1, 1024, 4380, 8192, 14600, 16384, 29200, 65535))),
        lambda syn: replace(syn, flags=syn.flags | chance.choice((0x08, 0x20, 0x40, 0xC0, 0x01, 0x04))),
        lambda syn: replace(syn, ack=chance.getrandbits(32), seq=chance.choice((0, 1))),
        lambda syn: replace(syn, urgent=chance.choice((0, 1))),
        lambda syn: replace(syn, flow_label=chance.getrandbits(20), version=chance.choice((4, 6))),
        lambda syn: replace(syn, options=options(syn)),
        lambda syn: replace(syn, options=options(syn)),
    )

    def options(syn: Syn) -> bytes:
        made = bytearray(syn.options or bytes(4 * chance.randrange(10)))
        for _ in range(chance.randrange(1, 4)):
            if made:
                made[chance.randrange(len(made))] = chance.choice(
                    (0, 1, 2, 3, 4, 5, 8, 10, 34, 254, chance.randrange(256))
                )
        return bytes(made)

    for _ in range(count):
        syn = syn_of(chance.choice(signatures), chance.choice((4, 6)), chance.choice((536, 1300, 1460, 8960)))
        for change in chance.sample(changes, chance.randrange(4)):
            syn = change(syn)
        yield syn


@needs_p0f
def test_every_signature_is_recognised(
    fingerprints: Fingerprints, database: tuple[Signature, ...], tmp_path: Path
) -> None:
    """p0f itself gives each its label, but for generic ones that others before them hide."""
    frames = [syn_of(signature).encode() for signature in database]
    labels = ask_p0f(frames, tmp_path)
    pairs = list(zip(database, labels, strict=True))
    assert [found.text for found, label in pairs if label != found.label and not found.generic] == []
    assert sum(label == found.label for found, label in pairs) > 0.9 * len(pairs)
    assert disagreements(fingerprints, database, frames, labels) == []


@needs_p0f
def test_variants_of_every_signature(
    fingerprints: Fingerprints, database: tuple[Signature, ...], tmp_path: Path
) -> None:
    frames = [syn.encode() for signature in database for syn in variants(signature)]
    labels = ask_p0f(frames, tmp_path)
    assert len(set(labels)) > 25
    assert disagreements(fingerprints, database, frames, labels) == []


@needs_p0f
def test_garbled_syns(fingerprints: Fingerprints, database: tuple[Signature, ...], tmp_path: Path) -> None:
    frames = [syn.encode() for syn in garbled(database, seed=1, count=5000)]
    labels = ask_p0f(frames, tmp_path)
    assert len(set(labels)) > 25
    assert disagreements(fingerprints, database, frames, labels) == []


@needs_p0f
def test_recorded_syns(fingerprints: Fingerprints, database: tuple[Signature, ...], tmp_path: Path) -> None:
    path = CAPTURES / "syn" / "syn_diverse.pcap"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    with Capture(path) as capture:
        frames = [packet.data for packet in capture]
    labels = ask_p0f(frames, tmp_path)
    assert labels.count(None) == 5  # cut off, or their lengths contradict each other
    assert disagreements(fingerprints, database, frames, labels) == []


# --- What is done with signatures ---

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IPV6 = IPv6(src="fd00::1", dst="fd00::2")
SYN = TCP(sport=1, dport=80, flags="S")

OTHERS: dict[str, Packet | bytes] = {
    "ACK": ETHER / IP() / TCP(flags="A"),
    "SYN|ACK": ETHER / IP() / TCP(flags="SA"),
    "RST": ETHER / IPV6 / TCP(flags="R"),
    "no flags": ETHER / IP() / TCP(flags=""),
    "UDP": ETHER / IP() / UDP(),
    "UDP over IPv6": ETHER / IPV6 / UDP(),
    "ARP": ETHER / ARP(),
    "a later fragment": ETHER / IP(frag=100) / SYN,
    "a later fragment of IPv6": ETHER / IPV6 / IPv6ExtHdrFragment(offset=100, nh=6) / SYN,
    "a TCP header without flags": ETHER / IP() / Raw(bytes(SYN)[:13]),
    "IPv4 cut off": (ETHER / IP() / SYN).build()[:40],
    "IPv4 of another version": ETHER / IP(version=5) / SYN,
    "three tags": ETHER / Dot1Q() / Dot1Q() / Dot1Q() / IP() / SYN,
}
"""Packets that are no SYNs, as far as can be seen."""
OTHERS["a TCP header without flags"][IP].proto = 6

OPAQUE: dict[str, Packet | bytes] = {
    "a first fragment": ETHER / IP(flags="MF", ttl=64) / SYN,
    "a first fragment that ends behind the flags": ETHER / IP(flags="MF", proto=6) / Raw(bytes(SYN)[:16]),
    "behind extension headers": ETHER / IPV6 / IPv6ExtHdrDestOpt() / SYN,
    "a first fragment of IPv6": ETHER / IPV6 / IPv6ExtHdrFragment(m=1, nh=6) / SYN,
    "SYN|FIN": ETHER / IP() / TCP(flags="SF"),
    "SYN|RST": ETHER / IP() / TCP(flags="SR"),
    "a data offset of 16": ETHER / IP() / TCP(flags="S", dataofs=4),
    "a data offset beyond the segment": ETHER / IP() / TCP(flags="S", dataofs=6),
}
"""SYNs that p0f does not look at."""


@pytest.mark.parametrize("packet", OTHERS.values(), ids=OTHERS)
def test_other_packets(fingerprints: Fingerprints, packet: Packet | bytes) -> None:
    for others in (False, True):
        for invert in (False, True):
            fingerprints.load(SMALL, lambda _: True, others=others, invert=invert)
            assert fingerprints.matches(packet) is others
    assert fingerprints.counted() == {}


@pytest.mark.parametrize("packet", OPAQUE.values(), ids=OPAQUE)
def test_syns_that_have_no_signature(fingerprints: Fingerprints, packet: Packet | bytes) -> None:
    """All are chosen, and one of them has any layout."""
    for invert in (False, True):
        fingerprints.load(SMALL, lambda _: True, invert=invert)
        assert fingerprints.matches(packet) is invert
        assert fingerprints.counted() == {0: 1}


def test_without_signatures_no_syn_has_one(fingerprints: Fingerprints) -> None:
    assert not fingerprints.matches(PENGUIN.encode())
    assert fingerprints.counted() == {0: 1}


def test_the_chosen_match_or_all_others(fingerprints: Fingerprints) -> None:
    syns = [syn.encode() for syn in (PENGUIN, ANY_PENGUIN, GLASS, MAP, Syn())]
    fingerprints.load(SMALL, lambda signature: signature.label.startswith("Penguin"))
    assert [fingerprints.matches(syn) for syn in syns] == [True, True, False, False, False]
    fingerprints.load(SMALL, lambda signature: signature.label == "Penguin", invert=True)
    assert [fingerprints.matches(syn) for syn in syns] == [True, False, True, True, True]
    fingerprints.load(SMALL, lambda _: False)
    assert [fingerprints.matches(syn) for syn in syns] == [False] * 5


def test_every_signature_is_counted(fingerprints: Fingerprints) -> None:
    fingerprints.load(SMALL, lambda _: False, bank=1)
    for times, syn in enumerate((Syn(), PENGUIN, ANY_PENGUIN, GLASS, MAP), 1):
        for _ in range(times):
            fingerprints.matches(syn.encode())
    assert fingerprints.counted() == {BANK_SIZE + index: index + 1 for index in range(5)}


def test_only_the_bank_in_use_matters(fingerprints: Fingerprints) -> None:
    fingerprints.load(SMALL, lambda signature: signature.label == "Glass", bank=0)
    fingerprints.load(SMALL[:2], lambda _: True, bank=1)
    for bank, expected in ((1, [True, False]), (0, [False, True])):
        fingerprints.write(".data.config", [(0, {"config": {"bank": bank, "invert": False, "others": False}})])
        assert [fingerprints.matches(syn.encode()) for syn in (PENGUIN, GLASS)] == expected


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(bytes.fromhex("81000005"), id="one"),
        pytest.param(bytes.fromhex("88a8000581000006"), id="two"),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_tags_change_nothing(fingerprints: Fingerprints, tags: bytes, version: int) -> None:
    fingerprints.load(SMALL, lambda signature: signature.label == "Penguin new")
    syn = syn_of(SMALL[0], version)
    assert fingerprints.matches(replace(syn, tags=tags).encode())
    assert not fingerprints.matches(replace(syn, tags=tags, ttl=128, seq=0).encode())


def test_padding_of_short_frames_is_no_payload(fingerprints: Fingerprints) -> None:
    fingerprints.load(SMALL, lambda signature: signature.label == "Map scan")
    assert fingerprints.matches(MAP.encode() + bytes(6))
    assert not fingerprints.matches(replace(MAP, payload=b"x").encode())


WINDOWS = {
    "*:64:0:*:%100,0:mss::0": ([300, 0], [301]),
    "*:64:0:*:*,0:mss::*": ([0, 65535], []),
    "*:64:0:*:mtu*2,0:mss::0": ([3000], [2920, 1500, 3001]),
    "*:64:0:*:mss*2,0:mss::0": ([2920], [3000, 1460]),
}


@pytest.mark.parametrize("text", WINDOWS)
def test_windows(fingerprints: Fingerprints, text: str) -> None:
    """Also of kinds that no signature of p0f's own database has."""
    (signature,) = parse_database(f"[tcp:request]\nlabel = s:unix:One:\nsig = {text}", "one")
    fingerprints.load([signature], lambda _: True)
    options = options_of((2,), 0, 1460, 0, (0, 0))
    for windows, expected in zip(WINDOWS[text], (True, False), strict=True):
        for window in windows:
            syn = Syn(df=False, window=window, options=options)
            assert fingerprints.matches(syn.encode()) is expected, window


def test_all_candidates_of_a_layout_are_considered(fingerprints: Fingerprints) -> None:
    lines = "\n".join(f"sig = *:64:0:*:{window},0:mss::0" for window in range(1, MAX_CANDIDATES + 1))
    signatures = parse_database(f"[tcp:request]\nlabel = s:unix:Many:\n{lines}", "many")
    fingerprints.load(signatures, lambda _: True)
    assert all(fingerprints.matches(syn_of(signature).encode()) for signature in signatures)
    assert fingerprints.counted() == dict.fromkeys(range(1, MAX_CANDIDATES + 1), 1)


# --- The object ---


@pytest.fixture(scope="module")
def object_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("objects")
    build(directory)
    return directory


def test_the_tool_and_the_program_agree(object_directory: Path) -> None:
    program = elf.load((object_directory / "p0f.o").read_bytes())
    btf = cast(Btf, program.btf)
    quirks = btf.id_of("quirk", Enum)
    assert quirks is not None
    assert list(dict(btf.type_of(quirks, Enum).values).values()) == list(QUIRKS.values())
    sizes = {spec.name: spec.max_entries for spec in program.maps}
    assert {sizes[name] for name in ("layouts", "signatures", "names", "counts")} == {BANKS * BANK_SIZE}


def test_the_kernel_takes_it_as_a_global_function(object_directory: Path) -> None:
    program = elf.load((object_directory / "p0f.o").read_bytes())
    runtime = Runtime.read(lambda name: (object_directory / "runtime" / f"{name}.o").read_bytes())
    image = compile_trial(Filter(1, 0, program), {1: 1}, runtime)
    with ExitStack() as owned:
        shared = {item.name: owned.enter_context(create_map(item.name, item.spec)) for item in image.maps}
        owned.enter_context(LoadedImage.load("trial", image, shared))
