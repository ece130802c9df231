"""The way from tables and programs to an image, in one function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from oko.compiler import counters
from oko.compiler.assembler import Assembler, Register
from oko.compiler.emission import XDP_DROP
from oko.compiler.image import Filter, Image, ImageMap
from oko.compiler.ingress import Ingress, emit_in_port
from oko.compiler.layout import KeyLayout
from oko.compiler.link import Part, from_filter, from_program, generated, link
from oko.compiler.lookup import RULE_SIZE, hashed_group, rule_value
from oko.compiler.lowering import Lowering
from oko.compiler.pipeline import Pipeline, TablePlan
from oko.compiler.plan import Plan, plan
from oko.compiler.portset import PORT_LIMIT, PortSets
from oko.compiler.replay import REPLAY, SUBSTITUTES, emit_now, emit_processor, emit_random
from oko.compiler.runtime import FUNCTIONS, Runtime
from oko.compiler.typeinfo import Prototype, type_information
from oko.compiler.wants import Wants
from oko.errors import LimitExceeded
from oko.flow.attachment import Attachment
from oko.flow.port import PortState
from oko.flow.tables import Tables
from verifier.program import MapSpec, MapType

MAP_LIMIT: Final = 64
"""Maps of one image: MAX_USED_MAPS (<linux/bpf_verifier.h>)."""

INSTRUCTION_LIMIT: Final = 1 << 17
"""Instructions of one image. The kernel's own limit is a million, but it moves the rest of a program whenever it puts
a few instructions in the place of one: ever more seconds for each change of the tables."""

_NO_PREALLOC: Final = 1
_FILE: Final = "pipeline"
_OWN_LICENSE: Final = "Dual BSD/GPL"
_GPL_COMPATIBLE: Final = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
"""The licences that open the kernel's GPL-only helpers (include/linux/license.h)."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """An image with what its compiler knew, which says how the image changes when only rules do (`amend`). `plans` are
    those of the tables that packets can reach."""

    image: Image
    plans: Mapping[int, Plan]
    wants: Wants
    layout: KeyLayout


def compile_image(
    tables: Tables,
    filters: Mapping[int, Filter],
    ports: Mapping[int, int | None],
    runtime: Runtime,
    *,
    states: Mapping[int, PortState] | None = None,
    attachment: Attachment | None = None,
    replay: bool = False,
) -> Image:
    """The image of a bridge's tables: see `compile_tables`."""
    return compile_tables(tables, filters, ports, runtime, states=states, attachment=attachment, replay=replay).image


def compile_tables(
    tables: Tables,
    filters: Mapping[int, Filter],
    ports: Mapping[int, int | None],
    runtime: Runtime,
    *,
    states: Mapping[int, PortState] | None = None,
    attachment: Attachment | None = None,
    replay: bool = False,
) -> Compilation:
    """Compile a bridge's tables.

    `filters` are the loaded programs by id. `ports` is ifindex by port number, any number in a replay image, None for a
    port whose interface is gone: what is sent there is dropped as `Drop.NO_PORT`. `states` of ports that are not as
    usual. With an `attachment` the image leaves packets to Open vSwitch; without one it never returns XDP_PASS. Pure.

    Raises BadAction for an action that the pipeline cannot do, LimitExceeded beyond a budget.
    """
    if len(ports) > PORT_LIMIT:
        raise LimitExceeded("ports", len(ports), PORT_LIMIT)
    indices = {number: index for index, number in enumerate(sorted(ports))}
    by_interface = {
        (number if replay else ifindex): (number, indices[number])
        for number, ifindex in ports.items()
        if ifindex is not None
    }
    ingress = Ingress(by_interface, replay, len(ports) if attachment is None else None)
    known = {number: (states or {}).get(number, PortState()) for number in ports}
    lowering = Lowering(known, tables.groups, tables.meters, attachment is not None)
    wants = Wants(lowering)
    wants.add(tables)
    plans = [_table_plan(tables, number, wants, runtime.layout.key) for number in sorted(wants.pending)]
    pipeline = Pipeline(plans, runtime.layout, filters, ingress, wants.by_slot, lowering.sets, wants.groups, attachment)
    main = generated("pipeline", pipeline.emit(), _FILE)
    interfaces = {indices[number]: ifindex for number, ifindex in ports.items() if ifindex is not None}
    maps = [
        ImageMap("counters", counters.counters(tables.slots)),
        ImageMap("drops", counters.DROPS),
        ImageMap("shims", counters.SHIMS),
        *_rule_maps(pipeline, runtime.layout.key),
        *pipeline.hints.maps(),
        *wants.maps(),
        *_output_maps(lowering.sets, interfaces),
    ]
    numbers = sorted(ports)
    destinations = {
        number: (frozenset(numbers[index] for index in found.ports), found.ingress)
        for number, found in lowering.sets.numbers.items()
    }
    image = replace(_assemble(main, filters, maps, ingress, runtime, destinations), wants=wants.by_slot)
    return Compilation(image, {table.number: table.plan for table in plans}, wants, runtime.layout.key)


def compile_trial(item: Filter, ports: Mapping[int, int | None], runtime: Runtime) -> Image:
    """An image that does nothing but call one program: what the kernel thinks of it, before any rule names it."""
    asm = Assembler()
    asm.call(str(item.id))
    asm.set(Register.R0, XDP_DROP)
    asm.exit()
    by_interface = {ifindex: (number, 0) for number, ifindex in ports.items() if ifindex is not None}
    ingress = Ingress(by_interface, replay=False, controller=len(ports))
    return _assemble(generated("trial", asm, _FILE), {item.id: item}, [], ingress, runtime, {})


def _table_plan(tables: Tables, number: int, wants: Wants, layout: KeyLayout) -> TablePlan:
    observers = tuple(
        (observer.match.program, layout.lower(observer.match))
        for observer in tables.observers
        if observer.table == number and observer.match.program is not None
    )
    procedures = wants.procedures.get(number, ())
    return TablePlan(number, plan(tables.ranked(number), layout), observers, procedures, wants.pending[number])


def _assemble(
    main: Part,
    filters: Mapping[int, Filter],
    maps: list[ImageMap],
    ingress: Ingress,
    runtime: Runtime,
    destinations: Mapping[int, tuple[frozenset[int], bool]],
) -> Image:
    """Link `main` with what it calls, directly or not: the kernel refuses functions that nothing calls, such as a
    program that only rules behind a rule for every packet name."""
    substitutes = SUBSTITUTES if ingress.replay else {}
    provided: dict[str, Callable[[], Part]] = {
        # Global, so that a program is verified for any port and not anew for each.
        "oko_in_port": lambda: generated("oko_in_port", emit_in_port(ingress), _FILE, Prototype.CONTEXT),
        "oko_replay_now": lambda: generated("oko_replay_now", emit_now(), _FILE),
        "oko_replay_random": lambda: generated("oko_replay_random", emit_random(), _FILE),
        "oko_replay_processor": lambda: generated("oko_replay_processor", emit_processor(), _FILE),
    }
    parts = {main.name: main}
    wanted: list[Filter] = []
    missing = [name for _, name in main.calls]
    while missing:
        name = missing.pop(0)
        if name in parts:
            continue
        if name in FUNCTIONS:
            parts[name] = from_program(name, runtime.functions[name], FUNCTIONS[name][1], substitutes)
        elif name in provided:
            parts[name] = provided[name]()
        else:
            wanted.append(filters[int(name)])
            parts[name] = from_filter(wanted[-1], substitutes)
        missing += (called for _, called in parts[name].calls)
    wanted.sort(key=lambda item: item.id)
    programs = {str(item.id) for item in wanted}
    order = [name for name in parts if name not in programs] + [str(item.id) for item in wanted]
    linked = link([parts[name] for name in order])
    if len(linked.instructions) > INSTRUCTION_LIMIT:
        raise LimitExceeded(
            "instructions of the image",
            len(linked.instructions),
            INSTRUCTION_LIMIT,
            advice="use fewer masks, fewer lists of actions, or fewer changes between programs from rule to rule",
        )
    notes = [(line.instruction, line.text) for line in linked.lines if line.file == _FILE]
    starts = itertools.accumulate((len(parts[name].instructions) for name in order), initial=0)
    notes += [(start, f"program {name}") for start, name in zip(starts, order, strict=False) if name in programs]
    maps = maps + [ImageMap(item.map_name(spec.name), spec, item.id) for item in wanted for spec in item.program.maps]
    named = {reference.name for reference in linked.references}
    own = (ImageMap("programs", counters.PROGRAMS), ImageMap("replay", REPLAY), *runtime.maps)
    maps += own
    maps = [image_map for image_map in maps if image_map.name in named]
    if len(maps) > MAP_LIMIT:
        raise LimitExceeded("maps of the image", len(maps), MAP_LIMIT, advice="unload a filter program")
    btf_bytes, func_info, line_info = type_information(linked.infos, linked.lines, runtime.layout.size)
    return Image(
        linked.instructions,
        linked.functions,
        linked.references,
        tuple(maps),
        _license(wanted),
        btf_bytes,
        func_info,
        line_info,
        tuple(sorted(notes)),
        destinations,
    )


def _license(wanted: list[Filter]) -> str:
    """What the image says of its licence: Oko's own part suits any, so a program's that is not the GPL's kind
    decides."""
    return next((item.program.license for item in wanted if item.program.license not in _GPL_COMPATIBLE), _OWN_LICENSE)


def _rule_maps(pipeline: Pipeline, layout: KeyLayout) -> list[ImageMap]:
    """The maps of the hashed rules, one for each length of their keys."""
    contents: dict[str, dict[bytes, bytes]] = {}
    for group in pipeline.hashed:
        hashed = hashed_group(layout.size, group)
        entries = contents.setdefault(hashed.map, {})
        for value, candidate in group.candidates.items():
            want = pipeline.wants[candidate.entry.slot]
            entries[hashed.key(value)] = rule_value(candidate.entry, want)
    maps = []
    for name, entries in sorted(contents.items()):
        key_size, room = len(next(iter(entries))), counters.room_for(len(entries))
        spec = MapSpec(name, MapType.HASH, key_size, RULE_SIZE, room, _NO_PREALLOC)
        maps.append(ImageMap(name, spec, shared=False, entries=entries))
    return maps


def _output_maps(sets: PortSets, interfaces: Mapping[int, int]) -> list[ImageMap]:
    """Where packets leave by: `ports` has the interface of each port by index, `port_sets` a devmap for each list,
    `unions` the numbers of joined sets. Ports that are gone are left out."""
    maps = [
        ImageMap(
            "ports",
            MapSpec("ports", MapType.DEVMAP, 4, 4, PORT_LIMIT),
            shared=False,
            entries={_number(index): _number(ifindex) for index, ifindex in interfaces.items()},
        )
    ]
    if sets.lists:
        # A list of which no port is left stays out, so that what is sent there is counted as one port's would be.
        inner = {
            _number(place): _list(ports, interfaces)
            for place, ports in enumerate(sets.lists)
            if ports & interfaces.keys()
        }
        spec = MapSpec("port_sets", MapType.ARRAY_OF_MAPS, 4, 4, counters.power_of_two(len(sets.lists), 1))
        pattern = _list(frozenset(), interfaces)
        maps.append(ImageMap("port_sets", spec, shared=False, inner=inner, pattern=pattern))
    if sets.unions:
        entries = {_number(one) + _number(other): _number(both) for (one, other), both in sets.unions.items()}
        room = counters.power_of_two(len(entries), 64)
        maps.append(ImageMap("unions", MapSpec("unions", MapType.HASH, 8, 4, room), shared=False, entries=entries))
    return maps


def _list(ports: frozenset[int], interfaces: Mapping[int, int]) -> ImageMap:
    """The devmap of a list of ports."""
    found = [interfaces[port] for port in sorted(ports) if port in interfaces]
    spec = MapSpec("port_list", MapType.DEVMAP, 4, 4, max(1, len(found)))
    return ImageMap(
        "port_list",
        spec,
        shared=False,
        entries={_number(place): _number(ifindex) for place, ifindex in enumerate(found)},
    )


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")
