"""`Datapath`: the kernel objects of one bridge, all of them pinned, so that packets flow on when okod ends.

Under ``BPFFS/oko/BRIDGE`` there are ``stub`` with its maps ``slot`` and ``fallthrough``, ``links/PORT``, and the maps
that outlive an image: ``maps/NAME`` and, of a program, ``programs/ID/NAME``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from oko.compiler import counters
from oko.compiler.amendment import Amendment
from oko.compiler.image import Filter, Image, ImageMap
from oko.compiler.in_flight import Element, InFlight
from oko.compiler.meter import MeterCounts, pack_meter, unpack_meter
from oko.compiler.runtime import Runtime
from oko.errors import BridgeError, KernelError, PortError
from oko.flow.attachment import Shims
from oko.flow.drop import Drop
from oko.flow.meter import MeterSpec
from oko.kernel import bpffs
from oko.kernel.btf import load_btf
from oko.kernel.grace import wait_for_programs
from oko.kernel.inject import Injector, run_through
from oko.kernel.interface import exists
from oko.kernel.link import Link, attach_xdp
from oko.kernel.maps import Map
from oko.kernel.ringbuf import RingBuffer
from oko.switch.loaded_image import LoadedImage, create_map, create_shared
from oko.switch.pinned import Adoption, remove_strangers, reopen_map, reopen_program
from oko.switch.whole_program import load_whole
from verifier.program import MapSpec, Program

log = logging.getLogger("oko")

DEFAULT_BPFFS: Final = Path("/sys/fs/bpf")
_INDEX_0: Final = bytes(4)
_OF_TABLES: Final = frozenset({"counters", "meters", "programs"})
"""Maps whose elements belong to rules, meters and programs by their slots."""

_WAIT_COST: Final = 12_000_000
"""What it takes to wait for packets, ns; measured: 8 to 16 ms."""
_IMAGE_COST: Final = 5_000_000
_RULE_COST: Final = 30_000
"""What a new image takes, ns, and each of its rules more."""


@dataclass(frozen=True, slots=True)
class Count:
    """Packets and their bytes (whole frames, without FCS)."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.bytes + other.bytes)


class Datapath:
    """Owns the slot, the stub on every port, the maps that outlive an image, and the current image. A context
    manager: leaving it gives up the descriptors and leaves the pins."""

    def __init__(
        self,
        bridge: str,
        mount: Path,
        stub: Program,
        runtime: Runtime,
        adoption: Adoption = Adoption.NOTHING,
        *,
        attached: bool = False,
    ) -> None:
        """Make the pins of `bridge` under `mount`, or adopt those that are there; `attached`: it is one of Open
        vSwitch's. No packet is decided otherwise than before until `apply`. Raises KernelError, and BridgeError for
        pins that must not be there."""
        bpffs.require_bpffs(mount)
        self.pins = pins_of(bridge, mount)
        self.adopts = self.pins.exists()
        """Whether there were pins."""
        if self.adopts and adoption is Adoption.NOTHING:
            raise BridgeError(
                f"bridge {bridge} has a datapath at {self.pins} that this run directory knows nothing of: "
                "name the right one with --rundir, or remove the pins"
            )
        self._adoption = adoption
        self._own = contextlib.ExitStack()
        self._maps: dict[str, Map] = {}
        self._specs: dict[str, MapSpec] = {}
        self.swaps = 0
        """How often an image took the place of another."""
        self._carried: dict[int, Count] = {}
        self._uncarried: set[int] = set()  # the slots of `_carried` that `take_carried` has not told
        self._former: list[Map] = []  # counters that no new image uses, and that the current one may
        self.adopted: set[str] = set()
        """Of Oko's own maps those that are an earlier okod's."""
        self._image: LoadedImage | None = None
        self._in_flight = InFlight()
        self._links: dict[str, Link] = {}
        self._outdated: list[str] = []  # the ports that have another stub
        try:
            for directory in ("links", "maps", "programs"):
                bpffs.make_directory(self.pins / directory)
            self._make_stub(stub)
            specs = [counters.counters(0), counters.DROPS, counters.PROGRAMS, *([counters.SHIMS] if attached else [])]
            for wanted in (*(ImageMap(spec.name, spec) for spec in specs), *runtime.maps):
                self._obtain(wanted)
            self._injector = self._own.enter_context(Injector())
            self.packet_ins = self._own.enter_context(RingBuffer(self._maps["packet_ins"]))
        except BaseException:
            if self.adopts:
                self.close()
            else:
                self.remove()
            raise

    @property
    def image(self) -> Image | None:
        """The image that decides packets now."""
        return self._image.image if self._image else None

    def attach(self, name: str, ifindex: int) -> None:
        """Put the stub on an interface, in the place of an earlier one of that name. Raises PortError, KernelError."""
        pin = self.pins / "links" / bpffs.pin_name(name)
        if (earlier := self._links.get(name)) is not None:
            earlier.detach()
            bpffs.remove_pin(pin)
        link = attach_xdp(self._stub, ifindex)
        try:
            link.pin(pin)
        except BaseException:
            link.detach()
            link.close()
            raise
        self._links[name] = link
        if earlier is not None:
            earlier.close()

    def detach(self, name: str) -> None:
        """Take the stub off a port. Raises KernelError."""
        with self._links.pop(name) as link:
            link.detach()
        if name in self._outdated:
            self._outdated.remove(name)
        bpffs.remove_pin(self.pins / "links" / bpffs.pin_name(name))

    @property
    def attached(self) -> dict[str, int]:
        """The ifindex of each port that carries the stub, 0 of one whose interface is gone."""
        return {name: link.info().ifindex for name, link in self._links.items()}

    @property
    def inherits(self) -> bool:
        """Whether packets are decided by an earlier okod's pipeline of which nobody knows the tables."""
        return self.adopts and self._adoption is Adoption.PIPELINE and self._image is None

    def carries(self, name: str, ifindex: int) -> bool:
        """Whether the interface that the port was attached by, or is to be, is still in this namespace."""
        link = self._links.get(name)
        return exists(ifindex) and (link is None or link.info().ifindex == ifindex)

    def amend(self, amendment: Amendment, *, at_once: bool = False) -> bool:
        """Change rules in the maps of the current image, while packets read them. False, and nothing has changed, if a
        new image is the better way: with `at_once` there must be no moment in between, and packets are waited for no
        longer than a new image would take.

        Raises KernelError; the rules are as they were then.
        """
        current = self._image
        if current is None or (at_once and sum(element.spot is not None for element in amendment.elements) > 1):
            return False
        steps = self._in_flight.steps(amendment.elements)
        if (len(steps) - 1) * _WAIT_COST > _IMAGE_COST + len(current.image.wants) * _RULE_COST:
            return False
        try:
            for number, step in enumerate(steps):
                if number:
                    wait_for_programs()
                _change(current.maps, step)
        except BaseException:
            self._swap(LoadedImage.load("oko_pipeline", current.image, self._maps))
            raise
        amendment.apply(current.image)
        return True

    def apply(self, image: Image, fresh: Mapping[str, Map] | None = None) -> None:
        """Let `image` decide packets from now on: every packet is decided by the old one or by the new one.

        `fresh` are maps of programs, by their name in the image, that take the place of those of the same name; they
        belong to the datapath once this returns.

        Raises KernelRejected and KernelError; the old image goes on then.
        """
        with contextlib.ExitStack() as undo:
            renewed = dict(fresh or {})
            for wanted in image.maps:
                if wanted.shared and wanted.program is None and self._specs[wanted.name] != wanted.spec:
                    renewed[wanted.name] = undo.enter_context(create_shared(wanted))
            for name, created in renewed.items():
                undo.callback(self._stage(name, created).unlink, missing_ok=True)
            self._swap(LoadedImage.load("oko_pipeline", image, {**self._maps, **renewed}))
            undo.pop_all()
        # From here on the new image decides packets: nothing below may fail the change.
        if "counters" in renewed:
            self._former.append(self._maps.pop("counters"))
        specs = {wanted.name: wanted.spec for wanted in image.maps}
        for name, created in renewed.items():
            self._own_map(name, specs.get(name), created)
        while self._former:
            with self._former.pop() as former:
                self._carry(former)
        # The pins last: who kills okod before finds both maps of counters.
        for name in renewed:
            self._replace_pin(name)

    def try_program(self, image: Image, fresh: Mapping[str, Map]) -> None:
        """Ask the kernel's verifier about an image without using it. Raises KernelRejected, KernelError."""
        LoadedImage.load("oko_trial", image, {**self._maps, **fresh}).close()

    def program_map(self, item: Filter, name: str) -> Map:
        """The map called `name` of a loaded program."""
        return self._maps[item.map_name(name)]

    def adopt_program(self, item: Filter) -> None:
        """Take over the pinned maps of a program that an earlier okod loaded, and make those that are not there.
        Raises KernelError."""
        missing = []
        for spec in item.program.maps:
            name = item.map_name(spec.name)
            # Read-only data are the object file's: they need not be trusted to be still what they were.
            found = None if spec.frozen else reopen_map(self._pin(name), spec)
            if found is None:
                missing.append(spec)
            else:
                self._maps[name] = found[0]
        self.adopt(make_program_maps(item, missing))

    def tidy(self) -> None:
        """Remove what an earlier okod has pinned that is used no more. Raises KernelError."""
        known = {self._pin(name) for name in self._maps}
        for directory in ("maps", "programs"):
            remove_strangers(self.pins / directory, known)

    def adopt(self, fresh: Mapping[str, Map]) -> None:
        """Take over maps of a program that no rule names yet."""
        with contextlib.ExitStack() as undo:
            for name, created in fresh.items():
                undo.callback(self._stage(name, created).unlink, missing_ok=True)
            undo.pop_all()
        for name, created in fresh.items():
            self._install(name, None, created)

    def forget_maps(self, item: Filter, names: Collection[str]) -> None:
        """Give up maps of a program that no image uses any more."""
        for name in names:
            self._maps.pop(item.map_name(name)).close()
            self._pin(item.map_name(name)).unlink(missing_ok=True)

    def reset_program(self, slot: int) -> None:
        """Let the counters of a program's slot begin at zero."""
        self._maps["programs"].update(slot.to_bytes(4, "little"), bytes(counters.PROGRAM.size))

    def settle(self) -> None:
        """Wait until every packet that is being decided now has been. Raises KernelError."""
        wait_for_programs()
        self._in_flight.clear()

    def clear(self, slots: Collection[int]) -> dict[int, Count]:
        """Set the counters in these slots, where no packet counts, to zero. Returns what they were. Raises
        KernelError."""
        counts = {slot: self.count(slot) for slot in slots}
        counted = self._maps["counters"]
        for slot in slots:
            # The map does not grow for an image that counts nothing: that of a bridge without ports.
            if slot < counted.max_entries:
                counted.update(slot.to_bytes(4, "little"), bytes(counters.COUNTER.size))
            self._carried.pop(slot, None)
        return counts

    def clear_others(self, slots: Collection[int]) -> None:
        """Set all counters but those in these slots to zero: an earlier okod may have been killed before it did, and
        what was carried from its counters has them, too. No packet may count there. Raises KernelError."""
        self._carried = {slot: count for slot, count in self._carried.items() if slot in slots}
        counted = self._maps["counters"]
        for key, values in counted.items_percpu():
            if any(map(any, values)) and int.from_bytes(key, "little") not in slots:
                counted.update(key, bytes(counters.COUNTER.size))

    def add_count(self, slot: int, count: Count) -> None:
        """Count what user space did in the place of the pipeline."""
        self._carried[slot] = self._carried.get(slot, Count()) + count
        self._uncarried.add(slot)

    def restore_counts(self, counts: Mapping[int, Count]) -> None:
        """Begin with what an earlier okod counted outside of the kernel's map: its `carried`."""
        self._carried = dict(counts)

    @property
    def carried(self) -> dict[int, Count]:
        """What the slots have counted that is not in the kernel's map."""
        return dict(self._carried)

    def take_carried(self) -> dict[int, Count]:
        """Those of `carried` that have changed since this was asked before."""
        slots, self._uncarried = self._uncarried, set()
        return {slot: self._carried[slot] for slot in slots if slot in self._carried}

    def set_meter(self, slot: int, spec: MeterSpec) -> None:
        """Let a meter begin with full buckets in a slot that no packet is charged in. Raises KernelError."""
        self._maps["meters"].update(slot.to_bytes(4, "little"), pack_meter(spec))

    def meter_counts(self, slot: int) -> MeterCounts:
        """What the meter in this slot has counted."""
        value = self._maps["meters"].lookup(slot.to_bytes(4, "little"))
        return unpack_meter(value or b"")

    def lost_packet_ins(self) -> int:
        """Packets for the controller that found no room in the ring buffer."""
        values = self._maps["packet_in_drops"].lookup_percpu(_INDEX_0) or ()
        return sum(int.from_bytes(value, "little") for value in values)

    def send(self, ifindex: int, frame: bytes) -> None:
        """Send a frame out of an interface. Raises PortError, KernelError."""
        self._injector.send(ifindex, frame)

    def enter(self, frame: bytes, ifindex: int) -> None:
        """Let the pipeline decide a frame as if it had come in by an interface. Raises PortError for a frame that is
        too long for that, KernelError."""
        if self._image is not None:
            run_through(self._image.program.fd, frame, ifindex)

    @property
    def shims(self) -> Shims:
        """What becomes of packets that an attached image is to continue."""
        return Shims(int.from_bytes(self._maps["shims"].lookup(_INDEX_0) or b"", "little"))

    def set_shims(self, shims: Shims) -> None:
        """Let that become of them from now on, whatever image there is, now and when okod has ended. Raises
        KernelError."""
        self._maps["shims"].update(_INDEX_0, shims.to_bytes(4, "little"))

    def count(self, slot: int) -> Count:
        """What the rule, group or bucket in this slot has counted."""
        return self._read("counters", slot) + self._carried.get(slot, Count())

    def drops(self) -> dict[Drop, Count]:
        """The packets that no rule dropped and that were dropped all the same."""
        return {reason: self._read("drops", reason) for reason in Drop}

    def program_counts(self, slot: int) -> tuple[int, int]:
        """How often the program in this slot ran, and how often it matched."""
        values = self._maps["programs"].lookup_percpu(slot.to_bytes(4, "little")) or ()
        per_cpu = [counters.PROGRAM.unpack(value) for value in values]
        return sum(runs for runs, _ in per_cpu), sum(matches for _, matches in per_cpu)

    def fallthrough(self) -> int:
        """Packets that found the slot empty: what the stub does then happened to them."""
        values = self._stub_maps["fallthrough"].lookup_percpu(_INDEX_0) or ()
        return sum(int.from_bytes(value, "little") for value in values)

    def run_time(self) -> tuple[int, int]:
        """What the kernel has measured while it was told to: packets, and the ns that stub and image took for them."""
        info = self._stub.info()
        return info.run_count, info.run_time_ns

    def close(self) -> None:
        """Give up every descriptor. The pins stay, and with them the datapath."""
        self._own.close()
        if self._image is not None:
            self._image.close()
        for held in (*self._links.values(), *self._maps.values(), *self._former):
            held.close()
        self._links.clear()

    def remove(self) -> None:
        """Take the datapath away: off every port, then its pins."""
        for link in self._links.values():
            link.detach()
        self.close()
        _remove_pins(self.pins)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _swap(self, loaded: LoadedImage) -> None:
        """Put an image into the slot. The slot is only ever overwritten, so no packet finds it empty."""
        try:
            self._stub_maps["slot"].update(_INDEX_0, loaded.program.fd.to_bytes(4, "little"))
        except BaseException:
            loaded.close()
            raise
        if self._image is not None:
            self.swaps += 1
            self._image.close()
        self._image = loaded
        self._in_flight.clear()
        self._renew_stubs()

    def _renew_stubs(self) -> None:
        """Let ports that have an earlier Oko's stub have this one, now that there is an image behind it."""
        while self._outdated:
            name = self._outdated.pop()
            link = self._links[name]
            try:
                link.update(self._stub)
            except KernelError as error:
                log.warning("port %s: %s: it is attached anew, and misses packets meanwhile", name, error)
                try:
                    self.attach(name, link.info().ifindex)
                except (PortError, KernelError) as again:
                    log.error("port %s keeps the stub of another Oko: %s", name, again)

    def _make_stub(self, stub: Program) -> None:
        """The program of every port, and the ports that have it, or an earlier one, already."""
        self._stub_maps: dict[str, Map] = {}
        for spec in stub.maps:
            pin = self.pins / spec.name
            found = reopen_map(pin, spec)
            held = self._own.enter_context(found[0] if found is not None else create_map(spec.name, spec))
            if found is None:
                bpffs.remove_pin(pin)
                held.pin(pin)
            else:
                self.adopted.add(spec.name)
            self._stub_maps[spec.name] = held
        pin, made = self.pins / "stub", load_whole("oko_stub", stub, self._stub_maps)
        earlier = reopen_program(pin, made) if self._stub_maps.keys() <= self.adopted else None
        if earlier is not None:
            made.close()
        else:
            bpffs.remove_pin(pin)
            made.pin(pin)
        self._stub = self._own.enter_context(earlier or made)
        number = self._stub.info().id
        for path in sorted((self.pins / "links").iterdir()):
            link, name = Link.open(path), bpffs.named_by(path.name)
            self._links[name] = link
            info = link.info()
            if info.ifindex and info.program_id != number:
                self._outdated.append(name)

    def _obtain(self, wanted: ImageMap) -> None:
        """One of Oko's own maps, from its pin if there is one that can be used."""
        pin = self._pin(wanted.name)
        is_counters = wanted.name == "counters"
        found = None
        if self._adoption is Adoption.EVERYTHING or wanted.name not in _OF_TABLES:
            found = reopen_map(pin, wanted.spec, resizable=is_counters)
        staged = pin.with_name(f"{pin.name}%new")
        if is_counters and found is not None and staged.exists():
            # An okod was killed when it was about to let an image count here, or just had.
            self._former += (found[0], Map.open(staged))
            found = None
        if found is not None:
            self._maps[wanted.name], self._specs[wanted.name] = found
            self.adopted.add(wanted.name)
            return
        created = create_shared(wanted)
        self._stage(wanted.name, created)
        self._install(wanted.name, wanted.spec, created)

    def _carry(self, counted: Map) -> None:
        """Remember what stands in counters that no image uses any more, once no packet counts there."""
        try:
            wait_for_programs()
        except KernelError as error:
            log.warning("packets still in flight are not counted: %s", error)
        try:
            for key, values in counted.items_percpu():
                if any(map(any, values)):
                    self.add_count(int.from_bytes(key, "little"), _sum(values))
        except KernelError as error:
            log.error("what rules have counted up to now is lost, in part or whole: %s", error)

    def _stage(self, name: str, created: Map) -> Path:
        """Pin a map beside the place where it will be pinned. Raises KernelError."""
        pin = self._pin(name)
        staged = pin.with_name(f"{pin.name}%new")
        bpffs.make_directory(pin.parent)
        bpffs.remove_pin(staged)
        created.pin(staged)
        return staged

    def _install(self, name: str, spec: MapSpec | None, created: Map) -> None:
        """Own a staged map, in the place of one of the same name."""
        self._replace_pin(name)
        self._own_map(name, spec, created)

    def _replace_pin(self, name: str) -> None:
        """Let a staged map have its place among the pins."""
        pin = self._pin(name)
        pin.with_name(f"{pin.name}%new").rename(pin)

    def _own_map(self, name: str, spec: MapSpec | None, created: Map) -> None:
        if name in self._maps:
            self._maps[name].close()
        self._maps[name] = created
        if spec is not None:
            self._specs[name] = spec

    def _pin(self, name: str) -> Path:
        """Where the map that images call `name` is pinned."""
        owner, dot, own_name = name.partition(".")
        return self.pins / "programs" / owner / bpffs.pin_name(own_name) if dot else self.pins / "maps" / name

    def _read(self, name: str, index: int) -> Count:
        return _sum(self._maps[name].lookup_percpu(index.to_bytes(4, "little")) or ())


def pins_of(bridge: str, mount: Path) -> Path:
    """The directory of a bridge's pins."""
    return mount / "oko" / bridge


def take_down(pins: Path) -> None:
    """Take away the datapath that is pinned at `pins`, whoever made it: off its ports, then its pins. None is fine.

    Raises KernelError.
    """
    links = pins / "links"
    for pin in sorted(links.iterdir()) if links.is_dir() else ():
        with Link.open(pin) as link:
            link.detach()
    _remove_pins(pins)


def _remove_pins(pins: Path) -> None:
    """Remove a bridge's pins, and their parent when it was the last bridge."""
    bpffs.remove_tree(pins)
    with contextlib.suppress(OSError):
        pins.parent.rmdir()


def make_program_maps(item: Filter, specs: Collection[MapSpec]) -> dict[str, Map]:
    """New maps for a program, by their name in an image; the caller owns them. Raises KernelError."""
    with contextlib.ExitStack() as undo:
        btf = undo.enter_context(load_btf(item.program.btf.raw)) if item.program.btf is not None else None
        made: dict[str, Map] = {}
        with contextlib.ExitStack() as created:
            for spec in specs:
                made[item.map_name(spec.name)] = created.enter_context(create_map(spec.name, spec, btf))
            created.pop_all()
        return made


def _change(maps: Mapping[str, Map], elements: Iterable[Element]) -> None:
    """Write and remove elements, in order. Raises KernelError."""
    for name, run in groupby(elements, key=attrgetter("map")):
        changed, written = maps[name], list[tuple[bytes, bytes]]()
        for element in run:
            if element.value is not None:
                written.append((element.key, element.value))
                continue
            changed.update_batch(written)
            written.clear()
            changed.delete(element.key)
        changed.update_batch(written)


def _sum(values: tuple[bytes, ...]) -> Count:
    """Per-CPU counters added up."""
    return sum((Count(*counters.COUNTER.unpack(value)) for value in values), Count())
