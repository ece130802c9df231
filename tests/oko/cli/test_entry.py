"""What all commands have in common: options, exit statuses, and what stands on stderr."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import oko
from oko.cli.main import GROUPS, command
from tests.stage import BRIDGE, ROOT, TOOLS, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """No bridge, no bpffs: for what does not get that far."""
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(("oko", "flows"), "No such command 'flows'", id="command"),
        pytest.param(("oko", "flow", "list"), "Missing argument 'BRIDGE'", id="argument"),
        pytest.param(("oko", "flow", "add", BRIDGE), "nothing to send", id="no flows"),
        pytest.param(("oko", "flow", "list", BRIDGE, "--fast"), "No such option", id="option"),
        pytest.param(("oko", "program", "unload", BRIDGE, "0"), "0 is not in the range 1<=x<=65535", id="program 0"),
        pytest.param(("oko-load", BRIDGE, "65536", "x.o"), "65536 is not in the range", id="program 65536"),
        pytest.param(("okod",), "name the bridge with one of --standalone", id="no bridge named"),
        pytest.param(("okod", "--standalone", "b", "--port", "p1"), "'p1' is no port: write INTERFACE=", id="port"),
        pytest.param(
            ("okod", "--standalone", "b", "--may-read", "ptcp:1"),
            "--may-read ptcp:1:127.0.0.1: give the endpoint with --listen or --controller, too",
            id="reader from nowhere",
        ),
        pytest.param(("okod", "--standalone", "b", "--listen", "x"), "'x' is no endpoint: write tcp:", id="listener"),
    ],
)
def test_wrong_usage(stage: Stage, words: tuple[str, ...], complaint: str) -> None:
    done = stage.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.startswith("Usage: ")


@pytest.mark.parametrize("words", [("oko",), ("oko", "flow"), ("oko", "map", "update"), ("oko-load",), ("okod",)])
def test_help(stage: Stage, words: tuple[str, ...]) -> None:
    text = stage.output(*words, "--help")
    assert "--rundir DIR" in text
    assert "--verbose" in text


@pytest.mark.parametrize("group", ["", *sorted(GROUPS.keys() - {"event", "replay", "trace"})])
def test_what_a_command_does_is_said_in_one_line(group: str) -> None:
    _, heading, listed = CliRunner().invoke(command, [*group.split(), "--help"]).output.partition("Commands:\n")
    assert heading
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("oko", "--rundir", "DIR", "flow", "list", BRIDGE), id="tool"),
        pytest.param(("oko", "flow", "--rundir", "DIR", "list", BRIDGE), id="group"),
        pytest.param(("oko", "flow", "list", BRIDGE, "--rundir", "DIR"), id="command"),
    ],
)
def test_run_directory_anywhere_in_the_line(stage: Stage, words: tuple[str, ...]) -> None:
    other = str(stage.directory / "other")
    complaint = stage.error(*(other if word == "DIR" else word for word in words))
    assert complaint == f"bridge br0 does not exist (no {other}/br0.json): see 'oko bridge list'"


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        pytest.param("nope", "bridge nope does not exist", id="no bridge"),
        pytest.param("a/b", "'a/b' is no name for a bridge", id="no name"),
        pytest.param("unix:/nowhere", "unix:/nowhere: No such file or directory", id="no socket"),
        pytest.param("tcp:127.0.0.1:1", "tcp:127.0.0.1:1: Connection refused", id="nobody listens"),
        pytest.param("tcp:127.0.0.1:x", "'tcp:127.0.0.1:x' is no switch", id="no port"),
        pytest.param("tcp:", "'tcp:' is no switch", id="no host"),
    ],
)
def test_switches_that_are_not_there(stage: Stage, target: str, complaint: str) -> None:
    assert stage.error("oko", "flow", "list", target).startswith(complaint)


@pytest.mark.parametrize(
    ("greeting", "complaint"),
    [
        pytest.param(b"", "closed the connection", id="hangs up"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n".ljust(0x482D), "version 83 in a message of type 83", id="not OpenFlow"),
        pytest.param(bytes.fromhex("0100000800000001"), "does not speak OpenFlow 1.3", id="OpenFlow 1.0"),
        pytest.param(bytes.fromhex("0400000300000001"), "a message header says 3 bytes", id="length"),
    ],
)
def test_peers_that_are_no_switch(stage: Stage, greeting: bytes, complaint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        assert complaint in stage.error("oko", "flow", "list", f"tcp:127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_ctrl_c(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"tcp:127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [TOOLS / "oko", "flow", "list", target], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        ) as process:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(8)
                process.send_signal(signal.SIGINT)
                # A new line, so that the prompt does not stand behind the ^C of the terminal.
                assert process.communicate(timeout=10) == (b"", b"\n")
        assert process.returncode == 130


@pytest.mark.needs_bpf
def test_reader_that_goes_away(switch: Stage) -> None:
    lines = [f"dl_dst=02:00:00:00:{number >> 8:02x}:{number & 255:02x},actions=drop" for number in range(1000)]
    switch.output("oko", "flow", "add", BRIDGE, "-", stdin="\n".join(lines))
    reading, writing = os.pipe()
    os.close(reading)
    command = [str(TOOLS / "oko"), "--rundir", str(switch.rundir.path), "flow", "list", BRIDGE]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=10)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("tool", ["oko", "oko-load", "oko-verify", "okod"])
def test_what_is_installed(tool: str) -> None:
    """`Stage` starts forks of a process that has imported them."""
    done = subprocess.run([TOOLS / tool, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tool}, version {oko.__version__}\n", "")


NEVER = {"scapy", "os_ken", "hypothesis", "rich"}
"""Modules that no command imports before it knows that it needs them."""
ATTACHING = {"oko.attached", "ovs", "prometheus_client"}
OKOD = ATTACHING | {"pydantic", "oko.switch.bridge", "oko.openflow.session"}
SWITCH = OKOD | {"asyncio", "elftools", "pyroute2", "oko.compiler", "oko.kernel", "oko.replay", "verifier.check"}
OPENFLOW = {"ofext", "oko.cli.client"}


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        *((f"oko.cli.{name}", SWITCH) for name in ("main", "load", "bridge", "event", "flow", "group", "image", "map")),
        *((f"oko.cli.{name}", SWITCH) for name in ("meter", "observer", "p0f", "program")),
        *((f"oko.cli.{name}", OKOD | OPENFLOW) for name in ("author", "replay", "verify")),
        ("oko.cli.trace", {"oko.daemon", "prometheus_client"}),
        ("oko.cli.okod", ATTACHING | {"oko.replay", "verifier.check"}),
        ("oko.daemon.serving", {"oko.attached", "ovs", "oko.replay"}),
    ],
)
def test_what_is_not_imported(module: str, unneeded: set[str]) -> None:
    """Commands start without what only others need; each imports by itself what it does need."""
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not (NEVER | unneeded) & set(done.stdout.split())
