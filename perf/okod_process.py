"""`OkodProcess`: an okod of its own process, on its own run directory, that can be killed and started again."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from oko.errors import OkoError
from oko.switch.removal import remove_bridge
from oko.switch.rundir import RunDirectory
from perf.isolation import BPFFS

_OKOD: Final = Path(sys.executable).parent / "okod"
_PATIENCE: Final = 60
"""Seconds until it is ready, or has ended."""


class OkodProcess:
    """okod for the bridge `name`, with these options. It ends with the process that started it, at the latest."""

    def __init__(
        self,
        name: str,
        directory: Path,
        options: Sequence[str],
        listen: Sequence[str] = (),
        *,
        role: str = "--standalone",
        prefix: Sequence[str] = (),
    ) -> None:
        """In `directory` are the run directory, the state directory and the log. `said` counts the lines of the log
        with each of the words of `listen`, as far as `errors` has read them. `prefix` goes before the command, such as
        an nsenter."""
        self.name = name
        self.rundir = RunDirectory(directory / "run")
        self.statedir = directory / "state"
        self._log = directory / f"{name}.log"
        self.said: Counter[str] = Counter()
        self.ready = ""
        """The line that it said when everything listened."""
        self._read = 0  # bytes of the log
        self._options = options
        self._listen = listen
        self._role = role
        self._prefix = prefix
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Raises OkoError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise OkoError(f"okod of bridge {self.name} has ended by itself: the end of its log:\n{self.last_words()}")
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until everything listens. Raises OkoError with the end of its log when it does not."""
        command = [*self._prefix, "setpriv", "--pdeathsig=KILL", str(_OKOD), self._role, self.name, "--log-format=json"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, f"--statedir={self.statedir}", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                start_new_session=True,  # a Ctrl-C at the terminal is not for okod
            )
        stdout = self._process.stdout
        assert stdout is not None
        self.ready = stdout.readline() if select.select([stdout], [], [], _PATIENCE)[0] else ""
        if not self.ready.startswith("ready"):
            self.kill()
            raise OkoError(f"okod of bridge {self.name} did not become ready: the end of its log:\n{self.last_words()}")

    def kill(self) -> None:
        """SIGKILL, and wait for the end. What it has left goes on."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._reap()

    def remove(self) -> None:
        """Take away the bridge that an okod which has ended left behind, if it did."""
        if self.name in self.rundir.bridges():
            remove_bridge(self.rundir, self.name)

    def detach(self) -> None:
        """End it, and let it give back to Open vSwitch all that it has changed there. Raises OkoError."""
        self.stop()
        command = [*self._prefix, str(_OKOD), "--detach", self.name, f"--statedir={self.statedir}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
        if done.returncode:
            raise OkoError(done.stderr.strip())

    def errors(self) -> list[str]:
        """What it has said since the last call that it never should: records of errors and tracebacks, and lines that
        are no records."""
        lines = self._new_lines()
        self.said.update(words for line in lines for words in self._listen if words in line)
        return [line for line in lines if _is_error(line)]

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-9:])

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OKO_RUNDIR": str(self.rundir.path), "OKO_BPFFS": str(BPFFS)}

    def _new_lines(self) -> list[str]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()

    def _reap(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise OkoError(f"okod of bridge {self.name} does not end in {_PATIENCE} s") from None
        finally:
            if process.stdout is not None:
                process.stdout.close()


def _is_error(line: str) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return True
    return "exception" in record or record["level"] in ("error", "critical")
