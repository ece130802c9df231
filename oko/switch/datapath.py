"""`Datapath`: the kernel objects of one bridge, all of them pinned, so that packets flow on when okod ends.

Under ``BPFFS/oko/BRIDGE`` there are ``slot`` and ``links/PORT``, and the maps that outlive an image: ``maps/NAME`` and,
of a program, ``programs/ID/NAME``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from oko.compiler import counters
from oko.compiler.image import Filter, Image, ImageMap
from oko.compiler.layout import WORD
from oko.compiler.lookup import RULES, age_of
from oko.compiler.meter import MeterCounts, pack_meter, unpack_meter
from oko.compiler.runtime import Runtime
from oko.errors import BridgeError, KernelError
from oko.flow.drop import Drop
from oko.flow.meter import MeterSpec
from oko.kernel import bpffs
from oko.kernel.btf import load_btf
from oko.kernel.grace import wait_for_programs
from oko.kernel.inject import Injector, run_through
from oko.kernel.interface import exists
from oko.kernel.link import Link, attach_xdp
from oko.kernel.maps import Map
from oko.kernel.program import LoadedProgram, load_program
from oko.kernel.ringbuf import RingBuffer
from oko.switch.loaded_image import LoadedImage, create_map, create_shared
from verifier import isa
from verifier.program import MapSpec, Program, ReferenceKind

log = logging.getLogger("oko")

DEFAULT_BPFFS: Final = Path("/sys/fs/bpf")
_INDEX_0: Final = bytes(4)
_MOST_WAITS: Final = 4
"""For packets, within one change: a wait takes 8 to 16 ms, a new image some 4 and what its rules take."""
_GROWING: Final = ("arguments", "unions")
"""Maps that rules refer to, and to which elements may be added while packets read them."""


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

    def __init__(self, bridge: str, mount: Path, stub: Program, runtime: Runtime) -> None:
        """Make the pins of `bridge` under `mount`. Raises KernelError, and BridgeError when they are there already."""
        bpffs.require_bpffs(mount)
        self.pins = pins_of(bridge, mount)
        if self.pins.exists():
            raise BridgeError(
                f"bridge {bridge} has a datapath at {self.pins} that this run directory knows nothing of: "
                "name the right one with --rundir, or remove the pins"
            )
        self._own = contextlib.ExitStack()
        self._maps: dict[str, Map] = {}
        self._specs: dict[str, MapSpec] = {}
        self._carried: dict[int, Count] = {}
        self._image: LoadedImage | None = None
        self._inserted: tuple[str, bytes] | None = None  # the group of the last rule inserted into this image
        self._links: dict[str, Link] = {}
        try:
            for directory in ("links", "maps", "programs"):
                bpffs.make_directory(self.pins / directory)
            self._stub_maps = {spec.name: self._own.enter_context(create_map(spec.name, spec)) for spec in stub.maps}
            self._stub = self._own.enter_context(_load_stub(stub, self._stub_maps))
            self._stub_maps["slot"].pin(self.pins / "slot")
            own = [ImageMap(spec.name, spec) for spec in (counters.counters(0), counters.DROPS, counters.PROGRAMS)]
            for wanted in (*own, *runtime.maps):
                created = create_shared(wanted)
                self._stage(wanted.name, created)
                self._install(wanted.name, wanted.spec, created)
            self._injector = self._own.enter_context(Injector())
            self.packet_ins = self._own.enter_context(RingBuffer(self._maps["packet_ins"]))
        except BaseException:
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

    def carries(self, name: str, ifindex: int) -> bool:
        """Whether the interface that the port was attached by is still in this namespace; true of one not attached."""
        link = self._links.get(name)
        return link is None or (link.info().ifindex == ifindex and exists(ifindex))

    def apply(
        self, image: Image, fresh: Mapping[str, Map] | None = None, *, at_once: bool = False, again: bool = False
    ) -> None:
        """Let `image` decide packets from now on: every packet is decided by the old one or by the new one.

        `fresh` are maps of programs, by their name in the image, that take the place of those of the same name; they
        belong to the datapath once this returns.

        An image that differs from the current one only by rules added to hashes is not loaded: the rules go into the
        maps, older ones first, so that the tables in between are those that the flow_mods made one by one; with
        `at_once` there must be none in between, and with `again` it is loaded in any case. A packet looks into one
        group of rules after the other: before a rule goes into another group than the one before it, packets that may
        have missed that one have to be through. An element is never changed or removed in a map that packets read: the
        kernel would reuse it under the eyes of a reader.

        Raises KernelRejected and KernelError; the old image goes on then.
        """
        current = self._image
        if current is not None and not fresh and not again and image.same_shape(current.image):
            added = _additions(current.image, image)
            if added is not None and _is_insertable(added, at_once=at_once):
                self._insert(current, image, added)
                return
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
            self._carry(self._maps["counters"])
        specs = {wanted.name: wanted.spec for wanted in image.maps}
        for name, created in renewed.items():
            self._install(name, specs.get(name), created)

    def try_program(self, image: Image, fresh: Mapping[str, Map]) -> None:
        """Ask the kernel's verifier about an image without using it. Raises KernelRejected, KernelError."""
        LoadedImage.load("oko_trial", image, {**self._maps, **fresh}).close()

    def program_map(self, item: Filter, name: str) -> Map:
        """The map called `name` of a loaded program."""
        return self._maps[item.map_name(name)]

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
        """Wait until every packet that an earlier image decides has been decided. Raises KernelError."""
        wait_for_programs()

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

    def add_count(self, slot: int, count: Count) -> None:
        """Count what user space did in the place of the pipeline."""
        self._carried[slot] = self._carried.get(slot, Count()) + count

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
        """Packets that found the slot empty, and were dropped."""
        values = self._stub_maps["fallthrough"].lookup_percpu(_INDEX_0) or ()
        return sum(int.from_bytes(value, "little") for value in values)

    def close(self) -> None:
        """Give up every descriptor. The pins stay, and with them the datapath."""
        self._own.close()
        if self._image is not None:
            self._image.close()
        for held in (*self._links.values(), *self._maps.values()):
            held.close()

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
            self._image.close()
        self._image, self._inserted = loaded, None

    def _insert(self, current: LoadedImage, image: Image, added: list[tuple[str, bytes, bytes]]) -> None:
        try:
            for name, key, value in added:
                group = _group_of(name, key)
                if group is not None:
                    if self._inserted not in (None, group):
                        wait_for_programs()
                    self._inserted = group
                current.maps[name].update(key, value)
        except KernelError:
            self._swap(LoadedImage.load("oko_pipeline", current.image, self._maps))
            raise
        current.image = image

    def _carry(self, counted: Map) -> None:
        """Remember what stands in counters that no image uses any more, once no packet counts there."""
        try:
            wait_for_programs()
        except KernelError as error:
            log.warning("packets still in flight are not counted: %s", error)
        for key, values in counted.items_percpu():
            count = _sum(values)
            if count.packets:
                self.add_count(int.from_bytes(key, "little"), count)

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
        pin = self._pin(name)
        pin.with_name(f"{pin.name}%new").rename(pin)
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


def _load_stub(stub: Program, maps: Mapping[str, Map]) -> LoadedProgram:
    references = {
        reference.instruction: (maps[reference.name], None)
        for reference in stub.references
        if reference.kind is ReferenceKind.MAP
    }
    return load_program("oko_stub", isa.encode(stub.instructions), stub.license, references=references)


def _additions(old: Image, new: Image) -> list[tuple[str, bytes, bytes]] | None:
    """The elements that turn the maps of `old` into those of `new`, if it takes no more than that: (map, key, value).
    First what rules refer to, then the rules, the older first."""
    referred: list[tuple[str, bytes, bytes]] = []
    rules: list[tuple[str, bytes, bytes]] = []
    for before, after in zip(old.maps, new.maps, strict=True):
        if before.entries == after.entries:
            continue
        is_rules = before.name.startswith(RULES)
        if not (is_rules or before.name in _GROWING) or not before.entries.items() <= after.entries.items():
            return None
        added = rules if is_rules else referred
        added += ((after.name, key, after.entries[key]) for key in after.entries.keys() - before.entries.keys())
    return referred + sorted(rules, key=lambda element: age_of(element[2]))


def _group_of(name: str, key: bytes) -> tuple[str, bytes] | None:
    """The group of hashed rules that an element belongs to, None if it is no rule."""
    return (name, key[:WORD]) if name.startswith(RULES) else None


def _is_insertable(added: list[tuple[str, bytes, bytes]], *, at_once: bool) -> bool:
    """Whether additions are made to the live maps: of rules that must come at once there may be one, and others may not
    go to and fro between groups, where each change of the group costs a wait."""
    groups = [group for name, key, _ in added if (group := _group_of(name, key)) is not None]
    changes = sum(one != other for one, other in pairwise(groups))
    return len(groups) <= 1 if at_once else changes <= _MOST_WAITS


def _sum(values: tuple[bytes, ...]) -> Count:
    """Per-CPU counters added up."""
    return sum((Count(*counters.COUNTER.unpack(value)) for value in values), Count())
