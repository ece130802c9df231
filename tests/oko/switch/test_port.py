from __future__ import annotations

import pytest

from oko.errors import PortError
from oko.switch.port import PortSpec, require_distinct


@pytest.mark.parametrize(
    ("text", "expected"),
    [("eth0=1", PortSpec("eth0", 1)), ("veth-a.100=4294967040", PortSpec("veth-a.100", 4294967040))],
)
def test_ports(text: str, expected: PortSpec) -> None:
    assert PortSpec.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "eth0", "eth0=", "=1", "eth0=0", "eth0=-1", "eth0=x", "eth0=²", "eth0=4294967041"]
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(PortError, match="is no port: write INTERFACE=NUMBER"):
        PortSpec.parse(text)


@pytest.mark.parametrize(
    ("specs", "complaint"),
    [
        ([PortSpec("p1", 1), PortSpec("p1", 2)], "the same interface: p1"),
        ([PortSpec("p1", 1), PortSpec("p2", 1)], "the same number: 1"),
    ],
    ids=["interface", "number"],
)
def test_ports_are_distinct(specs: list[PortSpec], complaint: str) -> None:
    require_distinct(specs[:1])
    with pytest.raises(PortError, match=complaint):
        require_distinct(specs)
