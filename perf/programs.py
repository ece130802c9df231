"""What the sample programs cost: the table of docs/programs.md.

A test run of the kernel repeats ``rotation.c``, which puts one packet of a list after the other in place and jumps to
the image. Two images are measured in alternation, of which one has the program in its rule and the other has not; the
difference is the program with its call and its counters. Nothing is received or sent: packets lie in the processor's
cache, as a network card with direct cache access would leave them.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any, Final

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from oko.cli.p0f_signatures import map_entries, parse_database
from oko.compiler.compile import compile_image, compile_trial
from oko.compiler.counters import PROGRAM, program_slot
from oko.compiler.image import Filter, Image
from oko.compiler.runtime import Runtime
from oko.errors import NotReadable, OkoError
from oko.flow.text import parse_rule
from oko.kernel.maps import Map
from oko.replay.capture import Capture
from oko.replay.engine import LONGEST, SHORTEST
from oko.replay.replay import make_tables
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage, create_shared
from oko.switch.objects import read_runtime
from oko.switch.schema import Value, schema, write
from perf.forward import spread
from perf.machine import machine
from perf.xdp import INDEX_0, XdpObject
from tests.oko.replay.traffic import CAPTURES
from verifier import elf
from verifier.check import check

FLOWS: Final = (1_000, 100_000)
TRACE: Final = CAPTURES / "backbone" / "wand_isp_2010.padded.pcap"

_ROOT: Final = Path(__file__).parents[1]
_DATABASE: Final = Path("/etc/p0f/p0f.fp")
_ID: Final = 1
_PORTS: Final = {1: 1}  # a test run's frames come in by the loopback device
_WITH: Final = f"in_port=1,filter_prog={_ID},actions=drop"
_WITHOUT: Final = "in_port=1,actions=drop"
_PACKET: Final = struct.Struct("<I124s")  # struct packet of rotation.c
_POSITION: Final = struct.Struct("<II")
_MOST_PACKETS: Final = 1 << 17
_XDP_DROP: Final = 1
_ATTEMPTS: Final = 1 << 14  # connections that are opened at a time; the firewall has room for twice as many attempts
_LISTED: Final = 100_000  # prefixes
_FIRST: Final = int(IPv4Address("10.0.0.0"))
_APART: Final = 167  # from source to source: 100,000 of them fill 10.0.0.0/8
_SOURCE: Final = slice(26, 30)  # in a frame of IPv4 without tags
_DESTINATION: Final = slice(30, 34)

Frames = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Load:
    """Packets. Those of `opening` come first, once; `steady` is what is repeated and measured."""

    opening: Sequence[Frames]
    steady: Frames


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample program: how it is set up, and the packets from so many flows that it is measured with.

    `agreement` is what its page says of it and its oracle.
    """

    name: str
    page: str
    agreement: str
    prepare: Callable[[ProgramMaps], None]
    uniform: Callable[[int], Load]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program costs. `stack` and `memory` are bytes, `memory` after the load that takes the most; `verifier_ms`
    is CPU time; `net_ns` has the ns per packet of each round by load, without what the image without the program took,
    `matched` the share of the packets that matched. A load whose capture is missing has neither."""

    name: str
    page: str
    agreement: str
    instructions: int
    stack: int
    kernel_instructions: int
    verifier_ms: Sequence[float]
    net_ns: Mapping[str, Sequence[float]]
    matched: Mapping[str, float]
    memory: int

    @property
    def row(self) -> str:
        """Its line in the table."""
        loads = [spread(values, 0) if values else "–" for values in self.net_ns.values()]
        cells = (
            f"[{self.name}](programs/{self.page})",
            f"{self.instructions:,}",
            str(self.stack),
            f"{self.kernel_instructions:,}",
            f"{statistics.median(self.verifier_ms):.0f}",
            *loads,
            f"{self.memory / 2**20:.1f}",
            self.agreement,
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True, slots=True)
class Programs:
    """The costs of all sample programs."""

    costs: Sequence[Cost]

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {"machine": machine(), "programs": [asdict(cost) for cost in self.costs]}

    def __str__(self) -> str:
        loads = [f"ns, {name}" for name in self.costs[0].net_ns]
        head = (
            *("program", "instructions", "stack, bytes", "kernel's verifier, instructions", "verifier, ms"),
            *(*loads, "maps, MiB", "agreement with the oracle"),
        )
        rule = ["---", *["---:"] * (len(head) - 2), "---"]
        rows = (cost.row for cost in self.costs)
        return "\n".join((f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *rows, "", machine()))


class ProgramMaps:
    """The maps of a loaded program, written by what its types say."""

    def __init__(self, item: Filter, maps: Mapping[str, Map]) -> None:
        """Raises OkoError for a program without types."""
        if item.program.btf is None:
            raise OkoError(f"{item.program.name} has no BTF: compile it with -g")
        self._btf = item.program.btf
        self._maps = {spec.name: (spec, maps[item.map_name(spec.name)]) for spec in item.program.maps}

    def configure(self, config: dict[str, Value]) -> None:
        """Change members of the variable ``config``."""
        spec, found = self._maps[".data.config"]
        found.update(INDEX_0, write(schema(self._btf, spec.value_type), {"config": config}, spec.initial))

    def put(self, name: str, entries: Iterable[tuple[Value, Value]]) -> None:
        """Write entries into a map."""
        spec, found = self._maps[name]
        keys, values = schema(self._btf, spec.key_type), schema(self._btf, spec.value_type)
        found.update_batch((write(keys, key), write(values, value)) for key, value in entries)


# ---- the programs and their packets


def _let_everybody_open(maps: ProgramMaps) -> None:
    maps.configure({"openers": 1 << 1})


def _admit_everybody(maps: ProgramMaps) -> None:
    plenty: Value = {"rate": 1_000_000, "burst": 1_000_000, "unit": "PACKETS"}
    maps.configure({"otherwise": plenty, "newcomers": {"unit": "UNLIMITED"}})


def _list_half(maps: ProgramMaps) -> None:
    """As many /32 as there are sources, of which they are every second, and as many /24 elsewhere."""
    listed = (f"{IPv4Address(_FIRST + _APART * number)}/32" for number in range(0, _LISTED, 2))
    elsewhere = (f"{IPv4Address((32 << 24) + (number << 8))}/24" for number in range(_LISTED // 2))
    maps.put("prefixes", ((prefix, {}) for prefixes in (listed, elsewhere) for prefix in prefixes))


def _load_signatures(maps: ProgramMaps) -> None:
    try:
        text = _DATABASE.read_text()
    except OSError as error:
        raise NotReadable(
            f"{_DATABASE}: {error.strerror}: install the package p0f, whose signatures are used"
        ) from None
    for name, entries in map_entries(parse_database(text, str(_DATABASE)), lambda _: True, 0).items():
        maps.put(name, entries)


def connections(flows: int) -> Load:
    """TCP connections that are opened, and then a segment of data of each."""
    there, back = {"sport": 40_000, "dport": 443}, {"sport": 443, "dport": 40_000}
    syn = _frame(TCP(flags="S", seq=1_000, window=65_535, **there))
    syn_ack = _frame(TCP(flags="SA", seq=5_000, ack=1_001, window=65_535, **back), from_server=True)
    ack = _frame(TCP(flags="A", seq=1_001, ack=5_001, window=65_535, **there))
    data = _frame(TCP(flags="PA", seq=1_001, ack=5_001, window=65_535, **there) / Raw(bytes(10)))
    opening = []
    for start in range(0, flows, _ATTEMPTS):
        numbers = range(start, min(start + _ATTEMPTS, flows))
        for frame, place in ((syn, _SOURCE), (syn_ack, _DESTINATION), (ack, _SOURCE)):
            opening.append([_from(frame, number, place) for number in numbers])
    return Load(opening, _mixed(data, flows))


def datagrams(flows: int) -> Load:
    """A datagram from each of so many sources."""
    steady = _mixed(_frame(UDP(sport=40_000, dport=53) / Raw(bytes(18))), flows)
    return Load([steady], steady)


def syns(flows: int) -> Load:
    """A SYN from each of so many hosts: Linux, whose layout the most signatures have, and Windows in turn."""
    ports = {"sport": 40_000, "dport": 443}
    linux_options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    windows_options = [("MSS", 1460), ("NOP", None), ("WScale", 8), ("NOP", None), ("NOP", None), ("SAckOK", b"")]
    linux = _frame(TCP(flags="S", seq=1, window=29_200, options=linux_options, **ports))
    windows = _frame(TCP(flags="S", seq=1, window=8_192, options=windows_options, **ports), ttl=128)
    half = flows // 2
    frames = [_from(linux, number) for number in range(half)]
    frames += [_from(windows, number) for number in range(half, flows)]
    Random(flows).shuffle(frames)
    return Load([], frames)


def trace(path: Path) -> Load | None:
    """The packets of a capture, as many as there is room for, in their order; None if it is not there."""
    if not path.exists():
        return None
    with Capture(path) as capture:
        frames = [packet.data for packet in capture if SHORTEST <= len(packet.data) <= LONGEST][:_MOST_PACKETS]
    return Load([frames], frames)


SAMPLES: Final = (
    Sample("firewall", "firewall.md", "100 % of 96,018 captured packets", _let_everybody_open, connections),
    Sample("p0f", "p0f.md", "100 % of 79,215 SYNs", _load_signatures, syns),
    Sample("token_bucket", "token-bucket.md", "packet by packet the same", _admit_everybody, datagrams),
    Sample("blocklist", "blocklist.md", "packet by packet the same", _list_half, datagrams),
)


def _frame(transport: Packet, *, from_server: bool = False, ttl: int = 64) -> bytes:
    """A frame between any client and the server, whose address is the same in all."""
    ends = {"src": "192.0.2.80", "dst": "10.0.0.0"} if from_server else {"src": "10.0.0.0", "dst": "192.0.2.80"}
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    return bytes(link / IP(flags="DF", id=1, ttl=ttl, **ends) / transport).ljust(60, b"\0")


def _from(frame: bytes, number: int, place: slice = _SOURCE) -> bytes:
    """The frame with the address of this client. Checksums stay as they were: no program looks at them."""
    address = (_FIRST + _APART * number).to_bytes(4, "big")
    return frame[: place.start] + address + frame[place.stop :]


def _mixed(frame: bytes, flows: int) -> list[bytes]:
    """The frame from so many clients, in an order that is random and always the same."""
    frames = [_from(frame, number) for number in range(flows)]
    Random(flows).shuffle(frames)
    return frames


# ---- measuring


def measure_programs(rounds: int, seconds: float, repeats: int) -> Programs:
    """Every program under every load: `rounds` times `seconds` with and without it, in alternation; it is verified
    `repeats` times. Raises OkoError."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    _make()
    runtime = read_runtime()
    return Programs([_cost(sample, runtime, rounds, seconds, repeats) for sample in SAMPLES])


def _make() -> None:
    command = ["make", "--no-print-directory", "-C", str(_ROOT / "bpf_programs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotReadable(f"the sample programs do not compile:\n{done.stderr}")


def _cost(sample: Sample, runtime: Runtime, rounds: int, seconds: float, repeats: int) -> Cost:
    program = elf.load((_ROOT / "build" / "bpf" / f"{sample.name}.o").read_bytes())
    item = Filter(_ID, program_slot(set()), program)
    times = []
    for _ in range(repeats):
        start = time.process_time_ns()
        tracked = check(program)
        times.append((time.process_time_ns() - start) / 1e6)
    with _maps(item) as maps, _loaded(compile_trial(item, _PORTS, runtime), maps) as trial:
        verified = trial.program.info().verified_instructions
    image = compile_image(make_tables([parse_rule(_WITH)], {_ID}), {_ID: item}, _PORTS, runtime)
    plain = compile_image(make_tables([parse_rule(_WITHOUT)], ()), {}, _PORTS, runtime)
    net: dict[str, Sequence[float]] = {}
    matched: dict[str, float] = {}
    memory = 0
    for name, load in _loads(sample):
        net[name] = ()
        if load is None:
            continue
        with (
            _maps(item) as maps,
            _loaded(image, maps) as with_it,
            _loaded(plain, {}) as without,
            XdpObject("rotation") as rotation,
        ):
            sample.prepare(ProgramMaps(item, maps))
            rotated = Rotation(rotation)
            rotated.open(with_it, load)
            runs, matches = _counted(with_it)
            net[name] = rotated.net(with_it, without, rounds, seconds)
            more_runs, more_matches = _counted(with_it)
            matched[name] = (more_matches - matches) / (more_runs - runs)
            memory = max(memory, sum(map(_memory, maps.values())))
    return Cost(
        sample.name,
        sample.page,
        sample.agreement,
        len(program.instructions),
        tracked.stack,
        verified,
        times,
        net,
        matched,
        memory,
    )


def _loads(sample: Sample) -> Iterator[tuple[str, Load | None]]:
    for flows in FLOWS:
        yield f"{flows:,} flows", sample.uniform(flows)
    yield "backbone trace", trace(TRACE)


@contextlib.contextmanager
def _maps(item: Filter) -> Iterator[dict[str, Map]]:
    """New maps of a program, by their name in an image."""
    with contextlib.ExitStack() as own:
        made = make_program_maps(item, item.program.maps)
        for each in made.values():
            own.enter_context(each)
        yield made


@contextlib.contextmanager
def _loaded(image: Image, maps: Mapping[str, Map]) -> Iterator[LoadedImage]:
    """An image in the kernel, with these maps of its programs."""
    with contextlib.ExitStack() as own:
        shared = dict(maps)
        for wanted in image.maps:
            if wanted.shared and wanted.program is None:
                shared[wanted.name] = own.enter_context(create_shared(wanted))
        yield own.enter_context(LoadedImage.load("measured", image, shared))


def _counted(image: LoadedImage) -> tuple[int, int]:
    """How often the image's program ran, and how often it matched."""
    values = image.maps["programs"].lookup_percpu(INDEX_0) or ()
    per_cpu = [PROGRAM.unpack(value) for value in values]
    return sum(runs for runs, _ in per_cpu), sum(matches for _, matches in per_cpu)


def _memory(found: Map) -> int:
    """Bytes that the kernel says a map takes (``memlock`` of its fdinfo; what is in it counts, since kernel 6.4)."""
    fields = dict(line.split(":\t") for line in Path(f"/proc/self/fdinfo/{found.fd}").read_text().splitlines())
    return int(fields["memlock"])


class Rotation:
    """``rotation.c`` in the kernel, and its list of packets."""

    def __init__(self, loaded: XdpObject) -> None:
        self._object = loaded
        self._count = 0

    def open(self, image: LoadedImage, load: Load) -> None:
        """Let the opening through this image, and make the steady packets the list."""
        self._aim(image)
        for frames in load.opening:
            self._list(frames)
            self._run(len(frames))
        self._list(load.steady)
        self._count = len(load.steady)

    def net(self, with_it: LoadedImage, without: LoadedImage, rounds: int, seconds: float) -> Sequence[float]:
        """ns per packet of each round, `without` subtracted. Which of the two begins changes from round to round."""
        self._aim(with_it)
        turns = max(1, round(seconds * 1e9 / (self._run(self._count) * self._count)))
        found = []
        for number in range(rounds):
            times = {}
            for image in (with_it, without) if number % 2 else (without, with_it):
                self._aim(image)
                times[image is with_it] = self._run(self._count * turns)
            found.append(float(times[True] - times[False]))
        return found

    def _aim(self, image: LoadedImage) -> None:
        self._object.maps["slot"].update(INDEX_0, image.program.fd.to_bytes(4, "little"))

    def _list(self, frames: Frames) -> None:
        entries = (
            (index.to_bytes(4, "little"), _PACKET.pack(len(frame), frame[:124])) for index, frame in enumerate(frames)
        )
        self._object.maps["packets"].update_batch(entries)
        self._object.maps["position"].update(INDEX_0, _POSITION.pack(0, len(frames)))

    def _run(self, packets: int) -> int:
        """Let so many packets through; the mean time of one in ns. Raises OkoError if they did not go through."""
        run = self._object.program.test_run(bytes(60), repeat=packets)
        if run.retval != _XDP_DROP:
            raise OkoError(f"the image answered {run.retval}, not {_XDP_DROP}: its rules drop everything")
        return max(run.duration_ns, 1)
