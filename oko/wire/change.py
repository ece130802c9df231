"""Changes between the wire (`ofext`) and the tables (`oko.flow`): flow_mods, group_mods, meter_mods, observers."""

from __future__ import annotations

from typing import Final

from ofext import messages
from ofext.bands import DropBand
from ofext.buckets import Bucket as WireBucket
from ofext.constants import (
    GROUP_ALL,
    GROUP_ANY,
    METER_ALL,
    NO_BUFFER,
    PORT_ANY,
    TABLE_ALL,
    FlowModFlag,
    MeterFlag,
)
from ofext.extension import Observe, Unobserve
from oko.errors import BadFlowMod, BadGroup, BadMeter
from oko.flow.change import Change
from oko.flow.group import Bucket, GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.observer import Observer, ObserverMod
from oko.flow.rule import Command, FlowMod, Rule
from oko.wire.action import read_actions, read_instructions, write_actions, write_instructions
from oko.wire.match import read_match, write_match
from oko.wire.refusal import no_buffer

# Plain numbers and a table, as every operation on an IntFlag makes an object, and looking one up by its number is slow:
# flow_mods come by the ten thousand.
_COMMANDS: Final = {command.value: command for command in Command}
_FLAGS: Final = int(sum(FlowModFlag))
_SEND_REMOVED: Final = int(FlowModFlag.SEND_FLOW_REM)
_CHECK_OVERLAP: Final = int(FlowModFlag.CHECK_OVERLAP)
_RESET_COUNTS: Final = int(FlowModFlag.RESET_COUNTS)

ChangeMessage = messages.FlowMod | messages.GroupMod | messages.MeterMod | Observe | Unobserve
"""The messages that say a change."""


def read_change(message: ChangeMessage) -> Change:
    """The change that the message asks for. Raises FlowError for what this switch does not do, ProtocolError for a
    packet in a buffer."""
    match message:
        case messages.FlowMod():
            return read_flow_mod(message)
        case messages.GroupMod():
            return read_group_mod(message)
        case messages.MeterMod():
            return read_meter_mod(message)
        case Observe() | Unobserve():
            return read_observer_mod(message)


# ---- flow_mods


def write_flow_mod(mod: FlowMod) -> messages.FlowMod:
    """The message that asks for `mod`."""
    rule = mod.rule
    flags = rule_flags(rule)
    if mod.reset_counts:
        flags |= _RESET_COUNTS
    if mod.check_overlap:
        flags |= _CHECK_OVERLAP
    return messages.FlowMod(
        cookie=rule.cookie,
        cookie_mask=mod.cookie_mask,
        table_id=TABLE_ALL if mod.all_tables else rule.table,
        command=mod.command.value,
        idle_timeout=rule.idle_timeout,
        hard_timeout=rule.hard_timeout,
        priority=rule.priority,
        out_port=PORT_ANY if mod.out_port is None else mod.out_port,
        out_group=GROUP_ANY if mod.out_group is None else mod.out_group,
        flags=flags,
        match=write_match(rule.match),
        instructions=() if mod.command.is_delete else write_instructions(rule.instructions),
    )


def read_flow_mod(message: messages.FlowMod, *, open_vswitch: bool = False) -> FlowMod:
    """What the message asks for, of a switch that may be `open_vswitch`. Raises FlowError for what the switch does not
    do, ProtocolError for a packet in a buffer. Not to count (OFPFF_NO_PKT_COUNTS, OFPFF_NO_BYT_COUNTS) is an allowance
    that is not taken."""
    command = _COMMANDS.get(message.command)
    if command is None:
        raise BadFlowMod(f"command {message.command} is none of a flow_mod's", reason="bad-command")
    flags = message.flags
    if flags & ~_FLAGS:
        raise BadFlowMod(f"flags {flags & ~_FLAGS:#x} are none of a flow_mod's", reason="bad-flags")
    if command.is_delete:
        return _read_delete(command, message)
    if message.buffer_id != NO_BUFFER:
        raise no_buffer(message.buffer_id)
    rule = Rule(
        read_match(message.match),
        read_instructions(message.instructions, open_vswitch=open_vswitch),
        message.priority,
        message.table_id,
        message.cookie,
        message.idle_timeout,
        message.hard_timeout,
        bool(flags & _SEND_REMOVED),
    )
    return FlowMod(
        command,
        rule,
        0 if command is Command.ADD else message.cookie_mask,
        reset_counts=bool(flags & _RESET_COUNTS),
        check_overlap=bool(flags & _CHECK_OVERLAP),
    )


def _read_delete(command: Command, message: messages.FlowMod) -> FlowMod:
    all_tables = message.table_id == TABLE_ALL
    rule = Rule(
        read_match(message.match),
        priority=message.priority,
        table=0 if all_tables else message.table_id,
        cookie=message.cookie,
    )
    return FlowMod(
        command,
        rule,
        message.cookie_mask,
        all_tables,
        None if message.out_port == PORT_ANY else message.out_port,
        None if message.out_group == GROUP_ANY else message.out_group,
    )


def rule_flags(rule: Rule) -> int:
    """The flags that stay with a rule."""
    return _SEND_REMOVED if rule.send_removed else 0


# ---- groups


def write_group_mod(mod: GroupMod) -> messages.GroupMod:
    """The message that asks for `mod`."""
    spec = mod.spec
    return messages.GroupMod(
        mod.command.value, spec.type.value, GROUP_ALL if mod.all_groups else spec.number, write_buckets(spec)
    )


def read_group_mod(message: messages.GroupMod) -> GroupMod:
    """What the message asks for. Raises BadGroup, and BadAction for the actions of a bucket."""
    try:
        command = GroupCommand(message.command)
    except ValueError:
        raise BadGroup(f"command {message.command} is none of a group_mod's", reason="bad-command") from None
    if command is GroupCommand.DELETE:
        all_groups = message.group_id == GROUP_ALL
        return GroupMod(command, GroupSpec(0 if all_groups else message.group_id, GroupType.ALL), all_groups)
    return GroupMod(command, read_group(message.group_id, message.type, message.buckets))


def write_buckets(spec: GroupSpec) -> tuple[WireBucket, ...]:
    """The buckets of a group. Only those of a select group have a weight."""
    weighted = spec.type is GroupType.SELECT
    return tuple(
        WireBucket(
            bucket.weight if weighted else 0,
            PORT_ANY if bucket.watch_port is None else bucket.watch_port,
            GROUP_ANY if bucket.watch_group is None else bucket.watch_group,
            write_actions(bucket.actions),
        )
        for bucket in spec.buckets
    )


def read_group(number: int, kind: int, buckets: tuple[WireBucket, ...]) -> GroupSpec:
    """A group, as a group_mod or a description says it. Raises BadGroup, BadAction."""
    try:
        type_ = GroupType(kind)
    except ValueError:
        raise BadGroup(f"group {number}: {kind} is no type of group", reason="bad-type") from None
    weighted = type_ is GroupType.SELECT
    if not weighted and any(bucket.weight for bucket in buckets):
        raise BadGroup(f"group {number}: only the buckets of a select group have a weight", reason="invalid-group")
    made = (
        Bucket(
            read_actions(bucket.actions),
            bucket.weight if weighted else 1,
            None if bucket.watch_port == PORT_ANY else bucket.watch_port,
            None if bucket.watch_group == GROUP_ANY else bucket.watch_group,
        )
        for bucket in buckets
    )
    return GroupSpec(number, type_, tuple(made))


# ---- meters


def write_meter_mod(mod: MeterMod) -> messages.MeterMod:
    """The message that asks for `mod`."""
    spec = mod.spec
    number = METER_ALL if mod.all_meters else spec.number
    return messages.MeterMod(mod.command.value, meter_flags(spec), number, write_bands(spec))


def read_meter_mod(message: messages.MeterMod) -> MeterMod:
    """What the message asks for. Raises BadMeter."""
    try:
        command = MeterCommand(message.command)
    except ValueError:
        raise BadMeter(f"command {message.command} is none of a meter_mod's", reason="bad-command") from None
    if command is MeterCommand.DELETE:
        all_meters = message.meter_id == METER_ALL
        return MeterMod(command, MeterSpec(0 if all_meters else message.meter_id, ()), all_meters)
    return MeterMod(command, read_meter(message.meter_id, message.flags, message.bands))


def meter_flags(spec: MeterSpec) -> MeterFlag:
    """The flags of a meter."""
    flags = MeterFlag.PKTPS if spec.packets else MeterFlag.KBPS
    if any(band.burst for band in spec.bands):
        flags |= MeterFlag.BURST
    return flags | MeterFlag.STATS if spec.stats else flags


def write_bands(spec: MeterSpec) -> tuple[DropBand, ...]:
    """The bands of a meter."""
    return tuple(DropBand(band.rate, band.burst) for band in spec.bands)


def read_meter(number: int, flags: int, bands: tuple[object, ...]) -> MeterSpec:
    """A meter, as a meter_mod or a description says it. Raises BadMeter."""
    both = MeterFlag.KBPS | MeterFlag.PKTPS
    if flags & ~sum(MeterFlag) or flags & both == both:
        raise BadMeter(f"meter {number}: the flags {flags:#x} mean nothing together", reason="bad-flags")
    return MeterSpec(
        number,
        tuple(_read_band(number, band, bursts=bool(flags & MeterFlag.BURST)) for band in bands),
        packets=bool(flags & MeterFlag.PKTPS),
        stats=bool(flags & MeterFlag.STATS),
    )


def _read_band(number: int, band: object, *, bursts: bool) -> Band:
    if not isinstance(band, DropBand):
        raise BadMeter(
            f"meter {number}: the band {type(band).__name__} is not supported: bands drop", reason="bad-band"
        )
    return Band(band.rate, band.burst_size if bursts else 0)


# ---- observers


def write_observer_mod(mod: ObserverMod) -> Observe | Unobserve:
    """The message that asks for `mod`."""
    kind = Observe if mod.add else Unobserve
    return kind(mod.observer.table, write_match(mod.observer.match))


def read_observer_mod(message: Observe | Unobserve) -> ObserverMod:
    """What the message asks for. Raises BadMatch."""
    return ObserverMod(Observer(message.table_id, read_match(message.match)), isinstance(message, Observe))
