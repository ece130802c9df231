"""`Guard`: no shim leaves by a port, whatever rules somebody has put in the place of Oko's own.

A program of traffic control on what a port sends drops the frames that have the form of a shim and counts them
(bpf_programs/runtime/guard.c). Open vSwitch sends by its packet sockets and by its kernel's datapath alike through it;
what XDP redirects to the port does not come by, and never has a shim. Its links are pinned: as long as packets are
given shims, also when okod has ended, they are guarded.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from oko.kernel import bpffs
from oko.kernel.features import EGRESS_PROGRAMS, require
from oko.kernel.link import Link, attach_egress
from oko.kernel.maps import Map
from oko.kernel.program import SCHED_CLS, LoadedProgram
from oko.switch.loaded_image import create_map
from oko.switch.objects import read_guard
from oko.switch.pinned import reopen_map, reopen_program
from oko.switch.whole_program import load_whole

_COUNTER: Final = "dropped"
_PROGRAM: Final = "program"
_LINKS: Final = "links"
_INDEX_0: Final = bytes(4)


class Guard:
    """The guard of a bridge, whose pins are in `directory` on a bpffs. A context manager: leaving it gives up the
    descriptors and leaves the pins."""

    def __init__(self, directory: Path) -> None:
        """Make the pins, or adopt those that are there. Raises NotSupported before kernel 6.6, KernelError."""
        require(EGRESS_PROGRAMS)
        self._directory = directory
        self._links: dict[str, Link] = {}
        with contextlib.ExitStack() as own:
            bpffs.make_directory(directory / _LINKS)
            self._counter, adopted = self._make_counter()
            own.enter_context(self._counter)
            self._program = own.enter_context(self._make_program(adopted))
            for pin in sorted((directory / _LINKS).iterdir()):
                link = own.enter_context(Link.open(pin))
                self._links[bpffs.named_by(pin.name)] = link
            self._renew()
            own.pop_all()

    @property
    def ports(self) -> dict[str, int]:
        """The ifindex of each port that is guarded, 0 of one whose interface is gone."""
        return {name: link.info().ifindex for name, link in self._links.items()}

    @property
    def dropped(self) -> int:
        """How many frames with a shim somebody has wanted to send."""
        values = self._counter.lookup_percpu(_INDEX_0) or ()
        return sum(int.from_bytes(value, "little") for value in values)

    def attach(self, name: str, ifindex: int) -> None:
        """Guard the port; one that is guarded already stays so. Raises PortError when there is no such interface,
        KernelError."""
        earlier = self._links.get(name)
        if earlier is not None and earlier.info().ifindex == ifindex:
            return
        link = attach_egress(self._program, ifindex)
        try:
            if earlier is not None:
                self.detach(name)
            link.pin(self._pin(name))
        except BaseException:
            link.detach()
            link.close()
            raise
        self._links[name] = link

    def detach(self, name: str) -> None:
        """Guard the port no more. Raises KernelError."""
        with self._links.pop(name) as link:
            if link.info().ifindex:
                link.detach()
        bpffs.remove_pin(self._pin(name))

    def remove(self) -> None:
        """Guard no port any more, and remove the pins. Raises KernelError."""
        for name in tuple(self._links):
            self.detach(name)
        self.close()
        bpffs.remove_tree(self._directory)

    def close(self) -> None:
        """Give up the descriptors. Closing twice is harmless."""
        for held in (*self._links.values(), self._program, self._counter):
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _pin(self, name: str) -> Path:
        return self._directory / _LINKS / bpffs.pin_name(name)

    def _make_counter(self) -> tuple[Map, bool]:
        """The counter, and whether it is an earlier okod's."""
        (spec,) = read_guard().maps
        pin = self._directory / _COUNTER
        if (found := reopen_map(pin, spec)) is not None:
            return found[0], True
        made = create_map(_COUNTER, spec)
        bpffs.remove_pin(pin)
        made.pin(pin)
        return made, False

    def _make_program(self, adopted: bool) -> LoadedProgram:
        """The program; an earlier okod's, if it is the same and counts in the same place."""
        pin = self._directory / _PROGRAM
        made = load_whole("oko_guard", read_guard(), {_COUNTER: self._counter}, program_type=SCHED_CLS)
        if adopted and (earlier := reopen_program(pin, made)) is not None:
            made.close()
            return earlier
        bpffs.remove_pin(pin)
        made.pin(pin)
        return made

    def _renew(self) -> None:
        """Let ports that have another Oko's program have this one."""
        number = self._program.info().id
        for link in self._links.values():
            info = link.info()
            if info.ifindex and info.program_id != number:
                link.update(self._program)
