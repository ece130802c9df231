"""What the kernel refuses becomes an error, and leaves everything as it was."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from oko.compiler.compile import INSTRUCTION_LIMIT
from oko.compiler.counters import PROGRAM_LIMIT
from oko.compiler.lookup import rules_map
from oko.compiler.meter import METER_LIMIT
from oko.errors import BadMeter, BundleFailed, KernelError, KernelRejected, LimitExceeded, OkoError, PortError
from oko.flow.drop import Drop
from oko.flow.meter import BAND_LIMIT, Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule
from oko.kernel.interface import interface
from oko.kernel.libbpf import call
from oko.kernel.link import VETH_MTU_LIMIT, attach_xdp
from oko.kernel.maps import Map
from oko.kernel.program import load_program
from tests.oko.compiler.test_compile import with_masks
from tests.oko.conftest import Compile, Rig
from tests.oko.kernel import assembler as asm
from tests.oko.kernel.waiting import wait_until
from tests.oko.switch.test_datapath import TARGET, TO_TARGET, hosts
from tests.verifier.test_budget import branches

pytestmark = pytest.mark.needs_bpf

Change = Callable[[], object]
Prepare = Callable[[Rig, Compile, Path], Change]
"""Makes ready for a change that will fail, and returns it."""


def state(rig: Rig) -> tuple[object, ...]:
    """Everything that a refused change must not change."""
    bridge = rig.bridge
    return (
        list(bridge.tables),
        dict(bridge.tables.groups),
        dict(bridge.tables.meters),
        bridge.image,
        [(loaded.name, loaded.filter.id, loaded.filter.program.digest) for loaded, _, _ in bridge.programs.counted()],
        sorted(str(path) for path in rig.datapath.pins.rglob("*") if not path.is_dir()),
        rig.datapath.fallthrough(),
    )


def sends(rig: Rig) -> bool:
    """Whether packets for the target are still sent, and counted."""
    before = rig.won(f"dl_dst={TARGET}").packets
    rig.send("h1", TARGET, 3)
    wait_until(lambda: rig.won(f"dl_dst={TARGET}").packets == before + 3)
    return rig.bridge.fallthrough() == 0


def adding(rig: Rig, *flows: str) -> Change:
    """Rules added together, or not at all."""
    mods = [FlowMod(Command.ADD, parse_rule(flow)) for flow in flows]
    return lambda: rig.inside(lambda: rig.bridge.change_together(mods))


def changing(rig: Rig, mod: FlowMod | MeterMod) -> Change:
    def change() -> None:
        for error in rig.change(mod):
            raise error

    return change


# ---- changes that are refused


def a_map_too_large(rig: Rig, counting: Compile, path: Path) -> Change:
    return partial(rig.load, counting("-DENTRIES=0x1fffffff"), program=2)


def a_program_too_complex(rig: Rig, counting: Compile, path: Path) -> Change:
    return partial(rig.load, branches(20, path), program=2)


def a_replacement_too_complex(rig: Rig, counting: Compile, path: Path) -> Change:
    """Rules name the program that would be replaced."""
    return partial(rig.load, branches(20, path), program=1)


def one_program_too_many(rig: Rig, counting: Compile, path: Path) -> Change:
    for number in range(2, PROGRAM_LIMIT + 1):
        rig.load(counting(), program=number)
    return partial(rig.load, counting(), program=PROGRAM_LIMIT + 1)


def an_image_too_complex(rig: Rig, counting: Compile, path: Path) -> Change:
    mods = [FlowMod(Command.ADD, flow) for flow in with_masks(8300)]
    return lambda: rig.inside(lambda: rig.bridge.change_together(mods))


def an_image_too_long(rig: Rig, counting: Compile, path: Path) -> Change:
    buckets = ",".join(f"bucket=output:{n % 2 + 1}" for n in range(1000))
    groups = range(1, INSTRUCTION_LIMIT // 20_000 + 1)
    assert rig.add_groups(*(f"group_id={number},type=select,{buckets}" for number in groups)) == []
    # Written to the set, groups take instructions of their own each; applied, they share them.
    rules = (f"priority=9,in_port=2,dl_type=0x880{n},actions=write_actions(group:{n}),goto_table:1" for n in groups)
    return adding(rig, *rules, "table=1,actions=drop")


def one_meter_too_many(rig: Rig, counting: Compile, path: Path) -> Change:
    bands = (Band(1),)
    assert rig.change(*(MeterMod(MeterCommand.ADD, MeterSpec(n + 1, bands)) for n in range(METER_LIMIT))) == []
    return changing(rig, MeterMod(MeterCommand.ADD, MeterSpec(METER_LIMIT + 1, bands)))


def one_band_too_many(rig: Rig, counting: Compile, path: Path) -> Change:
    return changing(rig, MeterMod(MeterCommand.ADD, MeterSpec(1, (Band(1),) * (BAND_LIMIT + 1))))


def a_bundle_with_a_fault(rig: Rig, counting: Compile, path: Path) -> Change:
    return adding(rig, "priority=1,in_port=1,actions=output:2", "priority=2,in_port=1,actions=output:77")


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (a_map_too_large, LimitExceeded, "bytes of the maps of counting: 8589934656 used, limit 268435456; declare"),
        (a_program_too_complex, KernelRejected, "the kernel refused the program oko_trial: "),
        (a_replacement_too_complex, KernelRejected, "the kernel refused the program oko_trial: "),
        (one_program_too_many, LimitExceeded, "filter programs: 65 used, limit 64"),
        (an_image_too_complex, KernelRejected, "the kernel refused the program oko_pipeline: .*too complex"),
        (an_image_too_long, BundleFailed, rf"instructions of the image: \d+ used, limit {INSTRUCTION_LIMIT}"),
        (one_meter_too_many, LimitExceeded, r"meters, .*: 1025 used, limit 1024"),
        (one_band_too_many, BadMeter, "meter 1 has 5 bands: 4 is the most"),
        (a_bundle_with_a_fault, BundleFailed, "the bridge has no port 77"),
    ],
    ids=lambda value: value.__name__ if callable(value) and not isinstance(value, type) else "",
)
def test_a_refused_change_changes_nothing(
    rig: Rig, counting: Compile, tmp_path: Path, prepare: Prepare, error: type[OkoError], message: str
) -> None:
    rig.attach()
    rig.load(counting())
    assert rig.add("priority=9,dl_type=0x806,filter_prog=1,actions=drop", TO_TARGET) == []
    change = prepare(rig, counting, tmp_path)
    before, pipeline = state(rig), rig.pipeline()
    with pytest.raises(error, match=message):
        change()
    assert state(rig) == before
    assert rig.pipeline() == pipeline
    assert sends(rig)
    assert rig.add("priority=8,in_port=2,actions=output:1") == [], "the bridge can be changed"


# ---- maps that are full


def rewriting(first: int, count: int) -> list[str]:
    """Rules of one mask that write different addresses: each has data of its own."""
    return [flow.replace("actions=", f"actions=set_field:{flow[7:24]}->eth_src,") for flow in hosts(first, count)]


def room(rig: Rig, name: str) -> int:
    """How many elements a map of the image has room for."""
    assert rig.bridge.image is not None
    (found,) = (found for found in rig.bridge.image.maps if found.name == name)
    return found.spec.max_entries


@pytest.mark.parametrize(("name", "flows"), [(rules_map(2), hosts), ("arguments", rewriting)])
def test_a_map_that_would_be_full_is_grown(rig: Rig, name: str, flows: Callable[[int, int], list[str]]) -> None:
    """By a new image with a larger one: rules go into the map of the old one as long as there is room."""
    rig.attach()
    assert rig.add(TO_TARGET, *flows(0, 300)) == []
    before, pipeline = room(rig, name), rig.pipeline()
    assert rig.add(*flows(300, 100)) == []
    assert rig.pipeline() == pipeline
    assert sends(rig)
    assert rig.add(*flows(400, before - 300)) == []
    assert rig.pipeline() != pipeline
    assert room(rig, name) > before
    assert rig.won(f"dl_dst={TARGET}").packets == 3
    assert sends(rig)


def test_a_running_map_that_is_full_unforeseen(rig: Rig) -> None:
    """Somebody else has written to it: the rule is refused, and the image goes on with maps of its own making."""
    rig.attach()
    assert rig.add(TO_TARGET, *hosts(0, 100)) == []
    before = state(rig)
    with running_map(rig, rules_map(2)) as found:
        for number in range(found.max_entries - 101):
            found.update((1 << 32 | number).to_bytes(8, "little") + bytes(8), bytes(found.value_size))
    (error,) = rig.add(*hosts(100, 1))
    assert isinstance(error, KernelError)
    assert error.errno == errno.E2BIG
    assert state(rig) == before
    with running_map(rig, rules_map(2)) as found:
        assert sum(1 for _ in found.items()) == 101
    assert sends(rig)
    assert rig.add(*hosts(100, 1)) == []


@contextmanager
def running_map(rig: Rig, name: str) -> Iterator[Map]:
    """A map of the image that runs now."""
    shown = ["bpftool", "-j", "prog", "show", "id", str(rig.pipeline())]
    numbers = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)["map_ids"]
    with ExitStack() as stack:
        maps = [stack.enter_context(Map(call("bpf_map_get_fd_by_id", number, what="a map"))) for number in numbers]
        (found,) = (each for each in maps if each.name == name)
        yield found


# ---- a file system and a process at their limits


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Nothing can be pinned at `place`."""
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)


@contextmanager
def no_descriptors(_: Path) -> Iterator[None]:
    """The process can open no more than two files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(2):
            os.close(taken.pop())
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def load_another(rig: Rig, elf: bytes) -> None:
    rig.bridge.load(2, "", elf)


def replace_program(rig: Rig, elf: bytes) -> None:
    rig.bridge.load(1, "", elf, fresh_maps=True)


def grow_counters(rig: Rig, _: bytes) -> None:
    rig.bridge.change_together([FlowMod(Command.ADD, parse_rule(flow)) for flow in hosts(0, 1100)])


def change_shape(rig: Rig, _: bytes) -> None:
    rig.bridge.change_together([FlowMod(Command.ADD, parse_rule("priority=8,in_port=2,ip,actions=output:1"))])


@pytest.mark.parametrize(
    ("restrict", "change", "message"),
    [
        (read_only, load_another, "Read-only file system"),
        (read_only, replace_program, "Read-only file system"),
        (read_only, grow_counters, "Read-only file system"),
        (no_descriptors, load_another, "Too many open files"),
        (no_descriptors, replace_program, "Too many open files"),
        (no_descriptors, grow_counters, "Too many open files"),
        (no_descriptors, change_shape, "Too many open files"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_the_system_has_no_room_for(
    rig: Rig,
    bpffs: Path,
    counting: Compile,
    restrict: Callable[[Path], AbstractContextManager[None]],
    change: Callable[[Rig, bytes], None],
    message: str,
) -> None:
    elf = counting()
    rig.attach()
    rig.load(elf)
    assert rig.add("priority=9,dl_type=0x806,filter_prog=1,actions=drop", TO_TARGET) == []
    before, pipeline = state(rig), rig.pipeline()

    def restricted() -> None:
        with restrict(bpffs):
            change(rig, elf)

    with pytest.raises(KernelError, match=message):
        rig.inside(restricted)
    assert state(rig) == before
    assert rig.pipeline() == pipeline
    assert sends(rig)
    rig.inside(partial(change, rig, elf))
    assert rig.pipeline() != pipeline or state(rig) != before


def test_a_change_of_shape_needs_no_room_for_pins(rig: Rig, bpffs: Path) -> None:
    with read_only(bpffs):
        assert rig.add(TO_TARGET, "priority=8,in_port=2,ip,actions=output:1") == []


# ---- ports that cannot be


def ip(rig: Rig, *arguments: str) -> None:
    subprocess.run(["ip", "-n", rig.namespace.name, *arguments], check=True)


def new_pair(rig: Rig) -> None:
    ip(rig, *["link", "add", "p3", "type", "veth", "peer", "name", "h3"])


def of_no_native_driver(rig: Rig) -> None:
    ip(rig, *["link", "add", "p3", "type", "bridge"])


def of_a_large_mtu(rig: Rig) -> None:
    new_pair(rig)
    ip(rig, "link", "set", "h3", "mtu", str(VETH_MTU_LIMIT + 1))


def of_somebody_else(rig: Rig) -> None:
    """Its program stays there."""
    new_pair(rig)
    with (
        load_program("theirs", asm.returns(asm.XDP_PASS), "GPL", references={}) as theirs,
        rig.inside(lambda: attach_xdp(theirs, interface("p3").index)) as link,
    ):
        link.pin(rig.datapath.pins.parent / "theirs")


def of_nobody(rig: Rig) -> None:
    pass


def of_a_port(rig: Rig) -> None:
    """An interface can carry one stub."""
    ip(rig, *["link", "property", "add", "dev", "p1", "altname", "p3"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_no_native_driver, r"port p3: its driver \(bridge\) has no native XDP"),
        (of_a_large_mtu, "port p3: the MTU of its peer is above"),
        (of_somebody_else, "port p3: it already has an XDP program"),
        (of_nobody, "interface p3 does not exist"),
        (of_a_port, "port p1: it already has an XDP program"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_port_that_cannot_be_attached(rig: Rig, make: Callable[[Rig], None], message: str) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []
    make(rig)
    before = state(rig)
    with pytest.raises(PortError, match=message):
        rig.inside(lambda: rig.datapath.attach("p3", interface("p3").index))
    assert state(rig) == before
    assert sends(rig)


def test_a_port_that_cannot_be_pinned_is_not_attached(rig: Rig, bpffs: Path) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []
    new_pair(rig)
    with read_only(bpffs), pytest.raises(KernelError, match="Read-only file system"):
        rig.inside(lambda: rig.datapath.attach("p3", interface("p3").index))
    assert rig.inside(lambda: interface("p3")).xdp_mode is None
    assert sends(rig)
    rig.inside(lambda: rig.datapath.attach("p3", interface("p3").index))
    assert rig.inside(lambda: interface("p3")).xdp_mode == "native"


def test_the_mtu_of_a_port_cannot_grow_beyond_xdp(rig: Rig) -> None:
    rig.attach()
    assert rig.add(TO_TARGET) == []
    command = ["ip", "-n", rig.namespace.name, "link", "set", "h1", "mtu", str(VETH_MTU_LIMIT + 1)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert sends(rig)


def test_a_namespace_that_is_gone(rig: Rig, namespace: Callable[[str], Path]) -> None:
    """With the namespace of its far end, the port goes, and nothing else."""
    rig.attach()
    assert rig.add(TO_TARGET, "dl_dst=02:00:00:00:00:01,actions=output:1") == []
    far = f"{rig.namespace.name}-far"
    subprocess.run(["ip", "netns", "add", far], check=True)
    try:
        ip(rig, "link", "set", "h2", "netns", far)
    finally:
        subprocess.run(["ip", "netns", "delete", far], check=True)
    wait_until(lambda: rig.inside(lambda: [p.number for p in rig.bridge.ports if rig.bridge.is_live(p)]) == [1])
    before = state(rig)
    rig.send("h1", TARGET, 2)
    wait_until(lambda: rig.bridge.drops()[Drop.NO_PORT].packets == 2)
    assert state(rig) == before
    rig.inside(rig.bridge.refresh_ports)
    assert rig.add("priority=8,in_port=1,ip,actions=output:2") == []
    rig.send("h1", TARGET, 2)
    wait_until(lambda: rig.bridge.drops()[Drop.NO_PORT].packets == 4)
