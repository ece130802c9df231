"""`visited`: a process of ``perf/baselines/native`` that packets visit between two interfaces.

``python -m perf.visited PROCESS INTERFACE INTERFACE`` runs one until it is killed: entries come by standard input, and
``ready`` is the answer. The guest of `perf.guest` runs that, so no more is imported here than is needed.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from oko.errors import OkoError
from oko.kernel.interface import interface
from oko.kernel.link import attach_xdp
from oko.kernel.maps import Map
from oko.kernel.program import LoadedProgram, load_program

READY: Final = "ready"
"""What the process says, on a line of its own, when packets can visit it."""

_XSKMAP: Final = 17  # BPF_MAP_TYPE_XSKMAP of <linux/bpf.h>
_XDP_DROP: Final = 1
_REDIRECT_MAP: Final = 51  # BPF_FUNC_redirect_map
_PATIENCE: Final = 20  # seconds


@contextmanager
def visited(process: Path, entries: str, names: Sequence[str], processors: Collection[int]) -> Iterator[None]:
    """The process at these two interfaces, on these processors. `entries` of its maps are as ``process.c`` reads them,
    with the empty line that ends them. Raises OkoError."""
    ends = [interface(end).index for end in names]
    with ExitStack() as own:
        sockets = [own.enter_context(Map.create("sockets", _XSKMAP, 4, 4, 1)) for _ in ends]
        for index, found in zip(ends, sockets, strict=True):
            own.enter_context(attach_xdp(own.enter_context(_to_socket(found)), index))
        fds = [found.fd for found in sockets]
        started = subprocess.Popen(
            [process, *map(str, (*ends, *fds))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )
        own.callback(_end, started)
        os.sched_setaffinity(started.pid, processors)
        assert started.stdin is not None  # both are pipes
        assert started.stdout is not None
        started.stdin.write(entries)
        started.stdin.flush()
        readable, _, _ = select.select([started.stdout], [], [], _PATIENCE)
        if not readable or started.stdout.readline() != f"{READY}\n":
            raise OkoError(f"{process.name} did not begin: see its message above")
        yield


def _to_socket(sockets: Map) -> LoadedProgram:
    """Hands every frame to the AF_XDP socket of queue 0, the only one that these interfaces have: r1 = map, r2 = 0,
    r3 = XDP_DROP, call bpf_redirect_map, exit. By hand, because `verifier.elf` knows no XSKMAP."""
    slots = [(0x18, 1, 0), (0, 0, 0), (0xB7, 2, 0), (0xB7, 3, _XDP_DROP), (0x85, 0, _REDIRECT_MAP), (0x95, 0, 0)]
    code = b"".join(struct.pack("<BBhi", operation, register, 0, value) for operation, register, value in slots)
    return load_program("to_socket", code, "GPL", references={0: (sockets, None)})


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def main(process: str, *names: str) -> None:
    for name in names:
        # A card has an address of its own, and would leave out frames for others.
        subprocess.run(["ip", "link", "set", name, "up", "promisc", "on"], check=True)
    with visited(Path(process), sys.stdin.read(), names, os.sched_getaffinity(0)):
        print(READY, flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
