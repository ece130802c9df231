"""The reference switch, against the semantics in docs/architecture.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.all import IP, TCP, UDP, Dot1Q, Ether

from oko.errors import BadAction, BadMatch
from oko.flow import shim
from oko.flow.action import (
    ALL,
    CONTROLLER,
    FLOOD,
    IN_PORT,
    LOCAL,
    TABLE,
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
from oko.flow.attachment import Attachment, Shims
from oko.flow.drop import Drop
from oko.flow.fields import BY_NAME
from oko.flow.group import Bucket, GroupMod, GroupType
from oko.flow.headers import parse
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.observer import Observer
from oko.flow.packet_in import PacketIn, PacketInReason
from oko.flow.port import PortState
from oko.flow.reference import Decision, FilterProgram, ReferenceSwitch
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.selection import selection_hash
from oko.flow.text import parse_rule, parse_selection, print_rule
from tests.oko.flow.frames import frames as every_frame
from tests.oko.flow.strategies import ADDRESSES, MACS, PORTS, actions, frames
from tests.oko.flow.written import bucket, group, match, meter, rule, tables_of

UP = {port: PortState() for port in PORTS}
SECOND = 10**9


def always(verdict: int) -> FilterProgram:
    return lambda frame, in_port, now: verdict


def switch_of(
    *parts: Rule | GroupMod | MeterMod | str, ports: dict[int, PortState] = UP, **programs: FilterProgram
) -> ReferenceSwitch:
    """A switch with ports 1, 2 and 3 unless told otherwise, and the programs p1=…, p2=…"""
    by_id = {int(name[1:]): program for name, program in programs.items()}
    return ReferenceSwitch(tables_of(*parts), by_id, ports)


def outputs(decision: Decision) -> tuple[int, ...]:
    return tuple(port for port, _ in decision.sent)


def winner(decision: Decision) -> Rule:
    """The rule that won in the only table."""
    (entry,) = decision.entries
    return entry.rule


def frame_to(address: str, port: int, layer: Callable[..., object] = TCP) -> bytes:
    return bytes(
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / IP(src="10.0.0.9", dst=address) / layer(dport=port)
    )


WEB = frame_to("10.0.0.1", 80)


# Table I of "Datacenter Networks: Enforcing Security at the Software Switch" (Chaignon et al.): what a matches is
# dropped, the rest of the web traffic goes through b to port 1, nothing else passes. a is program 1, b program 2.
PAPER = (
    "priority=100,tcp,nw_dst=10.0.0.1,tp_dst=80,filter_prog=1,actions=drop",
    "priority=10,tcp,tp_dst=80,filter_prog=2,actions=output:1",
    "priority=1,actions=drop",
)
PAPER_CASES = {
    "a says yes": (WEB, (1, 1), 100, (), {1: True}),
    "a says no, b yes": (WEB, (0, 1), 10, (1,), {1: False, 2: True}),
    "both say no": (WEB, (0, 0), 1, (), {1: False, 2: False}),
    "other server, b yes": (frame_to("10.0.0.2", 80), (1, 1), 10, (1,), {2: True}),
    "other server, b no": (frame_to("10.0.0.2", 80), (1, 0), 1, (), {2: False}),
    "other service": (frame_to("10.0.0.1", 443), (1, 1), 1, (), {}),
    "other protocol": (frame_to("10.0.0.1", 80, UDP), (1, 1), 1, (), {}),
}


@pytest.mark.parametrize(
    ("frame", "said", "priority", "sent_to", "verdicts"), PAPER_CASES.values(), ids=PAPER_CASES.keys()
)
def test_the_table_of_the_paper(
    frame: bytes, said: tuple[int, int], priority: int, sent_to: tuple[int, ...], verdicts: dict[int, bool]
) -> None:
    decision = switch_of(*PAPER, p1=always(said[0]), p2=always(said[1])).decide(frame, 2, 0)
    assert winner(decision).priority == priority
    assert (decision.sent, decision.verdicts) == (tuple((port, frame) for port in sent_to), verdicts)
    assert decision.drop is None


def test_a_program_runs_once_per_packet_however_many_rules_name_it() -> None:
    verdicts = iter([0, 1, 1])
    switch = switch_of(
        "priority=3,in_port=1,filter_prog=1,actions=2",
        "priority=2,tcp,filter_prog=1,actions=2",
        "priority=1,filter_prog=1,actions=2",
        p1=lambda frame, in_port, now: next(verdicts),
    )
    assert switch.decide(WEB, 1, 0).drop is Drop.MISS
    assert winner(switch.decide(WEB, 1, 0)).priority == 3
    assert (switch.counters.runs[1], switch.counters.matches[1]) == (2, 1)


def test_a_program_runs_only_when_a_rule_needs_it() -> None:
    def unreachable(frame: bytes, in_port: int, now: int) -> int:
        raise AssertionError("this program has no reason to run")

    switch = switch_of(
        "priority=9,udp,filter_prog=1,actions=2",  # other headers
        "priority=5,tcp,actions=2",
        "priority=1,filter_prog=1,actions=2",  # never reached
        p1=unreachable,
    )
    assert switch.decide(WEB, 1, 0).verdicts == {}


def test_programs_run_in_the_order_of_lookup() -> None:
    texts = [f"priority={10 - n},filter_prog={n},actions=drop" for n in (3, 1, 2)]
    switch = switch_of(*texts, p1=always(0), p2=always(0), p3=always(0))
    assert list(switch.decide(WEB, 1, 0).verdicts) == [1, 2, 3]


EQUAL = (
    "priority=5,tcp,actions=1",
    "priority=5,in_port=3,actions=2",
    "priority=5,ip,filter_prog=1,actions=3",
    "priority=5,tcp,filter_prog=2,actions=drop",
)


@pytest.mark.parametrize(
    ("one", "two", "wins"),
    [(0, 0, 0), (1, 1, 2), (0, 1, 3)],
    ids=["older of those without", "older of those with", "younger with a program"],
)
def test_equal_priority(one: int, two: int, wins: int) -> None:
    decision = switch_of(*EQUAL, p1=always(one), p2=always(two)).decide(WEB, 3, 0)
    assert [entry.rule for entry in decision.entries] == [parse_rule(EQUAL[wins])]


def test_any_result_but_0_is_a_match() -> None:
    for result in (1, 2, -1, 1 << 31, 1 << 32):
        assert switch_of("filter_prog=1,actions=2", p1=always(result)).decide(WEB, 1, 0).verdicts == {1: True}


def test_a_program_gets_frame_port_and_time() -> None:
    seen: list[tuple[bytes, int, int]] = []
    switch = switch_of("filter_prog=1,actions=2", p1=lambda *arguments: len(seen.append(arguments) or ()))
    switch.decide(WEB, 3, 1_000_000_007)
    assert seen == [(WEB, 3, 1_000_000_007)]


def test_a_program_that_is_not_loaded() -> None:
    switch = switch_of("priority=2,udp,filter_prog=7,actions=2", "priority=1,actions=2")
    assert outputs(switch.decide(WEB, 1, 0)) == (2,)
    with pytest.raises(BadMatch, match="no program 7 is loaded"):
        switch.decide(frame_to("10.0.0.1", 53, UDP), 1, 0)


TO: dict[str, tuple[tuple[int, ...], int, tuple[int, ...], Drop | None]] = {
    "one": ((2,), 1, (2,), None),
    "several, in order": ((3, 2), 1, (3, 2), None),
    "one twice": ((2, 2), 1, (2, 2), None),
    "none": ((), 1, (), None),
    "ingress": ((1,), 1, (), Drop.TO_INGRESS),
    "ingress among others": ((1, 2, 3), 2, (1, 3), None),
    "unknown": ((9,), 1, (), Drop.NO_PORT),
    "unknown among others": ((9, 2, 8), 1, (2,), None),
    "unknown, then ingress": ((9, 1), 1, (), Drop.NO_PORT),
    "ingress, then unknown": ((1, 9), 1, (), Drop.TO_INGRESS),
    "unknown ingress": ((9,), 9, (), Drop.TO_INGRESS),
    "IN_PORT": ((IN_PORT,), 3, (3,), None),
    "IN_PORT and ingress": ((3, IN_PORT), 3, (3,), None),
    "IN_PORT of a packet from nowhere": ((IN_PORT,), 9, (), Drop.NO_PORT),
    "ALL": ((ALL,), 2, (1, 3, 4, LOCAL), None),
    "ALL, from LOCAL": ((ALL,), LOCAL, (1, 2, 3, 4), None),
    "FLOOD": ((FLOOD,), 1, (2, 4, LOCAL), None),
    "FLOOD, from where there is none": ((FLOOD,), 3, (1, 2, 4, LOCAL), None),
    "FLOOD and another": ((FLOOD, 3), 1, (2, 4, LOCAL, 3), None),
    "LOCAL": ((LOCAL,), 1, (LOCAL,), None),
    "a port whose link is down": ((4,), 1, (4,), None),
}
OUTPUT_PORTS = {**UP, 3: PortState(flood=False), 4: PortState(live=False), LOCAL: PortState()}


@pytest.mark.parametrize(("named", "in_port", "sent_to", "drop"), TO.values(), ids=TO.keys())
@pytest.mark.parametrize("how", ["applied", "in a bucket each"])
def test_outputs(how: str, named: tuple[int, ...], in_port: int, sent_to: tuple[int, ...], drop: Drop | None) -> None:
    if how == "applied":
        switch = switch_of(rule("", *map(Output, named)), ports=OUTPUT_PORTS)
    else:
        switch = switch_of(group(1, GroupType.ALL, *map(bucket, named)), rule("", Group(1)), ports=OUTPUT_PORTS)
    decision = switch.decide(WEB, in_port, 0)
    assert decision.sent == tuple((port, WEB) for port in sent_to)
    assert decision.drop is drop
    assert switch.counters.sent == Counter(sent_to)
    assert switch.counters.drops == Counter([] if drop is None else [drop])
    assert switch.counters.drop_bytes == ({} if drop is None else {drop: len(WEB)})


def test_flood_with_nobody_else_there() -> None:
    decision = switch_of(f"actions=output:{FLOOD}", ports={1: PortState()}).decide(WEB, 1, 0)
    assert (decision.sent, decision.drop) == ((), Drop.TO_INGRESS)


def test_a_miss_drops() -> None:
    switch = switch_of("udp,actions=2")
    assert switch.decide(WEB, 1, 0) == Decision(drop=Drop.MISS)
    assert (switch.counters.drops, switch.counters.packets.total()) == ({Drop.MISS: 1}, 0)


def test_a_runt_meets_no_table_and_no_program() -> None:
    switch = switch_of("filter_prog=1,actions=2", p1=always(1))
    switch.tables.observe(Observer(0, match("filter_prog=1")))
    assert switch.decide(WEB[:13], 1, 0) == Decision(drop=Drop.RUNT)
    assert (switch.counters.drops, switch.counters.drop_bytes) == ({Drop.RUNT: 1}, {Drop.RUNT: 13})
    assert switch.counters.runs.total() == 0
    assert switch.execute([Output(2)], WEB[:13], CONTROLLER, 0) == Decision(drop=Drop.RUNT)


def attached_switch(*parts: Rule | str, attachment: Attachment | None = None) -> ReferenceSwitch:
    switch = switch_of(*parts)
    switch.attachment = attachment or Attachment()
    return switch


def test_a_miss_of_an_attached_switch_leaves_the_packet() -> None:
    switch = attached_switch("udp,actions=2")
    assert switch.decide(WEB, 1, 0) == Decision(left=WEB)
    assert switch.counters.drops.total() == 0


def test_rules_leave_packets_to_open_vswitch() -> None:
    switch = attached_switch(rule("priority=2,tcp", Pass()), rule("priority=1", Continue(0x010203)))
    decision = switch.decide(WEB, 1, 0)
    assert (winner(decision).priority, decision.left) == (2, WEB)
    udp = frame_to("10.0.0.1", 53, UDP)
    assert switch.decide(udp, 1, 0).left == shim.frame(0x010203, udp)
    assert switch.counters.bytes == {0: len(WEB), 1: len(udp)}


SUSPENDED = {Shims.USED: (shim.frame(7, WEB), None), Shims.PASSED: (WEB, None), Shims.DROPPED: (None, Drop.SUSPENDED)}


@pytest.mark.parametrize("shims", SUSPENDED, ids=lambda shims: shims.name)
def test_what_is_to_be_continued_while_nobody_does(shims: Shims) -> None:
    switch = attached_switch(rule("", Continue(7)))
    switch.shims = shims
    decision = switch.decide(WEB, 1, 0)
    assert (decision.left, decision.drop) == SUSPENDED[shims]


NO_TABLE = {
    "forged": (shim.frame(7, WEB), 1, None, Drop.FORGED),
    "forged and reserved": (shim.frame(7, WEB), 2, None, Drop.FORGED),
    "too long": (WEB + bytes(100), 1, None, Drop.TOO_LONG),
    "reserved": (WEB, 2, WEB, None),
    "a runt": (WEB[:13], 2, None, Drop.RUNT),
}


@pytest.mark.parametrize(("frame", "in_port", "left", "drop"), NO_TABLE.values(), ids=NO_TABLE.keys())
def test_packets_of_an_attached_switch_that_come_to_no_table(
    frame: bytes, in_port: int, left: bytes | None, drop: Drop | None
) -> None:
    attachment = Attachment(reserved=(match("in_port=2"),), longest={1: 100})
    switch = attached_switch("actions=output:3", attachment=attachment)
    assert switch.decide(frame, in_port, 0) == Decision(left=left, drop=drop)


def test_an_attached_switch_reads_as_many_tags_as_the_bridge() -> None:
    behind_two = WEB[:12] + bytes.fromhex("8100000588a80006") + WEB[12:]
    for limit, sent_to in ((1, ()), (2, (3,))):
        switch = attached_switch("tcp,actions=output:3", attachment=Attachment(limit))
        assert outputs(switch.decide(behind_two, 1, 0)) == sent_to


def test_counters_of_rules() -> None:
    switch = switch_of("priority=2,udp,actions=2", "priority=1,actions=drop")
    udp = frame_to("10.0.0.1", 53, UDP)
    for frame in (udp, WEB, udp + bytes(100)):
        switch.decide(frame, 1, 0)
    assert switch.counters.packets == {0: 2, 1: 1}
    assert switch.counters.bytes == {0: 2 * len(udp) + 100, 1: len(WEB)}
    assert switch.counters.sent == {2: 2}


def test_changes_between_packets_are_seen() -> None:
    switch = switch_of("actions=2")
    assert outputs(switch.decide(WEB, 1, 0)) == (2,)
    switch.tables.apply(parse_selection(""))
    assert switch.decide(WEB, 1, 0).drop is Drop.MISS


HEADERS = {
    "in_port": "in_port=2",
    "eth_dst": "dl_dst=02:00:00:00:00:01",
    "eth_dst masked": "dl_dst=02:00:00:00:00:00/ff:ff:00:00:00:00",
    "eth_src": "dl_src=02:00:00:00:00:02",
    "eth_type": "dl_type=0x0800",
    "ip_proto": "ip,nw_proto=6",
    "ip_dscp": "ip,ip_dscp=46",
    "ip_ecn": "ip,ip_ecn=1",
    "ipv4_src": "ip,nw_src=10.0.0.0/8",
    "ipv4_dst": "ip,nw_dst=10.0.0.1",
    "tcp_src": "tcp,tp_src=0x400/0xfc00",
    "tcp_dst": "tcp,tp_dst=80",
}


@pytest.mark.parametrize("match", HEADERS.values(), ids=HEADERS.keys())
def test_each_field_decides(match: str) -> None:
    ether = {"dst": "02:00:00:00:00:01", "src": "02:00:00:00:00:02"}
    frame = bytes(Ether(**ether) / IP(src="10.0.0.9", dst="10.0.0.1", tos=46 << 2 | 1) / TCP(sport=1025, dport=80))
    switch = switch_of(f"{match},actions=3")
    assert outputs(switch.decide(frame, 2, 0)) == (3,)
    other = bytes(Ether(dst="06:00:00:00:00:01", src="06:00:00:00:00:02", type=0x88B5)) + frame[14:]
    assert switch.decide(other, 1, 0).drop is Drop.MISS


SMALL_FIELDS = {
    "in_port": st.sampled_from(PORTS).map(str),
    "dl_dst": st.sampled_from(MACS).map(lambda mac: mac.hex(":") + "/ff:ff:ff:ff:ff:fe"),
    "nw_dst": st.sampled_from(ADDRESSES).map(lambda ip: ".".join(map(str, ip)) + "/24"),
    "tp_dst": st.sampled_from(("0x50/0xfff0", "53", "0x51")),
    "filter_prog": st.sampled_from(("1", "2", "3")),
}


@st.composite
def small_rules(draw: st.DrawFn) -> str:
    words = [draw(st.sampled_from(("tcp", "udp"))), f"priority={draw(st.integers(0, 2))}"]
    for name, values in SMALL_FIELDS.items():
        if draw(st.booleans()):
            words.append(f"{name}={draw(values)}")
    return ",".join(words) + f",actions={draw(st.sampled_from(('drop', '1', '2,3')))}"


def holds(text: str, headers: dict[str, int], verdicts: dict[int, bool]) -> bool:
    """Whether a packet meets every condition of a rule, said without the order of lookup."""
    match = parse_rule(text).match
    return all(headers[c.field.name] & c.mask == c.value for c in match.headers) and (
        match.program is None or verdicts[match.program]
    )


@given(st.lists(small_rules(), max_size=8), frames(), st.sampled_from(PORTS), st.tuples(*[st.booleans()] * 3))
def test_the_winner_is_the_first_that_holds(
    texts: list[str], frame: bytes, in_port: int, said: tuple[bool, bool, bool]
) -> None:
    """Programs without state: then the winner can be found by asking every program beforehand."""
    verdicts = dict(enumerate(said, 1))
    switch = switch_of(*texts, **{f"p{number}": always(verdict) for number, verdict in verdicts.items()})
    decision = switch.decide(frame, in_port, 0)
    headers = parse(frame, in_port)
    if headers is None:
        assert decision.drop is Drop.RUNT
        return
    winners = [e for e in switch.tables.ranked() if holds(print_rule(e.rule), headers, verdicts)]
    assert decision.entries == tuple(winners[:1])
    assert (decision.drop is Drop.MISS) == (not winners)
    assert decision.verdicts.items() <= verdicts.items()
    assert switch.counters.packets.total() + switch.counters.drops[Drop.MISS] == 1


# ---- several tables


def web(**changes: Any) -> bytes:
    """WEB with other fields: vlan=(tpid, vid), ttl, tos, dst, dport."""
    link = Ether(dst=changes.get("dst", "02:00:00:00:00:01"), src="02:00:00:00:00:02")
    if "vlan" in changes:
        tpid, vid = changes["vlan"]
        link.type = tpid
        link /= Dot1Q(vlan=vid)
    ip = IP(src="10.0.0.9", dst="10.0.0.1", ttl=changes.get("ttl", 64), tos=changes.get("tos", 0))
    return bytes(link / ip / TCP(dport=changes.get("dport", 80)))


def set_field(name: str, value: int) -> SetField:
    return SetField(BY_NAME[name], value)


def test_the_helper_of_these_tests() -> None:
    assert web() == WEB


def test_a_packet_goes_from_table_to_table() -> None:
    switch = switch_of(
        rule("tcp", Output(1), GotoTable(4)),
        rule("priority=2,udp", Output(2), table=4),
        rule("priority=1", Output(3), GotoTable(253), table=4),
        rule("", Output(2), table=253),
        rule("", Output(1), table=5),
    )
    decision = switch.decide(WEB, 9, 0)
    assert [(entry.rule.table, entry.rule.priority) for entry in decision.entries] == [(0, 32768), (4, 1), (253, 32768)]
    assert decision.sent == ((1, WEB), (3, WEB), (2, WEB))
    assert switch.counters.packets == {0: 1, 2: 1, 3: 1}


def test_a_miss_in_a_later_table_keeps_what_was_sent_and_drops_the_rest() -> None:
    switch = switch_of(rule("", Output(2), WriteActions((Output(3),)), GotoTable(1)))
    decision = switch.decide(WEB, 1, 0)
    assert (decision.sent, decision.drop) == (((2, WEB),), None)
    assert not switch.counters.drops


def test_a_miss_in_a_later_table_does_not_execute_the_action_set() -> None:
    switch = switch_of(rule("ip", WriteActions((Output(3),)), set_field("ip_dscp", 1), GotoTable(1)))
    decision = switch.decide(WEB, 1, 0)
    assert (len(decision.entries), decision.sent, decision.drop) == (1, (), Drop.MISS)


def test_what_went_wrong_first_is_why_it_was_dropped() -> None:
    switch = switch_of(rule("", Output(1), GotoTable(1)))
    assert switch.decide(WEB, 1, 0).drop is Drop.TO_INGRESS
    assert switch.counters.drops == {Drop.TO_INGRESS: 1}


def test_headers_are_read_again_at_the_next_table() -> None:
    switch = switch_of(
        rule("ip", set_field("eth_dst", 5), PushVlan(0x8100), GotoTable(1)),
        rule("priority=9,dl_dst=00:00:00:00:00:05,ip", Output(2), table=1),
        rule("priority=8", Output(3), table=1),
    )
    assert outputs(switch.decide(WEB, 1, 0)) == (2,)


METADATA: dict[str, tuple[list[tuple[int, int]], int]] = {
    "nothing written": ([], 0),
    "all bits": ([(0xDEAD_BEEF_0000_0001, 2**64 - 1)], 0xDEAD_BEEF_0000_0001),
    "under a mask": ([(0xFFFF, 0x0F0F)], 0x0F0F),
    "bits outside the mask stay": ([(0xAAAA, 0xFFFF), (0x0505, 0x00FF)], 0xAA05),
    "written over": ([(3, 3), (0, 1)], 2),
}


@pytest.mark.parametrize(("writes", "metadata"), METADATA.values(), ids=METADATA.keys())
def test_metadata(writes: list[tuple[int, int]], metadata: int) -> None:
    last = len(writes)
    rules = [
        rule("", WriteMetadata(value, mask), GotoTable(table + 1), table=table)
        for table, (value, mask) in enumerate(writes)
    ]
    switch = switch_of(
        *rules,
        Rule(match(f"metadata={metadata:#x}"), (ApplyActions((Output(2), Output(CONTROLLER))),), table=last),
    )
    decision = switch.decide(WEB, 1, 0)
    assert outputs(decision) == (2,)
    assert decision.packet_ins[0].metadata == metadata


def test_metadata_does_not_outlive_the_packet() -> None:
    switch = switch_of(
        rule("metadata=7", Output(3)),
        rule("priority=1", WriteMetadata(7, 7), Output(2), GotoTable(1)),
        rule("", table=1),
    )
    assert [outputs(switch.decide(WEB, 1, now)) for now in range(2)] == [(2,), (2,)]


def test_a_verdict_holds_across_tables() -> None:
    switch = switch_of(
        rule("priority=2,filter_prog=1", Output(1)),
        rule("priority=1,ip", set_field("ip_dscp", 9), GotoTable(1)),
        rule("priority=2,filter_prog=1", Output(2), table=1),
        rule("priority=1,filter_prog=2", Output(3), table=1),
        p1=lambda frame, in_port, now: frame == web(tos=9 << 2),
        p2=lambda frame, in_port, now: frame == web(tos=9 << 2),
    )
    decision = switch.decide(WEB, 9, 0)
    assert outputs(decision) == (3,)
    assert list(decision.verdicts.items()) == [(1, False), (2, True)]
    assert switch.counters.runs == {1: 1, 2: 1}


# ---- observers


def observed(*observers: tuple[int, str], rules: tuple[Rule, ...], **programs: FilterProgram) -> ReferenceSwitch:
    switch = switch_of(*rules, **programs)
    for table, text in observers:
        switch.tables.observe(Observer(table, match(text)))
    return switch


def test_observers_run_before_the_lookup_by_id() -> None:
    switch = observed(
        (0, "tcp,filter_prog=3"),
        (0, "filter_prog=2"),
        (0, "udp,filter_prog=4"),
        rules=(rule("filter_prog=1", Output(2)),),
        **{f"p{number}": always(1) for number in (1, 2, 3, 4)},
    )
    decision = switch.decide(WEB, 1, 0)
    assert (list(decision.verdicts), outputs(decision)) == ([2, 3, 1], (2,))


def test_what_an_observer_said_is_what_a_rule_goes_by() -> None:
    verdicts = iter([0, 1])
    switch = observed(
        (0, "filter_prog=1"),
        (0, "tcp,filter_prog=1"),
        (1, "filter_prog=1"),
        rules=(
            rule("", GotoTable(1)),
            rule("filter_prog=1", Output(2), table=1),
            rule("priority=1", Output(3), table=1),
        ),
        p1=lambda frame, in_port, now: next(verdicts),
    )
    assert outputs(switch.decide(WEB, 1, 0)) == (3,)
    assert outputs(switch.decide(WEB, 1, 0)) == (2,)
    assert switch.counters.runs == {1: 2}


def test_observers_of_a_table_see_what_enters_it() -> None:
    seen: list[bytes] = []
    switch = observed(
        (1, "filter_prog=1"),
        rules=(rule("tcp", set_field("ip_dscp", 9), GotoTable(1)),),
        p1=lambda frame, in_port, now: len(seen.append(frame) or ()),
    )
    switch.decide(frame_to("10.0.0.1", 53, UDP), 1, 0)
    assert seen == []
    assert switch.decide(WEB, 1, 0).drop is Drop.MISS
    assert seen == [web(tos=9 << 2)]


def test_an_observer_that_is_not_loaded() -> None:
    switch = observed((0, "filter_prog=7"), rules=(rule("", Output(2)),))
    with pytest.raises(BadMatch, match="no program 7 is loaded"):
        switch.decide(WEB, 1, 0)


# ---- actions


def test_applied_actions_are_done_in_order() -> None:
    switch = switch_of(
        rule("ip", Output(1), set_field("ip_dscp", 1), Output(2), set_field("ip_dscp", 2), PushVlan(0x8100), Output(3))
    )
    decision = switch.decide(WEB, 9, 0)
    assert decision.sent == ((1, WEB), (2, web(tos=4)), (3, web(tos=8, vlan=(0x8100, 0))))


LABELLED = WEB[:12] + bytes.fromhex("8847 00005109") + WEB[14:]
CUT = WEB[:12] + bytes.fromhex("8847 0000")
REWRITES: dict[str, tuple[str, bytes, tuple[Action, ...], bytes]] = {
    "set_field": ("tcp", WEB, (set_field("eth_dst", 0x0A0000000003), set_field("tcp_dst", 81)),
        web(dst="0a:00:00:00:00:03", dport=81)),
    "push_vlan": ("", WEB, (PushVlan(0x88A8), set_field("vlan_vid", 0x1007)), web(vlan=(0x88A8, 7))),
    "pop_vlan": ("vlan_vid=0x1007", web(vlan=(0x8100, 7)), (PopVlan(),), WEB),
    "dec_ttl": ("ip", web(ttl=64), (DecTtl(),), web(ttl=63)),
    "set_ttl": ("ip", web(ttl=64), (SetTtl(3),), web(ttl=3)),
    "dec_ttl without a TTL": ("ip", WEB[:20], (DecTtl(), SetTtl(9)), WEB[:20]),
    "dec_mpls_ttl without a label": ("mpls", CUT, (DecMplsTtl(), SetMplsTtl(3)), CUT),
    "push_mpls": ("", WEB, (PushMpls(0x8847), DecMplsTtl(), set_field("mpls_label", 5)),
        WEB[:12] + bytes.fromhex("8847 0000513f") + WEB[14:]),
    "pop_mpls": ("mpls", LABELLED, (PopMpls(0x0800),), WEB),
    "copy_ttl_out": ("mpls", LABELLED, (CopyTtlOut(),), LABELLED[:17] + b"\x40" + LABELLED[18:]),
    "copy_ttl_in": ("mpls", LABELLED, (CopyTtlIn(), PopMpls(0x0800)), web(ttl=9)),
    "set_mpls_ttl": ("", WEB, (PushMpls(0x8847), SetMplsTtl(9)), WEB[:12] + bytes.fromhex("8847 00000109") + WEB[14:]),
}  # fmt: skip


@pytest.mark.parametrize("how", ["applied", "written", "in a bucket", "of a packet-out"])
@pytest.mark.parametrize(("text", "frame", "actions", "sent"), REWRITES.values(), ids=REWRITES.keys())
def test_rewriting(how: str, text: str, frame: bytes, actions: tuple[Action, ...], sent: bytes) -> None:
    """Actions that are in the order of a set mean the same applied and in a set."""
    actions = (*actions, Output(2))
    parts: dict[str, tuple[Rule | GroupMod, ...]] = {
        "applied": (rule(text, *actions),),
        "written": (rule("", WriteActions(actions)),),
        "in a bucket": (group(1, GroupType.INDIRECT, bucket(*actions)), rule("", Group(1))),
        "of a packet-out": (),
    }
    switch = switch_of(*parts[how])
    decision = switch.execute(actions, frame, 1, 0) if how == "of a packet-out" else switch.decide(frame, 1, 0)
    assert decision.sent == ((2, sent),)


def test_what_happens_to_a_frame_is_counted_as_it_is_then() -> None:
    switch = switch_of(
        rule("", PushVlan(0x8100), GotoTable(1)),
        group(1, GroupType.ALL, bucket(PushVlan(0x8100), Output(2))),
        rule("", PushVlan(0x8100), Group(1), GotoTable(2), table=1),
    )
    size = len(WEB)
    assert switch.decide(WEB, 1, 0).drop is None
    assert switch.counters.bytes == {0: size, 3: size + 4, 1: size + 8, 2: size + 8}
    assert set(switch.counters.packets.values()) == {1}


SETS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], tuple[tuple[int, bytes], ...]]] = {
    "executed at the end": ((WriteActions((Output(2),)),), (), ((2, WEB),)),
    "after what is applied": ((WriteActions((Output(2),)),), (Output(3),), ((3, WEB), (2, WEB))),
    "changed bytes": ((WriteActions((Output(2),)), set_field("ip_dscp", 1)), (), ((2, web(tos=4)),)),
    "the last output": ((WriteActions((Output(1), Output(2))),), (WriteActions((Output(3),)),), ((3, WEB),)),
    "the last of a field": (
        (WriteActions((set_field("ip_dscp", 1), set_field("ip_ecn", 3), Output(2))),),
        (WriteActions((set_field("ip_dscp", 2),)),),
        ((2, web(tos=2 << 2 | 3)),),
    ),
    "the last of a kind": (
        (WriteActions((Output(2), SetTtl(7))),), (WriteActions((SetTtl(8),)),), ((2, web(ttl=8)),),
    ),
    "cleared": ((WriteActions((Output(2),)),), (ClearActions(),), ()),
    "cleared before it is written": (
        (WriteActions((Output(2), SetTtl(7))),), (ClearActions(), WriteActions((Output(3),))), ((3, WEB),),
    ),
    "in its own order": (
        (WriteActions((Output(2), set_field("vlan_vid", 0x1005), PushVlan(0x8100), PopVlan(), DecTtl())),), (),
        ((2, web(vlan=(0x8100, 5), ttl=63)),),
    ),
    "dec_ttl, then set_ttl": ((WriteActions((SetTtl(9), DecTtl(), Output(2))),), (), ((2, web(ttl=9)),)),
    "a group voids the output": ((WriteActions((Output(3), Group(1))),), (), ((2, WEB),)),
    "written later, too": ((WriteActions((Group(1),)),), (WriteActions((Output(3),)),), ((2, WEB),)),
    "a group gets what the set changed": (
        (WriteActions((Group(1), set_field("ip_dscp", 1))),), (), ((2, web(tos=4)),),
    ),
    "without an output": ((WriteActions((SetTtl(9),)),), (), ()),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second", "sent"), SETS.values(), ids=SETS.keys())
def test_the_action_set(first: tuple[Any, ...], second: tuple[Any, ...], sent: tuple[tuple[int, bytes], ...]) -> None:
    switch = switch_of(group(1, GroupType.ALL, bucket(2)), rule("ip", *first, GotoTable(1)), rule("", *second, table=1))
    assert switch.decide(WEB, 9, 0).sent == sent


def test_an_action_set_starts_empty_for_each_packet() -> None:
    switch = switch_of(rule("tcp", WriteActions((Output(2),)), GotoTable(1)), rule("udp"))
    assert switch.decide(WEB, 1, 0).drop is Drop.MISS
    assert switch.decide(frame_to("10.0.0.1", 53, UDP), 1, 0).sent == ()


# ---- packet-ins

TO_CONTROLLER = {
    "a rule": (rule("priority=5,tcp", Output(CONTROLLER)), PacketInReason.ACTION),
    "the table-miss entry": (rule("priority=0", Output(CONTROLLER)), PacketInReason.NO_MATCH),
    "lowest priority, with a condition": (rule("priority=0,tcp", Output(CONTROLLER)), PacketInReason.ACTION),
    "no condition, higher priority": (rule("priority=1", Output(CONTROLLER)), PacketInReason.ACTION),
    "the table-miss entry, written": (rule("priority=0", WriteActions((Output(CONTROLLER),))), PacketInReason.NO_MATCH),
    "the table-miss entry, in a group": (rule("priority=0", Group(1)), PacketInReason.NO_MATCH),
    "a rule, in a group": (rule("priority=7", Group(1)), PacketInReason.ACTION),
}


@pytest.mark.parametrize(("made", "reason"), TO_CONTROLLER.values(), ids=TO_CONTROLLER.keys())
def test_packets_to_the_controller(made: Rule, reason: PacketInReason) -> None:
    switch = switch_of(group(1, GroupType.ALL, bucket(CONTROLLER)), made)
    decision = switch.decide(WEB, 3, 0)
    (entry,) = switch.tables
    assert decision.packet_ins == (PacketIn(reason, entry, 0, 3, 0, WEB),)
    assert (decision.sent, decision.drop) == ((), None)


def test_the_controller_gets_the_frame_as_it_is_then() -> None:
    switch = switch_of(
        rule("ip", Output(CONTROLLER), set_field("ip_dscp", 1), WriteMetadata(5, 5), GotoTable(3)),
        rule("", Output(CONTROLLER), WriteActions((SetTtl(9), Output(CONTROLLER))), WriteMetadata(8, 8), table=3),
    )
    decision = switch.decide(WEB, 1, 0)
    first, second = switch.tables
    action = PacketInReason.ACTION
    assert decision.packet_ins == (
        PacketIn(action, first, 0, 1, 0, WEB),
        PacketIn(action, second, 3, 1, 5, web(tos=4)),
        PacketIn(action, second, 3, 1, 13, web(tos=4, ttl=9)),
    )


TTL_CASES: dict[str, tuple[int, tuple[Any, ...], tuple[tuple[int, bytes], ...], bool]] = {
    "2 is the last that passes": (2, (DecTtl(), Output(2)), ((2, web(ttl=1)),), False),
    "1": (1, (DecTtl(), Output(2)), (), True),
    "0": (0, (DecTtl(), Output(2)), (), True),
    "what was sent before": (1, (Output(3), DecTtl(), Output(2)), ((3, web(ttl=1)),), True),
    "no later table": (1, (DecTtl(), GotoTable(1)), (), True),
    "no action set": (1, (DecTtl(), WriteActions((Output(2),))), (), True),
    "in an action set": (1, (WriteActions((DecTtl(), Output(2))),), (), True),
    "in an action set, behind what was applied": (
        1, (Output(3), WriteActions((DecTtl(), Group(1)))), ((3, web(ttl=1)),), True,
    ),
    "set to 1 before": (64, (SetTtl(1), DecTtl(), Output(2)), (), True),
}  # fmt: skip


@pytest.mark.parametrize(("ttl", "parts", "sent", "invalid"), TTL_CASES.values(), ids=TTL_CASES.keys())
def test_an_invalid_ttl_ends_the_packet(
    ttl: int, parts: tuple[Any, ...], sent: tuple[tuple[int, bytes], ...], invalid: bool
) -> None:
    switch = switch_of(group(1, GroupType.ALL, bucket(2)), rule("ip", *parts), rule("", Output(2), table=1))
    decision = switch.decide(web(ttl=ttl), 1, 0)
    assert decision.sent == sent
    as_it_was = web(ttl=1 if ttl == 64 else ttl)
    reported = (PacketIn(PacketInReason.INVALID_TTL, decision.entries[0], 0, 1, 0, as_it_was),)
    assert decision.packet_ins == (reported if invalid else ())
    assert len(decision.entries) == 1
    assert decision.drop is (Drop.INVALID_TTL if invalid and not sent else None)
    assert switch.counters.drops == ({Drop.INVALID_TTL: 1} if invalid and not sent else {})


def test_an_invalid_ttl_in_a_bucket_ends_the_bucket_only() -> None:
    switch = switch_of(
        group(1, GroupType.ALL, bucket(DecTtl(), Output(1)), bucket(2)), rule("", Group(1), Output(3), GotoTable(1))
    )
    frame = web(ttl=1)
    decision = switch.decide(frame, 9, 0)
    assert decision.sent == ((2, frame), (3, frame))
    assert [packet.reason for packet in decision.packet_ins] == [PacketInReason.INVALID_TTL]
    assert decision.drop is None
    assert switch.counters.packets == dict.fromkeys(range(4), 1)


def test_an_invalid_ttl_of_a_label() -> None:
    frame = WEB[:12] + bytes.fromhex("8847 00005101") + WEB[14:]
    decision = switch_of(rule("mpls", DecMplsTtl(), Output(2))).decide(frame, 1, 0)
    assert [(packet.reason, packet.frame) for packet in decision.packet_ins] == [(PacketInReason.INVALID_TTL, frame)]
    assert (decision.sent, decision.drop) == ((), Drop.INVALID_TTL)


# ---- groups


def test_a_bucket_works_on_a_copy() -> None:
    switch = switch_of(
        group(1, GroupType.ALL, bucket(set_field("ip_dscp", 1), Output(1)), bucket(DecTtl(), Output(2)), bucket(3)),
        rule("", Group(1), Output(4), GotoTable(1)),
        rule("ip,nw_tos=0", Output(5), table=1),
        ports=dict.fromkeys(range(1, 6), PortState()),
    )
    decision = switch.decide(WEB, 9, 0)
    assert decision.sent == ((1, web(tos=4)), (2, web(ttl=63)), (3, WEB), (4, WEB), (5, WEB))


def test_a_bucket_is_an_action_set() -> None:
    switch = switch_of(
        group(2, GroupType.ALL, bucket(2)),
        group(1, GroupType.ALL, bucket(1, Output(3), DecTtl(), SetTtl(7)), bucket(1, Group(2))),
        rule("", Group(1)),
    )
    assert switch.decide(WEB, 9, 0).sent == ((3, web(ttl=7)), (2, WEB))


def test_an_empty_group_sends_nothing() -> None:
    switch = switch_of(group(1, GroupType.ALL), rule("", Group(1)))
    decision = switch.decide(WEB, 9, 0)
    assert (decision.sent, decision.drop) == ((), None)
    assert switch.counters.packets == {0: 1, 1: 1}


DOWN = PortState(live=False)
FAILOVER: dict[str, tuple[dict[int, PortState], tuple[int, ...]]] = {
    "all up": (UP, (1,)),
    "first down": ({**UP, 1: DOWN}, (2,)),
    "first gone": ({2: PortState(), 3: PortState()}, (2,)),
    "two down": ({**UP, 1: DOWN, 2: DOWN}, (3,)),
    "all down": (dict.fromkeys(UP, DOWN), ()),
}


@pytest.mark.parametrize(("ports", "sent_to"), FAILOVER.values(), ids=FAILOVER.keys())
@pytest.mark.parametrize("watching", ["port", "group", "either"])
def test_fast_failover(ports: dict[int, PortState], sent_to: tuple[int, ...], watching: str) -> None:
    """A bucket that watches nothing is never live there; watching a group is watching its buckets."""
    below = [group(port, GroupType.FAST_FAILOVER, bucket(9, watch_port=port), bucket(9)) for port in PORTS]
    dead = group(7, GroupType.FAST_FAILOVER, bucket(9))
    watch: dict[str, Callable[[int], dict[str, int]]] = {
        "port": lambda port: {"watch_port": port},
        "group": lambda port: {"watch_group": port},
        "either": lambda port: {"watch_port": port, "watch_group": 7},
    }
    buckets = [bucket(9)] + [bucket(port, **watch[watching](port)) for port in PORTS]
    switch = switch_of(*below, dead, group(8, GroupType.FAST_FAILOVER, *buckets), rule("", Group(8)), ports=ports)
    decision = switch.decide(WEB, 99, 0)
    assert (outputs(decision), decision.drop) == (sent_to, None)
    entry = switch.tables.groups[8]
    assert switch.counters.packets[entry.slot] == 1
    assert [switch.counters.packets[slot] for slot in entry.slots] == [0, *(int(port in sent_to) for port in PORTS)]


WATCHED = {
    "empty": (group(1, GroupType.ALL), False),
    "all": (group(1, GroupType.ALL, bucket(9)), True),
    "select": (group(1, GroupType.SELECT, bucket(9, weight=0)), True),
    "select of what is down": (group(1, GroupType.SELECT, bucket(9, watch_port=3)), False),
    "failover, unwatched": (group(1, GroupType.FAST_FAILOVER, bucket(9)), False),
    "failover, up": (group(1, GroupType.FAST_FAILOVER, bucket(9), bucket(9, watch_port=1)), True),
}


@pytest.mark.parametrize(("watched", "live"), WATCHED.values(), ids=WATCHED.keys())
def test_a_watched_group_is_live_with_a_live_bucket(watched: GroupMod, live: bool) -> None:
    switch = switch_of(
        watched,
        group(2, GroupType.FAST_FAILOVER, bucket(2, watch_group=1)),
        rule("", Group(2)),
        ports={**UP, 3: DOWN},
    )
    assert outputs(switch.decide(WEB, 9, 0)) == ((2,) if live else ())


def select(*buckets: Bucket, ports: dict[int, PortState] = UP) -> ReferenceSwitch:
    return switch_of(group(1, GroupType.SELECT, *buckets), rule("", Group(1)), ports=ports)


@given(st.one_of(frames(), every_frame()), st.lists(st.sampled_from((0, 1, 2, 7, 65535)), max_size=5))
def test_select_goes_by_hash_and_weight(frame: bytes, weights: list[int]) -> None:
    """The hash cuts the range of 32 bits into parts as wide as the weights."""
    headers = parse(frame, 9)
    if headers is None:
        return
    ports = dict.fromkeys(range(len(weights)), PortState())
    switch = select(*(bucket(port, weight=weight) for port, weight in enumerate(weights)), ports=ports)
    sent_to = outputs(switch.decide(frame, 9, 0))
    if not sum(weights):
        assert sent_to == ()
        return
    ends = [sum(weights[: port + 1]) for port in ports]
    share = selection_hash(headers) / 2**32
    assert sent_to == (next(port for port, end in enumerate(ends) if share < end / ends[-1]),)


def test_select_leaves_out_what_is_dead_or_weighs_nothing() -> None:
    buckets = (bucket(1, watch_port=1), bucket(2, weight=0), bucket(3))
    frames_of_flows = [web(dport=port) for port in range(60)]
    both = select(*buckets)
    assert {outputs(both.decide(frame, 9, 0)) for frame in frames_of_flows} == {(1,), (3,)}
    one = select(*buckets, ports={**UP, 1: DOWN})
    assert {outputs(one.decide(frame, 9, 0)) for frame in frames_of_flows} == {(3,)}
    none = select(bucket(1, watch_port=1), ports={1: DOWN})
    assert none.decide(WEB, 9, 0) == Decision(tuple(none.tables))
    assert none.counters.packets == {0: 1, 2: 1}


def test_select_goes_by_the_frame_as_it_is_then() -> None:
    buckets = [bucket(port) for port in PORTS]
    for dport in range(20):
        plain = select(*buckets).decide(web(dport=dport), 9, 0)
        rewriting = switch_of(
            group(1, GroupType.SELECT, *buckets), rule("tcp", set_field("tcp_dst", dport), Group(1))
        ).decide(WEB, 9, 0)
        assert rewriting.sent == plain.sent


# ---- meters


def metered(*bands: Band, packets: bool = True) -> ReferenceSwitch:
    return switch_of(meter(1, *bands, packets=packets), rule("", Meter(1), Output(2)))


def passed(switch: ReferenceSwitch, *times: int, frame: bytes = WEB) -> list[int]:
    """Which of the frames at these times were sent, 1 or 0 each."""
    return [len(switch.decide(frame, 1, now).sent) for now in times]


METERED: dict[str, tuple[Band, list[int], list[int]]] = {
    "a burst, then the rate": (Band(2, 3), [0, 0, 0, 0, SECOND // 2, SECOND // 2], [1, 1, 1, 0, 1, 0]),
    "the burst is a second of the rate by default": (Band(2), [0, 0, 0], [1, 1, 0]),
    "tokens are kept in parts": (Band(1), [0, SECOND // 2, SECOND - 1, SECOND], [1, 0, 0, 1]),
    "never more than the burst": (Band(1, 2), [0, 0, 100 * SECOND] + [100 * SECOND] * 2, [1, 1, 1, 1, 0]),
    "time that goes back is no time": (Band(1), [SECOND, 0, SECOND - 1, 2 * SECOND], [1, 0, 0, 1]),
    "rate 0": (Band(0), [0, 10 * SECOND], [0, 0]),
    "rate 0 with a burst": (Band(0, 2), [0, SECOND, 10 * SECOND, 1000 * SECOND], [1, 1, 0, 0]),
}


@pytest.mark.parametrize(("band", "times", "sent"), METERED.values(), ids=METERED.keys())
def test_a_band_in_packets(band: Band, times: list[int], sent: list[int]) -> None:
    switch = metered(band)
    assert passed(switch, *times) == sent
    dropped = sent.count(0)
    assert switch.counters.drops == Counter({Drop.METER: dropped})
    assert switch.counters.meter_packets == {0: len(times)}
    assert switch.counters.meter_bytes == {0: len(times) * len(WEB)}
    assert switch.counters.band_packets == Counter({(0, 0): dropped})
    assert switch.counters.band_bytes == Counter({(0, 0): dropped * len(WEB)})


def test_a_band_in_kilobits() -> None:
    frame = WEB + bytes(125 - len(WEB))
    switch = metered(Band(1, 3), packets=False)
    assert passed(switch, 0, 0, 0, 0, SECOND, SECOND, frame=frame) == [1, 1, 1, 0, 1, 0]


def test_every_band_that_has_the_tokens_is_charged() -> None:
    switch = metered(Band(1, 1), Band(2, 3))
    assert passed(switch, 0, 0, 0, 0) == [1, 0, 0, 0]
    # The second band paid for what the first one dropped, and the last packet exceeds both: the faster band counts it.
    assert switch.counters.band_packets == {(0, 0): 2, (0, 1): 1}


def test_of_bands_as_fast_the_first_counts() -> None:
    switch = metered(Band(1), Band(1))
    assert passed(switch, 0, 0) == [1, 0]
    assert switch.counters.band_packets == {(0, 0): 1}


def test_a_meter_without_bands_counts() -> None:
    switch = metered()
    assert passed(switch, 0, 0) == [1, 1]
    assert switch.counters.meter_packets == {0: 2}


def test_a_meter_comes_before_the_actions_of_its_rule_and_after_those_of_others() -> None:
    switch = switch_of(
        meter(1, Band(0)),
        rule("", PushVlan(0x8100), Output(3), WriteActions((Output(2),)), GotoTable(1)),
        rule("", Meter(1), Output(1), table=1),
    )
    decision = switch.decide(WEB, 9, 0)
    assert (decision.sent, len(decision.entries), decision.drop) == (((3, web(vlan=(0x8100, 0))),), 2, None)
    assert switch.counters.band_bytes == {(0, 0): len(WEB) + 4}


def test_rules_share_a_meter() -> None:
    switch = switch_of(
        meter(1, Band(1), packets=True), rule("tcp", Meter(1), Output(2)), rule("udp", Meter(1), Output(3))
    )
    assert outputs(switch.decide(WEB, 1, 0)) == (2,)
    assert switch.decide(frame_to("10.0.0.1", 53, UDP), 1, 0).drop is Drop.METER


def test_a_modified_meter_starts_with_full_buckets() -> None:
    switch = metered(Band(1))
    assert passed(switch, 0, 0) == [1, 0]
    switch.tables.apply_meter(MeterMod(MeterCommand.MODIFY, MeterSpec(1, (Band(1),), True)))
    assert passed(switch, 0, 0) == [1, 0]


def test_so_does_a_new_meter_in_the_slot_of_an_old_one() -> None:
    switch = metered(Band(1))
    assert passed(switch, 0, 0) == [1, 0]
    switch.tables.apply_meter(MeterMod(MeterCommand.DELETE, MeterSpec(1, ())))
    switch.tables.release_meters([0])
    switch.tables.apply_meter(meter(1, Band(1), packets=True))
    switch.tables.apply(FlowMod(Command.ADD, rule("", Meter(1), Output(2))))
    assert switch.tables.meters[1].slot == 0
    assert passed(switch, 0, 0) == [1, 0]


# ---- packet-outs


def test_a_packet_out_meets_no_table() -> None:
    switch = switch_of(rule("", Output(1)))
    decision = switch.execute([Output(2), SetTtl(9), Output(3), Output(CONTROLLER)], WEB, CONTROLLER, 0)
    told = PacketIn(PacketInReason.ACTION, None, 0, CONTROLLER, 0, web(ttl=9))
    assert decision == Decision(sent=((2, WEB), (3, web(ttl=9))), packet_ins=(told,))
    assert (switch.counters.packets.total(), switch.counters.sent) == (0, {2: 1, 3: 1})


FROM: dict[str, tuple[int, int, tuple[int, ...], Drop | None]] = {
    "flood": (CONTROLLER, FLOOD, (1, 2, 3), None),
    "flood, from a port": (2, FLOOD, (1, 3), None),
    "back": (2, IN_PORT, (2,), None),
    "back to the controller": (CONTROLLER, IN_PORT, (), Drop.NO_PORT),
    "to the ingress port": (2, 2, (), Drop.TO_INGRESS),
}


@pytest.mark.parametrize(("in_port", "port", "sent_to", "drop"), FROM.values(), ids=FROM.keys())
def test_outputs_of_a_packet_out(in_port: int, port: int, sent_to: tuple[int, ...], drop: Drop | None) -> None:
    decision = switch_of().execute([Output(port)], WEB, in_port, 0)
    assert (outputs(decision), decision.drop) == (sent_to, drop)


def test_a_packet_out_through_the_tables() -> None:
    switch = switch_of(
        rule(f"priority=2,in_port={CONTROLLER},ip,nw_tos=4,filter_prog=1", SetTtl(9), Output(2)),
        rule("priority=0", Output(CONTROLLER)),
        p1=always(1),
    )
    actions = [Output(TABLE), set_field("ip_dscp", 1), Output(TABLE), Output(3), Output(CONTROLLER)]
    decision = switch.execute(actions, WEB, CONTROLLER, 0)
    rewriting, missing = switch.tables.ranked()
    assert decision.entries == (missing, rewriting)
    assert decision.sent == ((2, web(tos=4, ttl=9)), (3, web(tos=4)))
    assert decision.packet_ins == (
        PacketIn(PacketInReason.NO_MATCH, missing, 0, CONTROLLER, 0, WEB),
        PacketIn(PacketInReason.ACTION, None, 0, CONTROLLER, 0, web(tos=4)),
    )
    assert decision.verdicts == {1: True}


def test_a_packet_out_that_misses_in_the_tables_is_one_drop() -> None:
    switch = switch_of()
    assert switch.execute([Output(TABLE)], WEB, CONTROLLER, 0).drop is Drop.MISS
    assert switch.counters.drops == {Drop.MISS: 1}
    assert switch.execute([Output(TABLE), Output(3)], WEB, CONTROLLER, 0).drop is None
    assert switch.counters.drops == {Drop.MISS: 2}
    assert switch.execute([Output(TABLE), Output(9)], WEB, CONTROLLER, 0).drop is Drop.NO_PORT
    assert switch.counters.drops == {Drop.MISS: 3, Drop.NO_PORT: 1}
    assert switch.execute([], WEB, CONTROLLER, 0) == Decision()


def test_a_packet_out_with_an_invalid_ttl() -> None:
    decision = switch_of().execute([Output(2), DecTtl(), Output(3)], web(ttl=1), 1, 0)
    told = PacketIn(PacketInReason.INVALID_TTL, None, 0, 1, 0, web(ttl=1))
    assert decision == Decision(sent=((2, web(ttl=1)),), packet_ins=(told,))


def test_a_packet_out_that_cannot_be() -> None:
    with pytest.raises(BadAction) as refused:
        switch_of().execute([Group(1)], WEB, 1, 0)
    assert refused.value.reason == "bad-out-group"


def test_a_packet_out_to_a_group() -> None:
    switch = switch_of(group(1, GroupType.ALL, bucket(1), bucket(2)))
    assert switch.execute([Group(1), Output(3)], WEB, 2, 0).sent == ((1, WEB), (3, WEB))


# ---- one packet is one thing


@given(frames(), st.lists(st.sampled_from((Output(2), DecTtl(), PushVlan(0x8100), SetTtl(1))), max_size=6))
def test_a_packet_out_does_what_a_rule_would_apply(frame: bytes, actions: list[Action]) -> None:
    applied = switch_of(rule("ip", *actions)).decide(frame, 1, 0)
    executed = switch_of().execute(actions, frame, 1, 0)
    assume(applied.drop is not Drop.MISS)
    assert (applied.sent, applied.drop) == (executed.sent, executed.drop)
    assert [told.frame for told in applied.packet_ins] == [told.frame for told in executed.packet_ins]


@given(st.one_of(frames(), every_frame()), st.lists(actions().filter(lambda action: not isinstance(action, Group))))
def test_a_bucket_does_what_an_action_set_would(frame: bytes, chosen: list[Action]) -> None:
    written = switch_of(rule("", WriteActions(tuple(chosen)))).decide(frame, 1, 0)
    grouped = switch_of(group(1, GroupType.INDIRECT, bucket(*chosen)), rule("", Group(1))).decide(frame, 1, 0)
    assert (written.sent, written.drop) == (grouped.sent, grouped.drop)
    assert [told.frame for told in written.packet_ins] == [told.frame for told in grouped.packet_ins]
