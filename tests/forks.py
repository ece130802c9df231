"""Oko's commands as forks of a process that has imported their modules: a short command does little but start.

All else is as a shell would have it: the streams, the environment, the directory, the signals, the end of the
interpreter. `tests/oko/cli/test_entry.py` and the end-to-end tests of the demonstration start what is installed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
TOOLS = {"oko": "main", "oko-load": "load", "oko-verify": "verify", "okod": "okod"}
"""The modules of oko.cli, by the names of the tools."""
_NUMBER = struct.Struct("=i")
"""What the server says of a fork: its process, then its status as `Popen.returncode` has it."""
_FDS = 5
"""What comes with a request: the request itself, the three streams, and where the server speaks of the fork."""
_CLONE_NEWNET = 0x40000000


class Fork:
    """A command that runs, or has run: what tests use of `subprocess.Popen`, for text. `stderr` is a file that can be
    read at any time."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], namespace: str | None, stdin: int, stdout: int
    ) -> None:
        """`namespace` is the path of the network namespace to be in. `stdin` and `stdout` stay the caller's."""
        request = os.memfd_create("request")
        errors = os.memfd_create("stderr")
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, open(request, "w", closefd=False) as file:
                json.dump({"argv": list(argv), "environment": dict(environment), "namespace": namespace}, file)
                file.flush()
                socket.send_fds(_server(), [b"\0"], [request, stdin, stdout, errors, theirs.fileno()])
            (self.pid,) = _NUMBER.unpack(self._status.recv(_NUMBER.size))
            self.stderr: TextIO = os.fdopen(os.open(f"/proc/self/fd/{errors}", os.O_RDONLY))
        finally:
            os.close(request)
            os.close(errors)
        self.args = list(argv)
        self.returncode: int | None = None
        self.stdout: TextIO | None = None

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit status, when it has ended. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            (self.returncode,) = _NUMBER.unpack(self._status.recv(_NUMBER.size))
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it has written since somebody has read it, when it has ended. Raises TimeoutExpired."""
        self.wait(timeout)
        said = ["", ""]
        for number, stream in enumerate((self.stdout, self.stderr)):
            if stream is not None and not stream.closed:
                with stream:
                    said[number] = stream.read()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def start(argv: Sequence[str], environment: Mapping[str, str], namespace: str | None) -> Fork:
    """A command without input; its output is a pipe."""
    reading, writing = os.pipe()
    with open(os.devnull) as nothing:
        fork = Fork(argv, environment, namespace, nothing.fileno(), writing)
    os.close(writing)
    fork.stdout = os.fdopen(reading)
    return fork


def run(
    argv: Sequence[str], environment: Mapping[str, str], namespace: str | None, stdin: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """A command to its end. Raises TimeoutExpired."""
    with open(os.memfd_create("stdin"), "r+") as given, open(os.memfd_create("stdout"), "r+") as written:
        given.write(stdin)
        given.seek(0)
        fork = Fork(argv, environment, namespace, given.fileno(), written.fileno())
        try:
            _, stderr = fork.communicate(timeout)
        except subprocess.TimeoutExpired:
            fork.send_signal(signal.SIGKILL)
            fork.communicate(timeout)
            raise
        written.seek(0)
        return subprocess.CompletedProcess(fork.args, fork.wait(timeout), written.read(), stderr)


@functools.cache
def _server() -> socket.socket:
    """The connection to this process's server, which ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.forks", str(theirs.fileno())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=ROOT, pass_fds=[theirs.fileno()])

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _serve(server: socket.socket) -> dict[str, Any] | None:
    """In the server, None when nobody can ask any more; in a fork, what it is to be."""
    woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking)
    forks: dict[int, int] = {}
    while True:
        for ready in select.select([server.fileno(), woken], [], [])[0]:
            if ready == woken:
                os.read(woken, 1 << 16)
                for pid, status in _ended(forks):
                    os.write(forks[pid], _NUMBER.pack(status))
                    os.close(forks.pop(pid))
                continue
            data, fds, _, _ = socket.recv_fds(server, 1, _FDS)
            if not data:
                return None
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                return _prepared(fds, (woken, waking, *forks.values()))
            forks[pid] = fds.pop()
            os.write(forks[pid], _NUMBER.pack(pid))
            for fd in fds:
                os.close(fd)


def _ended(forks: Mapping[int, int]) -> list[tuple[int, int]]:
    """The forks that have ended, with their status."""
    found = []
    for pid in forks:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            found.append((pid, os.waitstatus_to_exitcode(status)))
    return found


def _prepared(fds: Sequence[int], others: Sequence[int]) -> dict[str, Any]:
    """The request of a fork, whose streams, environment and namespace are as it says."""
    with open(f"/proc/self/fd/{fds[0]}") as file:
        request: dict[str, Any] = json.load(file)
    for number, fd in enumerate(fds[1:4]):
        os.dup2(fd, number)
    for fd in (*fds, *others):
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["namespace"] is not None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(request["namespace"]) as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns", request["namespace"])
    return request


def main() -> None:
    """The server, and in its forks the tools."""
    server = socket.socket(fileno=int(sys.argv[1]))
    for package in ("oko", "ofext", "verifier"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name != "ofext.osken":
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    if (request := _serve(server)) is not None:
        sys.argv = request["argv"]
        importlib.import_module(f"oko.cli.{TOOLS[Path(sys.argv[0]).name]}").main()


if __name__ == "__main__":
    main()
