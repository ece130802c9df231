"""The way from tables and programs to an image, in one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from oko.compiler import counters
from oko.compiler.assembler import Assembler, Register
from oko.compiler.image import Filter, Image, ImageMap
from oko.compiler.layout import KeyLayout
from oko.compiler.link import Part, from_filter, from_program, generated, link
from oko.compiler.pipeline import (
    RULE_SIZE,
    XDP_DROP,
    Ingress,
    Pipeline,
    emit_in_port,
    hash_key,
    rule_value,
    rules_map,
    words_of,
)
from oko.compiler.plan import plan
from oko.compiler.replay import REPLAY, SUBSTITUTES, emit_now, emit_processor, emit_random
from oko.compiler.typeinfo import type_information
from oko.errors import LimitExceeded, NotReadable
from oko.flow.rule import Entry
from verifier.btf import Struct
from verifier.program import MapSpec, MapType, Program

MAP_LIMIT: Final = 64
"""Maps of one image: MAX_USED_MAPS (<linux/bpf_verifier.h>)."""

PORT_LIMIT: Final = 256
_FEWEST_RULES: Final = 1024
_NO_PREALLOC: Final = 1
_FILE: Final = "pipeline"
_OWN_LICENSE: Final = "Dual BSD/GPL"
_GPL_COMPATIBLE: Final = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
"""The licences that open the kernel's GPL-only helpers (include/linux/license.h)."""


@dataclass(frozen=True)
class Runtime:
    """The C half of every image: the parser and, from its BTF, the layout of the key."""

    parser: Program
    layout: KeyLayout

    @staticmethod
    def of(parser: Program) -> Runtime:
        """Raises NotReadable if the object does not describe `struct oko_key`."""
        if parser.btf is None:
            raise NotReadable("the runtime's parser.o has no BTF: compile it with -g")
        key = parser.btf.id_of("oko_key", Struct)
        if key is None:
            raise NotReadable("the runtime's parser.o does not describe struct oko_key: rebuild the objects")
        members = {member.name: (member.offset, parser.btf.size_of(member.type)) for member in parser.btf.members(key)}
        return Runtime(parser, KeyLayout(parser.btf.size_of(key), members))


def compile_image(
    ranked: Iterable[Entry],
    filters: Mapping[int, Filter],
    ports: Mapping[int, int | None],
    runtime: Runtime,
    *,
    slots: int,
    replay: bool = False,
) -> Image:
    """The image of one table.

    `ranked` are its entries in rank order, `filters` the loaded programs by id, `slots` a bound above every entry's
    slot. `ports` is ifindex by port number, any number in a replay image, None for a port whose interface is gone: what
    is sent there is dropped as `Drop.NO_PORT`. Pure.

    Raises BadAction for an action that the pipeline cannot do, LimitExceeded beyond a budget.
    """
    if len(ports) > PORT_LIMIT:
        raise LimitExceeded("ports", len(ports), PORT_LIMIT)
    numbers = sorted(ports)
    indices = {number: index for index, number in enumerate(numbers)}
    by_interface = {
        (number if replay else ifindex): (number, indices[number])
        for number, ifindex in ports.items()
        if ifindex is not None
    }
    ingress = Ingress(by_interface, replay)
    pipeline = Pipeline(plan(ranked, runtime.layout), runtime.layout, filters, ingress, indices)
    main = generated("pipeline", pipeline.emit(), _FILE)
    maps = [
        ImageMap("counters", counters.counters(slots)),
        ImageMap("drops", counters.DROPS),
        *_rule_maps(pipeline, runtime.layout, indices),
    ]
    if not replay:
        maps.append(_devmap(numbers, ports))
    return _assemble(main, filters, maps, ingress, runtime)


def compile_trial(item: Filter, ports: Mapping[int, int | None], runtime: Runtime) -> Image:
    """An image that does nothing but call one program: what the kernel thinks of it, before any rule names it."""
    asm = Assembler()
    asm.call(str(item.id))
    asm.set(Register.R0, XDP_DROP)
    asm.exit()
    by_interface = {ifindex: (number, 0) for number, ifindex in ports.items() if ifindex is not None}
    ingress = Ingress(by_interface, replay=False)
    return _assemble(generated("trial", asm, _FILE), {item.id: item}, [], ingress, runtime)


def _assemble(
    main: Part, filters: Mapping[int, Filter], maps: list[ImageMap], ingress: Ingress, runtime: Runtime
) -> Image:
    """Link `main` with what it calls, directly or not: the kernel refuses functions that nothing calls, such as a
    program that only rules behind a rule for every packet name."""
    called_by_main = {name for _, name in main.calls}
    wanted = [item for _, item in sorted(filters.items()) if str(item.id) in called_by_main]
    parts = [main, *(from_filter(item, SUBSTITUTES if ingress.replay else {}) for item in wanted)]
    provided: dict[str, Callable[[], Part]] = {
        "oko_parse": lambda: from_program("oko_parse", runtime.parser, is_global=False),
        # Global, so that a program is verified for any port and not anew for each.
        "oko_in_port": lambda: generated("oko_in_port", emit_in_port(ingress), _FILE, is_global=True),
        "oko_replay_now": lambda: generated("oko_replay_now", emit_now(), _FILE),
        "oko_replay_random": lambda: generated("oko_replay_random", emit_random(), _FILE),
        "oko_replay_processor": lambda: generated("oko_replay_processor", emit_processor(), _FILE),
    }
    called = {name for part in parts for _, name in part.calls}
    linked = link([parts[0], *(make() for name, make in provided.items() if name in called), *parts[1:]])
    maps = maps + [ImageMap(item.map_name(spec.name), spec, item.id) for item in wanted for spec in item.program.maps]
    own = {spec.name: spec for spec in (counters.PROGRAMS, counters.SEQUENCE, REPLAY)}
    named = {reference.name for reference in linked.references}
    maps += [ImageMap(name, spec) for name, spec in own.items() if name in named]
    maps = [image_map for image_map in maps if image_map.name in named]
    if len(maps) > MAP_LIMIT:
        raise LimitExceeded("maps of the image", len(maps), MAP_LIMIT, advice="unload a filter program")
    btf, func_info, line_info = type_information(linked.infos, linked.lines)
    return Image(
        linked.instructions,
        linked.functions,
        linked.references,
        tuple(maps),
        _license(wanted),
        btf,
        func_info,
        line_info,
        tuple((line.instruction, line.text) for line in linked.lines if line.file == _FILE),
    )


def _license(wanted: list[Filter]) -> str:
    """What the image says of its licence: Oko's own part suits any, so a program's that is not the GPL's kind
    decides."""
    return next((item.program.license for item in wanted if item.program.license not in _GPL_COMPATIBLE), _OWN_LICENSE)


def _rule_maps(pipeline: Pipeline, layout: KeyLayout, indices: Mapping[int, int]) -> list[ImageMap]:
    """The maps of the hashed rules, one for each number of words."""
    contents: dict[int, dict[bytes, bytes]] = {}
    for number, group in pipeline.hashed:
        entries = contents.setdefault(len(words_of(layout, group.mask)), {})
        for value, candidate in group.candidates.items():
            entries[hash_key(layout, number, group.mask, value)] = rule_value(candidate.entry, indices)
    return [
        ImageMap(
            rules_map(words),
            MapSpec(
                rules_map(words),
                MapType.HASH,
                8 + words * 8,
                RULE_SIZE,
                counters.power_of_two(len(entries) * 5 // 4, _FEWEST_RULES),
                _NO_PREALLOC,
            ),
            shared=False,
            entries=entries,
        )
        for words, entries in sorted(contents.items())
    ]


def _devmap(numbers: list[int], ports: Mapping[int, int | None]) -> ImageMap:
    """Where R8 leads: index → interface."""
    entries = {
        index.to_bytes(4, "little"): ifindex.to_bytes(4, "little")
        for index, number in enumerate(numbers)
        if (ifindex := ports[number]) is not None
    }
    spec = MapSpec("ports", MapType.DEVMAP, 4, 4, PORT_LIMIT)
    return ImageMap("ports", spec, shared=False, entries=entries)
