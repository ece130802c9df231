"""Actions in C against those in Python, byte by byte."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.packet import Packet

from oko.compiler.runtime import FUNCTIONS
from oko.flow import rewrite
from oko.flow.fields import BY_NAME, Field
from oko.flow.headers import offsets
from tests.bpf_programs.runtime.linked import LinkedFunction, build_runtime
from tests.oko.flow.test_rewrite import INVALID, MOVES, PACKETS, SET

pytestmark = pytest.mark.needs_bpf

CLANGS = ("clang-14", "clang-16", "clang-19")
OBJECT = "actions"
ACTIONS = [name for name, (source, _) in FUNCTIONS.items() if source == OBJECT]
SETTABLE = [field for field in BY_NAME.values() if field.settable]
SHORTEST_FRAME = 14

Rewrite = Callable[[bytes], bytes | None]

# the function in C, the one in Python, and the numbers that it takes
NUMBERED: dict[str, tuple[Callable[[bytes, int], bytes | None], tuple[int, ...]]] = {
    "oko_push_vlan": (rewrite.push_vlan, (0x8100, 0x88A8)),
    "oko_push_mpls": (rewrite.push_mpls, (0x8847, 0x8848)),
    "oko_pop_mpls": (rewrite.pop_mpls, (0x0800, 0x86DD, 0x8847, 0x8100, 60)),
    "oko_set_ttl": (rewrite.set_ttl, (0, 1, 64, 255)),
    "oko_set_mpls_ttl": (rewrite.set_mpls_ttl, (0, 1, 64, 255)),
}
PLAIN: dict[str, Rewrite] = {
    "oko_pop_vlan": rewrite.pop_vlan,
    "oko_dec_ttl": rewrite.dec_ttl,
    "oko_dec_mpls_ttl": rewrite.dec_mpls_ttl,
    "oko_copy_ttl_out": rewrite.copy_ttl_out,
    "oko_copy_ttl_in": rewrite.copy_ttl_in,
}


class Actions:
    """All of them, loaded."""

    def __init__(self, functions: dict[str, LinkedFunction]) -> None:
        self.functions = functions

    def call(self, name: str, frame: bytes, number: int = 0, argument: bytes = b"") -> bytes | None:
        """The frame afterwards, None for a TTL that is invalid. What it says of the offsets must be right."""
        function = self.functions[name]
        packet = {"network": struct.pack("=H", offsets(frame).network), "transport": b"\xff\xff"}
        result = function.call(frame, packet, argument, number)
        assert result.retval in (0, 1)
        if result.retval:
            assert result.data == frame
            return None
        assert function.member("network", 2) == offsets(result.data).network
        if len(result.data) != len(frame):
            assert function.member("transport", 2) == 0
        return result.data

    def set_field(self, frame: bytes, field: Field, value: int) -> bytes | None:
        return self.call("oko_set_field", frame, field.oxm_field, value.to_bytes(field.size, "big"))


@pytest.fixture(scope="module", params=CLANGS)
def actions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Actions]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    directory = tmp_path_factory.mktemp(request.param)
    build_runtime(directory, OBJECT, clang=request.param)
    with ExitStack() as owned:
        yield Actions({name: owned.enter_context(LinkedFunction(directory, name)) for name in ACTIONS})


OPERATIONS = [(name, number) for name, (_, numbers) in NUMBERED.items() for number in numbers]
OPERATIONS += [(name, 0) for name in PLAIN]


def expected(name: str, number: int, frame: bytes) -> bytes | None:
    """What the action does in Python."""
    return NUMBERED[name][0](frame, number) if name in NUMBERED else PLAIN[name](frame)


FRAMES: dict[str, bytes] = (
    {f"set_field {case}": bytes(before) for case, (_, _, before, _) in SET.items()}
    | {case: bytes(before) for case, (_, before, _) in MOVES.items()}
    | {f"invalid TTL, {case}": bytes(before) for case, (_, before) in INVALID.items()}
)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_named_frames(actions: Actions, frame: bytes) -> None:
    """Every action on each, whether it is about it or not."""
    for name, number in OPERATIONS:
        assert actions.call(name, frame, number) == expected(name, number, frame), name
    for field in SETTABLE:
        value = int.from_bytes(b"\x35\xca" * 8, "big") & field.full
        assert actions.set_field(frame, field, value) == rewrite.set_field(frame, field, value), field.name


@pytest.mark.parametrize("packet", PACKETS, ids=[packet.summary() for packet in PACKETS])
def test_every_length_of_a_frame(actions: Actions, packet: Packet) -> None:
    whole = bytes(packet)
    for length in range(SHORTEST_FRAME, len(whole)):
        frame = whole[:length]
        for name, number in OPERATIONS:
            assert actions.call(name, frame, number) == expected(name, number, frame), (name, length)
        for field in SETTABLE:
            assert actions.set_field(frame, field, 1) == rewrite.set_field(frame, field, 1), (field.name, length)


# ---- frames that nobody thought of


def some(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


ND_OPTIONS = st.builds(
    lambda kind, length, body: bytes((kind, length)) + body,
    st.sampled_from((1, 2, 5)),
    st.sampled_from((1, 1, 1, 1, 2, 0, 255)),
    some(6),
)
TRANSPORT = st.one_of(
    st.tuples(
        st.just(6),
        st.builds(
            lambda head, offset, rest: head + bytes((offset << 4,)) + rest,
            some(12),
            st.sampled_from((5, 5, 5, 4, 6)),
            st.sampled_from((7, 7, 6, 9)).flatmap(some),
        ),
    ),
    st.tuples(
        st.just(17),
        st.builds(bytes.__add__, some(6), st.sampled_from((b"\0\0", b"\xff\xff", b"\x12\x34"))),
    ),
    st.tuples(st.sampled_from((1, 58, 132, 47)), st.binary(min_size=2, max_size=40)),
    st.tuples(
        st.just(58),
        st.builds(
            lambda kind, code, message, options: bytes((kind, code)) + message + b"".join(options),
            st.sampled_from((135, 136)),
            st.sampled_from((0, 0, 0, 1)),
            some(22),
            st.lists(ND_OPTIONS, max_size=10),
        ),
    ),
)
ODD = st.sampled_from((0, 0, 0, 0, 0, 0, -1, 1))


@st.composite
def ipv4_packets(draw: st.DrawFn) -> bytes:
    proto, transport = draw(TRANSPORT)
    words = draw(st.sampled_from((5, 5, 5, 6, 15, 4)))
    fragment = draw(st.sampled_from((0, 0, 0, 0x4000, 0x2000, 0x2001, 7)))
    total = max(0, 4 * words + len(transport) + draw(ODD))
    addresses = draw(st.binary(min_size=8, max_size=8))
    ttl = draw(st.sampled_from((0, 1, 2, 255)))
    header = struct.pack(
        ">BBHHHBBH",
        0x40 | words,
        draw(st.integers(0, 255)),
        total,
        0,
        fragment,
        ttl,
        proto,
        draw(st.integers(0, 0xFFFF)),
    )
    return header + addresses + bytes(max(0, 4 * words - 20)) + transport


@st.composite
def ipv6_packets(draw: st.DrawFn) -> bytes:
    following, payload = draw(TRANSPORT)
    for kind in draw(st.lists(st.sampled_from((0, 43, 44, 51, 60)), max_size=draw(st.sampled_from((0, 1, 3, 9))))):
        match kind:
            case 44:
                place = draw(st.sampled_from((0, 0, 1, 2, 9)))
                header = struct.pack(">BBHI", following, draw(st.sampled_from((0, 7))), place, 0)
            case 51:
                header = struct.pack(">BB", following, 1) + bytes(10)
            case _:
                segments = draw(st.sampled_from((0, 1)))
                header = struct.pack(">BBBB", following, 0, 0, segments) + bytes(4)
        payload, following = header + payload, kind
    first = 0x60000000 | draw(st.integers(0, 0x0FFFFFFF))
    length = max(0, len(payload) + draw(ODD))
    hops = draw(st.sampled_from((0, 1, 2, 255)))
    return struct.pack(">IHBB", first, length, following, hops) + draw(st.binary(min_size=32, max_size=32)) + payload


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    body, eth_type = draw(
        st.one_of(
            st.tuples(ipv4_packets(), st.just(0x0800)),
            st.tuples(ipv6_packets(), st.just(0x86DD)),
            st.tuples(
                st.binary(min_size=20, max_size=24).map(lambda rest: bytes.fromhex("0001080006040001") + rest),
                st.just(0x0806),
            ),
            st.tuples(st.binary(max_size=30), st.sampled_from((0x0800, 0x86DD, 0x8847, 0x9000))),
        )
    )
    for number in range(draw(st.sampled_from((0, 0, 1, 2)))):
        entry = draw(st.integers(0, 0xFFFFFFFF)) & ~0x1FF | draw(st.sampled_from((0, 1, 2, 255)))
        bottom = draw(st.sampled_from((not number, True, False)))
        body, eth_type = struct.pack(">I", entry | bottom << 8) + body, draw(st.sampled_from((0x8847, 0x8848)))
    if draw(st.sampled_from((False,) * 5 + (True,))):
        body, eth_type = bytes.fromhex("aaaa03000000") + struct.pack(">H", eth_type) + body, 60
    for tpid in draw(st.lists(st.sampled_from((0x8100, 0x88A8)), max_size=3)):
        body, eth_type = struct.pack(">HH", draw(st.integers(0, 0xFFFF)), eth_type) + body, tpid
    frame = draw(st.binary(min_size=12, max_size=12)) + struct.pack(">H", eth_type) + body
    frame += bytes(draw(st.sampled_from((0, 0, 6))))
    return frame[: draw(st.one_of(st.just(len(frame)), st.just(len(frame)), st.integers(SHORTEST_FRAME, len(frame))))]


VALUE = st.one_of(st.integers(0, 3), st.integers(0, (1 << 128) - 1), st.just((1 << 128) - 1))


@settings(max_examples=300)
@given(frame=frames(), value=VALUE)
def test_other_frames(actions: Actions, frame: bytes, value: int) -> None:
    for name, number in OPERATIONS:
        assert actions.call(name, frame, number) == expected(name, number, frame), name
    for field in SETTABLE:
        fitting = value & field.full
        assert actions.set_field(frame, field, fitting) == rewrite.set_field(frame, field, fitting), field.name


@pytest.mark.parametrize("network", [0, 1, 13, 31, 0xFFFF])
def test_an_offset_that_cannot_be_does_no_harm(actions: Actions, network: int) -> None:
    """The kernel verifies each function for any packet, and so does this."""
    frame = FRAMES["dec_ttl"]
    for name in ("oko_set_ttl", "oko_dec_ttl", "oko_set_mpls_ttl", "oko_pop_mpls", "oko_copy_ttl_in"):
        result = actions.functions[name].call(frame, {"network": struct.pack("=H", network)}, number=7)
        assert (result.retval, result.data) == (0, frame)
