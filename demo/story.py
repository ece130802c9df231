"""The story of the demonstration: a firewall, pushed into a running switch, decides real TCP connections.

Everything is done with the command line tools, on namespaces, directories and a bpffs of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape

from demo.lab import SWITCH, Lab, signals_as_exceptions, undisturbed
from oko.errors import OkoError

ROOT = Path(__file__).resolve().parent.parent
FIREWALL = Path("build/bpf/firewall.o")
FLOWS = Path("demo/firewall.flows")
BRIDGE = "br0"
CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
WEB_PORT, BACK_PORT = "8000", "9000"
DOWNLOAD_BYTES = 16 * 1024 * 1024
DEADLINE = 50  # seconds for the whole story; cleaning up comes on top


def tools() -> Path:
    """The directory with oko, oko-load and okod: that of the Python that runs this."""
    return Path(sys.executable).parent


def tell() -> None:
    """Tells the story on standard output. Raises OkoError at the first thing that is not as it should be."""
    with signals_as_exceptions(), _stage() as stage, _deadline(DEADLINE):
        started = time.monotonic()
        _set_up(stage)
        _download(stage)
        _refuse(stage)
        _explain(stage)
        _take_away(stage)
        stage.console.print(f"\n[bold green]All as it should be[/], in {time.monotonic() - started:.0f} s.")


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where the story takes place: the laboratory, a directory that goes away with it, and where it is printed."""

    lab: Lab
    directory: Path
    console: Console

    @property
    def environment(self) -> dict[str, str]:
        """So that the commands are as short as on a machine of one's own, which has /run/oko and /sys/fs/bpf."""
        return {
            **os.environ,
            "PATH": f"{tools()}:{os.environ.get('PATH', os.defpath)}",
            "OKO_RUNDIR": str(self.directory / "run"),
            "OKO_BPFFS": str(self.directory / "bpf"),
            "OKO_STATEDIR": str(self.directory / "state"),
        }

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def start(self, place: str, command: str, ready: str) -> subprocess.Popen[str]:
        """Starts a command that goes on, and waits for the line that says it is ready."""
        log = self.directory / "log"
        with log.open("a") as stream:
            process = self.lab.popen(
                place, shlex.split(command), stderr=stream.fileno(), cwd=ROOT, env=self.environment
            )
        try:
            self.lab.await_line(process, ready)
        except OkoError as error:
            raise OkoError(": ".join([str(error), *log.read_text().splitlines()[-1:]])) from error
        return process

    def attempt(self, place: str, command: str) -> subprocess.CompletedProcess[str]:
        return self.lab.run(place, shlex.split(command), cwd=ROOT, env=self.environment)

    def run(self, place: str, command: str) -> str:
        """The output of a command that has to succeed."""
        done = self.attempt(place, command)
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise OkoError(f"{command}: {reason[0]}")
        return done.stdout

    def show(self, command: str) -> None:
        """Runs one of Oko's commands on the switch, shown as one would type it, and prints its answer."""
        self.prompt(command)
        for line in self.run(SWITCH, command).splitlines():
            self.say(escape(line))

    def prompt(self, command: str) -> None:
        self.console.print(f"  [cyan]$ {command}[/]", highlight=False, soft_wrap=True)

    def ask(self, command: str) -> list[dict[str, Any]]:
        """What one of Oko's commands answers, as a list of objects."""
        answer: list[dict[str, Any]] = json.loads(self.run(SWITCH, f"{command} --json"))
        return answer


@contextmanager
def _stage() -> Iterator[_Stage]:
    scenery = ExitStack()
    try:
        with undisturbed():
            directory = Path(scenery.enter_context(TemporaryDirectory(prefix="oko-demo-")))
            for name in ("run", "bpf", "www"):
                (directory / name).mkdir()
            bpffs = directory / "bpf"
            _system("mount", "-t", "bpf", "bpf", bpffs)
            # Whatever is still pinned goes away with its file system.
            scenery.callback(_system, "umount", bpffs)
            lab = scenery.enter_context(Lab())
        yield _Stage(lab, directory, Console())
    finally:
        with undisturbed():
            scenery.close()


def _system(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OkoError(f"{shlex.join(str(word) for word in argv)}: {done.stderr.strip()}")


@contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise OkoError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _expect(truth: bool, failure: str) -> None:
    if not truth:
        raise OkoError(failure)


def _set_up(stage: _Stage) -> None:
    stage.title("1. A switch between two hosts, each in a network namespace")
    stage.say(f"client {CLIENT} ── p1 │ switch │ p2 ── {SERVER} server")

    stage.title("2. okod makes it an OpenFlow switch, in XDP")
    okod = f"okod --standalone {BRIDGE} --port p1=1 --port p2=2"
    stage.prompt(okod)
    stage.start(SWITCH, okod, "ready")

    stage.title("3. A filter program goes in over OpenFlow: a connection-tracking firewall")
    stage.show(f"oko-load {BRIDGE} 1 {FIREWALL}")

    stage.title("4. Rules name it as one more match field")
    for line in (ROOT / FLOWS).read_text().splitlines():
        if line.startswith("#"):
            stage.say(f"[dim]{line}[/]")
        else:
            stage.show(f"oko flow add {BRIDGE} '{line}'")


def _download(stage: _Stage) -> None:
    stage.title("5. The client downloads from the server")
    content = os.urandom(DOWNLOAD_BYTES)
    (stage.directory / "www" / "data").write_bytes(content)
    python = shlex.quote(sys.executable)
    web = f"{python} -u -m http.server {WEB_PORT} --bind {SERVER} --directory {stage.directory / 'www'}"
    server = stage.start("server", web, "Serving HTTP")
    started = time.monotonic()
    answer = stage.run("client", f"{python} -m demo.hosts download {SERVER} {WEB_PORT} /data").split()
    elapsed = time.monotonic() - started
    stage.lab.stop(server)
    wanted = [str(len(content)), hashlib.sha256(content).hexdigest()]
    _expect(answer == wanted, f"the download arrived damaged: {answer} instead of {wanted}")
    stage.say(f"{len(content):,} bytes over HTTP in {elapsed:.1f} s, SHA-256 as sent: [green]passed[/]")


def _refuse(stage: _Stage) -> None:
    stage.title("6. The server opens a connection to the client")
    python = shlex.quote(sys.executable)
    listener = stage.start("client", f"{python} -m demo.hosts listen {CLIENT} {BACK_PORT}", "ready")
    connect = f"{python} -m demo.hosts connect {CLIENT} {BACK_PORT}"
    dropped = _dropped(stage)
    attempt = stage.attempt("server", connect)
    _expect(attempt.returncode != 0, "a connection from the server to the client came about")
    refused = _dropped(stage) - dropped
    _expect(refused > 0, "the server's connection failed, but the drop rule counted nothing")
    # The listener does work: the client itself reaches it. So the first connection that it reports must be that one.
    stage.run("client", connect)
    first = stage.lab.await_line(listener, "connection")
    _expect(first == f"connection from {CLIENT}", f"the client's listener reports a {first}")
    stage.lab.stop(listener)
    stage.say(f"{attempt.stderr.strip()}; {refused} packets dropped, none arrived: [green]refused[/]")


def _dropped(stage: _Stage) -> int:
    (packets,) = (flow["packets"] for flow in stage.ask(f"oko flow list {BRIDGE}") if "actions=drop" in flow["flow"])
    return int(packets)


def _explain(stage: _Stage) -> None:
    stage.title("7. What every rule decided")
    stage.show(f"oko flow list {BRIDGE}")
    for flow in stage.ask(f"oko flow list {BRIDGE}"):
        _expect(flow["packets"] > 0, f"no packet met the rule {flow['flow']}")

    stage.title("8. What the program answered")
    stage.show(f"oko program list {BRIDGE}")
    (program,) = stage.ask(f"oko program list {BRIDGE}")
    refused = program["runs"] - program["matches"]
    dropped = _dropped(stage)
    _expect(refused == dropped, f"the firewall refused {refused} packets, the drop rule counted {dropped}")

    stage.title("9. What the program remembers")
    stage.show(f"oko map dump {BRIDGE} 1 connections")
    remembered = [entry["key"]["port"] for entry in stage.ask(f"oko map dump {BRIDGE} 1 connections")]
    _expect(
        len(remembered) == 1 and int(WEB_PORT) in remembered[0],
        f"the firewall remembers connections between the ports {remembered}, only the download was one",
    )


def _take_away(stage: _Stage) -> None:
    stage.title("10. And away with it")
    stage.show(f"oko bridge del {BRIDGE}")
    left = stage.run(SWITCH, "oko bridge list")
    _expect(not left, f"oko bridge del {BRIDGE} left a bridge: {left.strip()}")
    for port in ("p1", "p2"):
        _expect("xdp" not in stage.run(SWITCH, f"ip link show {port}"), f"oko bridge del {BRIDGE} left XDP on {port}")
    stage.say("no bridge, no program on any port")
