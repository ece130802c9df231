"""What a rule, group, meter or action list must be in itself, whatever else is in the tables."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Final

from oko.errors import BadAction, BadFlowMod, BadGroup, BadInstruction, BadMeter
from oko.flow.action import (
    ALL,
    CONTROLLER,
    FLOOD,
    IN_PORT,
    INSTRUCTION_ORDER,
    LAST_GROUP,
    LAST_TABLE,
    LOCAL,
    MAX_PORT,
    NORMAL,
    TABLE,
    Action,
    ApplyActions,
    Continue,
    GotoTable,
    Instruction,
    Output,
    Pass,
    PopMpls,
    PushMpls,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetTtl,
    WriteActions,
    WriteMetadata,
)
from oko.flow.group import GroupSpec, GroupType
from oko.flow.meter import BAND_LIMIT, MeterSpec
from oko.flow.nicira_action import NiciraAction, Set
from oko.flow.nicira_text import write_action
from oko.flow.rule import Rule
from oko.flow.shim import IDS

LAST_METER: Final = 0xFFFF0000
"""OFPM_MAX (OpenFlow 1.3.5, 7.3.4.4)."""

ACTION_LIMIT: Final = 1024
"""Actions of a rule, and of all buckets of a group. An action takes at most 24 bytes of a message and a bucket 16 more,
so that with these limits every rule and group can be described in one entry of a multipart reply (60 KiB)."""
BUCKET_LIMIT: Final = 2048
"""Buckets of a group."""

_TPIDS: Final = (0x8100, 0x88A8)
_MPLS_TYPES: Final = (0x8847, 0x8848)
_OUTPUTS: Final = frozenset((IN_PORT, FLOOD, ALL, CONTROLLER, LOCAL))
_INSTRUCTION_RANK: Final = {kind: rank for rank, kind in enumerate(INSTRUCTION_ORDER)}


def check_table(table: int) -> None:
    """Raises BadFlowMod unless rules can be in `table`."""
    if not 0 <= table <= LAST_TABLE:
        raise BadFlowMod(f"table {table} does not exist: this switch has 0–{LAST_TABLE}", reason="bad-table-id")


def check_rule(rule: Rule, *, open_vswitch: bool = False) -> None:
    """The table, instructions and actions of a rule (OpenFlow 1.3.5, 6.4), which may output to NORMAL and have actions
    of Open vSwitch's own if it is for a switch that may be `open_vswitch`. Raises BadFlowMod, BadInstruction,
    BadAction."""
    check_table(rule.table)
    _check_instructions(rule.table, rule.instructions, open_vswitch)


@lru_cache(maxsize=1 << 12)
def _check_instructions(table: int, instructions: tuple[Instruction, ...], open_vswitch: bool) -> None:
    """What is right is remembered: many rules do the same."""
    ranks = [_INSTRUCTION_RANK[type(instruction)] for instruction in instructions]
    if any(rank >= following for rank, following in pairwise(ranks)):
        raise BadInstruction(
            "a rule has each kind of instruction at most once: " + ", ".join(k.__name__ for k in INSTRUCTION_ORDER),
            reason="unsup-inst",
        )
    _check_number(sum(len(item.actions) for item in instructions if isinstance(item, ApplyActions | WriteActions)))
    for instruction in instructions:
        if isinstance(instruction, GotoTable) and not table < instruction.table <= LAST_TABLE:
            raise BadInstruction(
                f"goto_table:{instruction.table} in table {table}: a packet goes on in a later table, "
                f"{LAST_TABLE} at most",
                reason="bad-table-id",
            )
        if isinstance(instruction, WriteMetadata):
            if instruction.value >> 64:
                raise BadInstruction(f"metadata {instruction.value:#x} exceeds 64 bits", reason="unsup-metadata")
            if instruction.mask >> 64:
                raise BadInstruction(
                    f"metadata mask {instruction.mask:#x} exceeds 64 bits", reason="unsup-metadata-mask"
                )
        if isinstance(instruction, ApplyActions | WriteActions) and not _leaves(instructions):
            check_action_list(instruction.actions, open_vswitch=open_vswitch)


def check_action_list(actions: Iterable[Action], *, packet_out: bool = False, open_vswitch: bool = False) -> None:
    """Actions of a rule or bucket, or of a packet-out, which alone may output to TABLE; for a switch that may be
    `open_vswitch`, what only that does, too. Raises BadAction."""
    for action in actions:
        match action:
            case Output(port) if port == NORMAL:
                if not open_vswitch:
                    raise BadAction(
                        "output to NORMAL: only a bridge of Open vSwitch's has it: name a port", reason="bad-out-port"
                    )
            case Output(port):
                if port > MAX_PORT and port not in _OUTPUTS and not (packet_out and port == TABLE):
                    raise BadAction(f"output to port {port:#x}: nothing can be sent there", reason="bad-out-port")
            case SetField(field, value):
                if not field.settable:
                    raise BadAction(f"{field.name} cannot be set", reason="bad-set-type")
                if not 0 <= value <= field.full:
                    raise BadAction(f"{field.name}={value:#x} exceeds {field.bits} bits", reason="bad-set-argument")
            case PushVlan(tpid):
                _check_argument("push_vlan", tpid, tpid in _TPIDS, "0x8100 or 0x88a8")
            case PushMpls(eth_type):
                _check_argument("push_mpls", eth_type, eth_type in _MPLS_TYPES, "0x8847 or 0x8848")
            case PopMpls(eth_type):
                _check_argument("pop_mpls", eth_type, 0 <= eth_type <= 0xFFFF, "an ethertype")
            case SetTtl(ttl) | SetMplsTtl(ttl):
                _check_argument("a TTL of", ttl, 0 <= ttl <= 0xFF, "0x0–0xff")
            case Pass() | Continue():
                raise BadAction("what leaves a packet to Open vSwitch is all that a rule does", reason="bad-type")
            case _ if isinstance(action, NiciraAction) and not open_vswitch:
                raise BadAction(
                    f"{write_action(action)}: only a bridge of Open vSwitch's does that",
                    reason="bad-set-type" if isinstance(action, Set) else "bad-experimenter",
                )
            case _:
                pass


def _leaves(instructions: tuple[Instruction, ...]) -> bool:
    """Whether all that a rule does is to leave the packet to Open vSwitch. Raises BadAction."""
    match instructions:
        case (ApplyActions((Pass(),)),):
            return True
        case (ApplyActions((Continue(shim_id),)),):
            _check_argument("the shim", shim_id, shim_id in IDS, f"{IDS[0]:#x} to {IDS[-1]:#x}")
            return True
    return False


def check_group(spec: GroupSpec) -> None:
    """The number, type and buckets of a group (OpenFlow 1.3.5, 6.5). Raises BadGroup, and BadAction for the actions
    of a bucket."""
    if not 0 <= spec.number <= LAST_GROUP:
        raise BadGroup(f"{spec.number:#x} is no group: use 0x0–{LAST_GROUP:#x}", reason="invalid-group")
    if spec.type is GroupType.INDIRECT and len(spec.buckets) != 1:
        raise BadGroup(
            f"group {spec.number} is indirect and has {len(spec.buckets)} buckets: it has one", reason="invalid-group"
        )
    if len(spec.buckets) > BUCKET_LIMIT:
        raise BadGroup(
            f"group {spec.number} has {len(spec.buckets)} buckets: {BUCKET_LIMIT} is the most", reason="out-of-buckets"
        )
    _check_number(sum(len(bucket.actions) for bucket in spec.buckets))
    for bucket in spec.buckets:
        watches = bucket.watch_port is not None or bucket.watch_group is not None
        if watches and spec.type in (GroupType.ALL, GroupType.INDIRECT):
            raise BadGroup(
                f"group {spec.number} uses its buckets whether they are live or not: they can watch nothing",
                reason="watch-unsupported",
            )
        if bucket.watch_port is not None and bucket.watch_port > MAX_PORT and bucket.watch_port != LOCAL:
            raise BadGroup(
                f"group {spec.number}: a bucket watches {bucket.watch_port:#x}, which is no port", reason="bad-watch"
            )
        if not 0 <= bucket.weight <= 0xFFFF:
            raise BadGroup(f"group {spec.number}: the weight {bucket.weight} exceeds 16 bits", reason="bad-bucket")
        check_action_list(bucket.actions)


def check_meter(spec: MeterSpec) -> None:
    """The number and bands of a meter (OpenFlow 1.3.5, 7.3.4.4). Raises BadMeter."""
    if not 1 <= spec.number <= LAST_METER:
        raise BadMeter(f"{spec.number:#x} is no meter of rules: use 0x1–{LAST_METER:#x}", reason="invalid-meter")
    if len(spec.bands) > BAND_LIMIT:
        raise BadMeter(
            f"meter {spec.number} has {len(spec.bands)} bands: {BAND_LIMIT} is the most", reason="out-of-bands"
        )
    for band in spec.bands:
        if band.rate >> 32:
            raise BadMeter(f"meter {spec.number}: the rate {band.rate} exceeds 32 bits", reason="bad-rate")
        if band.burst >> 32:
            raise BadMeter(f"meter {spec.number}: the burst {band.burst} exceeds 32 bits", reason="bad-burst")


def _check_number(actions: int) -> None:
    """Raises BadAction."""
    if actions > ACTION_LIMIT:
        raise BadAction(
            f"{actions} actions: {ACTION_LIMIT} is the most for a rule, or all buckets of a group", reason="too-many"
        )


def _check_argument(what: str, value: int, allowed: bool, instead: str) -> None:
    if not allowed:
        raise BadAction(f"{what} {value:#x}: use {instead}", reason="bad-argument")
