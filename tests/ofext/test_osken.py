"""What os-ken makes of the extension once `ofext.osken` is imported, byte by byte against our codec."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from os_ken.controller import ofp_event
from os_ken.ofproto import ofproto_v1_3_parser as parser

import ofext
from ofext import osken
from ofext.answers import extension_error
from ofext.extension import (
    COMMANDS,
    EXPERIMENTER,
    FILTER_PROG_CLASS,
    FILTER_PROG_FIELD,
    LIST_REPLIES,
    LIST_REQUESTS,
    Event,
    ProgramLoaded,
    ProgramUnload,
)
from ofext.load import chunks
from ofext.messages import FlowMod, FlowRemoved, Message, decode, encode
from ofext.multipart import FlowStats, FlowStatsReply, MultipartReply, MultipartRequest
from ofext.oxm import Oxm
from tests.ofext.oracles import OSKEN, osken_built, osken_read
from tests.ofext.strategies import of_class

FILTER = Oxm(FILTER_PROG_CLASS, FILTER_PROG_FIELD, (1).to_bytes(4, "big"), None, EXPERIMENTER)
IPV4 = Oxm(0x8000, 5, b"\x08\x00")


def test_a_match_with_the_field_is_built() -> None:
    match = parser.OFPMatch(eth_type=0x800, filter_prog=1)
    message, _ = decode(osken_built(parser.OFPFlowMod(OSKEN, match=match)))
    assert isinstance(message, FlowMod)
    assert set(message.match) == {IPV4, FILTER}


FLOW = FlowStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (IPV4, FILTER), ())
READ: dict[str, tuple[Message, Any]] = {
    "flow stats": (MultipartReply(FlowStatsReply((FLOW,))), lambda message: message.body[0].match),
    "flow removed": (FlowRemoved(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, (IPV4, FILTER)), lambda message: message.match),
}


@pytest.mark.parametrize(("message", "match_of"), READ.values(), ids=READ)
def test_a_match_with_the_field_is_read(message: Message, match_of: Any) -> None:
    match = match_of(osken_read(encode(message)))
    assert (match["eth_type"], match["filter_prog"]) == (0x800, 1)


REQUESTS = {part.cls.__name__: part.cls for part in (*COMMANDS.parts.values(), *LIST_REQUESTS.parts.values())}  # type: ignore[attr-defined]
REPLIES = {cls.__name__: cls for cls in (ProgramLoaded, Event, *LIST_REPLIES.numbers)}


@pytest.mark.parametrize("structure", REQUESTS.values(), ids=REQUESTS)
def test_requests_are_those_of_the_codec(structure: type) -> None:
    @given(of_class(structure))
    def check(content: Any) -> None:
        message = MultipartRequest(content) if structure in LIST_REQUESTS.numbers else content
        assert decode(osken_built(osken.OkoRequest(OSKEN, content))) == (message, 5)

    check()


@pytest.mark.parametrize("structure", REPLIES.values(), ids=REPLIES)
def test_what_a_switch_sends_is_an_event(structure: type) -> None:
    @given(of_class(structure))
    def check(content: Any) -> None:
        listed = structure in LIST_REPLIES.numbers
        read = osken_read(encode(MultipartReply(content, 1) if listed else content, 7))
        assert (read.content, read.flags, read.xid) == (content, int(listed), 7)
        event = ofp_event.ofp_msg_to_ev(read)
        assert type(event) is getattr(osken, f"EventOko{structure.__name__}")
        assert event.msg is read

    check()


def test_a_load_is_its_chunks() -> None:
    elf = bytes(100_000)
    built = [osken_built(request) for request in osken.load_requests(OSKEN, 3, "filter", elf, 2)]
    assert built == [encode(chunk, 5) for chunk in chunks(3, "filter", elf, 2)]


def test_an_error_becomes_an_exception() -> None:
    error = osken.refusal(osken_read(encode(extension_error("unknown-map", "no map", "log"))))
    assert (str(error), error.details) == ("no map", "log")
    with pytest.raises(TypeError):
        osken.refusal(osken_read(encode(ProgramLoaded(1, 0, 0, 0, ""))))


OTHERS: dict[str, Message] = {
    "another experimenter's message": decode(encode(ProgramUnload(1)).replace(b"\xffOKO", b"\xffOKX"))[0],
    "another experimenter's list": decode(
        encode(MultipartReply(REPLIES["ProgramListReply"]())).replace(b"\xffOKO", b"\xffOKX")
    )[0],
    "a command that no switch sends": ProgramUnload(1),
}


@pytest.mark.parametrize("message", OTHERS.values(), ids=OTHERS)
def test_other_messages_stay_os_kens(message: Message) -> None:
    assert type(osken_read(encode(message))).__name__ in ("OFPExperimenter", "OFPExperimenterStatsReply")


def test_nothing_else_here_needs_os_ken() -> None:
    for path in Path(ofext.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert path.stem == "osken" or not any(name.split(".")[0] == "os_ken" for name in names), path
