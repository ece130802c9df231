"""Open vSwitch's own actions on the wire; what ovs-ofctl sends is the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofext import instructions as wire
from ofext import nicira
from ofext.nicira import Conntrack, ConntrackNat, Learn, RegMove, StackPush
from ofext.oxm import Oxm
from ofext.v10.actions import RegLoad
from oko.errors import BadAction
from oko.flow.nicira_action import Ct, Nat, NiciraAction
from oko.flow.nicira_text import write_action
from oko.flow.text import parse_flow_mod, print_rule
from oko.wire.action import read_actions, write_actions
from oko.wire.change import read_flow_mod, write_flow_mod
from tests.oko.flow.conftest import OvsOfctl, ovs_ofctl
from tests.oko.flow.nicira import CASES, nicira_actions
from tests.oko.wire.heard import flow_mods

__all__ = ["ovs_ofctl"]


def test_what_ovs_ofctl_sends_is_what_we_send(ovs_ofctl: OvsOfctl, tmp_path: Path) -> None:
    lines = [f"{match},actions={text}" for match, text, _ in CASES.values()]
    heard = flow_mods(tmp_path, lines)
    ours = [write_flow_mod(parse_flow_mod(line, open_vswitch=True)) for line in lines]
    assert [message.instructions for message in ours] == [message.instructions for message in heard]


def test_what_ovs_ofctl_sends_is_printed_as_it_prints_it(ovs_ofctl: OvsOfctl, tmp_path: Path) -> None:
    lines = [f"{match},actions={text}" for match, text, _ in CASES.values()]
    printed = [print_rule(read_flow_mod(message, open_vswitch=True).rule) for message in flow_mods(tmp_path, lines)]
    assert [each.partition("actions=")[2] for each in printed] == [expected for _, _, expected in CASES.values()]


def match_of(action: NiciraAction) -> str:
    """A match that Open vSwitch wants for it: addresses are translated of packets of their version."""
    within = action.actions if isinstance(action, Ct) else ()
    versions = {address.version for nat in within if isinstance(nat, Nat) for address in nat.addresses}
    return "tcp6" if 6 in versions else "tcp"


@given(st.lists(nicira_actions(), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ovs_ofctl_sends_what_we_print(ovs_ofctl: OvsOfctl, tmp_path: Path, drawn: list[NiciraAction]) -> None:
    lines = [f"{match_of(action)},actions={write_action(action)}" for action in drawn]
    written = [(wire.ApplyActions(write_actions([action])),) for action in drawn]
    assert [message.instructions for message in flow_mods(tmp_path, lines)] == written


@given(nicira_actions())
def test_what_is_written_reads_back(action: NiciraAction) -> None:
    assert read_actions(write_actions([action]), open_vswitch=True) == (action,)


UNREAD = {
    "of another experimenter": wire.ExperimenterAction(0x2321, bytes(12)),
    "of no subtype that is known": wire.ExperimenterAction(0x2320, (47).to_bytes(2) + bytes(10)),
    "without a subtype": wire.ExperimenterAction(0x2320),
    "load of an unknown field": nicira.write(RegLoad(31, 0x0001FE04, 1)),
    "load of more bits than the field has": nicira.write(RegLoad(32, 0x00010004, 1)),
    "load of more than fits": nicira.write(RegLoad(3, 0x00010004, 16)),
    "move of nothing": nicira.write(RegMove(0, 0, 0, 0x00010004, 0x00010204)),
    "push behind the end": nicira.write(StackPush(1, 0x00010004, 32)),
    "ct with a flag that is not known": nicira.write(Conntrack(4, 0, 0, 255, 0)),
    "ct of an unknown zone": nicira.write(Conntrack(0, 0x0001FE04, 15, 255, 0)),
    "ct with an output": nicira.write(Conntrack(1, 0, 0, 255, 0, (wire.Output(1),))),
    "ct with a set_field of an address": nicira.write(
        Conntrack(1, 0, 0, 255, 0, (wire.SetField(Oxm(0x8000, 3, bytes(6))),))
    ),
    "nat both ways": nicira.write(ConntrackNat(3, 0, b"")),
    "nat that is cut off": nicira.write(ConntrackNat(1, 4, bytes(8))),
    "learn with a flag that is not known": nicira.write(Learn(0, 0, 0, 0, 4, 1, 0, 0, b"")),
    "learn of an unknown kind": nicira.write(Learn(0, 0, 0, 0, 0, 1, 0, 0, bytes.fromhex("3820") + bytes(14))),
    "learn of an unknown field": nicira.write(
        Learn(0, 0, 0, 0, 0, 1, 0, 0, bytes.fromhex("0020 0001fe04") + bytes(10))
    ),
    "learn that is cut off": nicira.write(Learn(0, 0, 0, 0, 0, 1, 0, 0, bytes.fromhex("0020 00010004 0000 0000"))),
}


@pytest.mark.parametrize("action", UNREAD.values(), ids=UNREAD.keys())
def test_what_there_are_no_words_for(action: wire.ExperimenterAction) -> None:
    with pytest.raises(BadAction, match="not supported") as refused:
        read_actions([action], open_vswitch=True)
    assert refused.value.reason == "bad-experimenter"


def test_a_set_field_under_a_mask_is_not_read() -> None:
    with pytest.raises(BadAction, match="cannot be set here"):
        read_actions([wire.SetField(Oxm(0x0001, 0, bytes(4), bytes(4)))], open_vswitch=True)


@pytest.mark.parametrize(("match", "text", "printed"), CASES.values(), ids=CASES.keys())
def test_only_open_vswitch_does_them(match: str, text: str, printed: str) -> None:
    message = write_flow_mod(parse_flow_mod(f"{match},actions={text}", open_vswitch=True))
    with pytest.raises(BadAction) as refused:
        read_flow_mod(message)
    assert refused.value.reason in ("bad-experimenter", "bad-set-type")
