"""Open vSwitch's own actions as text; ovs-ofctl is the oracle (tests/oko/wire/test_nicira.py has it on the wire)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from oko.errors import BadAction
from oko.flow.action_text import read_actions, write_actions
from oko.flow.consistency import Known
from oko.flow.match import Match
from oko.flow.nicira_action import NiciraAction
from oko.flow.nicira_field import FIELDS, NiciraField
from oko.flow.nicira_text import ACTIONS, table
from oko.flow.text import parse_flow_mod, parse_rule
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.nicira import CASES, nicira_actions
from tests.oko.flow.test_action_text import known, printed_by_ovs

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("match", "text", "printed"), CASES.values(), ids=CASES.keys())
def test_print_of_read(match: str, text: str, printed: str) -> None:
    read = read_actions(text, known(match))
    assert write_actions(read) == printed
    assert write_actions(read_actions(printed, known(match))) == printed


def test_ovs_ofctl_agrees_on_the_cases(ovs_ofctl: OvsOfctl, tmp_path: Path) -> None:
    lines = [f"{match},actions={text}" for match, text, _ in CASES.values()]
    assert printed_by_ovs(ovs_ofctl, tmp_path / "flows", lines) == [printed for _, _, printed in CASES.values()]


@given(nicira_actions())
def test_what_is_printed_reads_back(action: NiciraAction) -> None:
    assert read_actions(write_actions([action]), Known(Match())) == (action,)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_spellings(field: NiciraField) -> None:
    assert write_actions(read_actions(f"push:{field.name}", Known(Match()))) == f"push:{field.name}[]"


REFUSED = {
    "ct of nothing known": ("ct(comit)", "'comit' is none of commit, force"),
    "ct twice": ("ct(table=1,table=2)", "table is given once"),
    "ct commit with a value": ("ct(commit=1)", "commit is given once, and as it is"),
    "ct table without a value": ("ct(table)", "table is given once, and with a value"),
    "ct forced": ("ct(force)", "force goes with commit only"),
    "ct without a table": ("ct(table=255)", "table=255 is none: use 0–254"),
    "ct of a zone too wide": ("ct(zone=65536)", "zone=65536 is out of range"),
    "ct of a zone of 32 bits": ("ct(zone=reg0)", "zone=reg0 has 32 bits: name 16"),
    "ct with another protocol": ("ct(commit,alg=sip)", "alg=sip is not known: use ftp, tftp"),
    "ct that sends": ("ct(commit,exec(output:1))", "output cannot be in exec: use nat, load, move, set_field"),
    "ct that sets an address": ("ct(commit,exec(set_field:1.2.3.4->ip_src))", "ct writes ct_mark and ct_label"),
    "nat of a name": ("ct(nat(src=host))", "'host' is not of the form 10.0.0.1-10.0.0.9:1024-65535"),
    "nat of no address": ("ct(nat(src=10.0.0.256))", "'10.0.0.256' is not of the form"),
    "nat of both versions": ("ct(nat(src=[fe80::1]-10.0.0.1))", "does not go from a lower address"),
    "nat downwards": ("ct(nat(src=10.0.0.2-10.0.0.1))", "does not go from a lower address"),
    "nat of ports downwards": ("ct(nat(src=10.0.0.2:5-4))", "does not go from a lower address"),
    "nat both ways": ("ct(nat(src,dst))", "write nat(src=10.0.0.1-10.0.0.9:1024-65535,random)"),
    "nat of flags alone": ("ct(nat(random))", "go with src or dst"),
    "nat hashed at random": ("ct(nat(src,hash,random))", "one of hash and random"),
    "nat alone": ("nat", "nat is an action that this switch does not support"),
    "resubmit to nothing": ("resubmit", "write resubmit(PORT,TABLE)"),
    "resubmit to the original": ("resubmit(,1,ct)", "write resubmit(PORT,TABLE)"),
    "resubmit to a port too high": ("resubmit:65280", "port 65280 is out of range: use 0–65279"),
    "load of nothing": ("load:5", "load:5 is not of the form load:SOURCE->TARGET"),
    "load of no number": ("load:reg0->reg1", "load=reg0 is no number"),
    "load too wide": ("load:16->reg0[0..3]", "load=16 is out of range: use 0–15"),
    "load into no field": ("load:1->rge0", "'rge0' is no field, or part of one: write NXM_NX_REG0[0..15]"),
    "load into a field without words": ("load:1->recirc_id", "'recirc_id' is a field that is not known here"),
    "load behind the end": ("load:1->reg0[32]", "reg0[32] is out of range: NXM_NX_REG0 has bits 0 to 31"),
    "load backwards": ("load:1->reg0[3..2]", "reg0[3..2] is out of range"),
    "move of other widths": ("move:ip_src->reg0[0..15]", "NXM_OF_IP_SRC[] has 32 bits and NXM_NX_REG0[0..15] has 16"),
    "push of nothing": ("push", "'' is no field"),
    "exit with an argument": ("exit:1", "exit takes no argument"),
    "note of no bytes": ("note:1", "note:1 is not of the form note:01.02.0a"),
    "set_field too wide": ("set_field:0x100000000->reg0", "reg0=0x100000000 is out of range"),
    "set_field of what is read only": ("set_field:1->ct_state", "ct_state is a field that this switch cannot set"),
    "set_tunnel too wide": ("set_tunnel:0x100000000", "set_tunnel=0x100000000 is out of range"),
    "learn under a limit": ("learn(table=1,limit=5)", "learn: limit is not known here"),
    "learn of a mask": ("learn(ip_dst=10.0.0.0/8)", "a mask is not known here: name the bits"),
    "learn of no value": ("learn(eth_dst=5)", "eth_dst=5 is no Ethernet address"),
    "learn of a table too high": ("learn(table=256)", "learn table=256 is out of range"),
    "learn to send nowhere": ("learn(output)", "'' is no field"),
    "learn with other widths": ("learn(eth_dst=ip_src)", "NXM_OF_IP_SRC[] has 32 bits and NXM_OF_ETH_DST[] has 48"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, message: str) -> None:
    with pytest.raises(BadAction) as refused:
        read_actions(text, Known(Match()))
    assert message in str(refused.value)


@pytest.mark.parametrize(("match", "text", "printed"), CASES.values(), ids=CASES.keys())
def test_only_for_open_vswitch(match: str, text: str, printed: str) -> None:
    parse_flow_mod(f"{match},actions={text}", open_vswitch=True)
    with pytest.raises(BadAction, match=r"only a bridge of Open vSwitch's does that"):
        parse_rule(f"{match},actions={text}")


def test_every_word_has_a_case() -> None:
    said = ",".join(text for _, text, _ in CASES.values())
    assert [
        word for word in ACTIONS if f"{word}:" not in said and f"{word}(" not in said and f",{word}" not in said
    ] == []


def test_the_document_has_the_table() -> None:
    assert table() in (ROOT / "docs/flow-syntax.md").read_text()
