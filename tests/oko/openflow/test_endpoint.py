from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import SettingsError
from oko.openflow.endpoint import METHODS, Address, Endpoint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:192.0.2.1", Endpoint("tcp", Address("192.0.2.1", 6653))),
        ("tcp:controller.example:6633", Endpoint("tcp", Address("controller.example", 6633))),
        ("ssl:[2001:db8::1]", Endpoint("ssl", Address("2001:db8::1", 6653))),
        ("ssl:[2001:db8::1]:1", Endpoint("ssl", Address("2001:db8::1", 1))),
        ("ptcp:", Endpoint("ptcp", Address("127.0.0.1", 6653))),
        ("ptcp", Endpoint("ptcp", Address("127.0.0.1", 6653))),
        ("ptcp:0", Endpoint("ptcp", Address("127.0.0.1", 0))),
        ("ptcp:6633:192.0.2.1", Endpoint("ptcp", Address("192.0.2.1", 6633))),
        ("ptcp::192.0.2.1", Endpoint("ptcp", Address("192.0.2.1", 6653))),
        ("pssl:6653:[::1]", Endpoint("pssl", Address("::1", 6653))),
        ("punix:/run/a:b", Endpoint("punix", Path("/run/a:b"))),
    ],
)
def test_notation(text: str, expected: Endpoint) -> None:
    assert Endpoint.parse(text) == expected
    assert Endpoint.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6653",
        "tcp",
        "tcp:",
        "tcp::1",
        "tcp:192.0.2.1:",
        "tcp:192.0.2.1:0",
        "tcp:192.0.2.1:65536",
        "tcp:2001:db8::1:6653",
        "tcp:[2001:db8::1",
        "tcp:[192.0.2.1]:6653",
        "ptcp:x",
        "ptcp:²",
        "ptcp:65536",
        "ptcp:6653:",
        "ptcp:6653:localhost",
        "ptcp:6653:::1",
        "ptcp:6653:[::1]x",
        "unix:/run/a",
        "punix:",
        "udp:192.0.2.1:6653",
        "tcp:a..b",
        "tcp:.b",
        "tcp:a b",
        "tcp:a\0b",
        "ssl:" + "a" * 64,
        "tcp:[::..]",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(SettingsError, match="is no endpoint: write tcp:"):
        Endpoint.parse(text)


def test_a_path_that_is_too_long_for_a_socket() -> None:
    with pytest.raises(SettingsError, match="at most 107 bytes"):
        Endpoint.parse("punix:/" + "x" * 107)


@pytest.mark.parametrize(
    ("text", "exposed"),
    [
        ("ptcp:6653", False),
        ("ptcp:6653:127.1.2.3", False),
        ("ptcp:6653:[::1]", False),
        ("ptcp:6653:0.0.0.0", True),
        ("ptcp:6653:[::]", True),
        ("ptcp:6653:[::ffff:192.0.2.1]", True),
        ("pssl:6653:0.0.0.0", False),
        ("tcp:192.0.2.1", False),
        ("punix:/run/a", False),
    ],
)
def test_what_is_exposed(text: str, exposed: bool) -> None:
    assert Endpoint.parse(text).is_exposed == exposed


@given(st.sampled_from(sorted(METHODS)), st.ip_addresses(), st.integers(1, 0xFFFF))
def test_what_is_written_is_read(method: str, address: object, port: int) -> None:
    endpoint = Endpoint(method, Address(str(address), port))
    assert Endpoint.parse(str(endpoint)) == endpoint


def test_addresses() -> None:
    assert Address.parse("127.0.0.1:9653") == Address("127.0.0.1", 9653)
    assert Address.parse("[::1]:0") == Address("::1", 0)
    assert str(Address("::1", 5)) == "[::1]:5"


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":9653", "127.0.0.1:", "::1:9653", "127.0.0.1:x", "a..b:9653"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SettingsError, match="is no address: write HOST:PORT"):
        Address.parse(text)
