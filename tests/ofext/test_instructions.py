"""Every action and instruction: the same bytes as os-ken's, and what ovs-ofctl makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from os_ken.ofproto import ofproto_v1_3_parser as osken

from ofext import instructions as wire
from ofext.buckets import Bucket
from ofext.constants import GroupType
from ofext.instructions import Action, ApplyActions, Instruction
from ofext.messages import FlowMod, GroupMod, decode, encode
from ofext.oxm import Oxm
from oko.errors import ProtocolError

from .oracles import OSKEN, needs_ovs_ofctl, osken_built, printed

ETH_DST = Oxm(0x8000, 3, bytes.fromhex("0200000000ab"))
VLAN_VID = Oxm(0x8000, 6, b"\x10\x05")
NO_FLOW = {"cookie": 0, "cookie_mask": 0, "table_id": 0, "command": 0, "flags": 0}

ACTIONS: dict[str, tuple[Action, Any, str]] = {
    "output": (wire.Output(2), osken.OFPActionOutput(2, 0xFFFF), "output:2"),
    "output to the controller": (
        wire.Output(0xFFFFFFFD, 128),
        osken.OFPActionOutput(0xFFFFFFFD, 128),
        "CONTROLLER:128",
    ),
    "set_mpls_ttl": (wire.SetMplsTtl(64), osken.OFPActionSetMplsTtl(64), "set_mpls_ttl(64)"),
    "dec_mpls_ttl": (wire.DecMplsTtl(), osken.OFPActionDecMplsTtl(), "dec_mpls_ttl"),
    "push_vlan": (wire.PushVlan(0x8100), osken.OFPActionPushVlan(0x8100), "push_vlan:0x8100"),
    "pop_vlan": (wire.PopVlan(), osken.OFPActionPopVlan(), "pop_vlan"),
    "push_mpls": (wire.PushMpls(0x8847), osken.OFPActionPushMpls(0x8847), "push_mpls:0x8847"),
    "pop_mpls": (wire.PopMpls(0x800), osken.OFPActionPopMpls(0x800), "pop_mpls:0x0800"),
    "set_queue": (wire.SetQueue(3), osken.OFPActionSetQueue(3), "set_queue:3"),
    "group": (wire.Group(7), osken.OFPActionGroup(7), "group:7"),
    "set_nw_ttl": (wire.SetNwTtl(9), osken.OFPActionSetNwTtl(9), "mod_nw_ttl:9"),
    "dec_nw_ttl": (wire.DecNwTtl(), osken.OFPActionDecNwTtl(), "dec_ttl"),
    "set_field": (
        wire.SetField(ETH_DST),
        osken.OFPActionSetField(eth_dst="02:00:00:00:00:ab"),
        "set_field:02:00:00:00:00:ab->eth_dst",
    ),
    "set_field with padding": (
        wire.SetField(VLAN_VID),
        osken.OFPActionSetField(vlan_vid=0x1005),
        "set_field:4101->vlan_vid",
    ),
}
"""What Open vSwitch can do."""

OTHER_ACTIONS: dict[str, tuple[Action, Any]] = {
    "copy_ttl_out": (wire.CopyTtlOut(), osken.OFPActionCopyTtlOut()),
    "copy_ttl_in": (wire.CopyTtlIn(), osken.OFPActionCopyTtlIn()),
    "push_pbb": (wire.PushPbb(0x88E7), osken.OFPActionPushPbb(0x88E7)),
    "pop_pbb": (wire.PopPbb(), osken.OFPActionPopPbb()),
    "experimenter": (
        wire.ExperimenterAction(0xFF4F4B50, b"12345678"),
        osken.OFPActionExperimenterUnknown(0xFF4F4B50, b"12345678"),
    ),
}

INSTRUCTIONS: dict[str, tuple[Instruction, Any]] = {
    "goto_table": (wire.GotoTable(6), osken.OFPInstructionGotoTable(6)),
    "write_metadata": (wire.WriteMetadata(1, 3), osken.OFPInstructionWriteMetadata(1, 3)),
    "write_actions": (
        wire.WriteActions((wire.Output(2), wire.SetField(VLAN_VID))),
        osken.OFPInstructionActions(3, [osken.OFPActionOutput(2, 0xFFFF), osken.OFPActionSetField(vlan_vid=0x1005)]),
    ),
    "clear_actions": (wire.ClearActions(), osken.OFPInstructionActions(5, [])),
    "meter": (wire.Meter(12), osken.OFPInstructionMeter(12)),
}


def flow_mod(*instructions: Any) -> bytes:
    return osken_built(osken.OFPFlowMod(OSKEN, match=osken.OFPMatch(), instructions=list(instructions), **NO_FLOW))


@pytest.mark.parametrize(
    ("action", "theirs"),
    [*[case[:2] for case in ACTIONS.values()], *OTHER_ACTIONS.values()],
    ids=[*ACTIONS, *OTHER_ACTIONS],
)
def test_actions_are_the_bytes_of_os_ken(action: Action, theirs: Any) -> None:
    ours = FlowMod(instructions=(ApplyActions((action,)),), out_port=0, out_group=0)
    data = flow_mod(osken.OFPInstructionActions(4, [theirs]))
    assert encode(ours, 5) == data
    assert decode(data) == (ours, 5)


@pytest.mark.parametrize(("instruction", "theirs"), INSTRUCTIONS.values(), ids=INSTRUCTIONS.keys())
def test_instructions_are_the_bytes_of_os_ken(instruction: Instruction, theirs: Any) -> None:
    ours = FlowMod(instructions=(instruction,), out_port=0, out_group=0)
    data = flow_mod(theirs)
    assert encode(ours, 5) == data
    assert decode(data) == (ours, 5)


@needs_ovs_ofctl
@pytest.mark.parametrize(("action", "text"), [(case[0], case[2]) for case in ACTIONS.values()], ids=list(ACTIONS))
def test_ovs_ofctl_prints_actions(action: Action, text: str) -> None:
    # In a bucket: a flow would need a match that lets Open vSwitch believe in the action.
    assert (
        printed(GroupMod(0, GroupType.INDIRECT, 1, (Bucket(actions=(action,)),))).rstrip().endswith(f"actions={text}")
    )


@needs_ovs_ofctl
def test_ovs_ofctl_prints_instructions() -> None:
    instructions = (
        wire.Meter(12),
        ApplyActions((wire.Output(1),)),
        wire.ClearActions(),
        wire.WriteActions((wire.Group(7),)),
        wire.WriteMetadata(1, 3),
        wire.GotoTable(6),
    )
    assert (
        "actions=meter:12,output:1,clear_actions,write_actions(group:7),write_metadata:0x1/0x3,goto_table:6"
        in printed(FlowMod(instructions=instructions))
    )


def test_an_experimenter_instruction_on_the_wire() -> None:
    message = FlowMod(instructions=(wire.ExperimenterInstruction(0x2320, b"abcdefgh"),))
    data = encode(message)
    assert data.endswith(bytes.fromhex("ffff 0010 00002320") + b"abcdefgh")
    assert decode(data)[0] == message


MALFORMED = {
    "set_field with a field cut off": ("0019 0010 80000609 0000000000000000", (2, 14)),
    "set_field with half a field": ("0019 0008 8000ff06", (2, 14)),
    "set_field with more than padding behind": ("0019 0018 80000c02 1005" + "00" * 14, (2, 1)),
    "pop_vlan of 16 bytes": ("0012 0010 00000000 00000000 00000000", (2, 1)),
    "group of 16 bytes": ("0016 0010 00000001 00000000 00000000", (2, 1)),
    "experimenter of 12 bytes": ("ffff 000c 00002320 00000000", (2, 1)),
    "experimenter of 4 bytes": ("ffff 0004", (2, 1)),
}


@pytest.mark.parametrize(("action", "code"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_actions(action: str, code: tuple[int, int]) -> None:
    body = bytes.fromhex(action)
    content = bytes(8) + len(body).to_bytes(2, "big") + bytes(6) + body
    with pytest.raises(ProtocolError) as caught:
        decode(bytes([4, 13]) + (8 + len(content)).to_bytes(2, "big") + bytes(4) + content)
    assert (caught.value.error_type, caught.value.error_code) == code


UNWRITABLE: dict[str, Action] = {
    "experimenter data of 7 bytes": wire.ExperimenterAction(1, b"1234567"),
    "unknown type of 17 bits": wire.UnknownAction(1 << 16, bytes(4)),
    "ttl of 9 bits": wire.SetNwTtl(256),
}


@pytest.mark.parametrize("action", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_an_action_that_does_not_fit_is_refused(action: Action) -> None:
    with pytest.raises(ProtocolError):
        encode(FlowMod(instructions=(ApplyActions((action,)),)))
