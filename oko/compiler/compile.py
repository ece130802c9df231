"""The way from tables and programs to an image, in one function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from oko.compiler import counters
from oko.compiler.assembler import Assembler, Register
from oko.compiler.emission import XDP_DROP
from oko.compiler.image import Filter, Image, ImageMap, Want
from oko.compiler.ingress import Ingress, emit_in_port
from oko.compiler.layout import KeyLayout
from oko.compiler.link import Part, from_filter, from_program, generated, link
from oko.compiler.lookup import RULE_SIZE, hash_key, rule_value, rules_map, words_of
from oko.compiler.lowering import Lowering, Pending
from oko.compiler.pipeline import Pipeline, TablePlan
from oko.compiler.plan import plan
from oko.compiler.portset import PORT_LIMIT, PortSets
from oko.compiler.replay import REPLAY, SUBSTITUTES, emit_now, emit_processor, emit_random
from oko.compiler.runtime import FUNCTIONS, Runtime
from oko.compiler.step import Procedure, Step
from oko.compiler.typeinfo import Prototype, type_information
from oko.errors import BadAction, LimitExceeded
from oko.flow.action import Group, WriteActions
from oko.flow.port import PortState
from oko.flow.rule import Entry
from oko.flow.tables import Tables
from verifier.program import MapSpec, MapType

MAP_LIMIT: Final = 64
"""Maps of one image: MAX_USED_MAPS (<linux/bpf_verifier.h>)."""

INSTRUCTION_LIMIT: Final = 1 << 17
"""Instructions of one image. The kernel's own limit is a million, but it moves the rest of a program whenever it puts
a few instructions in the place of one: ever more seconds for each change of the tables."""

DATA_LIMIT: Final = 1 << 15
"""Bytes of the data of one procedure: an instruction reaches no farther."""

ARGUMENTS_LIMIT: Final = 1 << 28
"""Bytes of the map `arguments`."""

_FEWEST_RULES: Final = 1024
_FEWEST_ARGUMENTS: Final = 1024
_NO_PREALLOC: Final = 1
_FILE: Final = "pipeline"
_OWN_LICENSE: Final = "Dual BSD/GPL"
_GPL_COMPATIBLE: Final = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
"""The licences that open the kernel's GPL-only helpers (include/linux/license.h)."""


def compile_image(
    tables: Tables,
    filters: Mapping[int, Filter],
    ports: Mapping[int, int | None],
    runtime: Runtime,
    *,
    states: Mapping[int, PortState] | None = None,
    replay: bool = False,
) -> Image:
    """The image of a bridge's tables.

    `filters` are the loaded programs by id. `ports` is ifindex by port number, any number in a replay image, None for a
    port whose interface is gone: what is sent there is dropped as `Drop.NO_PORT`. `states` of ports that are not as
    usual. Pure.

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
    ingress = Ingress(by_interface, replay, len(ports))
    known = {number: (states or {}).get(number, PortState()) for number in ports}
    lowering = Lowering(known, tables.groups, tables.meters)
    rules = _Rules(lowering)
    for number in sorted(_written_groups(tables)):
        rules.add_group(number)
    rules.add(tables)
    pipeline = Pipeline(
        [_table_plan(tables, number, rules, runtime.layout.key) for number in sorted(rules.pending)],
        runtime.layout,
        filters,
        ingress,
        rules.wants,
        lowering.sets,
        rules.groups,
    )
    main = generated("pipeline", pipeline.emit(), _FILE)
    interfaces = {indices[number]: ifindex for number, ifindex in ports.items() if ifindex is not None}
    maps = [
        ImageMap("counters", counters.counters(tables.slots)),
        ImageMap("drops", counters.DROPS),
        *_rule_maps(pipeline, runtime.layout.key),
        *rules.maps(),
        *_output_maps(lowering.sets, interfaces),
    ]
    numbers = sorted(ports)
    destinations = {
        number: (frozenset(numbers[index] for index in found.ports), found.ingress)
        for number, found in lowering.sets.numbers.items()
    }
    return replace(_assemble(main, filters, maps, ingress, runtime, destinations), wants=rules.wants)


def compile_trial(item: Filter, ports: Mapping[int, int | None], runtime: Runtime) -> Image:
    """An image that does nothing but call one program: what the kernel thinks of it, before any rule names it."""
    asm = Assembler()
    asm.call(str(item.id))
    asm.set(Register.R0, XDP_DROP)
    asm.exit()
    by_interface = {ifindex: (number, 0) for number, ifindex in ports.items() if ifindex is not None}
    ingress = Ingress(by_interface, replay=False, controller=len(ports))
    return _assemble(generated("trial", asm, _FILE), {item.id: item}, [], ingress, runtime, {})


@dataclass
class _Rules:
    """Every rule lowered. `pending` has the tables that packets can reach, with what is pending when they do;
    `procedures` what each table's rules want, by template."""

    lowering: Lowering
    pending: dict[int, Pending] = field(default_factory=lambda: {0: Pending()})
    procedures: dict[int, tuple[Procedure, ...]] = field(default_factory=dict)
    wants: dict[int, Want] = field(default_factory=dict)
    groups: dict[int, tuple[int, tuple[Step, ...]]] = field(default_factory=dict)
    _arguments: dict[bytes, int] = field(default_factory=dict)

    def add_group(self, number: int) -> None:
        """Make room for the data of a group that action sets may name."""
        try:
            steps = self.lowering.group(number)
        except BadAction as error:
            raise BadAction(f"group {number}, in an action set: {error}", reason=error.reason) from error
        self.groups[number] = (self._index(Procedure(steps).data), steps)

    def add(self, tables: Tables) -> None:
        """Lower every rule, the older first, so that new rules do not change the numbers that older ones have."""
        lowered: list[tuple[Entry, Procedure]] = []
        by_table: dict[int, list[Entry]] = {}
        for entry in tables:
            by_table.setdefault(entry.rule.table, []).append(entry)
        for number in sorted(by_table):
            entries = sorted(by_table[number], key=lambda entry: entry.age)
            lowered += self._table(number, entries)
        templates = {
            number: {procedure.shape: index for index, procedure in enumerate(procedures)}
            for number, procedures in self.procedures.items()
        }
        for entry, procedure in sorted(lowered, key=lambda item: item[0].age):
            argument = procedure.destination if procedure.direct else self._index(procedure.data)
            self.wants[entry.slot] = Want(templates[entry.rule.table][procedure.shape], argument)

    def maps(self) -> list[ImageMap]:
        """The data of all steps."""
        if not self._arguments:
            return []
        size = counters.power_of_two(max(map(len, self._arguments)), 16)
        # With those that are all zeros: what is not named here counts as free, and may be written under readers' eyes.
        entries = {index.to_bytes(4, "little"): data.ljust(size, b"\0") for data, index in self._arguments.items()}
        room = counters.power_of_two(len(self._arguments) * 5 // 4, _FEWEST_ARGUMENTS)
        if size * room > ARGUMENTS_LIMIT:
            raise LimitExceeded(
                "bytes of the data of all actions",
                size * room,
                ARGUMENTS_LIMIT,
                advice=f"every rule's take as much as the longest, {size}: use smaller groups",
            )
        return [
            ImageMap("arguments", MapSpec("arguments", MapType.ARRAY, 4, size, room), shared=False, entries=entries)
        ]

    def _table(self, number: int, entries: Iterable[Entry]) -> list[tuple[Entry, Procedure]]:
        """The rules of one table. Those of a table that no packet reaches are looked at, and forgotten."""
        reached = number in self.pending
        pending = self.pending.get(number, Pending())
        done: dict[object, tuple[Procedure, Pending]] = {}
        lowered = []
        shapes: dict[tuple[object, ...], Procedure] = {}
        for entry in entries:
            rule = entry.rule
            key = (rule.instructions, rule.is_table_miss)
            if key not in done:
                try:
                    procedure = self.lowering.procedure(rule, pending)
                    behind = self.lowering.behind(rule, procedure, pending)
                    if rule.goto is None:
                        self.lowering.end(behind)
                except BadAction as error:
                    raise BadAction(
                        f"table {number}, priority {rule.priority}: {error}", reason=error.reason
                    ) from error
                done[key] = procedure, behind
                shapes.setdefault(procedure.shape, procedure)
                if reached and rule.goto is not None:
                    self.pending[rule.goto] = self.pending[rule.goto] | behind if rule.goto in self.pending else behind
            lowered.append((entry, done[key][0]))
        self.procedures[number] = tuple(shapes[shape] for shape in sorted(shapes, key=repr))
        return lowered if reached else []

    def _index(self, data: bytes) -> int:
        if len(data) > DATA_LIMIT:
            raise LimitExceeded(
                "bytes of data of one list of actions",
                len(data),
                DATA_LIMIT,
                advice="use fewer actions, or fewer buckets",
            )
        return self._arguments.setdefault(data, len(self._arguments)) if data else 0


def _written_groups(tables: Tables) -> set[int]:
    """The groups that action sets may name."""
    return {
        action.number
        for entry in tables
        for instruction in entry.rule.instructions
        if isinstance(instruction, WriteActions)
        for action in instruction.actions
        if isinstance(action, Group)
    }


def _table_plan(tables: Tables, number: int, rules: _Rules, layout: KeyLayout) -> TablePlan:
    observers = tuple(
        (observer.match.program, layout.lower(observer.match))
        for observer in tables.observers
        if observer.table == number and observer.match.program is not None
    )
    procedures = rules.procedures.get(number, ())
    return TablePlan(number, plan(tables.ranked(number), layout), observers, procedures, rules.pending[number])


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
    """The maps of the hashed rules, one for each number of words."""
    contents: dict[int, dict[bytes, bytes]] = {}
    for number, group in enumerate(pipeline.hashed):
        entries = contents.setdefault(len(words_of(layout, group.mask)), {})
        for value, candidate in group.candidates.items():
            want = pipeline.wants[candidate.entry.slot]
            entries[hash_key(layout, number, group.mask, value)] = rule_value(candidate.entry, want)
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
