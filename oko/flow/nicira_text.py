"""Open vSwitch's own actions as text, both ways (ovs-actions(7)): `ACTIONS`, declared once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from oko.errors import BadAction, BadMatch
from oko.flow.nicira_action import (
    ALGS,
    CURRENT_TABLE,
    IN_PORT,
    LEARN_FLAGS,
    NAT_FLAGS,
    Address,
    Ct,
    CtClear,
    Exit,
    Learn,
    Load,
    Loaded,
    Matched,
    Move,
    Nat,
    NiciraAction,
    Note,
    OutputTo,
    Pop,
    Push,
    Resubmit,
    Sent,
    Set,
)
from oko.flow.nicira_field import SET_FIELDS, NiciraField, Part
from oko.flow.nicira_field_text import is_field, read_part, write_part
from oko.flow.value import read_value, write_value
from oko.flow.words import read_number, read_port, read_word, read_words, split_words, write_hex, write_port

_REASON: Final = "bad-argument"
_MAX_PORT: Final = 0xFF00
"""From here on, 16 bits are a port that stands for something else (OpenFlow 1.0.1, 5.2.1: OFPP_MAX)."""
_RESERVED: Final = 0xFFFF0000
_LOADED_BITS: Final = 64
_NOTE: Final = re.compile(r"(?:[0-9a-fA-F]{2}(?:\.|$))*")
_NOTE_BYTES: Final = 6
_NUMBERS_OF_LEARN: Final = {
    "table": 8,
    "idle_timeout": 16,
    "hard_timeout": 16,
    "fin_idle_timeout": 16,
    "fin_hard_timeout": 16,
    "priority": 16,
    "cookie": 64,
}
"""With their bits, in the order of printing but for the flags, which come before the cookie."""

_Reader = Callable[[str, str], tuple[NiciraAction, ...]]
"""Key and value (empty if there is none) → actions."""


@dataclass(frozen=True, slots=True)
class Word:
    """An action: its word, how it is written, what it does, for the documentation; and how it is read."""

    word: str
    form: str
    meaning: str
    read: _Reader


def _number(key: str, text: str, bits: int) -> int:
    return read_number(key, text, bits, BadAction, _REASON)


def _refused(message: str) -> BadAction:
    return BadAction(message, reason=_REASON)


# ---- one by one


def _read_resubmit(key: str, value: str) -> tuple[NiciraAction, ...]:
    port, _, table = value.partition(",")
    if "," in table or not (port or table):
        raise _refused(f"{key}({value}): write {key}(PORT,TABLE), with one of them at least")
    return (Resubmit(_read_port(key, port) if port else IN_PORT, _number(key, table, 8) if table else CURRENT_TABLE),)


def _read_port(key: str, text: str) -> int:
    """A port in 16 bits, as OpenFlow 1.0 numbers the reserved ones."""
    port = read_port(text, BadAction, _REASON)
    if _MAX_PORT <= port < _RESERVED + _MAX_PORT:
        raise _refused(f"{key}: port {text} is out of range: use 0–{_MAX_PORT - 1}, or the name of a reserved port")
    return port & ~_RESERVED


def _read_load(key: str, value: str) -> tuple[NiciraAction, ...]:
    text, target = _arrow(key, value)
    return _loads(target.field, _number(key, text, target.bits) << target.start, _mask(target))


def _mask(part: Part) -> int:
    return (1 << part.bits) - 1 << part.start


def _loads(field: NiciraField, value: int, mask: int) -> tuple[Load, ...]:
    """Write the bits under the mask: each run of them, 64 at most at once."""
    loads = []
    at = 0
    while mask >> at:
        at += (mask >> at & -(mask >> at)).bit_length() - 1
        run = mask >> at
        bits = min((~run & run + 1).bit_length() - 1, _LOADED_BITS)
        loads.append(Load(value >> at & (1 << bits) - 1, Part(field, at, bits)))
        at += bits
    return tuple(loads)


def _read_move(key: str, value: str) -> tuple[NiciraAction, ...]:
    text, target = _arrow(key, value)
    source = read_part(key, text)
    _require_as_wide(key, source, target)
    return (Move(source, target),)


def _arrow(key: str, value: str) -> tuple[str, Part]:
    source, arrow, target = value.rpartition("->")
    if not arrow:
        raise _refused(f"{key}:{value} is not of the form {key}:SOURCE->TARGET")
    return source, read_part(key, target)


def _require_as_wide(key: str, source: Part, target: Part) -> None:
    if source.bits != target.bits:
        raise _refused(
            f"{key}: {write_part(source)} has {source.bits} bits and {write_part(target)} has {target.bits}: "
            "name as many of both"
        )


def read_set(word: str, text: str) -> tuple[Set | Load, ...]:
    """What writes `text`, a value or some bits of one (``VALUE/MASK``), into the one of SET_FIELDS that is called
    `word`. Raises BadAction."""
    target = SET_FIELDS[word]
    try:
        value, mask = read_value(word, text, target.field)
    except BadMatch as error:
        raise BadAction(str(error), reason="bad-set-argument") from None
    return (Set(target, value),) if mask == target.field.full else _loads(target, value, mask)


def _read_exec_set_field(key: str, text: str) -> tuple[NiciraAction, ...]:
    value, arrow, name = text.rpartition("->")
    if name not in SET_FIELDS or not arrow:
        raise _refused(f"{key}:{text}: ct writes ct_mark and ct_label: write {key}:VALUE->ct_mark")
    return read_set(name, value)


def _read_tunnel(bits: int) -> _Reader:
    return lambda key, value: (Set(SET_FIELDS["tun_id"], _number(key, value, bits)),)


def _with_part(kind: Callable[[Part], NiciraAction]) -> _Reader:
    return lambda key, value: (kind(read_part(key, value)),)


def _alone(action: NiciraAction) -> _Reader:
    def read(key: str, value: str) -> tuple[NiciraAction, ...]:
        if value:
            raise _refused(f"{key} takes no argument")
        return (action,)

    return read


def _read_note(key: str, value: str) -> tuple[NiciraAction, ...]:
    if _NOTE.fullmatch(value) is None:
        raise _refused(f"{key}:{value} is not of the form {key}:01.02.0a")
    data = bytes.fromhex(value.replace(".", ""))
    return (Note(data + bytes(-(len(data) - _NOTE_BYTES) % 8 if len(data) > _NOTE_BYTES else _NOTE_BYTES - len(data))),)


# ---- connections


def _read_ct(key: str, value: str) -> tuple[NiciraAction, ...]:
    given: dict[str, str] = {}
    actions: list[NiciraAction] = []
    for word, argument in read_words(value, BadAction):
        if word == "nat":
            actions += _read_nat(word, argument or "")
        elif word == "exec":
            for inner, text in read_words(argument or "", BadAction):
                if inner not in _WITHIN_CT:
                    raise _refused(f"{key}: {inner} cannot be in exec: use {', '.join(_WITHIN_CT)}")
                actions += _WITHIN_CT[inner](inner, text or "")
        elif word not in ("commit", "force", "table", "zone", "alg"):
            raise _refused(f"{key}: {word!r} is none of commit, force, table, zone, alg, nat, exec")
        elif word in given or (argument is None) != (word in ("commit", "force")):
            raise _refused(f"{key}: {word} is given once, and {'as it is' if argument else 'with a value'}")
        else:
            given[word] = argument or ""
    if "force" in given and "commit" not in given:
        raise _refused(f"{key}: force goes with commit only")
    if given.get("alg", "ftp") not in ALGS:
        raise _refused(f"{key}: alg={given['alg']} is not known: use {', '.join(ALGS)}")
    table = _number(f"{key} table", given["table"], 8) if "table" in given else None
    if table == CURRENT_TABLE:
        raise _refused(f"{key}: table={table} is none: use 0–{CURRENT_TABLE - 1}")
    zone = _read_zone(key, given.get("zone", "0"))
    within = tuple(action for action in actions if isinstance(action, Nat | Set | Load | Move))
    return (Ct("commit" in given, "force" in given, table, zone, ALGS[given["alg"]] if "alg" in given else 0, within),)


def _read_zone(key: str, text: str) -> int | Part:
    if text[:1].isdecimal():
        return _number(f"{key} zone", text, 16)
    zone = read_part(f"{key} zone", text)
    if zone.bits != _ZONE_BITS:
        raise _refused(f"{key}: zone={text} has {zone.bits} bits: name {_ZONE_BITS}, as NXM_NX_REG0[0..15]")
    return zone


_ZONE_BITS: Final = 16


def _read_nat(key: str, value: str) -> tuple[NiciraAction, ...]:
    nat = Nat()
    flags = set()
    for word, argument in read_words(value, BadAction):
        if word in ("src", "dst") and not nat.kind:
            addresses, ports = _read_bounds(key, argument) if argument is not None else ((), ())
            nat = replace(nat, kind=word, addresses=addresses, ports=ports)
        elif word in NAT_FLAGS and argument is None:
            flags.add(word)
        else:
            raise _refused(f"{key}({value}): write {key}(src=10.0.0.1-10.0.0.9:1024-65535,random), or dst, or neither")
    if (flags and not nat.kind) or {"hash", "random"} <= flags:
        raise _refused(f"{key}({value}): {', '.join(NAT_FLAGS)} go with src or dst, and one of hash and random")
    return (replace(nat, flags=_in_order(flags, NAT_FLAGS)),)


def _in_order(flags: Iterable[str], order: Mapping[str, int]) -> tuple[str, ...]:
    given = set(flags)
    return tuple(flag for flag in order if flag in given)


_ADDRESS: Final = r"\[[^]]*\]|[0-9.]+"
_BARE: Final = r"[0-9a-fA-F:.]+"
_BOUNDS: Final = re.compile(
    rf"(?P<first>{_ADDRESS})(?:-(?P<last>{_ADDRESS}))?(?::(?P<low>\d+)(?:-(?P<high>\d+))?)?"
    rf"|(?P<lowest>{_BARE})(?:-(?P<highest>{_BARE}))?"
)
"""Addresses and ports of nat. An IPv6 address with a port behind it stands in brackets."""


def _read_bounds(key: str, text: str) -> tuple[tuple[Address, ...], tuple[int, ...]]:
    try:
        found = _BOUNDS.fullmatch(text)
        if found is None:
            raise AddressValueError
        addresses = tuple(
            _read_address(each) for each in found.group("first", "last", "lowest", "highest") if each is not None
        )
    except AddressValueError:
        raise _refused(f"{key}: {text!r} is not of the form 10.0.0.1-10.0.0.9:1024-65535, or [fe80::1]:80") from None
    ports = tuple(_number(f"{key} port", each, 16) for each in found.group("low", "high") if each is not None)
    if len({each.version for each in addresses}) > 1 or any(
        pair[-1] < pair[0] for pair in (tuple(map(int, addresses)), ports) if pair
    ):
        raise _refused(f"{key}: {text} does not go from a lower address or port to a higher")
    return addresses, ports


def _read_address(text: str) -> Address:
    return IPv6Address(text.strip("[]")) if ":" in text else IPv4Address(text)


# ---- learning


def _read_learn(key: str, value: str) -> tuple[NiciraAction, ...]:
    numbers: dict[str, int] = {}
    flags: set[str] = set()
    specs: list[Matched | Loaded | Sent] = []
    for text in split_words(value):
        word, argument = read_word(text, BadAction)
        if word in _NUMBERS_OF_LEARN:
            numbers[word] = _number(f"{key} {word}", argument or "", _NUMBERS_OF_LEARN[word])
        elif word in LEARN_FLAGS and argument is None:
            flags.add(word)
        elif word in ("limit", "result_dst"):
            raise _refused(f"{key}: {word} is not known here")
        else:
            specs.append(_read_spec(f"{key} {word}", word, argument))
    return (Learn(tuple(specs), **numbers, flags=_in_order(flags, LEARN_FLAGS)),)


def _read_spec(key: str, word: str, argument: str | None) -> Matched | Loaded | Sent:
    if word == "output":
        return Sent(read_part(key, argument or ""))
    if word == "load":
        text, target = _arrow(word, argument or "")
        return Loaded(target, _read_source(key, text, target, whole_value=False))
    target = read_part("learn", word)
    if argument is None:
        return Matched(target, target)
    return Matched(target, _read_source(key, argument, target, whole_value="[" not in word))


def _read_source(key: str, text: str, target: Part, *, whole_value: bool) -> Part | int:
    """A number, or with `whole_value` a value as a match writes it; or a part of the packet."""
    if is_field(text.partition("[")[0]):
        source = read_part(key, text)
        _require_as_wide(key, source, target)
        return source
    if not whole_value:
        return _number(key, text, target.bits)
    try:
        value, mask = read_value(key, text, target.field.field)
    except BadMatch as error:
        raise _refused(str(error)) from None
    if mask != target.field.field.full:
        raise _refused(f"{key}={text}: a mask is not known here: name the bits, as NXM_OF_IP_SRC[8..31]")
    return value


_WITHIN_CT: Final[dict[str, _Reader]] = {
    "nat": _read_nat,
    "load": _read_load,
    "move": _read_move,
    "set_field": _read_exec_set_field,
}
"""What stands within ct's exec."""

ACTIONS: Final = {
    each.word: each
    for each in (
        Word("ct", "ct(WHAT,…)", "track the connection of the packet: see below", _read_ct),
        Word("ct_clear", "ct_clear", "forget what is known of the connection", _alone(CtClear())),
        Word(
            "resubmit",
            "resubmit(PORT,TABLE)",
            "look the packet up in the table as if it had come in by the port, do what is said there, and go on; "
            "without one of them (`resubmit(,1)`, `resubmit:3`) that stays as it is",
            _read_resubmit,
        ),
        Word("load", "load:NUMBER->PART", "write the number into the part of a field", _read_load),
        Word("move", "move:PART->PART", "copy the one to the other, which has as many bits", _read_move),
        Word("push", "push:PART", "push the part of a field on a stack", _with_part(Push)),
        Word("pop", "pop:PART", "pop what is on top of the stack into the part of a field", _with_part(Pop)),
        Word("learn", "learn(WHAT,…)", "add a rule, or change it: see below", _read_learn),
        Word("set_tunnel", "set_tunnel:NUMBER", "set `tun_id`, to at most 32 bits", _read_tunnel(32)),
        Word("set_tunnel64", "set_tunnel64:NUMBER", "set `tun_id`", _read_tunnel(64)),
        Word("note", "note:01.02.0a", "nothing; the bytes stay with the rule", _read_note),
        Word("exit", "exit", "do nothing more, neither here nor in the rules that led here", _alone(Exit())),
    )
}
"""By word. Beside them, an output may be to a `Part`, and a set_field may be of SET_FIELDS."""


def table() -> str:
    """`ACTIONS` as a Markdown table, for docs/flow-syntax.md."""
    rows = [("Action", "Meaning"), ("---", "---"), *((f"`{each.form}`", each.meaning) for each in ACTIONS.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


# ---- as text


def write_action(action: NiciraAction) -> str:
    """As ovs-ofctl prints it."""
    match action:
        case Resubmit(port, table):
            name = "" if port == IN_PORT else write_port(port | _RESERVED if port >= _MAX_PORT else port)
            if name and table == CURRENT_TABLE:
                return f"resubmit:{name}"
            return f"resubmit({name},{'' if table == CURRENT_TABLE else table})"
        case Set(field, value):
            return f"set_field:{write_value(field.field, value)}->{field.word}"
        case Load(value, target):
            return f"load:{value:#x}->{write_part(target)}"
        case Move(source, target):
            return f"move:{write_part(source)}->{write_part(target)}"
        case Push(source):
            return f"push:{write_part(source)}"
        case Pop(target):
            return f"pop:{write_part(target)}"
        case OutputTo(source):
            return f"output:{write_part(source)}"
        case Note(data):
            return f"note:{data.hex('.')}"
        case Exit():
            return "exit"
        case CtClear():
            return "ct_clear"
        case Nat():
            return _write_nat(action)
        case Ct():
            return f"ct({','.join(_write_ct(action))})"
        case Learn():
            return f"learn({','.join(_write_learn(action))})"


def _write_ct(ct: Ct) -> Iterator[str]:
    if ct.commit:
        yield "commit"
    if ct.force:
        yield "force"
    if ct.table is not None:
        yield f"table={ct.table}"
    if ct.zone:
        yield f"zone={write_part(ct.zone) if isinstance(ct.zone, Part) else ct.zone}"
    within = [write_action(action) for action in ct.actions]
    if ct.actions and isinstance(ct.actions[0], Nat):
        yield within.pop(0)
    if within:
        yield f"exec({','.join(within)})"
    if ct.alg:
        yield f"alg={next((name for name, port in ALGS.items() if port == ct.alg), ct.alg)}"


def _write_nat(nat: Nat) -> str:
    if not nat.kind:
        return "nat"
    bounds = _range(f"[{each}]" if each.version == 6 and nat.ports else str(each) for each in nat.addresses)
    if nat.ports:
        bounds += f":{_range(map(str, nat.ports))}"
    return f"nat({','.join((nat.kind + (f'={bounds}' if bounds else ''), *nat.flags))})"


def _range(bounds: Iterable[str]) -> str:
    return "-".join(dict.fromkeys(bounds))


def _write_learn(learn: Learn) -> Iterator[str]:
    usual = Learn()
    yield f"table={learn.table}"
    for key in _NUMBERS_OF_LEARN:
        value = getattr(learn, key)
        if key == "cookie":
            yield from learn.flags
        if key != "table" and value != getattr(usual, key):
            yield f"{key}={value:#x}" if key == "cookie" else f"{key}={value}"
    for spec in learn.specs:
        match spec:
            case Sent(source):
                yield f"output:{write_part(source)}"
            case Loaded(target, source):
                text = write_part(source) if isinstance(source, Part) else write_hex(source)
                yield f"load:{text}->{write_part(target)}"
            case Matched(target, source) if source == target:
                yield write_part(target)
            case Matched(target, Part() as source):
                yield f"{write_part(target)}={write_part(source)}"
            case Matched(target, int() as value) if target.whole:
                yield f"{target.field.word}={write_value(target.field.field, value)}"
            case Matched(target, value):
                yield f"{write_part(target)}={value:#x}"
