"""What tests of the commands share: a run directory and a bpffs of their own, and real processes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from oko.switch.removal import remove_bridge
from oko.switch.rundir import RunDirectory
from tests import forks
from tests.patience import patience

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(sys.executable).parent
FIREWALL = ROOT / "build" / "bpf" / "firewall.o"
BRIDGE = "br0"
_PATIENCE = patience(60)

Done = subprocess.CompletedProcess[str]
Process = subprocess.Popen[str] | forks.Fork
AnyStage = TypeVar("AnyStage", bound="Stage")


class Okod:
    """An okod that `Stage.start` started: ready."""

    def __init__(self, process: Process, ready: str) -> None:
        self.process = process
        self.ready = ready

    @property
    def pid(self) -> int:
        """Its process: nsenter becomes what it starts."""
        return self.process.pid

    def end(self, signal: int) -> int:
        """Send it a signal, and return its exit status."""
        self.process.send_signal(signal)
        return self.process.wait(_PATIENCE)


class Stage:
    """A directory with ``run`` and ``bpf``, a bpffs, for the commands. `prefix` goes before every one of them."""

    def __init__(self, directory: Path, prefix: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.rundir = RunDirectory(directory / "run")
        self.bpffs = directory / "bpf"
        self._prefix = prefix
        self.statedir = directory / "state"
        self._environment = {
            **os.environ,
            "OKO_RUNDIR": str(self.rundir.path),
            "OKO_BPFFS": str(self.bpffs),
            "OKO_STATEDIR": str(self.statedir),
        }
        self._started: list[Process] = []

    def run(self, *command: str | Path, stdin: str = "") -> Done:
        """A command to its end, whatever that is. The first word may be the name of one of Oko's tools."""
        argv = self._argv(command)
        if self._is_forked(argv):
            return forks.run(argv[len(self._prefix) :], self._environment, self._namespace, stdin, _PATIENCE)
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
            cwd=ROOT,
            timeout=_PATIENCE,
        )

    def output(self, *command: str | Path, stdin: str = "") -> str:
        """What a command prints that must succeed, and say nothing on stderr."""
        done = self.run(*command, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def error(self, *command: str | Path, stdin: str = "") -> str:
        """The one line on stderr of a command that must fail with status 1, without the name of the tool."""
        done = self.run(*command, stdin=stdin)
        assert (done.returncode, done.stdout) == (1, ""), (done.returncode, done.stdout)
        tool = Path(str(command[0])).name
        assert done.stderr.startswith(f"{tool}: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix(f"{tool}: ").rstrip("\n")

    def start(self, *options: str, role: str = "--standalone") -> Okod:
        """okod for br0 in this role with these options, when it is ready."""
        process = self._popen(self._argv(("okod", role, BRIDGE, *options)))
        self._started.append(process)
        assert process.stdout is not None
        assert process.stderr is not None
        assert select.select([process.stdout], [], [], _PATIENCE)[0], "okod did not become ready"
        line = process.stdout.readline()
        assert line.startswith("ready"), process.stderr.read()
        return Okod(process, line.rstrip("\n"))

    def left(self) -> list[str]:
        """What stands in the run directory and the state directory, and what Oko has pinned."""
        found = [path for place in (self.rundir.path, self.statedir) if place.exists() for path in place.iterdir()]
        return [str(path.relative_to(self.directory)) for path in (*found, *self.bpffs.glob("oko*"))]

    def clean(self) -> None:
        """End the okods that were started, and take their bridges away."""
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=_PATIENCE)
        self._started.clear()
        for name in self.rundir.bridges():
            remove_bridge(self.rundir, name)

    def _popen(self, argv: list[str]) -> Process:
        if self._is_forked(argv):
            return forks.start(argv[len(self._prefix) :], self._environment, self._namespace)
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=ROOT,
        )

    def _is_forked(self, argv: list[str]) -> bool:
        """Whether it is one of Oko's tools, and entering a network namespace all that goes before it."""
        is_tool = Path(argv[len(self._prefix)]) in {TOOLS / name for name in forks.TOOLS}
        return is_tool and (not self._prefix or self._namespace is not None)

    @property
    def _namespace(self) -> str | None:
        match self._prefix:
            case ("nsenter", option, "--"):
                return option.removeprefix("--net=")
            case _:
                return None

    def _argv(self, command: tuple[str | Path, ...]) -> list[str]:
        first, *rest = (str(word) for word in command)
        tool = TOOLS / first
        return [*self._prefix, str(tool) if first.startswith("oko") else first, *rest]


@contextmanager
def mounted(stage: AnyStage) -> Iterator[AnyStage]:
    """`stage` with its bpffs, and nothing left of it afterwards."""
    stage.bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", stage.bpffs], check=True)
    try:
        yield stage
    finally:
        stage.clean()
        subprocess.run(["umount", stage.bpffs], check=True)
