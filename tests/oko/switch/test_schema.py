from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import BadMapAccess
from oko.flow.match_text import PROTOCOLS
from oko.switch.schema import IP_PROTOCOLS, Schema, Value, parse, read, schema, untyped, write
from tests.oko.conftest import Compile
from tests.stage import FIREWALL
from verifier.elf import load

U32: Schema = {"kind": "int", "size": 4, "signed": False, "network": False}
S16: Schema = {"kind": "int", "size": 2, "signed": True, "network": False}
BE16: Schema = {"kind": "int", "size": 2, "signed": False, "network": True}
BOOL: Schema = {"kind": "bool", "size": 1}
IPV4: Schema = {"kind": "ipv4", "size": 4}
PROTOCOL: Schema = {"kind": "ip_protocol", "size": 1}
TIME: Schema = {"kind": "time", "size": 8}
MAC: Schema = {"kind": "bytes", "size": 6}
COLOUR: Schema = {"kind": "enum", "size": 4, "signed": False, "values": {"RED": 0, "GREEN": 7}}
PAIR: Schema = {"kind": "array", "size": 4, "element": S16}
NESTED: Schema = {
    "kind": "struct",
    "size": 16,
    "members": [
        {"name": "address", "offset": 0, "type": IPV4},
        {"name": "port", "offset": 4, "type": BE16},
        {
            "name": "inner",
            "offset": 8,
            "type": {
                "kind": "struct",
                "size": 8,
                "members": [
                    {"name": "colour", "offset": 0, "type": COLOUR},
                    {"name": "pair", "offset": 4, "type": PAIR},
                ],
            },
        },
    ],
}


@pytest.mark.parametrize(
    ("described", "data", "value"),
    [
        pytest.param(U32, "01000000", 1, id="host order"),
        pytest.param(BE16, "0050", 80, id="network order"),
        pytest.param(S16, "feff", -2, id="signed"),
        pytest.param(BOOL, "01", True, id="bool"),
        pytest.param(IPV4, "0a000001", "10.0.0.1", id="ipv4"),
        pytest.param(PROTOCOL, "06", "tcp", id="protocol"),
        pytest.param(PROTOCOL, "fd", 253, id="protocol without a name"),
        pytest.param(TIME, "00ca9a3b00000000", 1_000_000_000, id="time"),
        pytest.param(MAC, "020000000001", "02:00:00:00:00:01", id="six bytes"),
        pytest.param({"kind": "bytes", "size": 2}, "abcd", "abcd", id="bytes"),
        pytest.param(COLOUR, "07000000", "GREEN", id="enum"),
        pytest.param(COLOUR, "05000000", 5, id="enum without a name"),
        pytest.param(PAIR, "0100ffff", [1, -1], id="array"),
        pytest.param(
            NESTED,
            "c0000201 0050 0000 07000000 0100 0200",
            {"address": "192.0.2.1", "port": 80, "inner": {"colour": "GREEN", "pair": [1, 2]}},
            id="struct",
        ),
    ],
)
def test_read_and_write(described: Schema, data: str, value: Value) -> None:
    assert read(described, bytes.fromhex(data)) == value
    assert write(described, value) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("described", "value", "data"),
    [
        pytest.param(MAC, "020000000001", "020000000001", id="six bytes without colons"),
        pytest.param(COLOUR, 7, "07000000", id="enum by number"),
        pytest.param(PROTOCOL, 6, "06", id="protocol by number"),
        pytest.param(U32, "01020304", "01020304", id="number as its bytes"),
        pytest.param(NESTED, {"port": 1}, "00000000 0001" + "00" * 10, id="members left out"),
    ],
)
def test_write_takes_more_than_read_shows(described: Schema, value: Value, data: str) -> None:
    assert write(described, value) == bytes.fromhex(data)


def test_members_left_out_stay() -> None:
    base = bytes(range(16))
    written = write(NESTED, {"inner": {"pair": [0, 0]}}, base)
    assert written == base[:12] + bytes(4)


@pytest.mark.parametrize(
    ("described", "value", "complaint"),
    [
        pytest.param(U32, 1 << 32, "does not fit in 4 bytes", id="too large"),
        pytest.param(U32, -1, "does not fit in 4 bytes", id="negative"),
        pytest.param(U32, True, "True is no int", id="bool for int"),
        pytest.param(U32, 1.5, "1.5 is no int", id="float"),
        pytest.param(U32, None, "None is no int", id="null"),
        pytest.param(BOOL, 1, "1 is no bool", id="int for bool"),
        pytest.param(IPV4, "10.0.0", "'10.0.0' is no IPv4 address", id="address"),
        pytest.param(IPV4, 5, "5 is no ipv4", id="number for address"),
        pytest.param(PROTOCOL, "tpc", "'tpc' is no IP protocol: use its number, or icmp, ", id="protocol"),
        pytest.param(PROTOCOL, 256, "256 does not fit in 1 bytes", id="large protocol"),
        pytest.param(PROTOCOL, True, "True is no ip_protocol", id="bool for protocol"),
        pytest.param(TIME, -1, "does not fit in 8 bytes", id="negative time"),
        pytest.param(MAC, "0200", "'0200' has 2 bytes, not 6", id="short bytes"),
        pytest.param(MAC, "mac", "'mac' is not hexadecimal", id="no bytes"),
        pytest.param(COLOUR, "BLUE", "'BLUE' is not hexadecimal", id="unknown name"),
        pytest.param(PAIR, [1], "is no array", id="short array"),
        pytest.param(PAIR, [1, 2, 3], "is no array", id="long array"),
        pytest.param(PAIR, [1, 40000], "40000 does not fit in 2 bytes", id="element"),
        pytest.param(NESTED, {"prot": 1}, "no member 'prot': there are address, port, inner", id="member"),
        pytest.param(NESTED, {"inner": {"x": 1}}, "no member 'x': there are colour, pair", id="inner member"),
        pytest.param(NESTED, [1], "is no struct", id="list for struct"),
    ],
)
def test_what_does_not_fit(described: Schema, value: Any, complaint: str) -> None:
    with pytest.raises(BadMapAccess, match=complaint):
        write(described, value)


def test_bytes_of_another_size_are_shown_as_they_are() -> None:
    assert read(U32, b"\1\2") == "0102"


def test_schema_of_a_program(counting: Compile) -> None:
    program = load(counting())
    specs = {spec.name: spec for spec in program.maps}
    assert program.btf is not None
    assert schema(program.btf, specs["seen"].key_type) == U32
    settings = schema(program.btf, specs["settings"].value_type)
    assert [(member["name"], member["offset"], member["type"]["kind"]) for member in settings["members"]] == [
        ("gateway", 0, "ipv4"),
        ("port", 4, "int"),
        ("enabled", 6, "bool"),
        ("mac", 7, "bytes"),
        ("colour", 16, "enum"),
        ("offset", 20, "array"),
    ]
    data = struct.pack("=4s2s?6s3xIii", bytes([10, 0, 0, 1]), b"\0\x50", True, b"\2\0\0\0\0\1", 7, -1, 2)
    assert read(settings, data) == {
        "gateway": "10.0.0.1",
        "port": 80,
        "enabled": True,
        "mac": "02:00:00:00:00:01",
        "colour": "GREEN",
        "offset": [-1, 2],
    }
    assert read(schema(program.btf, specs[".rodata"].value_type), b"\1\0\0\0") == {"answer": 1}


def test_schema_of_the_types_of_the_sdk() -> None:
    program = load(FIREWALL.read_bytes())
    assert program.btf is not None
    connections = next(spec for spec in program.maps if spec.name == "connections")
    flow = schema(program.btf, connections.key_type)
    assert (flow["name"], flow["size"]) == ("oko_flow", 40)
    kinds = {member["name"]: member["type"]["kind"] for member in flow["members"]}
    assert kinds == {"addr": "array", "port": "array", "protocol": "ip_protocol", "pad": "bytes"}
    members = {member["name"]: member["type"] for member in schema(program.btf, connections.value_type)["members"]}
    assert members["last_seen"] == TIME
    assert members["state"]["kind"] == "enum"
    assert "lock" not in members  # a spin lock


def test_protocols_are_those_of_the_flow_syntax() -> None:
    for name, number in IP_PROTOCOLS.items():
        if name in PROTOCOLS:
            assert PROTOCOLS[name]["ip_proto"] == number


def test_what_nothing_is_known_of() -> None:
    assert read(untyped(4, is_index=True), b"\2\0\0\0") == 2
    assert read(untyped(2), b"\2\0") == "0200"


@pytest.mark.parametrize(
    ("described", "text", "value"),
    [
        (U32, "7", 7),
        (U32, "0x10", 16),
        (TIME, "0x10", 16),
        (PROTOCOL, "tcp", "tcp"),
        (PROTOCOL, "6", 6),
        (COLOUR, "GREEN", "GREEN"),
        (IPV4, "10.0.0.1", "10.0.0.1"),
        (MAC, "0x020000000001", "020000000001"),
        (MAC, '"020000000001"', "020000000001"),
        (NESTED, '{"port": 1}', {"port": 1}),
    ],
)
def test_parse(described: Schema, text: str, value: Value) -> None:
    assert parse(described, text) == value


@pytest.mark.parametrize("text", ["{", "[1", '"x'])
def test_parse_of_what_is_not_json(text: str) -> None:
    with pytest.raises(BadMapAccess, match="is not JSON"):
        parse(NESTED, text)


NUMBERS = st.builds(
    lambda size, signed, network: {"kind": "int", "size": size, "signed": signed, "network": network},
    st.sampled_from((1, 2, 4, 8, 16)),
    st.booleans(),
    st.booleans(),
)
ENUMS = st.builds(
    lambda size, values: {"kind": "enum", "size": size, "signed": True, "values": values},
    st.sampled_from((1, 2, 4, 8)),
    st.dictionaries(st.sampled_from("ABCDEF"), st.integers(-128, 127)),
)
LEAVES = st.one_of(
    NUMBERS,
    ENUMS,
    st.sampled_from((IPV4, PROTOCOL, TIME)),
    st.builds(lambda size: {"kind": "bytes", "size": size}, st.integers(0, 9)),
)


def _struct(parts: list[tuple[int, Schema]]) -> Schema:
    """A struct with so many bytes of padding before each member."""
    members, offset = [], 0
    for number, (padding, kind) in enumerate(parts):
        members.append({"name": f"m{number}", "offset": offset + padding, "type": kind})
        offset += padding + kind["size"]
    return {"kind": "struct", "size": offset + 1, "members": members}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(st.tuples(st.integers(0, 3), inner), max_size=4).map(_struct),
        st.builds(
            lambda element, count: {"kind": "array", "size": element["size"] * count, "element": element},
            inner.filter(lambda element: element["size"] > 0),
            st.integers(0, 4),
        ),
    ),
    max_leaves=8,
)


@given(st.data(), SCHEMAS)
def test_what_is_read_can_be_written(data: st.DataObject, described: Schema) -> None:
    content = data.draw(st.binary(min_size=described["size"], max_size=described["size"]))
    value = read(described, content)
    assert read(described, write(described, value)) == value
