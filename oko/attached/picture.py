"""What the image of an attached bridge holds, found out from outside, from what OpenFlow tells of its rules; and how
Open vSwitch is asked for what it does with a packet that is left to it (`ofproto/trace`, ovs-vswitchd(8))."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ofext import messages
from ofext.multipart import FlowStats
from oko.attached.continuation import outputs, pack
from oko.attached.detach import OwnRules, open_record
from oko.attached.filter_table import PASS, Key, key_of
from oko.attached.plain import PlainRule, read_rule
from oko.attached.precedence import above
from oko.attached.unixctl import Unixctl
from oko.attached.upstream import TABLE
from oko.errors import AttachError, FlowError
from oko.flow import action as flow
from oko.flow.action_text import write_actions, write_instructions
from oko.flow.match_text import write_match
from oko.flow.rule import Rule
from oko.flow.shim import IDS
from oko.switch.rundir import RunDirectory
from oko.wire.action import read_instructions
from oko.wire.change import read_flow_mod

NO_WORDS: Final = "…"
"""What stands for actions that Oko has no words for."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`rules` are those of the image: filter rules, and the plain rules above one. `given` are filter rules as they
    were told, by priority and match."""

    rules: tuple[Rule, ...]
    given: Mapping[Key, tuple[flow.Instruction, ...] | None]
    """What each does; None for what Oko has no words for."""

    @staticmethod
    def subject(rule: Rule) -> str:
        """A rule without what it does, as an AttachmentReply names it."""
        return ",".join((f"priority={rule.priority}", *write_match(rule.match)))

    def text(self, rule: Rule) -> str:
        """A rule of the image as it was told, or as the plain rule that it stands for."""
        if rule.match.program is None:
            return f"the plain rule {self.subject(rule)}"
        instructions = self.given[key_of(rule)]
        actions = NO_WORDS if instructions is None else write_instructions(instructions)
        return f"{self.subject(rule)} actions={actions}"


def picture(entries: Iterable[FlowStats], ports: Collection[int]) -> Picture:
    """Of a bridge with these flows, filter rules included, of whose ports these carry the XDP program. Raises
    FlowError."""
    plain: list[PlainRule] = []
    rules: list[Rule] = []
    given: dict[Key, tuple[flow.Instruction, ...] | None] = {}
    for entry in entries:
        if entry.table_id != TABLE:
            continue
        found = _filter_rule(entry)
        if found is None:
            plain.append(read_rule(entry))
            continue
        given[key_of(found)] = _instructions(entry)
        sent = outputs(entry.instructions, ports)
        doing: tuple[flow.Instruction, ...] = ()
        if sent is None:
            # Ids are okod's: any other will do here, where nobody takes the shim off.
            shim_id = IDS[len(rules) % len(IDS)]
            doing = (flow.ApplyActions((flow.Continue(shim_id, pack(entry.instructions)),)),)
        elif sent:
            doing = (flow.ApplyActions(tuple(flow.Output(each.port, each.max_len) for each in sent)),)
        rules.append(replace(found, instructions=doing))
    seen = {key_of(other): other for rule in rules for other in above(rule, plain) if not other.unseen}
    passing = [Rule(other.match, PASS, other.priority) for other in seen.values()]
    return Picture((*passing, *rules), given)


def _filter_rule(entry: FlowStats) -> Rule | None:
    """The rule without what it does; None for a plain one."""
    message = messages.FlowMod(cookie=entry.cookie, priority=entry.priority, match=entry.match)
    try:
        rule = read_flow_mod(message).rule
    except FlowError:
        return None
    return None if rule.match.program is None else rule


def _instructions(entry: FlowStats) -> tuple[flow.Instruction, ...] | None:
    try:
        return read_instructions(entry.instructions, open_vswitch=True)
    except FlowError:
        return None


@dataclass(frozen=True, slots=True)
class Question:
    """What ovs-vswitchd is asked, as ovs-appctl has it: a command and its arguments."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(("ovs-appctl", *self.words))


def passed(bridge: str, in_port: int, frame: bytes) -> Question:
    """What becomes of a frame that is passed to Open vSwitch."""
    return Question(("ofproto/trace", bridge, f"in_port={in_port}", frame.hex()))


def continued(bridge: str, in_port: int, frame: bytes, instructions: Sequence[flow.Instruction]) -> Question | None:
    """What becomes of a frame with which Open vSwitch is to do this; None if it can only be asked about actions, and
    these instructions are others (a meter, an action set)."""
    words = []
    for each in instructions:
        match each:
            case flow.ApplyActions(actions):
                words.append(write_actions(actions))
            case flow.GotoTable(table):
                words.append(f"resubmit(,{table})")
            case _:
                return None
    return Question(("ofproto/trace-packet-out", bridge, f"in_port={in_port}", frame.hex(), ",".join(words)))


async def ask(rundir: RunDirectory, bridge: str, question: Question) -> str:
    """What the ovs-vswitchd of an attached bridge answers. Raises OkoError when it cannot be reached from here."""
    state = Path(rundir.read(bridge).state)
    for change in open_record(state.parent, bridge):
        if isinstance(change, OwnRules):
            return await Unixctl(Path(change.name).parent).command(*question.words)
    raise AttachError(f"nothing was written down of {bridge}")
