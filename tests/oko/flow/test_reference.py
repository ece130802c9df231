"""The reference switch, against the semantics in docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import IP, TCP, UDP, Ether

from oko.errors import BadMatch
from oko.flow.headers import parse
from oko.flow.reference import FilterProgram, Reason, ReferenceSwitch
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule, parse_selection, print_rule
from tests.oko.flow.strategies import ADDRESSES, MACS, PORTS, frames


def tables_of(*texts: str) -> Tables:
    tables = Tables()
    for text in texts:
        tables.apply(FlowMod(Command.ADD, parse_rule(text)))
    return tables


def always(verdict: int) -> FilterProgram:
    return lambda frame, in_port, now: verdict


def switch_of(*texts: str, **programs: FilterProgram) -> ReferenceSwitch:
    """A switch with ports 1, 2 and 3 and the programs p1=…, p2=…"""
    by_id = {int(name[1:]): program for name, program in programs.items()}
    return ReferenceSwitch(tables_of(*texts), by_id, PORTS)


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
    ("frame", "said", "priority", "outputs", "verdicts"), PAPER_CASES.values(), ids=PAPER_CASES.keys()
)
def test_the_table_of_the_paper(
    frame: bytes, said: tuple[int, int], priority: int, outputs: tuple[int, ...], verdicts: dict[int, bool]
) -> None:
    decision = switch_of(*PAPER, p1=always(said[0]), p2=always(said[1])).decide(frame, 2, 0)
    assert decision.entry is not None
    assert decision.entry.rule.priority == priority
    assert (decision.reason, decision.outputs, decision.verdicts) == (Reason.RULE, outputs, verdicts)


def test_a_program_runs_once_per_packet_however_many_rules_name_it() -> None:
    verdicts = iter([0, 1, 1])
    switch = switch_of(
        "priority=3,in_port=1,filter_prog=1,actions=2",
        "priority=2,tcp,filter_prog=1,actions=2",
        "priority=1,filter_prog=1,actions=2",
        p1=lambda frame, in_port, now: next(verdicts),
    )
    assert switch.decide(WEB, 1, 0).reason is Reason.MISS
    decision = switch.decide(WEB, 1, 0)
    assert decision.entry is not None
    assert decision.entry.rule.priority == 3
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
    ("one", "two", "winner"),
    [(0, 0, 0), (1, 1, 2), (0, 1, 3)],
    ids=["older of those without", "older of those with", "younger with a program"],
)
def test_equal_priority(one: int, two: int, winner: int) -> None:
    decision = switch_of(*EQUAL, p1=always(one), p2=always(two)).decide(WEB, 3, 0)
    assert decision.entry is not None
    assert decision.entry.rule == parse_rule(EQUAL[winner])


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
    assert switch.decide(WEB, 1, 0).outputs == (2,)
    with pytest.raises(BadMatch, match="no program 7 is loaded"):
        switch.decide(frame_to("10.0.0.1", 53, UDP), 1, 0)


OUTPUTS = {
    "one": ("2", 1, (2,), 0, 0),
    "several, in order": ("3,2", 1, (3, 2), 0, 0),
    "one twice": ("2,2", 1, (2, 2), 0, 0),
    "drop": ("drop", 1, (), 0, 0),
    "ingress": ("1", 1, (), 1, 0),
    "ingress among others": ("1,2,3", 2, (1, 3), 1, 0),
    "unknown": ("9", 1, (), 0, 1),
    "unknown among others": ("9,2,8", 1, (2,), 0, 2),
    "unknown ingress": ("9", 9, (), 1, 0),
}


@pytest.mark.parametrize(
    ("actions", "in_port", "outputs", "to_ingress", "to_nowhere"), OUTPUTS.values(), ids=OUTPUTS.keys()
)
def test_outputs(actions: str, in_port: int, outputs: tuple[int, ...], to_ingress: int, to_nowhere: int) -> None:
    switch = switch_of(f"actions={actions}")
    assert switch.decide(WEB, in_port, 0).outputs == outputs
    counters = switch.counters
    assert (counters.to_ingress, counters.to_nowhere) == (to_ingress, to_nowhere)
    assert list(counters.sent.elements()) == sorted(outputs, key=outputs.index)


def test_a_miss_drops() -> None:
    switch = switch_of("udp,actions=2")
    decision = switch.decide(WEB, 1, 0)
    assert (decision.reason, decision.entry, decision.outputs) == (Reason.MISS, None, ())
    assert (switch.counters.misses, switch.counters.packets.total()) == (1, 0)


def test_a_runt_meets_no_table_and_no_program() -> None:
    switch = switch_of("filter_prog=1,actions=2", p1=always(1))
    decision = switch.decide(WEB[:13], 1, 0)
    assert (decision.reason, decision.entry, decision.outputs, decision.verdicts) == (Reason.RUNT, None, (), {})
    assert (switch.counters.runts, switch.counters.misses, switch.counters.runs.total()) == (1, 0, 0)


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
    assert switch.decide(WEB, 1, 0).outputs == (2,)
    switch.tables.apply(parse_selection(""))
    assert switch.decide(WEB, 1, 0).reason is Reason.MISS


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
    assert switch.decide(frame, 2, 0).reason is Reason.RULE
    other = bytes(Ether(dst="06:00:00:00:00:01", src="06:00:00:00:00:02", type=0x88B5)) + frame[14:]
    assert switch.decide(other, 1, 0).reason is Reason.MISS


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
        assert decision.reason is Reason.RUNT
        return
    winners = [e for e in switch.tables.ranked() if holds(print_rule(e.rule), headers, verdicts)]
    assert decision.entry == (winners[0] if winners else None)
    assert decision.verdicts.items() <= verdicts.items()
    assert switch.counters.packets.total() + switch.counters.misses == 1
