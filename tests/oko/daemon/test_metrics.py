from __future__ import annotations

import asyncio
import errno
import os
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from oko.daemon.agent import Agent
from oko.daemon.metrics import FAMILIES, Metrics, serve_metrics
from oko.daemon.settings import Settings
from oko.errors import KernelError, SettingsError
from oko.openflow.endpoint import Address
from tests.oko.conftest import Compile, Rig

DOCUMENT = Path(__file__).parents[3] / "docs" / "okod.md"
HOST = "127.0.0.1"
Values = dict[tuple[str, ...], float]


def test_the_manual_names_every_metric() -> None:
    rows = re.findall(r"^\| `(oko_[a-z_]+)` \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE)
    assert [(name, tuple(re.findall(r"`([a-z]+)`", labels))) for name, labels in rows] == [
        (f"{family.name}_total" if family.counts else family.name, family.labels) for family in FAMILIES
    ]


def ask(rig: Rig, management: Path, request: bytes) -> bytes:
    """What a server of the rig's metrics answers to a request, while one peer is connected."""

    async def talk() -> bytes:
        async with asyncio.timeout(20), Agent(rig.bridge, Settings(bridge="br0"), management, lambda: None) as agent:
            peer = (await asyncio.open_unix_connection(management))[1]
            while not agent.connections:
                await asyncio.sleep(0)
            async with await serve_metrics(Address(HOST, 0), Metrics(rig.bridge, agent)) as server:
                port: int = server.sockets[0].getsockname()[1]
                with pytest.raises(SettingsError, match=f"cannot serve metrics at {HOST}:{port}: "):
                    await serve_metrics(Address(HOST, port), Metrics(rig.bridge, agent))
                reader, writer = await asyncio.open_connection(HOST, port)
                writer.write(request)
                answer = await reader.read()
                writer.close()
                peer.transport.abort()
                await asyncio.sleep(0)
                return answer

    return rig.inside(lambda: asyncio.run(talk()))


def values(answer: bytes) -> dict[str, Values]:
    """The samples of an answer by name and by the values of labels, in the order of their names, without the
    bridge."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("bridge") == "br0"
            found.setdefault(sample.name, {})[tuple(labels[name] for name in sorted(labels))] = sample.value
    return found


@pytest.mark.needs_bpf
def test_what_a_bridge_counts(rig: Rig, tmp_path: Path, counting: Compile) -> None:
    rig.inside(lambda: os.system("ip link set lo up"))
    rig.attach()
    rig.load(counting())
    assert (
        rig.add("in_port=1,filter_prog=1,actions=output:2", "table=3,actions=drop", "table=3,in_port=2,actions=drop")
        == []
    )
    rig.send("h1", "02:00:00:00:00:02", 3)
    rig.send("h2", "02:00:00:00:00:01", 2)
    found = values(ask(rig, tmp_path / "mgmt", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert found["oko_port_receive_packets_total"] == {("p1", "1"): 3, ("p2", "2"): 2}
    assert found["oko_port_up"] == {("p1", "1"): 1, ("p2", "2"): 1}
    assert found["oko_table_rules"] == {("0",): 1, ("3",): 2}
    (runs,) = found["oko_program_runs_total"].values()
    (matches,) = found["oko_program_matches_total"].values()
    assert (runs, matches) == rig.bridge.programs.counted()[0][1:]
    assert runs == 3
    assert found["oko_drops_total"][("miss",)] == 2 + (runs - matches)
    assert found["oko_drops_total"][("no-pipeline",)] == 0
    assert found["oko_packet_in_drops_total"] == {(): 0}
    assert found["oko_changes_total"] == {(): 3}
    assert found["oko_reloads_total"] == {(): rig.bridge.reloads}
    assert found["oko_connections"] == {(): 1}
    assert len(found) == len(FAMILIES)


@pytest.mark.needs_bpf
@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"\r\n\r\n"])
def test_what_is_no_request_for_metrics(rig: Rig, tmp_path: Path, request_: bytes) -> None:
    rig.inside(lambda: os.system("ip link set lo up"))
    assert ask(rig, tmp_path / "mgmt", request_).startswith(b"HTTP/1.1 404 Not Found\r\n")


@pytest.mark.needs_bpf
def test_metrics_that_cannot_be_read(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> int:
        raise KernelError("the drops cannot be read", errno=errno.EIO)

    rig.inside(lambda: os.system("ip link set lo up"))
    monkeypatch.setattr(rig.bridge, "lost_packet_ins", fails)
    answer = ask(rig, tmp_path / "mgmt", b"GET /metrics HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert any(record.message.startswith("metrics: the drops cannot be read") for record in caplog.records)


@pytest.mark.needs_bpf
def test_a_request_that_is_too_long(rig: Rig, tmp_path: Path) -> None:
    rig.inside(lambda: os.system("ip link set lo up"))
    assert ask(rig, tmp_path / "mgmt", b"GET /metrics HTTP/1.1\r\nA: " + b"x" * (1 << 14) + b"\r\n\r\n") == b""
