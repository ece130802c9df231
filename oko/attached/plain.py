"""`PlainRules`: the rules that Open vSwitch holds, as a flow monitor tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from ofext.instructions import ApplyActions, ExperimenterAction, Instruction, WriteActions
from ofext.monitor import DeletedReason, FlowUpdate, OwnUpdate, UpdateEvent
from ofext.multipart import FlowStats
from ofext.oxm import Oxm
from oko.attached.shim import OWN_COOKIE
from oko.errors import BadMatch
from oko.flow.fields import BY_OXM
from oko.flow.match import Match
from oko.wire.match import read_match


class HiddenField(NamedTuple):
    """A field of Open vSwitch that XDP cannot see. One that `begins_zero` is 0 when a packet that comes in by a network
    interface is looked up for the first time."""

    name: str
    begins_zero: bool


def _hidden() -> Iterator[tuple[tuple[int, int, int | None], HiddenField]]:
    """The fields by class, number and experimenter (ovs-fields(7))."""
    nicira, basic, registers, experimenter = 0x0001, 0x8000, 0x8001, 0xFFFF
    nsh, onf, nicira_id = 0x005AD650, 0x4F4E4600, 0x00002320
    numbered = (("reg", nicira, 0, 16), ("tun_metadata", nicira, 40, 64), ("xxreg", nicira, 111, 4))
    for name, oxm_class, first, count in (*numbered, ("xreg", registers, 0, 8)):
        for number in range(count):
            yield (oxm_class, first + number, None), HiddenField(f"{name}{number}", True)
    zero = (
        *((16, "tun_id"), (31, "tun_src"), (32, "tun_dst"), (38, "tun_gbp_id"), (39, "tun_gbp_flags")),
        *((104, "tun_flags"), (105, "ct_state"), (106, "ct_zone"), (107, "ct_mark"), (108, "ct_label")),
        *((109, "tun_ipv6_src"), (110, "tun_ipv6_dst"), (119, "ct_nw_proto"), (120, "ct_nw_src"), (121, "ct_nw_dst")),
        *((122, "ct_ipv6_src"), (123, "ct_ipv6_dst"), (124, "ct_tp_src"), (125, "ct_tp_dst")),
    )
    for number, name in zero:
        yield (nicira, number, None), HiddenField(name, True)
    for number, name in ((29, "nw_ttl"), (30, "mpls_ttl"), (33, "pkt_mark"), (37, "conj_id")):
        yield (nicira, number, None), HiddenField(name, False)
    yield (basic, 38, None), HiddenField("tun_id", True)
    yield (basic, 44, None), HiddenField("packet_type", True)
    yield (experimenter, 43, onf), HiddenField("actset_output", False)
    nsh_names = ("flags", "mdtype", "np", "spi", "si", "c1", "c2", "c3", "c4", "ttl")
    for number, name in enumerate(nsh_names, 1):
        yield (experimenter, number, nsh), HiddenField(f"nsh_{name}", False)
    tunnels = ("erspan_idx", "erspan_ver", "erspan_dir", "erspan_hwid", "gtpu_flags", "gtpu_msgtype")
    for number, name in enumerate(tunnels, 11):
        yield (experimenter, number, nicira_id), HiddenField(f"tun_{name}", True)


HIDDEN: Final[Mapping[tuple[int, int, int | None], HiddenField]] = dict(_hidden())
"""The fields of Open vSwitch that are not among `oko.flow.fields`."""

CONJUNCTION: Final = "conjunction()"
"""What an action is called that makes a rule a part of others: by itself it decides nothing."""
_NICIRA: Final = 0x00002320
_CONJUNCTION_SUBTYPE: Final = 34


@dataclass(frozen=True, slots=True)
class PlainRule:
    """A rule of Open vSwitch. `match` is what XDP can see of its match, `unseen` names the rest: as long as there is
    any, nobody but Open vSwitch can tell whether a packet matches. A rule that comes `later` can only win the lookup of
    a packet that has been looked up before, by resubmit or ct(). Timeouts are seconds, 0 for none; of a rule that has
    one, all that its match says is kept, `fields`, and what it does."""

    table: int
    priority: int
    match: Match
    unseen: tuple[str, ...] = ()
    later: bool = False
    cookie: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    fields: tuple[Oxm, ...] = ()
    instructions: tuple[Instruction, ...] = ()

    @property
    def timed(self) -> bool:
        """Whether Open vSwitch lets it go by itself."""
        return bool(self.idle_timeout or self.hard_timeout)

    @property
    def own(self) -> bool:
        """Whether it is one of Oko's own."""
        return bool(self.cookie & OWN_COOKIE)


class Change(NamedTuple):
    """A change to `rule`, as it is now, or, if `event` is DELETED, as it was. `reason` is why it was deleted."""

    event: UpdateEvent
    rule: PlainRule
    reason: DeletedReason | None = None


def read_rule(update: FlowUpdate | FlowStats) -> PlainRule:
    """The rule that an update, or an entry of a list of flows, is about."""
    seen: list[Oxm] = []
    unseen: list[str] = []
    later = False
    for oxm in update.match:
        key = (oxm.oxm_class, oxm.field, oxm.experimenter)
        if key in BY_OXM:
            seen.append(oxm)
            continue
        hidden = HIDDEN.get(key, HiddenField(f"field {oxm.oxm_class:#06x}:{oxm.field}", False))
        if not hidden.begins_zero:
            unseen.append(hidden.name)
        elif any(oxm.value):
            unseen.append(hidden.name)
            later = True
    if any(_is_conjunction(action) for action in _actions(update.instructions)):
        unseen.append(CONJUNCTION)
    try:
        match = read_match(seen)
    except BadMatch as error:
        # A mask that Open vSwitch takes and Oko does not.
        match = Match()
        unseen.append(str(error))
    timed = update.idle_timeout or update.hard_timeout
    return PlainRule(
        update.table_id,
        update.priority,
        match,
        tuple(unseen),
        later,
        update.cookie,
        update.idle_timeout,
        update.hard_timeout,
        update.match if timed else (),
        update.instructions if timed else (),
    )


def _actions(instructions: Iterable[Instruction]) -> Iterator[object]:
    for instruction in instructions:
        if isinstance(instruction, ApplyActions | WriteActions):
            yield from instruction.actions


def _is_conjunction(action: object) -> bool:
    return (
        isinstance(action, ExperimenterAction)
        and action.experimenter == _NICIRA
        and int.from_bytes(action.data[:2], "big") == _CONJUNCTION_SUBTYPE
    )


def _reason(number: int) -> DeletedReason:
    """A reason that nobody knows is that somebody wanted it."""
    return DeletedReason(number) if number in _REASONS else DeletedReason.DELETE


_REASONS: Final = frozenset(DeletedReason)

Key = tuple[int, int, tuple[Oxm, ...]]
"""Table, priority, and match as it is on the wire: what no two rules have in common."""


class PlainRules:
    """The rules as known, without Oko's own."""

    def __init__(self) -> None:
        self._rules: dict[Key, PlainRule] = {}

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[PlainRule]:
        """In no order that means anything."""
        return iter(self._rules.values())

    def find(self, table: int, priority: int, match: tuple[Oxm, ...]) -> PlainRule | None:
        """The rule with this priority and, as it is on the wire, this match."""
        return self._rules.get((table, priority, match))

    def apply(self, updates: Iterable[FlowUpdate | OwnUpdate]) -> list[Change]:
        """Take up what a monitor tells, and return it as changes to rules: to Oko's own, too, which are not kept. (What
        the monitor's own connection has changed is not told.)"""
        return [change for update in updates if isinstance(update, FlowUpdate) for change in self._apply(update)]

    def _apply(self, update: FlowUpdate) -> Iterator[Change]:
        key = (update.table_id, update.priority, update.match)
        if update.event == UpdateEvent.DELETED:
            # It tells no instructions: what is known says more.
            rule = self._rules.pop(key, None) or read_rule(update)
            yield Change(UpdateEvent.DELETED, rule, _reason(update.reason))
        else:
            rule = read_rule(update)
            if not rule.own:
                self._rules[key] = rule
            yield Change(UpdateEvent(update.event), rule)
