"""Actions between OpenFlow 1.0's wire (`ofext.v10`) and the tables (`oko.flow`).

In OpenFlow 1.0 a rule has one list of actions. Nicira's extension puts at its end what OpenFlow 1.3 has as
instructions: metadata, or the table to go on in; Open vSwitch takes both together for out of order. What OpenFlow 1.0
makes depend on the packet is read as what it does to the packets of the match, and refused where that is not known: to
write a VID or priority into a packet without a tag pushes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ofext.instructions import UnknownAction
from ofext.v10 import actions as wire
from oko.errors import BadAction, NotExpressible
from oko.flow import action as flow
from oko.flow.action import Action, Instruction
from oko.flow.consistency import TAGGED, Known
from oko.flow.fields import BY_NAME, IP_PROTO_TCP, IP_PROTO_UDP, VLAN_PRESENT, Field, Prerequisite
from oko.flow.match import Match
from oko.wire.v10.match import field_of, nxm_header
from oko.wire.v10.port import read_port_number, write_port_number

ACTION_TYPES: Final = tuple(number for kind, number in wire.ACTIONS.numbers.items() if number < 11)
"""The numbers of OpenFlow's own actions that can be done: all but Enqueue."""

_TPID: Final = 0x8100
_UNTAGGED: Final = (Prerequisite("vlan_vid", (0,)),)
_AS_IT_CAME: Final = 0xFFF8
"""OFPP_IN_PORT, where a resubmit leaves the ingress port as it is."""
_IP_TTL: Final = 0x00013A01
"""The header of NXM_NX_IP_TTL, which is no field here."""
_HALF: Final = 64
"""Bits that one RegLoad writes at most."""

_NUMBERS: Final[dict[type[wire.Action], str]] = {
    wire.SetNwSrc: "ipv4_src",
    wire.SetNwDst: "ipv4_dst",
}
_ADDRESSES: Final[dict[type[wire.Action], str]] = {
    wire.SetDlSrc: "eth_src",
    wire.SetDlDst: "eth_dst",
}
_TRANSPORT: Final[dict[type[wire.Action], tuple[tuple[int, str], ...]]] = {
    wire.SetTpSrc: ((IP_PROTO_TCP, "tcp_src"), (IP_PROTO_UDP, "udp_src")),
    wire.SetTpDst: ((IP_PROTO_TCP, "tcp_dst"), (IP_PROTO_UDP, "udp_dst")),
}
"""By IP protocol."""
_SAME: Final[dict[type[Action], type[wire.Action]]] = {
    flow.Group: wire.Group,
    flow.PopVlan: wire.StripVlan,
    flow.PushMpls: wire.PushMpls,
    flow.PopMpls: wire.PopMpls,
    flow.DecTtl: wire.DecTtl,
    flow.DecMplsTtl: wire.DecMplsTtl,
    flow.SetMplsTtl: wire.SetMplsTtl,
}
"""What is the same on both sides, with no argument or one number."""
_SAME_READ: Final = {theirs: ours for ours, theirs in _SAME.items()}
_WRITTEN: Final = {
    **{name: kind for kind, name in (*_NUMBERS.items(), *_ADDRESSES.items())},
    **{name: kind for kind, protocols in _TRANSPORT.items() for _, name in protocols},
}
"""The action of OpenFlow 1.0 that writes a field."""


# ---- from the wire


def read_actions(actions: Iterable[wire.Action], match: Match) -> tuple[Instruction, ...]:
    """The instructions of a rule with this match. Raises BadAction for what this switch does not do."""
    applied: list[Action] = []
    last: list[Instruction] = []
    known = Known(match)
    ahead = list(actions)
    while ahead:
        action = ahead.pop(0)
        if last:
            raise BadAction(
                f"{type(action).__name__} behind {type(last[0]).__name__}: at the end of the actions stands one of "
                "write_metadata and resubmit to a table",
                reason="unsupported-order",
            )
        if isinstance(action, wire.WriteMetadata):
            last.append(flow.WriteMetadata(action.metadata, action.metadata_mask))
        elif isinstance(action, wire.ResubmitTable):
            last.append(_goto(action))
        else:
            for read in _read(action, ahead, known):
                applied.append(read)
                known.follow(read)
    return (*([flow.ApplyActions(tuple(applied))] if applied else []), *last)


def read_packet_actions(actions: Iterable[wire.Action], match: Match) -> tuple[Action, ...]:
    """The actions of a packet-out, of whose packet `match` says what is known. Raises BadAction."""
    instructions = read_actions(actions, match)
    if not instructions:
        return ()
    first, *rest = instructions
    if rest or not isinstance(first, flow.ApplyActions):
        raise BadAction("a packet-out goes on in no table and has no metadata", reason="unsupported-order")
    return first.actions


def _goto(action: wire.ResubmitTable) -> flow.GotoTable:
    if action.in_port != _AS_IT_CAME:
        raise BadAction(
            f"resubmit({action.in_port},{action.table}): only resubmit(,TABLE) is done, as goto_table",
            reason="bad-argument",
        )
    return flow.GotoTable(action.table)


def _read(action: wire.Action, ahead: list[wire.Action], known: Known) -> Iterator[Action]:
    """What an action does; it may take others with it, from `ahead`."""
    match action:
        case wire.Output(port, max_len):
            if not port:
                raise BadAction("output to port 0: ports are numbered from 1", reason="bad-out-port")
            yield flow.Output(read_port_number(port), max_len)
        case wire.SetVlanVid(vid):
            yield from _push(known, "set_vlan_vid")
            yield _set("vlan_vid", vid | VLAN_PRESENT)
        case wire.SetVlanPcp(pcp):
            yield from _push(known, "set_vlan_pcp")
            yield _set("vlan_pcp", pcp)
        case wire.SetNwTos(tos):
            if tos & 3:
                raise BadAction(f"set_nw_tos:{tos}: the low two bits are the ECN's", reason="bad-argument")
            yield _set("ip_dscp", tos >> 2)
        case wire.SetNwSrc(number) | wire.SetNwDst(number):
            yield _set(_NUMBERS[type(action)], number)
        case wire.SetDlSrc(address) | wire.SetDlDst(address):
            yield _set(_ADDRESSES[type(action)], int.from_bytes(address, "big"))
        case wire.SetTpSrc(port) | wire.SetTpDst(port):
            yield _set(_transport(action, known), port)
        case wire.RegLoad():
            yield _load(action, ahead)
        case wire.Enqueue():
            raise BadAction("enqueue is not supported: ports have no queues", reason="bad-queue")
        case wire.VendorAction():
            raise BadAction(f"an action of vendor {action.vendor:#x} is not supported", reason="bad-exp-type")
        case UnknownAction():
            raise BadAction(f"the action {action.type} is not supported", reason="bad-type")
        case _:
            kind: Any = _SAME_READ[type(action)]
            yield kind(*_arguments(action))


def _set(name: str, value: int) -> flow.SetField:
    return flow.SetField(BY_NAME[name], value)


def _push(known: Known, what: str) -> Iterator[Action]:
    """The tag that a packet without one gets."""
    if known.implies(TAGGED):
        return
    if not known.implies(_UNTAGGED):
        raise BadAction(
            f"{what} pushes a tag if there is none, and the match does not say whether there is one",
            reason="match-inconsistent",
        )
    yield flow.PushVlan(_TPID)


def _transport(action: wire.Action, known: Known) -> str:
    for protocol, name in _TRANSPORT[type(action)]:
        if known.implies((Prerequisite("ip_proto", (protocol,)),)):
            return name
    raise BadAction(
        f"{type(action).__name__} needs a match on TCP or UDP: it writes nothing else", reason="match-inconsistent"
    )


def _load(action: wire.RegLoad, ahead: list[wire.Action]) -> Action:
    """A field of more than 64 bits takes two loads, the low half first."""
    low, size = action.bits >> 6, (action.bits & 0x3F) + 1
    if action.field == _IP_TTL and (low, size) == (0, 8):
        return flow.SetTtl(action.value)
    field = field_of(action.field)
    if field is None:
        raise BadAction(f"the field with the header {action.field:#010x} cannot be set here", reason="bad-set-type")
    if action.value >> size:
        raise BadAction(f"{field.name}: {action.value:#x} exceeds {size} bits", reason="bad-set-argument")
    if (low, size) == (0, field.bits):
        return flow.SetField(field, action.value)
    if (low, size) == (0, _HALF) and field.bits == 2 * _HALF and ahead:
        high = ahead[0]
        if isinstance(high, wire.RegLoad) and (high.bits, high.field) == (_bits(_HALF, _HALF), action.field):
            del ahead[0]
            return flow.SetField(field, high.value << _HALF | action.value)
    raise BadAction(f"{field.name} is set in part: whole fields are set here", reason="bad-set-argument")


# ---- to the wire


def write_actions(instructions: Iterable[Instruction], match: Match) -> tuple[wire.Action, ...]:
    """The actions of a rule with this match. Raises NotExpressible for what OpenFlow 1.0 cannot say."""
    written: list[wire.Action] = []
    for instruction in instructions:
        if written and isinstance(written[-1], wire.WriteMetadata):
            raise NotExpressible(f"{type(instruction).__name__} behind WriteMetadata")
        match instruction:
            case flow.ApplyActions(actions):
                written += _write_applied(actions, Known(match))
            case flow.WriteMetadata(value, mask):
                written.append(wire.WriteMetadata(value, mask))
            case flow.GotoTable(table):
                written.append(wire.ResubmitTable(_AS_IT_CAME, table))
            case _:
                raise NotExpressible(f"the instruction {type(instruction).__name__}")
    return tuple(written)


def _write_applied(actions: tuple[Action, ...], known: Known) -> Iterator[wire.Action]:
    for action, behind in zip(actions, (*actions[1:], None), strict=True):
        match action:
            case flow.Output(port, max_len):
                yield wire.Output(write_port_number(port), max_len)
            case flow.SetTtl(ttl):
                yield wire.RegLoad(_bits(0, 8), _IP_TTL, ttl)
            case flow.SetField(field, value):
                yield from _write_set(field, value)
            case flow.PushVlan(tpid):
                if tpid != _TPID or not known.implies(_UNTAGGED):
                    raise NotExpressible("push_vlan onto a packet that may have a tag, or of another kind")
                if not (isinstance(behind, flow.SetField) and behind.field.name in ("vlan_vid", "vlan_pcp")):
                    yield wire.SetVlanVid(0)
            case _:
                kind: Any = _SAME.get(type(action))
                if kind is None:
                    raise NotExpressible(f"the action {type(action).__name__}")
                yield kind(*_arguments(action))
        known.follow(action)


def _write_set(field: Field, value: int) -> Iterator[wire.Action]:
    kind: Any = _WRITTEN.get(field.name)
    if field.name == "vlan_vid":
        yield wire.SetVlanVid(value & ~VLAN_PRESENT)
    elif field.name == "vlan_pcp":
        yield wire.SetVlanPcp(value)
    elif field.name == "ip_dscp":
        yield wire.SetNwTos(value << 2)
    elif kind is not None:
        yield kind(value.to_bytes(field.size, "big") if kind in _ADDRESSES else value)
    elif field.bits <= _HALF:
        yield wire.RegLoad(_bits(0, field.bits), nxm_header(field), value)
    else:
        for low in range(0, field.bits, _HALF):
            yield wire.RegLoad(_bits(low, _HALF), nxm_header(field), value >> low & (1 << _HALF) - 1)


def _bits(low: int, size: int) -> int:
    """What RegLoad.bits says."""
    return low << 6 | size - 1


def _arguments(action: Action | wire.Action) -> tuple[Any, ...]:
    return tuple(getattr(action, name) for name in type(action).__match_args__)
