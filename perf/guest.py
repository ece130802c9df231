"""`visited_in_guest`: a process that packets visit, in a virtual machine with two network cards."""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oko.errors import OkoError
from oko.kernel.interface import interface, set_up
from perf.open_vswitch import on_others
from perf.visited import READY
from perf.xdp import OBJECTS
from tests.vm.guest import ROOT, Machine, booted, missing_program
from tests.vm.kernel import debian_kernel

_MODULE: Final = "virtio_net"
_SILENT: Final = "ipv6.disable=1"
"""For the guest's kernel: else its cards send packets of their own accord, and those would be counted."""

_CPUINFO: Final = Path("/proc/cpuinfo")
_TAPS: Final = (Path("/dev/net/tun"), "tun")
_FAST: Final = ((Path("/dev/kvm"), "kvm_intel or kvm_amd"), (Path("/dev/vhost-net"), "vhost_net"))
"""What qemu opens for any guest here, and for one that is to be fast: a device and the module that makes it."""

_PATIENCE: Final = 300  # seconds, from power-on until packets can visit; without KVM it takes half a minute and more


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What executes the guest's instructions: `name` and `cpu` are qemu's. With `vhost` the host's kernel moves the
    packets between tap and guest, else qemu does. `processes` is the directory of those that this `cpu` can run."""

    name: str
    cpu: str
    vhost: bool
    processes: Path

    def missing(self) -> str | None:
        """Why there can be no such guest on this machine, None if there can."""
        # Not /dev/kvm: a machine may have that, but not such a processor. Then qemu starts, and the guest does not.
        if self == KVM and re.search(r"^flags\s*:.*\b(vmx|svm)\b", _CPUINFO.read_text(), re.MULTILINE) is None:
            return "no hardware virtualisation here: not run"
        for device, module in (_TAPS, *(_FAST if self == KVM else ())):
            if not device.exists():
                return f"{device} is not there: load the module {module}"
        return missing_program()


KVM: Final = Accelerator("kvm", "host", True, OBJECTS)
"""The guest's processor is the host's, so that what was compiled for that (``-march=native``) runs there."""


@contextmanager
def visited_in_guest(accelerator: Accelerator, process: str, entries: str, taps: Sequence[str]) -> Iterator[None]:
    """The process of this name in a guest. Its two cards are at `taps`, which are interfaces of the caller's network
    namespace as long as the context lasts. `entries` are as `perf.visited.visited` has them. The guest has Debian's
    kernel, which is downloaded if it is not in build/vm, and the processors that do not send. Raises OkoError."""
    kernel = debian_kernel(ROOT / "build" / "vm")
    # In the repository, which the guest sees wherever it is mounted.
    with tempfile.TemporaryDirectory(prefix="guest-", dir=OBJECTS) as directory:
        listed = Path(directory) / "entries"
        listed.write_text(entries)
        program = accelerator.processes / process
        command = [sys.executable, "-m", "perf.visited", str(program), *(f"eth{number}" for number in range(len(taps)))]
        machine = Machine(
            accelerator.name,
            accelerator.cpu,
            arguments=[word for number, tap in enumerate(taps) for word in _card(number, tap, accelerator.vhost)],
            modules=[_MODULE],
            words=[_SILENT],
            prefix=["setpriv", "--pdeathsig", "KILL", *on_others()],
        )
        redirected = ["sh", "-c", f"exec {shlex.join(command)} <{shlex.quote(str(listed))}"]
        with booted(kernel, redirected, machine, stdout=subprocess.PIPE) as guest:
            _await_ready(guest.qemu)
            for tap in taps:
                set_up(interface(tap).index)
            yield


def _card(number: int, tap: str, vhost: bool) -> list[str]:
    """qemu's arguments for a card, eth0 to the guest's kernel for the first. qemu makes the tap, which goes with it.

    One queue: the process takes from one, and sends by it, as AF_XDP in copy mode uses the ordinary send queue. The
    driver would have further ones for XDP_TX and XDP_REDIRECT; since 5.13 it takes XDP without them."""
    backend = f"tap,id={tap},ifname={tap},script=no,downscript=no,vhost={'on' if vhost else 'off'}"
    place = f"addr={0x10 + number:#x},mac=02:00:00:00:01:{number:02x}"
    return ["-netdev", backend, "-device", f"virtio-net-pci,netdev={tap},{place},romfile="]


def _await_ready(qemu: subprocess.Popen[bytes]) -> None:
    """Returns when the first serial line says that the process is ready. Raises OkoError if it does not."""
    assert qemu.stdout is not None  # a pipe
    deadline = time.monotonic() + _PATIENCE
    said = b""
    while READY.encode() not in (line.strip() for line in said.splitlines()):
        readable, _, _ = select.select([qemu.stdout], [], [], max(deadline - time.monotonic(), 0))
        more = os.read(qemu.stdout.fileno(), 4096) if readable else b""
        if not more:
            last = said.decode(errors="replace").strip()[-1000:] or "none"
            how = "ended before it was ready" if readable else f"was not ready after {_PATIENCE} s"
            raise OkoError(f"the guest {how}: see qemu's message above, if any. Its last lines: {last}")
        said += more
