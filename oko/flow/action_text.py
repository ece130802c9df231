"""Actions and instructions as text, both ways (ovs-actions(7))."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise
from typing import Final

from oko.errors import BadAction, BadInstruction, BadMatch
from oko.flow import nicira_field, nicira_text
from oko.flow.action import (
    CONTROLLER,
    INSTRUCTION_ORDER,
    MAX_PORT,
    NO_BUFFER,
    RESERVED_PORTS,
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
from oko.flow.consistency import TAGGED, VLAN_TPIDS, Known, in_order
from oko.flow.fields import BY_NAME, VLAN_PRESENT, Field
from oko.flow.match_text import DL_VLAN, NW_TOS, SPELLINGS, is_unsupported_field
from oko.flow.nicira_action import OutputTo
from oko.flow.nicira_field_text import is_field, read_part
from oko.flow.value import read_value, write_value
from oko.flow.words import Word, advice, names, read_number, read_port, read_words, write_hex, write_port

_METADATA: Final = BY_NAME["metadata"]

_UNSUPPORTED_PORTS: Final = ("ANY",)

_UNSUPPORTED: Final = names(
    "nat set_queue pop_queue enqueue multipath bundle bundle_load conjunction clone encap decap check_pkt_larger "
    "delete_field fin_timeout sample output_trunc dec_nsh_ttl debug_recirc"
)
"""Actions of ovs-ofctl that have no words here."""

_SET_NAMES: Final = {each.field.name: each.word for each in nicira_field.FIELDS}
"""What ovs-ofctl calls a field in a set_field."""

_Reader = Callable[[str, str, Known], Iterable[Action]]
"""Key, value (empty if there is none), and what is known of the packet → actions."""


def read_instructions(text: str, known: Known) -> tuple[Instruction, ...]:
    """The instructions that `text` describes, for packets of which this is known. Raises BadInstruction, BadAction."""
    words = list(read_words(text, BadAction))
    if words == [_DROP]:
        return ()
    instructions: list[Instruction] = []
    for is_instruction, run in groupby(words, key=lambda word: word[0] in _INSTRUCTIONS):
        if is_instruction:
            instructions += [_INSTRUCTIONS[key](key, value or "", known) for key, value in run]
        else:
            instructions.append(ApplyActions(_read_actions(run, known)))
    ranks = [INSTRUCTION_ORDER.index(type(instruction)) for instruction in instructions]
    if any(rank >= following for rank, following in pairwise(ranks)):
        raise BadInstruction(
            "the order is meter, actions, clear_actions, write_actions, write_metadata, goto_table, each once at most",
            reason="unsup-inst",
        )
    return in_order(instructions)


def read_actions(text: str, known: Known) -> tuple[Action, ...]:
    """The actions that `text` describes, where no instructions may be. Raises BadAction."""
    words = list(read_words(text, BadAction))
    return () if words == [_DROP] else _read_actions(words, known)


def write_instructions(instructions: Iterable[Instruction]) -> str:
    """As ovs-ofctl prints them; ``drop`` if there is nothing to do."""
    return ",".join(word for instruction in instructions for word in _write_instruction(instruction)) or "drop"


def write_actions(actions: Iterable[Action]) -> str:
    """As ovs-ofctl prints them; ``drop`` if there are none."""
    return ",".join(map(_write_action, actions)) or "drop"


def _read_actions(words: Iterable[Word], known: Known) -> tuple[Action, ...]:
    actions: list[Action] = []
    for key, value in words:
        for action in _read_action(key, value or "", known):
            known.follow(action)
            actions.append(action)
    return tuple(actions)


def _read_action(key: str, value: str, known: Known) -> Iterable[Action]:
    if key == "drop":
        raise BadAction("drop stands alone: no other action goes with it")
    if key in _INSTRUCTIONS:
        raise BadAction(f"{key} is an instruction: it cannot stand among these actions", reason="bad-type")
    reader = _ACTIONS.get(key)
    if reader is not None:
        return reader(key, value, known)
    if key in nicira_text.ACTIONS:
        return nicira_text.ACTIONS[key].read(key, value)
    if not value and (key.isdecimal() or key.upper() in RESERVED_PORTS):
        return (_output(key),)
    if key.upper() == "CONTROLLER":
        return (_read_controller(key, value),)
    if key in _UNSUPPORTED:
        raise BadAction(f"{key} is an action that this switch does not support", reason="bad-type")
    hint = advice(key, (*_ACTIONS, *nicira_text.ACTIONS), "docs/flow-syntax.md has the list", 1)
    raise BadAction(f"unknown action {key!r}: {hint}", reason="bad-type")


def _number(key: str, value: str, bits: int) -> int:
    return read_number(key, value, bits, BadAction, "bad-argument")


def _read_output(key: str, value: str, known: Known) -> Iterable[Action]:
    is_part = value.upper() not in RESERVED_PORTS and is_field(value.partition("[")[0])
    return (OutputTo(read_part(key, value)) if is_part else _output(value),)


def _output(text: str) -> Output:
    port = read_port(text, BadAction, "bad-out-port")
    if write_port(port) in _UNSUPPORTED_PORTS:
        raise BadAction(
            f"output to the reserved port {write_port(port)} is not supported: name a port", reason="bad-out-port"
        )
    return Output(port)


def _read_controller(key: str, value: str) -> Output:
    max_len = NO_BUFFER
    for option, length in read_words(value, BadAction):
        if length is not None and option != "max_len":
            raise BadAction(f"{key}: {option} is not supported, only max_len is", reason="bad-argument")
        max_len = _number(f"{key} max_len", option if length is None else length, 16)
    return Output(CONTROLLER, max_len)


def _without_argument(action: Action) -> _Reader:
    def read(key: str, value: str, known: Known) -> Iterable[Action]:
        if value:
            raise BadAction(f"{key} takes no argument", reason="bad-argument")
        return (action,)

    return read


def _with_number(kind: Callable[[int], Action], bits: int) -> _Reader:
    return lambda key, value, known: (kind(_number(key, value, bits)),)


def _sets(name: str) -> _Reader:
    """The reader of an action that sets this field."""
    field = BY_NAME[name]
    return lambda key, value, known: (SetField(field, _read_set_value(key, value, field)),)


def _sets_port(end: str) -> _Reader:
    """mod_tp_src and mod_tp_dst: which field that is depends on the protocol."""

    def read(key: str, value: str, known: Known) -> Iterable[Action]:
        field = _resolve(f"tp_{end}", known)
        if field is None:
            raise BadAction(
                f"{key} needs to know the protocol: match tcp or udp, or write set_field:{value}->tcp_{end}",
                reason="match-inconsistent",
            )
        return (SetField(field, _read_set_value(key, value, field)),)

    return read


def _sets_tos(key: str, value: str, known: Known) -> Iterable[Action]:
    tos = _number(key, value, 8)
    if tos & 3:
        raise BadAction(f"{key}: {tos} has its two low bits, which are ECN, set", reason="bad-argument")
    return (SetField(BY_NAME["ip_dscp"], tos >> 2),)


def _sets_vlan(name: str, *, push: bool) -> _Reader:
    """The mod_… actions of OpenFlow 1.0, which `push` a tag if there is none, and the set_… actions of 1.1."""
    field = BY_NAME[name]

    def read(key: str, value: str, known: Known) -> Iterable[Action]:
        if push and not known.implies(TAGGED):
            yield PushVlan(VLAN_TPIDS[0])
        if name == "vlan_vid":
            yield SetField(field, _number(key, value, 12) | VLAN_PRESENT)
        else:
            yield SetField(field, _number(key, value, field.bits))

    return read


def _read_set_field(key: str, text: str, known: Known) -> Iterable[Action]:
    value, arrow, name = text.rpartition("->")
    if not arrow:
        raise BadAction(f"{key}:{text} is not of the form {key}:VALUE->FIELD", reason="bad-argument")
    if name in _TTL_ACTIONS:
        return (_TTL_ACTIONS[name](_number(name, value, 8)),)
    if name == NW_TOS:
        return _sets_tos(name, value, known)
    if name in nicira_field.SET_FIELDS:
        return nicira_text.read_set(name, value)
    if name not in SPELLINGS or name == DL_VLAN:
        if is_unsupported_field(name) or name == DL_VLAN:
            raise BadAction(f"{key}: {name} is a field that this switch cannot set", reason="bad-set-type")
        hint = advice(name, (*SPELLINGS, *_TTL_ACTIONS), "docs/flow-syntax.md has the list")
        raise BadAction(f"{key}: unknown field {name!r}: {hint}", reason="bad-set-type")
    field = _resolve(name, known) or SPELLINGS[name][0]
    return (SetField(field, _read_set_value(name, value, field)),)


def _read_set_value(key: str, text: str, field: Field) -> int:
    try:
        value, mask = read_value(key, text, field)
    except BadMatch as error:
        raise BadAction(str(error), reason="bad-set-argument") from None
    if mask != field.full:
        raise BadAction(f"{key}={text}: a field can only be set as a whole", reason="bad-set-argument")
    return value


def _resolve(name: str, known: Known) -> Field | None:
    """The field called `name` in packets of which this is known."""
    for field in SPELLINGS[name]:
        if known.implies(field.prerequisites):
            return field
    return None


def _read_write_metadata(key: str, value: str, known: Known) -> Instruction:
    number, slash, mask = value.partition("/")
    return WriteMetadata(
        read_number(key, number, _METADATA.bits, BadInstruction, "unsup-metadata"),
        read_number(key, mask, _METADATA.bits, BadInstruction, "unsup-metadata-mask") if slash else _METADATA.full,
    )


def _read_clear_actions(key: str, value: str, known: Known) -> Instruction:
    if value:
        raise BadInstruction(f"{key} takes no argument", reason="unsup-inst")
    return ClearActions()


_DROP: Final[Word] = ("drop", None)

_TTL_ACTIONS: Final[dict[str, Callable[[int], Action]]] = {"nw_ttl": SetTtl, "mpls_ttl": SetMplsTtl}
"""What ovs-ofctl sets as a field and OpenFlow 1.3 by an action."""

_INSTRUCTIONS: Final[dict[str, Callable[[str, str, Known], Instruction]]] = {
    "meter": lambda key, value, known: Meter(read_number(key, value, 32, BadInstruction, "unsup-inst")),
    "clear_actions": _read_clear_actions,
    "write_actions": lambda key, value, known: WriteActions(read_actions(value, known)),
    "write_metadata": _read_write_metadata,
    "goto_table": lambda key, value, known: GotoTable(read_number(key, value, 8, BadInstruction, "bad-table-id")),
}

_ACTIONS: Final[dict[str, _Reader]] = {
    "output": _read_output,
    "group": lambda key, value, known: (Group(read_number(key, value, 32, BadAction, "bad-out-group")),),
    "set_field": _read_set_field,
    "push_vlan": _with_number(PushVlan, 16),
    "pop_vlan": _without_argument(PopVlan()),
    "strip_vlan": _without_argument(PopVlan()),
    "push_mpls": _with_number(PushMpls, 16),
    "pop_mpls": _with_number(PopMpls, 16),
    "dec_ttl": _without_argument(DecTtl()),
    "mod_nw_ttl": _with_number(SetTtl, 8),
    "dec_mpls_ttl": _without_argument(DecMplsTtl()),
    "set_mpls_ttl": _with_number(SetMplsTtl, 8),
    "copy_ttl_out": _without_argument(CopyTtlOut()),
    "copy_ttl_in": _without_argument(CopyTtlIn()),
    "mod_dl_src": _sets("eth_src"),
    "mod_dl_dst": _sets("eth_dst"),
    "mod_nw_src": _sets("ipv4_src"),
    "mod_nw_dst": _sets("ipv4_dst"),
    "mod_nw_tos": _sets_tos,
    "mod_nw_ecn": _sets("ip_ecn"),
    "mod_tp_src": _sets_port("src"),
    "mod_tp_dst": _sets_port("dst"),
    "mod_vlan_vid": _sets_vlan("vlan_vid", push=True),
    "mod_vlan_pcp": _sets_vlan("vlan_pcp", push=True),
    "set_vlan_vid": _sets_vlan("vlan_vid", push=False),
    "set_vlan_pcp": _sets_vlan("vlan_pcp", push=False),
    "set_mpls_label": _sets("mpls_label"),
    "set_mpls_tc": _sets("mpls_tc"),
}


def _write_instruction(instruction: Instruction) -> Iterator[str]:
    match instruction:
        case Meter(number):
            yield f"meter:{number}"
        case ApplyActions(actions):
            yield from map(_write_action, actions)
        case ClearActions():
            yield "clear_actions"
        case WriteActions(actions):
            yield f"write_actions({write_actions(actions)})"
        case WriteMetadata(value, mask):
            yield f"write_metadata:{write_hex(value)}" + ("" if mask == _METADATA.full else f"/{write_hex(mask)}")
        case GotoTable(table):
            yield f"goto_table:{table}"


def _write_action(action: Action) -> str:
    match action:
        case Output(port, max_len) if port == CONTROLLER:
            return f"{write_port(port)}:{max_len}"
        case Output(port):
            return f"output:{port}" if port <= MAX_PORT else write_port(port)
        case Group(number):
            return f"group:{number}"
        case SetField(field, value):
            return f"set_field:{write_value(field, value)}->{_SET_NAMES.get(field.name, field.name)}"
        case PushVlan(eth_type):
            return f"push_vlan:{eth_type:#06x}"
        case PopVlan():
            return "pop_vlan"
        case PushMpls(eth_type):
            return f"push_mpls:{eth_type:#06x}"
        case PopMpls(eth_type):
            return f"pop_mpls:{eth_type:#06x}"
        case DecTtl():
            return "dec_ttl"
        case SetTtl(ttl):
            return f"mod_nw_ttl:{ttl}"
        case DecMplsTtl():
            return "dec_mpls_ttl"
        case SetMplsTtl(ttl):
            return f"set_mpls_ttl({ttl})"
        case CopyTtlOut():
            return "copy_ttl_out"
        case CopyTtlIn():
            return "copy_ttl_in"
        case Pass():
            return "pass"
        case Continue(shim_id):
            return f"continue:{shim_id}"
        case _:
            return nicira_text.write_action(action)
