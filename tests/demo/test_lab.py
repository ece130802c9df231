"""The laboratory: real namespaces, real processes, and nothing left of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from demo.lab import CLIENT_AND_SERVER, SWITCH, Lab
from oko.errors import OkoError

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.needs_bpf  # the same privilege: namespaces take root, too


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def namespaces_of(lab: Lab) -> set[str]:
    return {lab.namespace(place) for place in (SWITCH, *lab.hosts)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        for words in ("add name joint type bridge", "set p1 master joint", "set p2 master joint", "set joint up"):
            done = lab.run(SWITCH, ["ip", "link", *words.split()])
            assert done.returncode == 0, done.stderr
        yield lab


def test_hosts_reach_each_other_through_the_switch(lab: Lab) -> None:
    listener = lab.popen("server", [sys.executable, "-m", "demo.hosts", "listen", "10.0.0.2", "9000"], cwd=ROOT)
    lab.await_line(listener, "ready")
    done = lab.run("client", [sys.executable, "-m", "demo.hosts", "connect", "10.0.0.2", "9000"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert lab.await_line(listener, "connection") == "connection from 10.0.0.1"
    lab.stop(listener)
    neighbours = lab.run("client", ["ip", "neighbour", "show", "10.0.0.2"]).stdout
    assert CLIENT_AND_SERVER[1].mac in neighbours


@pytest.mark.parametrize("place", ["client", "server", SWITCH])
def test_ipv6_is_off(lab: Lab, place: str) -> None:
    assert lab.run(place, ["ip", "-6", "address"]).stdout == ""


def test_ports_are_in_the_switch_only(lab: Lab) -> None:
    names = lab.run(SWITCH, ["ip", "-brief", "link"]).stdout
    assert {line.split("@")[0].split()[0] for line in names.splitlines()} == {"lo", "p1", "p2", "joint"}


def test_two_laboratories_do_not_meet(lab: Lab) -> None:
    with Lab() as other:
        assert not namespaces_of(lab) & namespaces_of(other)
        assert namespaces_of(lab) | namespaces_of(other) <= set(netns.listnetns())


def test_run_reports_status_and_output(lab: Lab) -> None:
    done = lab.run("server", ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_run_ends_what_takes_too_long(lab: Lab) -> None:
    with pytest.raises(OkoError, match=r"sleep 60: at client, not done in 0\.1 s"):
        lab.run("client", ["sleep", "60"], timeout=0.1)


def test_await_line(lab: Lab) -> None:
    process = lab.popen("client", ["sh", "-c", "echo early; echo ready now; exec sleep 60"])
    assert lab.await_line(process, "ready") == "ready now"
    assert lab.stop(process) == -signal.SIGTERM
    assert gone(process.pid)


@pytest.mark.parametrize(
    ("script", "how"), [("echo other", "ended"), ("exec sleep 600", r"went on for 0\.5 s")], ids=["ends", "stalls"]
)
def test_await_line_in_vain(lab: Lab, script: str, how: str) -> None:
    process = lab.popen("client", ["sh", "-c", script])
    with pytest.raises(OkoError, match=f"sh -c {script}: {how} without printing 'ready'"):
        lab.await_line(process, "ready", timeout=0.5)
    assert gone(process.pid)


def test_stop_ends_children_and_the_deaf(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.lab._GRACE", 0.1)
    held = tmp_path / "held"
    os.mkfifo(held)
    process = lab.popen("client", ["sh", "-c", f"trap '' TERM; sleep 600 >{held} & echo ready; wait"])
    lab.await_line(process, "ready")
    with held.open("rb", buffering=0) as pipe:
        assert lab.stop(process) == -signal.SIGKILL
        # The pipe ends when the last process that can write to it has ended.
        assert select.select([pipe], [], [], 10)[0]
        assert pipe.read() == b""


def test_nothing_stays_after_an_exception() -> None:
    seen: list[tuple[Lab, int]] = []

    def fail() -> None:
        with Lab() as lab:
            seen.append((lab, lab.popen("client", ["sleep", "600"]).pid))
            assert namespaces_of(lab) <= set(netns.listnetns())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    ((lab, pid),) = seen
    assert gone(pid)
    assert not namespaces_of(lab) & set(netns.listnetns())


INTERRUPTED = """
from demo.lab import SWITCH, Lab
with Lab() as lab:
    process = lab.popen("client", ["sleep", "600"])
    print(process.pid, *(lab.namespace(place) for place in (SWITCH, *lab.hosts)), flush=True)
    process.wait()
"""


@pytest.mark.parametrize(
    ("number", "times", "status"),
    [
        pytest.param(signal.SIGINT, 1, -signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGINT, 2, -signal.SIGINT, id="ctrl-c-twice"),
        pytest.param(signal.SIGTERM, 1, 128 + signal.SIGTERM, id="sigterm"),
        pytest.param(signal.SIGHUP, 1, 128 + signal.SIGHUP, id="sighup"),
    ],
)
def test_nothing_stays_after_a_signal(number: int, times: int, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        pid, *names = script.stdout.readline().split()
        assert set(names) <= set(netns.listnetns())
        for _ in range(times):
            script.send_signal(number)
        assert script.wait(30) == status
    assert gone(int(pid))
    assert not set(names) & set(netns.listnetns())
