"""The port that a packet came in by: how the pipeline and the filter programs know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from oko.compiler.assembler import Assembler, Label, Register
from oko.compiler.replay import REPLAY_IN_PORT
from oko.flow.action import CONTROLLER
from verifier import isa

CTX_IFINDEX: Final = 12
"""Offset of ingress_ifindex in struct xdp_md (<linux/bpf.h>)."""

LOOPBACK: Final = 1
"""The ifindex of lo in every network namespace: what a controller sends through the tables seems to come from there."""

_R0, _R1 = Register.R0, Register.R1


@dataclass(slots=True)
class Ingress:
    """How the pipeline knows the port that a packet came in by.

    `ports` is what the interface is compared with → (port number, index in the devmap). Live that is the ifindex of
    the context; in a replay image the port's number, which the one who replays put into the map `replay`. Packets of
    the controller have an index that no port has: the next one, `controller`; None if there are no such packets.
    """

    ports: dict[int, tuple[int, int]]
    replay: bool
    controller: int | None

    def load(self, asm: Assembler, context: Register) -> None:
        """R1 = the number that `ports` is keyed by."""
        if self.replay:
            asm.map_value(_R1, "replay", REPLAY_IN_PORT)
            asm.load(4, _R1, _R1, 0)
        else:
            asm.load(4, _R1, context, CTX_IFINDEX)

    def search(self, asm: Assembler, found: Sequence[tuple[int, Label]], unknown: Label) -> None:
        """Jump to the label of the key in R1, by halving. `found` ascends."""
        if len(found) <= 3:
            for key, label in found:
                asm.jump_if_value(isa.JEQ, _R1, key, label)
            asm.jump(unknown)
            return
        middle = len(found) // 2
        upper = Label("upper half of the ports")
        asm.jump_if_value(isa.JGE, _R1, found[middle][0], upper)
        self.search(asm, found[:middle], unknown)
        asm.place(upper)
        self.search(asm, found[middle:], unknown)

    def unless_controller(self, asm: Assembler, controller: Label) -> None:
        """Jump to `controller` if the key in R1, which is no port's, is the controller's; else go on."""
        own = CONTROLLER if self.replay else LOOPBACK
        if self.controller is not None and own not in self.ports:
            asm.jump_if_value(isa.JEQ, _R1, own, controller)

    def labels(self) -> list[tuple[int, Label]]:
        """A label for each port, by what its interface is compared with."""
        return [(key, Label(f"port {self.ports[key][0]}")) for key in sorted(self.ports)]


def emit_in_port(ingress: Ingress) -> Assembler:
    """The runtime function `oko_in_port`: from the context the number of the port, 0 for a stranger."""
    asm = Assembler()
    asm.note("oko_in_port")
    ingress.load(asm, _R1)
    labels = ingress.labels()
    stranger = Label("stranger")
    ingress.search(asm, labels, stranger)
    for key, label in labels:
        asm.place(label)
        asm.set(_R0, ingress.ports[key][0])
        asm.exit()
    asm.place(stranger)
    asm.set(_R0, 0)
    controller = Label("controller")
    ingress.unless_controller(asm, controller)
    asm.exit()
    asm.place(controller)
    asm.set(_R0, CONTROLLER)
    asm.exit()
    return asm
