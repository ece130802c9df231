from __future__ import annotations

from typing import Any

import pytest

from oko.cli.value_text import entry_text, value_text
from oko.switch.schema import Schema, Value, read, schema, untyped, write
from tests.stage import FIREWALL
from verifier.elf import load

SECOND = 1_000_000_000
NOW = 100_000 * SECOND
TIME: Schema = {"kind": "time", "size": 8}
U32: Schema = {"kind": "int", "size": 4, "signed": False, "network": False}
PAIR: Schema = {"kind": "array", "size": 8, "element": U32}
STATE: Schema = {"kind": "enum", "size": 4, "signed": False, "values": {"ESTABLISHED": 4}}


def struct(**members: Schema) -> Schema:
    return {"kind": "struct", "size": 0, "members": [{"name": name, "type": kind} for name, kind in members.items()]}


def flow_schema() -> Schema:
    """That of the SDK's struct oko_flow, as a program has it."""
    program = load(FIREWALL.read_bytes())
    assert program.btf is not None
    return schema(program.btf, next(spec.key_type for spec in program.maps if spec.name == "connections"))


def flow(*ends: str, ports: tuple[int, int] = (51000, 80), protocol: str = "tcp") -> Value:
    value: Value = {"addr": list(ends), "port": list(ports), "protocol": protocol}
    return read(flow_schema(), write(flow_schema(), value))


V4 = ("10.0.0.1", "10.0.0.2")
ALL = struct(state=STATE, last_seen=TIME, packets=PAIR, opener=U32, other=U32)
SEEN = {"state": "ESTABLISHED", "last_seen": NOW - 72 * SECOND, "packets": [12, 9], "opener": 0, "other": 1}


@pytest.mark.parametrize(
    ("key", "described", "value", "line"),
    [
        pytest.param(flow(*V4), ALL, SEEN, "10.0.0.1:51000 → 10.0.0.2:80 tcp ESTABLISHED 00:01:12 ↑12 ↓9", id="first"),
        pytest.param(
            flow(*V4),
            ALL,
            SEEN | {"opener": 1},
            "10.0.0.2:80 → 10.0.0.1:51000 tcp ESTABLISHED 00:01:12 ↑9 ↓12",
            id="second",
        ),
        pytest.param(
            flow("fd00::1", "fd00::2", ports=(0, 0), protocol="esp"),
            ALL,
            SEEN,
            "fd00::1 → fd00::2 esp ESTABLISHED 00:01:12 ↑12 ↓9",
            id="no ports",
        ),
        pytest.param(
            flow("fd00::1", "fd00::2"),
            struct(packets=PAIR),
            {"packets": [1, 2]},
            "[fd00::1]:51000 ↔ [fd00::2]:80 tcp ↑1 ↓2",
            id="IPv6",
        ),
        pytest.param(
            flow(*V4),
            struct(last_seen=TIME),
            {"last_seen": NOW - 86400 * SECOND},
            "10.0.0.1:51000 ↔ 10.0.0.2:80 tcp 1d 00:00:00",
            id="a day",
        ),
        pytest.param(
            flow(*V4),
            struct(last_seen=TIME),
            {"last_seen": NOW + SECOND},
            "10.0.0.1:51000 ↔ 10.0.0.2:80 tcp 00:00:00",
            id="seen while it was dumped",
        ),
        pytest.param(
            flow(*V4), struct(last_seen=TIME), {"last_seen": 0}, "10.0.0.1:51000 ↔ 10.0.0.2:80 tcp never", id="never"
        ),
        pytest.param(
            flow(*V4),
            struct(state=U32, packets=U32),
            {"state": 1, "packets": 2},
            "key: 10.0.0.1:51000 ↔ 10.0.0.2:80 tcp  value: {state: 1, packets: 2}",
            id="members of other types",
        ),
        pytest.param(flow(*V4), U32, 7, "key: 10.0.0.1:51000 ↔ 10.0.0.2:80 tcp  value: 7", id="a number"),
    ],
)
def test_flows(key: Value, described: Schema, value: Any, line: str) -> None:
    assert entry_text(flow_schema(), described, {"key": key, "value": value}, NOW) == line


def test_flow_of_a_switch_elsewhere() -> None:
    """Its clock is not known."""
    line = entry_text(flow_schema(), ALL, {"key": flow(*V4), "value": SEEN}, None)
    assert line == "10.0.0.1:51000 → 10.0.0.2:80 tcp ESTABLISHED 99928.000 s ↑12 ↓9"


def test_a_flow_as_a_value() -> None:
    columns: dict[str, Value] = {"key": 3, "value": flow(*V4, protocol="udp")}
    line = entry_text(untyped(4, is_index=True), flow_schema(), columns, NOW)
    assert line == "key: 3  value: 10.0.0.1:51000 ↔ 10.0.0.2:80 udp"


def test_another_struct_of_that_name() -> None:
    other = {**struct(addr=U32), "name": "oko_flow"}
    assert entry_text(other, U32, {"key": {"addr": 1}, "value": 2}, NOW) == "key: {addr: 1}  value: 2"


def test_a_value_for_each_cpu() -> None:
    assert entry_text(U32, struct(seen=TIME), {"key": 1, "values": [{"seen": NOW}, {"seen": 0}]}, NOW) == (
        "key: 1  values: [{seen: 0.0 s ago}, {seen: never}]"
    )


@pytest.mark.parametrize(
    ("described", "value", "text"),
    [
        (TIME, NOW - 2 * SECOND, "2.0 s ago"),
        (TIME, NOW + SECOND // 2, "in 0.5 s"),
        (TIME, 0, "never"),
        ({"kind": "bool", "size": 1}, True, "true"),
        ({"kind": "ip_protocol", "size": 1}, "tcp", "tcp"),
        (struct(a=PAIR, b=STATE), {"a": [1, 2], "b": "ESTABLISHED"}, "{a: [1, 2], b: ESTABLISHED}"),
        (PAIR, "0102", "0102"),
    ],
)
def test_values(described: Schema, value: Value, text: str) -> None:
    assert value_text(described, value, NOW) == text
