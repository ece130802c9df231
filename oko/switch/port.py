"""`Port`: an interface that carries the bridge's stub."""

from __future__ import annotations

from dataclasses import dataclass, replace

from oko.errors import PortError
from oko.flow.action import MAX_PORT
from oko.kernel import offloads
from oko.kernel.interface import interface
from oko.kernel.offloads import SavedOffloads
from oko.switch.datapath import Datapath
from oko.switch.rundir import PortRecord


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port as asked for: the interface called `name` becomes port `number`."""

    name: str
    number: int

    @staticmethod
    def parse(text: str) -> PortSpec:
        """Reads ``INTERFACE=NUMBER``. Raises PortError."""
        name, _, number = text.partition("=")
        if not name or not number.isascii() or not number.isdigit() or not 0 < int(number) <= MAX_PORT:
            raise PortError(f"{text!r} is no port: write INTERFACE=NUMBER, the number from 1 to {MAX_PORT}")
        return PortSpec(name, int(number))


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a bridge. `mac` is six bytes; `offloads` is what its peer's were before."""

    name: str
    number: int
    ifindex: int
    mac: bytes
    offloads: SavedOffloads | None

    @staticmethod
    def prepare(spec: PortSpec, before: SavedOffloads | None = None) -> Port:
        """Find the interface and set the offloads of its far end. `before` are those that a port of this name had.
        Raises PortError."""
        found = interface(spec.name)
        now = offloads.prepare(spec.name)
        if before is not None and now is not None and now.is_of(before):
            # It was away with the offloads that it needs as a port: what they were before that is still to be restored.
            now = replace(now, states={**now.states, **before.states})
        return Port(spec.name, spec.number, found.index, found.mac, now)

    def prepare_again(self) -> Port:
        """The port, once an interface of its name is there again. Raises PortError."""
        return Port.prepare(PortSpec(self.name, self.number), self.offloads)

    def attach(self, datapath: Datapath) -> None:
        """Put the datapath's stub on it. Raises PortError, KernelError."""
        datapath.attach(self.name, self.ifindex)

    def restore(self) -> None:
        """Give the far end its offloads back. Raises PortError."""
        if self.offloads is not None:
            offloads.restore(self.offloads)

    @property
    def record(self) -> PortRecord:
        """The port as the run directory remembers it."""
        return PortRecord(self.name, self.number, self.offloads.to_json() if self.offloads else None)


def require_distinct(specs: list[PortSpec]) -> None:
    """Raises PortError when two ports have the same interface or number."""
    for what, values in (
        ("interface", [spec.name for spec in specs]),
        ("number", [str(spec.number) for spec in specs]),
    ):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise PortError(f"two ports have the same {what}: {', '.join(sorted(twice))}")
