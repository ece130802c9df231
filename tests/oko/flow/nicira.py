"""Open vSwitch's own actions as ovs-ofctl reads and prints them, and strategies for them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from oko.flow.nicira_action import (
    CURRENT_TABLE,
    IN_PORT,
    LEARN_FLAGS,
    NAT_FLAGS,
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
from oko.flow.nicira_field import FIELDS, SET_FIELDS, NiciraField, Part

CASES = {
    "ct": ("ip", "ct,ct(),ct_clear", "ct(),ct(),ct_clear"),
    "ct, all of it": (
        "udp",
        "ct(alg=tftp,exec(load:1->NXM_NX_CT_MARK[],set_field:2->ct_label,move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]),zone=5,"
        "table=1,force,commit)",
        "ct(commit,force,table=1,zone=5,exec(load:0x1->NXM_NX_CT_MARK[],set_field:0x2->ct_label,"
        "move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]),alg=tftp)",
    ),
    "ct of a zone in a register": (
        "ip",
        "ct(commit,zone=reg0[16..31]),ct(table=2,zone=0)",
        "ct(commit,zone=NXM_NX_REG0[16..31]),ct(table=2)",
    ),
    "ct that marks some bits": (
        "ip",
        "ct(commit,exec(set_field:0x5/0xf->ct_mark,set_field:0x100000000000000000000001/0xf00000000000000000000001->ct_label))",
        "ct(commit,exec(load:0x5->NXM_NX_CT_MARK[0..3],load:0x1->NXM_NX_CT_LABEL[0],load:0x1->NXM_NX_CT_LABEL[92..95]))",
    ),
    "nat": ("ip", "ct(nat),ct(commit,nat(src)),ct(nat())", "ct(nat),ct(commit,nat(src)),ct(nat)"),
    "nat to IPv4": (
        "tcp",
        "ct(commit,nat(src=10.0.0.1-10.0.0.5:100-200,random,persistent),exec(load:1->ct_mark)),ct(commit,nat(dst=1.2.3.4)),"
        "ct(commit,nat(src=1.2.3.4-1.2.3.4:5-5,hash))",
        "ct(commit,nat(src=10.0.0.1-10.0.0.5:100-200,persistent,random),exec(load:0x1->NXM_NX_CT_MARK[])),"
        "ct(commit,nat(dst=1.2.3.4)),ct(commit,nat(src=1.2.3.4:5,hash))",
    ),
    "nat to IPv6": (
        "tcp6",
        "ct(commit,nat(src=fe80::1-fe80::5)),ct(commit,nat(dst=[fe80::1]:5)),ct(commit,nat(dst=[fe80::1]-[fe80::2]:5-9))",
        "ct(commit,nat(src=fe80::1-fe80::5)),ct(commit,nat(dst=[fe80::1]:5)),ct(commit,nat(dst=[fe80::1]-[fe80::2]:5-9))",
    ),
    "resubmit": (
        "",
        "resubmit:1,resubmit(,3),resubmit(2,3),resubmit(in_port,3),resubmit(7),resubmit:LOCAL",
        "resubmit:1,resubmit(,3),resubmit(2,3),resubmit(,3),resubmit:7,resubmit:LOCAL",
    ),
    "load": (
        "tcp,dl_vlan=5",
        "load:5->reg0,load:0x7->NXM_NX_REG1[3..5],load:1->nw_src,load:1->OXM_OF_ETH_DST[0],load:1->xreg0,load:3->vlan_vid[0..11],"
        "load:2->tp_dst",
        "load:0x5->NXM_NX_REG0[],load:0x7->NXM_NX_REG1[3..5],load:0x1->NXM_OF_IP_SRC[],load:0x1->NXM_OF_ETH_DST[0],"
        "load:0x1->OXM_OF_PKT_REG0[],load:0x3->OXM_OF_VLAN_VID[],load:0x2->NXM_OF_TCP_DST[]",
    ),
    "load of more than 64 bits": (
        "",
        "load:0x10000000000000005->xxreg0,load:0xff->xxreg0[60..67]",
        "load:0x5->NXM_NX_XXREG0[0..63],load:0x1->NXM_NX_XXREG0[64..127],load:0xff->NXM_NX_XXREG0[60..67]",
    ),
    "move": (
        "ip",
        "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:ip_src->reg3[],move:nw_src[0..7]->reg3[8..15],"
        "move:OXM_OF_IPV4_SRC[]->xxreg0[0..31],move:in_port_oxm->reg0,move:in_port->reg0[0..15],move:ip_dscp->reg0[0..5]",
        "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_OF_IP_SRC[]->NXM_NX_REG3[],"
        "move:NXM_OF_IP_SRC[0..7]->NXM_NX_REG3[8..15],move:NXM_OF_IP_SRC[]->NXM_NX_XXREG0[0..31],"
        "move:OXM_OF_IN_PORT[]->NXM_NX_REG0[],move:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],move:OXM_OF_IP_DSCP[]->NXM_NX_REG0[0..5]",
    ),
    "set_field": (
        "",
        "set_field:5->reg0,set_field:8->tun_id,set_field:1.2.3.4->tun_src,set_field:4->pkt_mark,set_field:1->xreg1,"
        "set_field:1->xxreg1,set_field:fe80::1->tun_ipv6_dst",
        "set_field:0x5->reg0,set_field:0x8->tun_id,set_field:1.2.3.4->tun_src,set_field:0x4->pkt_mark,set_field:0x1->xreg1,"
        "set_field:0x1->xxreg1,set_field:fe80::1->tun_ipv6_dst",
    ),
    "set_field of some bits": (
        "",
        "set_field:5/0xf->reg1,set_field:5/0x5->reg1",
        "load:0x5->NXM_NX_REG1[0..3],load:0x1->NXM_NX_REG1[0],load:0x1->NXM_NX_REG1[2]",
    ),
    "set_tunnel": ("", "set_tunnel:5,set_tunnel64:0x100000000", "set_field:0x5->tun_id,set_field:0x100000000->tun_id"),
    "stack": (
        "",
        "push:reg0,pop:reg1[0..3],push:ct_state",
        "push:NXM_NX_REG0[],pop:NXM_NX_REG1[0..3],push:NXM_NX_CT_STATE[]",
    ),
    "output to a register": (
        "",
        "output:reg0[0..15],output:NXM_NX_REG0[]",
        "output:NXM_NX_REG0[0..15],output:NXM_NX_REG0[]",
    ),
    "note": (
        "",
        "note:01.02.0A,note:,note:01.02.03.04.05.06.07,exit",
        "note:01.02.0a.00.00.00,note:00.00.00.00.00.00,note:01.02.03.04.05.06.07.00.00.00.00.00.00.00,exit",
    ),
    "learn addresses": (
        "",
        "learn(table=1,hard_timeout=60,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
        "load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
        "learn(table=1,hard_timeout=60,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
        "load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])",
    ),
    "learn a connection": (
        "tcp",
        "learn(idle_timeout=5,fin_idle_timeout=3,fin_hard_timeout=4,priority=7,cookie=0x5,delete_learned,send_flow_rem,"
        "dl_type=0x800,nw_proto=6,ip_src=ip_dst,tcp_dst=80,load:0->NXM_OF_IP_TOS[],load:5->reg5[0..3],nw_dst=1.2.3.4)",
        "learn(table=1,idle_timeout=5,fin_idle_timeout=3,fin_hard_timeout=4,priority=7,send_flow_rem,delete_learned,"
        "cookie=0x5,eth_type=0x800,nw_proto=6,NXM_OF_IP_SRC[]=NXM_OF_IP_DST[],tcp_dst=80,load:0->NXM_OF_IP_TOS[],"
        "load:0x5->NXM_NX_REG5[0..3],ip_dst=1.2.3.4)",
    ),
    "learn what is wide": (
        "ipv6",
        "learn(table=2,eth_type=0x86dd,ipv6_src,ipv6_dst=fe80::1,eth_dst=0:1:2:3:4:5,load:ipv6_src->xxreg0,reg1[3..4]=2,"
        "reg1[3]=1,reg2=5,load:0xffffffffffffffffff->xxreg1,in_port=3)",
        "learn(table=2,eth_type=0x86dd,NXM_NX_IPV6_SRC[],ipv6_dst=fe80::1,eth_dst=00:01:02:03:04:05,"
        "load:NXM_NX_IPV6_SRC[]->NXM_NX_XXREG0[],NXM_NX_REG1[3..4]=0x2,NXM_NX_REG1[3]=0x1,reg2=0x5,"
        "load:0xffffffffffffffffff->NXM_NX_XXREG1[],in_port=3)",
    ),
}
"""A match, actions → how both print them."""

_REGISTERS = [each for each in FIELDS if each.name.startswith(("NXM_NX_REG", "OXM_OF_PKT_REG", "NXM_NX_XXREG"))]
_READABLE = [
    *_REGISTERS,
    *(each for each in FIELDS if each.word in ("eth_src", "in_port", "metadata", "ct_state", "tun_id")),
]
_MARKS = [each for each in FIELDS if each.word in ("ct_mark", "ct_label")]


@st.composite
def parts(draw: st.DrawFn, fields: list[NiciraField], *, bits: int = 0, most: int = 128) -> Part:
    """Of one of the fields, with so many bits if given."""
    field = draw(st.sampled_from([each for each in fields if each.bits >= bits]))
    width = bits or draw(st.integers(1, min(field.bits, most)))
    return Part(field, draw(st.integers(0, field.bits - width)), width)


def _flags(names: dict[str, int]) -> SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from(list(names))).map(lambda given: tuple(name for name in names if name in given))


@st.composite
def _loads(draw: st.DrawFn, fields: list[NiciraField]) -> Load:
    target = draw(parts(fields, most=64))
    return Load(draw(st.integers(0, (1 << target.bits) - 1)), target)


@st.composite
def _moves(draw: st.DrawFn, fields: list[NiciraField]) -> Move:
    source = draw(parts(_READABLE, most=max(field.bits for field in fields)))
    return Move(source, draw(parts(fields, bits=source.bits)))


@st.composite
def _sets(draw: st.DrawFn, fields: list[NiciraField]) -> Set:
    field = draw(st.sampled_from(fields))
    return Set(field, draw(st.integers(0, field.field.full)))


@st.composite
def _nats(draw: st.DrawFn) -> Nat:
    kind = draw(st.sampled_from(("", "src", "dst")))
    if not kind:
        return Nat()
    address = IPv4Address if draw(st.booleans()) else IPv6Address
    most = 32 if address is IPv4Address else 128
    lowest = draw(st.integers(1 << 20, (1 << most) - 2))
    addresses = sorted(draw(st.sets(st.integers(lowest, (1 << most) - 1), max_size=2)))
    ports = sorted(draw(st.sets(st.integers(1, 0xFFFF), max_size=2))) if addresses else []
    flags = draw(_flags(NAT_FLAGS).filter(lambda given: not {"hash", "random"} <= set(given)))
    return Nat(kind, tuple(map(address, addresses)), tuple(ports), flags)


@st.composite
def _cts(draw: st.DrawFn) -> Ct:
    commit = draw(st.booleans())
    within = draw(st.lists(st.one_of(_loads(_MARKS), _moves(_MARKS), _sets(_MARKS)), max_size=3)) if commit else []
    nats = draw(st.lists(_nats(), max_size=1)) if commit else []
    return Ct(
        commit,
        commit and draw(st.booleans()),
        draw(st.none() | st.integers(0, 254)),
        draw(st.integers(0, 0xFFFF) | parts(_REGISTERS, bits=16)),
        0,
        (*nats, *within),
    )


@st.composite
def _learns(draw: st.DrawFn) -> Learn:
    specs: list[Matched | Loaded | Sent] = []
    for kind in draw(st.lists(st.sampled_from((Matched, Loaded, Sent)), max_size=4)):
        if kind is Sent:
            specs.append(Sent(draw(parts(_REGISTERS, most=32))))
            continue
        target = draw(parts(_REGISTERS))
        specs.append(kind(target, draw(parts(_READABLE, bits=target.bits) | st.integers(0, (1 << target.bits) - 1))))
    timeouts = st.integers(0, 0xFFFF)
    return Learn(
        tuple(specs),
        draw(st.integers(0, 254)),
        *(draw(timeouts) for _ in range(4)),
        draw(timeouts),
        draw(st.integers(0, (1 << 64) - 1)),
        draw(_flags(LEARN_FLAGS)),
    )


def nicira_actions() -> SearchStrategy[NiciraAction]:
    """Any, that need nothing of the packet."""
    return st.one_of(
        st.builds(
            Resubmit, st.integers(0, 0xFEFF) | st.sampled_from((IN_PORT, 0xFFFE)), st.integers(0, CURRENT_TABLE)
        ).filter(lambda action: action != Resubmit()),
        _loads(_REGISTERS),
        _moves(_REGISTERS),
        _sets([each for each in SET_FIELDS.values() if not each.word.startswith("ct_")]),
        parts(_READABLE).map(Push),
        parts(_REGISTERS).map(Pop),
        parts(_REGISTERS).map(OutputTo),
        st.binary(min_size=6, max_size=6).map(Note),
        st.sampled_from((Exit(), CtClear())),
        _cts(),
        _learns(),
    )
