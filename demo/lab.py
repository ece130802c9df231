"""A laboratory of network namespaces: hosts, each on its own veth pair, around a switch."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from pyroute2 import IPRoute, netns

from oko.errors import KernelError, OkoError

SWITCH = "switch"
HOST_INTERFACE = "eth0"

_NAMESPACES = Path("/run/netns")
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the laboratory: its interface is HOST_INTERFACE with `mac` and `address` (with prefix length), the
    switch's end of the same veth pair is called `port`."""

    name: str
    port: str
    address: str
    mac: str


CLIENT_AND_SERVER = (
    Host("client", "p1", "10.0.0.1/24", "02:00:00:00:00:01"),
    Host("server", "p2", "10.0.0.2/24", "02:00:00:00:00:02"),
)


class Lab:
    """Namespaces for `hosts` and for the switch, there while the context lasts; everything is up, IPv6 is off.

    A place is the name of a host, or SWITCH. The processes started here end with the context, however it ends: an
    exception, Ctrl-C, SIGTERM (which becomes SystemExit(143) inside). The names of the namespaces carry a random
    prefix, so any number of laboratories can stand side by side. Needs root; raises KernelError without.
    """

    def __init__(self, hosts: Sequence[Host] = CLIENT_AND_SERVER) -> None:
        self.hosts = {host.name: host for host in hosts}
        self._prefix = f"oko-{secrets.token_hex(3)}"
        self._processes: list[subprocess.Popen[str]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise KernelError("network namespaces need root: run it with sudo")
        with ExitStack() as building:
            building.enter_context(signals_as_exceptions())
            building.callback(self._tear_down)
            with undisturbed():
                self._build()
            self._stack = building.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def namespace(self, place: str) -> str:
        """The namespace of a place, as ``ip netns`` lists it."""
        return f"{self._prefix}-{place}"

    def popen(
        self,
        place: str,
        argv: Sequence[str | Path],
        *,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Starts a process at a place, in a session of its own: a Ctrl-C at the terminal reaches only the laboratory,
        which ends its processes in good order."""
        # Not `ip netns exec`, which remounts /sys and hides what is pinned in bpffs.
        with undisturbed():
            process = subprocess.Popen(
                ["nsenter", f"--net={_NAMESPACES / self.namespace(place)}", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                text=True,
                start_new_session=True,
            )
            process.args = list(argv)  # what the messages name
            self._processes.append(process)
        return process

    def run(
        self,
        place: str,
        argv: Sequence[str | Path],
        *,
        timeout: float = 30,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command at a place to its end, whatever its exit status. Raises OkoError after `timeout` seconds."""
        process = self.popen(place, argv, stderr=subprocess.PIPE, cwd=cwd, env=env)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise OkoError(f"{_text(argv)}: at {place}, not done in {timeout:g} s") from error
        finally:
            self.stop(process)
        return subprocess.CompletedProcess([str(word) for word in argv], process.returncode, stdout, stderr)

    def await_line(self, process: subprocess.Popen[str], start: str, timeout: float = 15) -> str:
        """Reads the standard output of a process up to the line that begins with `start`, and returns that. Raises
        OkoError where the output or `timeout` seconds end first; the process has ended then."""
        assert process.stdout is not None
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith(start):
                    return line.rstrip("\n")
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        self.stop(process)
        how = "ended" if in_time else f"went on for {timeout:g} s"
        raise OkoError(f"{_text(process.args)}: {how} without printing {start!r}")

    def stop(self, process: subprocess.Popen[str]) -> int:
        """Ends a process that `popen` started, and its children; returns its exit status."""
        with undisturbed():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            if process in self._processes:
                self._processes.remove(process)
            return process.wait()

    def _build(self) -> None:
        for place in (SWITCH, *self.hosts):
            netns.create(self.namespace(place))
            # Before any interface is up: no router solicitations, no duplicate address detection in the counters.
            quiet = [f"net.ipv6.conf.{scope}.disable_ipv6=1" for scope in ("all", "default")]
            self._checked(place, ["sysctl", "-qw", *quiet])
            with IPRoute(netns=self.namespace(place)) as route:
                _bring_up(route, "lo")
        for host in self.hosts.values():
            with (
                IPRoute(netns=self.namespace(host.name)) as at_host,
                IPRoute(netns=self.namespace(SWITCH)) as at_switch,
            ):
                # The pair is born in its two namespaces, so the names never meet the machine's own interfaces.
                peer = {"ifname": host.port, "net_ns_fd": self.namespace(SWITCH)}
                at_host.link("add", ifname=HOST_INTERFACE, kind="veth", address=host.mac, peer=peer)
                address, length = host.address.split("/")
                (index,) = at_host.link_lookup(ifname=HOST_INTERFACE)
                at_host.addr("add", index=index, address=address, prefixlen=int(length))
                _bring_up(at_host, HOST_INTERFACE)
                _bring_up(at_switch, host.port)

    def _checked(self, place: str, argv: Sequence[str]) -> None:
        done = self.run(place, argv)
        if done.returncode != 0:
            raise OkoError(f"{_text(argv)}: at {place}: {done.stderr.strip()}")

    def _tear_down(self) -> None:
        with undisturbed():
            for process in reversed(self._processes.copy()):
                self.stop(process)
            for place in (*self.hosts, SWITCH):
                if (_NAMESPACES / self.namespace(place)).exists():
                    netns.remove(self.namespace(place))


def _bring_up(route: IPRoute, interface: str) -> None:
    (index,) = route.link_lookup(ifname=interface)
    route.link("set", index=index, state="up")


def _text(argv: object) -> str:
    return " ".join(str(word) for word in argv) if isinstance(argv, (list, tuple)) else str(argv)


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP unwind the stack as Ctrl-C does, as SystemExit(128 + signal), where nobody else
    handles them. Only a main thread can set signal handlers; in another one this does nothing."""

    def unwind(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    with _handled([number for number in _ENDING_SIGNALS if signal.getsignal(number) == signal.SIG_DFL], unwind):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Puts off Ctrl-C, SIGTERM and SIGHUP to the end of the context: for steps that are short, and that would
    leave something behind for ever if they were done by half."""
    arrived: list[int] = []
    # A function, not SIG_IGN: that would be inherited by the processes started meanwhile.
    with _handled([signal.SIGINT, *_ENDING_SIGNALS], lambda number, _frame: arrived.append(number)):
        yield
    for number in arrived:
        signal.raise_signal(number)


@contextmanager
def _handled(numbers: Sequence[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
