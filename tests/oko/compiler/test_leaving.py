"""Images that are attached to Open vSwitch: what they leave to it, what they keep from it, and what others never do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from oko.compiler.amendment import amend
from oko.compiler.compile import Compilation, compile_image, compile_tables
from oko.compiler.emission import XDP_PASS
from oko.compiler.image import Image
from oko.compiler.lookup import rules_map
from oko.errors import BadAction
from oko.flow.action import Action, Continue, Output, Pass
from oko.flow.attachment import Attachment, Shims
from oko.flow.drop import Drop
from oko.flow.rule import Command, FlowMod
from oko.flow.shim import SIZE, frame
from oko.flow.tables import Tables
from oko.replay.engine import Decided, KernelEngine, ReferenceEngine, usual
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.strategies import written
from tests.oko.compiler.test_compile import filters_of, loaded
from tests.oko.flow.written import match, rule
from verifier import isa
from verifier.isa import Instruction
from verifier.program import Program

HEAD = bytes.fromhex("020000000001 020000000002")
IPV4 = bytes.fromhex("0800 4500002800000000400600000a0000010a000002 04d2005000000000000000005002000000000000")
TAGS = {"untagged": "", "tagged": "81000005", "service tag": "88a80005", "two tags": "88a80005 81000006"}
PORTS = usual((1, 2))
LOOPBACK = 1


def tagged(tags: str, length: int = 60) -> bytes:
    return (HEAD + bytes.fromhex(tags) + IPV4).ljust(length, b"\0")


PLAIN = tagged("")


def tables_of(*rules: tuple[str, Action | None]) -> Tables:
    """Tables with these rules, each a match and what it does, None to drop."""
    tables = Tables()
    for text, action in rules:
        tables.apply(FlowMod(Command.ADD, rule(text, *([] if action is None else [action]))))
    return tables


def run_both(
    tables: Tables,
    packets: Sequence[tuple[bytes, int]],
    attachment: Attachment,
    shims: Shims = Shims.USED,
    programs: dict[int, Program] | None = None,
) -> list[Decided]:
    """What was decided on (frame, in_port), the same both ways."""
    known = programs or {}
    reference = ReferenceEngine(tables, known, PORTS, runtime(), attachment)
    reference.set_shims(shims)
    decisions = []
    with KernelEngine(tables, known, PORTS, runtime(), attachment) as kernel:
        kernel.set_shims(shims)
        for arrived, in_port in packets:
            decisions.append(kernel.decide(arrived, in_port, 0))
            assert decisions[-1] == reference.decide(arrived, in_port, 0)
    return decisions


@pytest.mark.needs_bpf
@pytest.mark.parametrize("length", [60, 1518])
@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
def test_the_whole_frame_is_behind_the_shim(tags: str, length: int) -> None:
    arrived = tagged(tags, length)
    tables = tables_of(("", Continue(0xABCDEF)))
    (decided,) = run_both(tables, [(arrived, 1)], Attachment())
    assert decided == Decided(0, left=frame(0xABCDEF, arrived))


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    ("shims", "wanted"),
    [
        pytest.param(Shims.USED, Decided(0, left=frame(7, PLAIN)), id="used"),
        pytest.param(Shims.PASSED, Decided(0, left=PLAIN), id="passed"),
        pytest.param(Shims.DROPPED, Decided(0, drop=Drop.SUSPENDED), id="dropped"),
    ],
)
def test_shims_may_be_suspended(shims: Shims, wanted: Decided) -> None:
    assert run_both(tables_of(("in_port=1", Continue(7))), [(PLAIN, 1)], Attachment(), shims) == [wanted]


@pytest.mark.needs_bpf
def test_what_no_rule_decides_is_passed_as_it_came() -> None:
    tables = tables_of(
        ("priority=3,tcp,tp_dst=80", Pass()), ("priority=2,filter_prog=1", Continue(7)), ("priority=1,arp", None)
    )
    arp = HEAD + bytes.fromhex("0806") + bytes(46)
    other = HEAD + bytes.fromhex("88b5") + bytes(46)
    packets = [(PLAIN, 1), (arp, 1), (arp, 1), (other, 1), (other, 1)]
    decisions = run_both(tables, packets, Attachment(), programs={1: filter_program("every_second")})
    assert decisions == [
        Decided(0, left=PLAIN),
        Decided(1, left=frame(7, arp)),
        Decided(2),
        Decided(1, left=frame(7, other)),
        Decided(left=other),
    ]


@pytest.mark.needs_bpf
@pytest.mark.parametrize("text", ["in_port=1", "tcp"], ids=["of the port alone", "with a parser"])
def test_nobody_forges_a_shim(text: str) -> None:
    """Whatever the rules look at. Behind a tag Open vSwitch knows none."""
    forged = frame(7, PLAIN)
    behind = HEAD + bytes.fromhex("81000005") + forged[12:]
    tables = tables_of((text, Output(2)))
    packets = [(forged, 1), (forged[:SIZE], 1), (forged[: SIZE - 1], 2), (behind, 2)]
    first, short, cut, hidden = run_both(tables, packets, Attachment())
    assert first == short == Decided(drop=Drop.FORGED)
    assert (cut.left, hidden.left) == (forged[: SIZE - 1], behind)


@pytest.mark.needs_bpf
@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
def test_frames_that_open_vswitch_would_not_have_received(tags: str) -> None:
    """The kernel takes the outermost tag out of a frame before Open vSwitch sees how long it is."""
    longest = 1518 + (4 if tags else 0)
    packets = [(tagged(tags, longest), 1), (tagged(tags, longest + 1), 1), (tagged(tags, 1600), 2)]
    decisions = run_both(tables_of(("", Continue(7))), packets, Attachment(longest={1: 1518}))
    assert [decided.drop for decided in decisions] == [None, Drop.TOO_LONG, None]


@pytest.mark.needs_bpf
def test_reserved_frames_come_to_no_table() -> None:
    lldp = HEAD + bytes.fromhex("88cc") + bytes(46)
    tables = tables_of(("filter_prog=1", None))
    attachment = Attachment(reserved=(match("in_port=1,dl_type=0x88cc"), match("in_port=2")))
    packets = [(lldp, 1), (PLAIN, 1), (lldp, 2), (PLAIN, 2)]
    decisions = run_both(tables, packets, attachment, programs={1: filter_program("odd_port")})
    assert decisions == [Decided(left=lldp), Decided(0), Decided(left=lldp), Decided(left=PLAIN)]


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    ("limit", "wins"), [pytest.param(1, 1, id="one tag is read"), pytest.param(2, 0, id="two tags are read")]
)
def test_headers_are_read_up_to_the_vlan_limit(limit: int, wins: int) -> None:
    tables = tables_of(("priority=2,tcp", None), ("priority=1,dl_vlan=5,dl_type=0x8100", Continue(7)))
    (decided,) = run_both(tables, [(tagged(TAGS["two tags"]), 1)], Attachment(limit))
    assert decided.slot == wins


EVERYTHING = (
    "tcp actions=output:2",
    "udp actions=set_field:5->udp_src,output:2",
    "arp actions=controller",
    "in_port=1 actions=flood",
)
"""What a bridge of Oko's own does."""


def main_of(image: Image) -> Sequence[Instruction]:
    return image.instructions[: image.functions[0].end]


def returns_pass(image: Image) -> bool:
    """Whether the main function, which decides, can say XDP_PASS."""
    passing = Instruction(isa.ALU64 | isa.MOV | isa.K, 0, 0, 0, XDP_PASS)
    return passing in main_of(image)


def test_no_other_image_leaves_a_packet_to_the_host() -> None:
    """Or packets of the controller would turn up at the loopback device (oko/kernel/inject.py)."""
    ports = {1: 1, 2: 2}
    for replay in (False, True):
        assert not returns_pass(compile_image(written(*EVERYTHING), {}, ports, runtime(), replay=replay))
        attached = compile_image(
            written("arp,actions=drop"), {}, ports, runtime(), attachment=Attachment(), replay=replay
        )
        assert returns_pass(attached)


def test_only_an_attached_bridge_leaves_packets() -> None:
    for action, name in ((Pass(), "pass"), (Continue(7), "continue:7")):
        with pytest.raises(BadAction, match=f"{name}: only a bridge that is attached") as refused:
            compile_image(tables_of(("", action)), {}, {1: 1}, runtime())
        assert refused.value.reason == "bad-type"


@pytest.mark.parametrize(
    "text",
    [
        "table=1,actions=drop",
        "actions=goto_table:1",
        "actions=write_actions(output:1)",
        "ip,actions=dec_ttl,output:1",
        "actions=flood",
        "actions=all",
        "actions=controller",
    ],
)
def test_what_an_attached_bridge_does_not_decide(text: str) -> None:
    with pytest.raises(BadAction, match="all else is to be continued"):
        compile_image(written(text), {}, {1: 1}, runtime(), attachment=Attachment())


@pytest.mark.needs_bpf
def test_the_controller_is_no_ingress() -> None:
    """What comes from the loopback device would be passed to the host."""
    image = compile_image(tables_of(("", Pass())), {}, {1: LOOPBACK + 1}, runtime(), attachment=Attachment())
    with loaded(image) as (found, maps):
        assert found.program.test_run(PLAIN, ingress_ifindex=LOOPBACK).retval != XDP_PASS
        counted = maps["drops"].lookup_percpu(Drop.STRANGER.to_bytes(4, "little")) or ()
    assert sum(int.from_bytes(value[:8], "little") for value in counted) == 1


def test_only_instructions_that_linux_6_1_knows() -> None:
    tables = tables_of(("tcp,filter_prog=1", Continue(7)), ("udp", Pass()))
    programs = filters_of({1: filter_program("every_second")})
    attachment = Attachment(1, (match("arp"),), {1: 1518})
    image = compile_image(tables, programs, {1: 1}, runtime(), attachment=attachment)
    assert not [one for one in image.instructions if one.opcode == isa.JMP32 | isa.JA]


def hosts(first: int, count: int, action: Action) -> list[FlowMod]:
    return [
        FlowMod(Command.ADD, rule(f"dl_dst=02:00:00:00:00:{number:02x}", action))
        for number in range(first, first + count)
    ]


def test_rules_that_leave_packets_change_in_live_maps() -> None:
    """Passing ones and those with other ids: none of them is code."""
    tables = Tables()
    for mod in (*hosts(0, 40, Pass()), *hosts(40, 1, Continue(1))):
        tables.apply(mod)
    compilation = compiled(tables)
    size = len(compilation.image.instructions)
    tables.begin()
    for mod in (*hosts(100, 20, Pass()), *hosts(0, 5, Continue(0x123456)), *hosts(40, 1, Pass())):
        tables.change(mod)
    delta = tables.delta()
    amendment = amend(compilation, delta.added, delta.removed, tables.slots)
    assert amendment is not None
    assert {element.map for element in amendment.elements} == {rules_map(2)}
    tables.commit()
    assert len(compiled(tables).image.instructions) == size


def test_the_first_rule_that_continues_is_code() -> None:
    tables = Tables()
    for mod in hosts(0, 40, Pass()):
        tables.apply(mod)
    compilation = compiled(tables)
    tables.begin()
    tables.change(hosts(0, 1, Continue(1))[0])
    delta = tables.delta()
    assert amend(compilation, delta.added, delta.removed, tables.slots) is None


def compiled(tables: Tables) -> Compilation:
    return compile_tables(tables, {}, {1: 1}, runtime(), attachment=Attachment())
