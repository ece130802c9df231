"""The port LOCAL: a veth pair that okod makes, whose far end is an interface for the host to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from oko.errors import PortError
from oko.flow.action import LOCAL
from oko.kernel.interface import interface
from oko.kernel.namespace import inode, run_in, with_inode
from oko.kernel.veth import delete_veth, make_veth
from oko.switch.port import PortSpec
from oko.switch.rundir import LocalRecord

_PREFIX: Final = "oko-"
_LONGEST: Final = 15 - len(_PREFIX)
"""Bytes: the kernel takes names of 15 for interfaces."""


@dataclass(frozen=True, slots=True)
class LocalSpec:
    """A LOCAL port as asked for: the host's end is to be called `name`."""

    name: str

    @staticmethod
    def parse(text: str) -> LocalSpec:
        """Raises PortError."""
        if not 0 < len(text.encode()) <= _LONGEST:
            raise PortError(f"{text!r} is no name for the interface of the port LOCAL: it has 1 to {_LONGEST} bytes")
        return LocalSpec(text)

    @property
    def port(self) -> PortSpec:
        """The end that is a port of the bridge."""
        return PortSpec(_PREFIX + self.name, LOCAL)

    def record(self) -> LocalRecord:
        """What deleting the pair takes, in the calling thread's network namespace. Raises PortError when there is an
        interface already that would be taken for it."""
        try:
            interface(self.port.name)
        except PortError:
            return LocalRecord(self.port.name, inode())
        raise PortError(f"interface {self.port.name} exists: delete it with 'ip link del', or give LOCAL another name")

    def make(self) -> None:
        """Make the pair, both ends up. Raises PortError, KernelError."""
        make_veth(self.port.name, self.name)


def delete_local(record: LocalRecord) -> None:
    """Delete the pair. Nothing happens when it is gone, or its network namespace is. Raises PortError, KernelError."""

    def delete() -> None:
        try:
            found = interface(record.port)
        except PortError:
            return
        delete_veth(found.index)

    namespace = with_inode(record.namespace)
    if namespace is not None:
        run_in(namespace, delete)
