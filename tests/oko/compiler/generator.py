"""Random switches with random packets, made to meet: matches are taken from the headers of the packets, so that rules
win, and everything is small, so that rules, groups and tables get in each other's way.

Case number N is always the same one. Those that are attached to Open vSwitch have numbers of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from random import Random
from typing import Final

from oko.errors import FlowError
from oko.flow.action import (
    ALL,
    CONTROLLER,
    FLOOD,
    IN_PORT,
    Action,
    ApplyActions,
    ClearActions,
    Continue,
    CopyTtlIn,
    CopyTtlOut,
    DecMplsTtl,
    DecTtl,
    GotoTable,
    Group,
    Instruction,
    Meter,
    Output,
    Pass,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetTtl,
    WriteActions,
    WriteMetadata,
)
from oko.flow.attachment import Attachment, Shims
from oko.flow.change import Change
from oko.flow.fields import BY_NAME, FIELDS, FILTER_PROG, Field
from oko.flow.group import Bucket, GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.headers import parse
from oko.flow.match import Condition, Match, implied
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.observer import Observer, ObserverMod
from oko.flow.port import PortState
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.shim import IDS, SIZE
from oko.flow.shim import frame as behind_shim
from oko.flow.tables import Tables

PORTS: Final = {1: PortState(), 2: PortState(), 3: PortState(flood=False), 4: PortState(live=False), 7: PortState()}
PROGRAMS: Final = (1, 2, 3)
TABLES: Final = (0, 1, 2, 200)
_MACS: Final = tuple(bytes.fromhex(mac) for mac in ("020000000001", "020000000002", "ffffffffffff"))
_IPV4: Final = tuple(bytes(address) for address in ((10, 0, 0, 1), (10, 0, 1, 2), (192, 0, 2, 1)))
_IPV6: Final = tuple(bytes.fromhex(address) for address in ("fe80" + "00" * 13 + "01", "20010db8" + "00" * 11 + "02"))
_L4_PORTS: Final = (0, 53, 80, 443)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that comes in by a port at a time, ns."""

    frame: bytes
    in_port: int
    now: int


@dataclass(slots=True)
class Case:
    """Changes that make the tables, those that were refused left out, and the packets. `attachment` is that to Open
    vSwitch, if there is one, and `shims` what becomes of packets that are to be continued."""

    number: int
    changes: list[Change] = member(default_factory=list)
    arrivals: list[Arrival] = member(default_factory=list)
    attachment: Attachment | None = None
    shims: Shims = Shims.USED

    def tables(self) -> Tables:
        """The tables that the changes make."""
        tables = Tables()
        for change in self.changes:
            tables.change(change)
        return tables


def case(number: int) -> Case:
    """Case number `number`."""
    return _Maker(number).make()


def attached_case(number: int) -> Case:
    """Case number `number` of those that are attached."""
    return _AttachedMaker(number).make()


class _Maker:
    def __init__(self, number: int) -> None:
        self._random = Random(number)
        self._case = Case(number)
        self._frames = [self._frame() for _ in range(self._random.randint(2, 6))]
        self._groups: list[int] = []
        self._meters: list[int] = []
        self._given: dict[str, Condition] = {}
        """What is known of the packets of the rule in hand."""

    def make(self) -> Case:
        random, tables = self._random, Tables()
        wanted: list[Change] = []
        for number in range(1, random.choice((1, 1, 2, 4))):
            self._meters.append(number)
            wanted.append(MeterMod(MeterCommand.ADD, self._meter(number)))
        for number in range(1, random.choice((1, 1, 3, 5))):
            wanted.append(GroupMod(GroupCommand.ADD, self._group(number)))
            self._groups.append(number)
        wanted += (self._rule() for _ in range(random.choice((1, 3, 8, 20))))
        if random.random() < 0.2:
            wanted += self._many()
        if random.random() < 0.15:
            wanted += (self._observer() for _ in range(random.randint(1, 3)))
        for change in wanted:
            try:
                tables.change(change)
                self._case.changes.append(change)
            except FlowError:
                continue
        now = 10**9
        for _ in range(random.choice((4, 10, 25))):
            now += random.choice((0, 1, 1000, 10**6, 10**9))
            frame = random.choice(self._frames) if random.random() < 0.85 else self._frame()
            self._case.arrivals.append(Arrival(frame, random.choice(tuple(PORTS)), now))
        return self._case

    # ---- packets

    def _frame(self) -> bytes:
        random = self._random
        kinds: tuple[tuple[int, Callable[[], bytes]], ...] = (
            (0x0800, self._ipv4),
            (0x0800, self._ipv4),
            (0x86DD, self._ipv6),
            (0x0806, self._arp),
            (0x8847, self._mpls),
            (0x88CC, lambda: random.randbytes(20)),
        )
        eth_type, body = random.choice(kinds)
        tags = b"".join(
            random.choice((b"\x81\x00", b"\x88\xa8")) + random.randrange(1 << 16).to_bytes(2, "big")
            for _ in range(random.choice((0, 0, 0, 1, 1, 2)))
        )
        frame = random.choice(_MACS) + random.choice(_MACS) + tags + eth_type.to_bytes(2, "big") + body()
        if random.random() < 0.1:
            frame = frame[: random.randint(14, len(frame))]
        return frame + bytes(random.choice((0, 0, 6, 46)))

    def _ipv4(self) -> bytes:
        random = self._random
        proto, segment = self._segment()
        options = bytes(4 * random.choice((0, 0, 0, 1)))
        fragment = random.choice((0, 0, 0, 0, 0x4000, 0x2000, 0x00B9))
        header = bytes([0x45 + len(options) // 4, random.choice((0, 0xB8, 3))])
        header += (20 + len(options) + len(segment)).to_bytes(2, "big") + bytes(2) + fragment.to_bytes(2, "big")
        header += bytes([random.choice((64, 64, 64, 1, 0)), proto]) + random.randbytes(2)
        return header + random.choice(_IPV4) + random.choice(_IPV4) + options + segment

    def _ipv6(self) -> bytes:
        random = self._random
        proto, segment = self._segment()
        if random.random() < 0.2:
            segment, proto = bytes([proto, 0]) + bytes(6) + segment, random.choice((0, 60))
        if random.random() < 0.1:
            segment, proto = bytes([proto, 0]) + random.choice((b"\0\x01", b"\0\x08")) + bytes(4) + segment, 44
        first = 6 << 28 | random.choice((0, 0xB8)) << 20 | random.choice((0, 0x12345))
        header = first.to_bytes(4, "big") + len(segment).to_bytes(2, "big")
        header += bytes([proto, random.choice((64, 64, 1, 0))])
        return header + random.choice(_IPV6) + random.choice(_IPV6) + segment

    def _segment(self) -> tuple[int, bytes]:
        random = self._random
        ports = b"".join(random.choice(_L4_PORTS).to_bytes(2, "big") for _ in range(2))
        match random.choice((6, 6, 17, 17, 1, 58, 58, 132)):
            case 6:
                flags = random.choice((0x02, 0x10, 0x12, 0x11)).to_bytes(1, "big")
                return 6, ports + random.randbytes(8) + b"\x50" + flags + random.randbytes(6) + b"data"
            case 17:
                return 17, ports + b"\0\x0c" + random.choice((b"\0\0", random.randbytes(2))) + b"data"
            case 58:
                kind = random.choice((128, 135, 136))
                option = bytes([1 if kind == 135 else 2, 1]) + random.choice(_MACS)
                nd = random.choice(_IPV6) + random.choice((b"", option, option))
                return 58, bytes([kind, 0]) + random.randbytes(2) + bytes(4) + (nd if kind != 128 else b"ping")
            case proto:
                return proto, random.choice((b"\x08\0", b"\0\0")) + random.randbytes(2) + bytes(12)

    def _arp(self) -> bytes:
        random = self._random
        sender = random.choice(_MACS) + random.choice(_IPV4)
        fixed = bytes.fromhex("00010800060400") + bytes([random.choice((1, 2, 3))])
        return fixed + sender + random.choice(_MACS) + random.choice(_IPV4)

    def _mpls(self) -> bytes:
        random = self._random
        labels = random.choice((1, 1, 2, 3))
        stack = b"".join(
            (
                random.choice((16, 1000)) << 12
                | random.randrange(8) << 9
                | (position == labels - 1) << 8
                | random.choice((64, 64, 1, 0))
            ).to_bytes(4, "big")
            for position in range(labels)
        )
        return stack + random.choice((self._ipv4, self._ipv6))()

    # ---- rules

    def _rule(self) -> FlowMod:
        random = self._random
        table = random.choice((0, 0, 0, *TABLES))
        match = self._match()
        priority = random.choice((0, 1, 1, 5, 5, 9))
        return FlowMod(Command.ADD, Rule(match, self._instructions(table, match), priority, table))

    def _many(self) -> list[Change]:
        """Rules of one mask, more than are compared one by one."""
        random = self._random
        name = random.choice(("eth_src", "eth_dst"))
        known = BY_NAME[name]
        instructions = [self._instructions(0, Match()) for _ in range(3)]
        values = {int.from_bytes(mac, "big") for mac in _MACS} | set(range(20))
        return [
            FlowMod(
                Command.ADD,
                Rule(
                    Match.of([Condition(known, value, known.full)]), random.choice(instructions), random.choice((1, 5))
                ),
            )
            for value in sorted(values)
        ]

    def _observer(self) -> ObserverMod:
        random = self._random
        match = Match.of(self._match(program=False).conditions)
        program = Condition(FILTER_PROG, random.choice(PROGRAMS), FILTER_PROG.full)
        return ObserverMod(Observer(random.choice(TABLES), Match.of((*match.conditions, program))))

    def _match(self, *, program: bool = True) -> Match:
        """A match that one of the packets meets, or nearly."""
        random = self._random
        headers = parse(random.choice(self._frames), random.choice(tuple(PORTS)), random.choice((0, 1, 2))) or {}
        chosen: dict[str, Condition] = {}
        for known in random.sample(FIELDS, random.choice((0, 1, 1, 2, 3, 4))):
            if known is FILTER_PROG:
                if program:
                    chosen[known.name] = Condition(known, random.choice(PROGRAMS), known.full)
                continue
            self._choose(known, headers, chosen)
        try:
            return Match.of(chosen.values())
        except FlowError:
            return Match()

    def _choose(self, known: Field, headers: dict[str, int], chosen: dict[str, Condition]) -> None:
        random = self._random
        for need in known.prerequisites:
            wanted = BY_NAME[need.field]
            if need.field not in chosen:
                mask = wanted.full if need.mask is None else need.mask
                chosen[need.field] = Condition(wanted, headers[need.field] & mask, mask)
        if known.name in chosen:
            return
        mask = known.full
        if known.maskable and random.random() < 0.3:
            mask = random.getrandbits(known.bits) or known.full
        value = headers[known.name] if random.random() < 0.9 else random.getrandbits(known.bits)
        chosen[known.name] = Condition(known, value & mask, mask)

    def _instructions(self, table: int, match: Match) -> tuple[Instruction, ...]:
        random = self._random
        self._given = {condition.field.name: condition for condition in match.conditions}
        later = [other for other in TABLES if other > table]
        made: list[Instruction] = []
        if self._meters and random.random() < 0.2:
            made.append(Meter(random.choice(self._meters)))
        if random.random() < 0.75:
            made.append(ApplyActions(self._actions(random.choice((1, 1, 2, 3)))))
        if random.random() < 0.1:
            made.append(ClearActions())
        if random.random() < 0.3:
            made.append(WriteActions(self._actions(random.choice((1, 2, 3)))))
        if random.random() < 0.15:
            mask = random.choice((2**64 - 1, 1, 3))
            made.append(WriteMetadata(random.choice((0, 1, 2)) & mask, mask))
        if later and random.random() < 0.4:
            made.append(GotoTable(random.choice(later)))
        return tuple(made)

    def _actions(self, count: int) -> tuple[Action, ...]:
        """Actions, the outputs mostly behind the changes."""
        made = [self._action() for _ in range(count)]
        if self._random.random() < 0.8:
            made.sort(key=lambda action: isinstance(action, Output | Group))
        return tuple(made)

    def _action(self) -> Action:
        random = self._random
        if random.random() < 0.4:
            return Output(random.choice((*PORTS, *PORTS, IN_PORT, FLOOD, ALL, CONTROLLER)))
        if self._groups and random.random() < 0.3:
            return Group(random.choice(self._groups))
        if random.random() < 0.5:
            return self._set_field()
        return random.choice(
            (
                lambda: PushVlan(random.choice((0x8100, 0x88A8))),
                PopVlan,
                lambda: PushMpls(random.choice((0x8847, 0x8848))),
                lambda: PopMpls(random.choice((0x0800, 0x86DD, 0x8847))),
                DecTtl,
                lambda: SetTtl(random.choice((0, 1, 9))),
                DecMplsTtl,
                lambda: SetMplsTtl(random.choice((0, 1, 9))),
                CopyTtlIn,
                CopyTtlOut,
            )
        )()

    def _set_field(self) -> SetField:
        random = self._random
        fitting = [
            candidate
            for candidate in FIELDS
            if candidate.settable and all(implied(need, self._given) for need in candidate.prerequisites)
        ]
        known = random.choice(fitting if random.random() < 0.8 else [field for field in FIELDS if field.settable])
        value = random.choice((0, random.getrandbits(known.bits), random.getrandbits(known.bits)))
        if known.name == "vlan_vid":
            value |= 0x1000
        return SetField(known, value)

    def _group(self, number: int) -> GroupSpec:
        random = self._random
        kind = random.choice(tuple(GroupType))
        if kind is GroupType.ALL and random.random() < 0.4:
            change = self._actions(1)
            alike = tuple(
                Bucket((*change, Output(port))) for port in random.sample(tuple(PORTS), random.choice((2, 3)))
            )
            return GroupSpec(number, kind, alike)
        buckets = tuple(
            Bucket(
                self._actions(random.choice((0, 1, 1, 2))),
                random.choice((0, 1, 1, 5)) if kind is GroupType.SELECT else 0,
                random.choice((None, 1, 4)) if kind is GroupType.SELECT else random.choice((1, 2, 4)),
                random.choice((None, None, *self._groups)),
            )
            if kind in (GroupType.SELECT, GroupType.FAST_FAILOVER)
            else Bucket(self._actions(random.choice((1, 1, 2))))
            for _ in range(1 if kind is GroupType.INDIRECT else random.choice((1, 2, 3)))
        )
        return GroupSpec(number, kind, buckets)

    def _meter(self, number: int) -> MeterSpec:
        random = self._random
        bands: Sequence[Band] = [
            Band(random.choice((1, 2, 1000)), random.choice((0, 1, 3))) for _ in range(random.choice((1, 1, 2, 3)))
        ]
        return MeterSpec(number, tuple(bands), packets=random.random() < 0.5)


class _AttachedMaker(_Maker):
    """Rules in table 0, half of them leaving packets to Open vSwitch; some frames have a shim, or nearly."""

    def make(self) -> Case:
        random, made = self._random, super().make()
        reserved = [self._match(program=False) for _ in range(random.choice((0, 0, 1, 2)))]
        longest = {
            port: len(random.choice(self._frames)) - random.choice((0, 1, 4, 5))
            for port in PORTS
            if random.random() < 0.3
        }
        made.attachment = Attachment(
            random.choice((1, 1, 2)), tuple(filter(lambda match: match.conditions, reserved)), longest
        )
        made.shims = random.choice((Shims.USED, Shims.USED, *Shims))
        return made

    def _frame(self) -> bytes:
        random, frame = self._random, super()._frame()
        if random.random() < 0.8:
            return frame
        shimmed = bytearray(behind_shim(random.choice(IDS), frame))
        if random.random() < 0.6:
            shimmed[random.randrange(SIZE)] ^= 1 << random.randrange(8)
        return bytes(shimmed[: random.choice((SIZE - 1, SIZE, len(shimmed), len(shimmed)))])

    def _rule(self) -> FlowMod:
        match = self._match()
        return FlowMod(Command.ADD, Rule(match, self._instructions(0, match), self._random.choice((0, 1, 1, 5, 5, 9))))

    def _instructions(self, table: int, match: Match) -> tuple[Instruction, ...]:
        chosen = self._random.random()
        if chosen < 0.3:
            return (ApplyActions((Continue(self._random.choice(IDS)),)),)
        if chosen < 0.5:
            return (ApplyActions((Pass(),)),)
        ports = self._random.sample((*PORTS, IN_PORT), self._random.choice((0, 1, 1, 2)))
        return (ApplyActions(tuple(map(Output, ports))),) if ports else ()
