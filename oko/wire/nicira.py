"""Open vSwitch's own actions between the wire (`ofext.nicira`) and the tables (`oko.flow.nicira_action`)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ofext import instructions as wire
from ofext import nicira
from ofext.nicira import pack_range, unpack_range
from ofext.oxm import Oxm
from ofext.v10.actions import RegLoad, ResubmitTable
from oko.errors import BadAction
from oko.flow import nicira_action as flow
from oko.flow.nicira_action import LEARN_FLAGS, NAT_FLAGS, NAT_KINDS, Address, Loaded, Matched, NiciraAction, Sent
from oko.flow.nicira_field import BY_HEADER, SET_FIELDS, Part

_COMMIT, _FORCE = 1, 2
_NO_TABLE: Final = 255

_BOUNDS: Final = ((1, 4), (2, 4), (4, 16), (8, 16), (16, 2), (32, 2))
"""What ConntrackNat's `present` says is there, with its bytes: lowest and highest of IPv4, IPv6, ports."""
_ADDRESSES: Final[dict[int, type[Address]]] = {4: IPv4Address, 16: IPv6Address}
"""By their bytes."""
_NAT_HEAD: Final = 16  # bytes of nx_action_nat before its bounds

_SPEC: Final = struct.Struct(">H")
_SPEC_PART: Final = struct.Struct(">IH")
_LEARN_HEAD: Final = 32  # bytes of nx_action_learn before its specs
_BITS: Final = 0x7FF
_IMMEDIATE: Final = 1 << 13
_MATCH, _LOAD, _OUTPUT = 0 << 11, 1 << 11, 2 << 11
_KNOWN_BITS: Final = _BITS | _IMMEDIATE | _LOAD | _OUTPUT

_SET: Final = {(each.field.oxm_class, each.field.oxm_field): each for each in SET_FIELDS.values()}


def write_action(action: NiciraAction) -> wire.Action:
    """The action as a message carries it."""
    if isinstance(action, flow.Set):
        field = action.field.field
        return wire.SetField(Oxm(field.oxm_class, field.oxm_field, action.value.to_bytes(field.size)))
    return nicira.write(_write(action))


def read_set(oxm: Oxm) -> flow.Set | None:
    """The set_field of a field that only Open vSwitch has; None for that of another."""
    field = _SET.get((oxm.oxm_class, oxm.field))
    if field is None or oxm.mask is not None or len(oxm.value) != field.field.size:
        return None
    return flow.Set(field, int.from_bytes(oxm.value))


def read_action(action: wire.ExperimenterAction) -> NiciraAction:
    """What the action says. Raises BadAction for one that there are no words for, ProtocolError for one that is cut
    off."""
    found = nicira.read(action)
    read = None if found is None else _read(found)
    if read is None:
        raise not_supported(action)
    return read


def not_supported(action: wire.ExperimenterAction) -> BadAction:
    """What to raise for an action that is not done."""
    return BadAction(f"an action of experimenter {action.experimenter:#x} is not supported", reason="bad-experimenter")


# ---- writing


def _write(action: NiciraAction) -> nicira.NiciraAction:
    match action:
        case flow.Resubmit(port, table):
            return ResubmitTable(port, table)
        case flow.Load(value, target):
            return RegLoad(pack_range(target.start, target.bits), target.field.header, value)
        case flow.Move(source, target):
            return nicira.RegMove(source.bits, source.start, target.start, source.field.header, target.field.header)
        case flow.Push(source):
            return nicira.StackPush(source.start, source.field.header, source.bits)
        case flow.Pop(target):
            return nicira.StackPop(target.start, target.field.header, target.bits)
        case flow.OutputTo(source, max_len):
            return nicira.OutputReg(pack_range(source.start, source.bits), source.field.header, max_len)
        case flow.Note(data):
            return nicira.Note(data)
        case flow.Exit():
            return nicira.Exit()
        case flow.CtClear():
            return nicira.ConntrackClear()
        case flow.Nat():
            return _write_nat(action)
        case flow.Ct():
            return _write_ct(action)
        case flow.Learn():
            return _write_learn(action)
        case flow.Set():
            raise TypeError("a set_field is no action of Nicira's")


def _write_ct(ct: flow.Ct) -> nicira.Conntrack:
    source, zone = 0, ct.zone
    if isinstance(zone, Part):
        source, zone = zone.field.header, pack_range(zone.start, zone.bits)
    return nicira.Conntrack(
        ct.commit * _COMMIT | ct.force * _FORCE,
        source,
        zone,
        _NO_TABLE if ct.table is None else ct.table,
        ct.alg,
        tuple(map(write_action, ct.actions)),
    )


def _write_nat(nat: flow.Nat) -> nicira.ConntrackNat:
    given = [each.packed for each in nat.addresses] + [each.to_bytes(2) for each in nat.ports]
    present, bounds = 0, b""
    for flag, length in _BOUNDS:
        if given and len(given[0]) == length:
            present |= flag
            bounds += given.pop(0)
    flags = NAT_KINDS[nat.kind] | _sum(nat.flags, NAT_FLAGS)
    return nicira.ConntrackNat(flags, present, bounds + bytes(-(_NAT_HEAD + len(bounds)) % 8))


def _sum(names: Iterable[str], bits: Mapping[str, int]) -> int:
    return sum(bits[name] for name in names)


def _write_learn(learn: flow.Learn) -> nicira.Learn:
    specs = b"".join(map(_write_spec, learn.specs))
    return nicira.Learn(
        learn.idle_timeout,
        learn.hard_timeout,
        learn.priority,
        learn.cookie,
        _sum(learn.flags, LEARN_FLAGS),
        learn.table,
        learn.fin_idle_timeout,
        learn.fin_hard_timeout,
        specs + bytes(-(_LEARN_HEAD + len(specs)) % 8),
    )


def _write_spec(spec: Matched | Loaded | Sent) -> bytes:
    match spec:
        case Matched(target, source):
            kind, bits, behind = _MATCH, target.bits, _write_part(target)
        case Loaded(target, source):
            kind, bits, behind = _LOAD, target.bits, _write_part(target)
        case Sent(source):
            kind, bits, behind = _OUTPUT, source.bits, b""
    if isinstance(source, Part):
        return _SPEC.pack(kind | bits) + _write_part(source) + behind
    return _SPEC.pack(kind | _IMMEDIATE | bits) + source.to_bytes(_immediate_bytes(bits)) + behind


def _write_part(part: Part) -> bytes:
    return _SPEC_PART.pack(part.field.header, part.start)


def _immediate_bytes(bits: int) -> int:
    return 2 * -(-bits // 16)


# ---- reading: None for what there are no words for


def _read(action: nicira.NiciraAction) -> NiciraAction | None:
    match action:
        case ResubmitTable(port, table):
            return flow.Resubmit(port, table)
        case RegLoad(bits, field, value):
            target = _part(field, *unpack_range(bits))
            return None if target is None or value >> target.bits else flow.Load(value, target)
        case nicira.RegMove(bits, source_offset, target_offset, source_field, target_field):
            source, target = _part(source_field, source_offset, bits), _part(target_field, target_offset, bits)
            return None if source is None or target is None else flow.Move(source, target)
        case nicira.StackPush(offset, field, bits):
            return None if (part := _part(field, offset, bits)) is None else flow.Push(part)
        case nicira.StackPop(offset, field, bits):
            return None if (part := _part(field, offset, bits)) is None else flow.Pop(part)
        case nicira.OutputReg(bits, field, max_len):
            return None if (part := _part(field, *unpack_range(bits))) is None else flow.OutputTo(part, max_len)
        case nicira.Note(note):
            return flow.Note(note)
        case nicira.Exit():
            return flow.Exit()
        case nicira.ConntrackClear():
            return flow.CtClear()
        case nicira.ConntrackNat():
            return _read_nat(action)
        case nicira.Conntrack():
            return _read_ct(action)
        case nicira.Learn():
            return _read_learn(action)


def _part(header: int, start: int, bits: int) -> Part | None:
    field = BY_HEADER.get(header)
    return None if field is None or not 0 < bits <= field.bits - start else Part(field, start, bits)


def _read_ct(ct: nicira.Conntrack) -> flow.Ct | None:
    zone: int | Part | None = ct.zone
    if ct.zone_source:
        zone = _part(ct.zone_source, *unpack_range(ct.zone))
    actions = []
    for each in ct.actions:
        read: NiciraAction | None = None
        if isinstance(each, wire.SetField):
            read = read_set(each.field)
        elif isinstance(each, wire.ExperimenterAction) and (found := nicira.read(each)) is not None:
            read = _read(found)
        if not isinstance(read, flow.Nat | flow.Set | flow.Load | flow.Move):
            return None
        actions.append(read)
    if zone is None or ct.flags & ~(_COMMIT | _FORCE):
        return None
    table = None if ct.recirc_table == _NO_TABLE else ct.recirc_table
    return flow.Ct(bool(ct.flags & _COMMIT), bool(ct.flags & _FORCE), table, zone, ct.alg, tuple(actions))


def _read_nat(nat: nicira.ConntrackNat) -> flow.Nat | None:
    addresses: list[Address] = []
    ports: list[int] = []
    offset = 0
    for flag, length in _BOUNDS:
        if nat.present & flag:
            data = nat.bounds[offset : offset + length]
            offset += length
            if len(data) < length:
                return None
            if length in _ADDRESSES:
                addresses.append(_ADDRESSES[length](data))
            else:
                ports.append(int.from_bytes(data))
    kind = next((name for name, bit in NAT_KINDS.items() if bit == nat.flags & 3), None)
    flags = _names(nat.flags & ~3, NAT_FLAGS)
    return None if kind is None or flags is None else flow.Nat(kind, tuple(addresses), tuple(ports), flags)


def _names(value: int, bits: Mapping[str, int]) -> tuple[str, ...] | None:
    return None if value & ~sum(bits.values()) else tuple(name for name, bit in bits.items() if value & bit)


def _read_learn(learn: nicira.Learn) -> flow.Learn | None:
    specs = tuple(_read_specs(learn.specs))
    flags = _names(learn.flags, LEARN_FLAGS)
    if None in specs or flags is None:
        return None
    return flow.Learn(
        tuple(spec for spec in specs if spec is not None),
        learn.table,
        learn.idle_timeout,
        learn.hard_timeout,
        learn.fin_idle_timeout,
        learn.fin_hard_timeout,
        learn.priority,
        learn.cookie,
        flags,
    )


def _read_specs(data: bytes) -> Iterator[Matched | Loaded | Sent | None]:
    """None, and nothing more, for one that cannot be read."""
    offset = 0
    while offset + _SPEC.size <= len(data):
        (header,) = _SPEC.unpack_from(data, offset)
        if not header:
            return
        offset += _SPEC.size
        bits, kind = header & _BITS, header & (_LOAD | _OUTPUT)
        source: Part | int | None
        if header & _IMMEDIATE:
            stop = offset + _immediate_bytes(bits)
            source = int.from_bytes(data[offset:stop])
        else:
            stop = offset + _SPEC_PART.size
            source = _read_part(data[offset:stop], bits)
        offset = stop if kind == _OUTPUT else stop + _SPEC_PART.size
        target = None if kind == _OUTPUT else _read_part(data[stop:offset], bits)
        if header & ~_KNOWN_BITS or offset > len(data) or source is None:
            yield None
            return
        if kind == _OUTPUT:
            yield Sent(source) if isinstance(source, Part) else None
        elif target is None or kind == _LOAD | _OUTPUT:
            yield None
        else:
            yield Loaded(target, source) if kind == _LOAD else Matched(target, source)


def _read_part(data: bytes, bits: int) -> Part | None:
    if len(data) < _SPEC_PART.size:
        return None
    header, start = _SPEC_PART.unpack(data)
    return _part(header, start, bits)
