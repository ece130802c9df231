"""Port sets: where a packet leaves by, as a number of 32 bits that the pipeline carries along.

A set is of ports, and may contain the port that the packet came in by, whichever that is: OpenFlow never sends a packet
back unless IN_PORT says so. One copy goes to each port: an action list that sends twice to one port is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from oko.errors import BadAction, LimitExceeded

PORT_LIMIT: Final = 256
"""Ports of a bridge. The number of the set of one port is one more than its index."""

NOWHERE: Final = 0
BACK: Final = PORT_LIMIT + 1
"""The set of the ingress port alone."""
FIRST_LIST: Final = PORT_LIMIT + 2
"""The set with this number, and those after it, are lists in the map `port_sets`, from index 0 on. A list with the
ingress port takes one place more than the bridge has ports, one for each port that the packet may have come in by and
the last for packets of the controller, which came in by none."""
WITH_INGRESS: Final = 1 << 31
"""Set in the number of a list with the ingress port."""

LIST_LIMIT: Final = 1 << 12
"""Lists of an image. Before 6.8 the kernel waits some milliseconds for each."""


@dataclass(frozen=True, slots=True)
class PortSet:
    """`ports` are indices of ports; one of them is left out if the packet came in there, unless `ingress` is set."""

    ports: frozenset[int] = frozenset()
    ingress: bool = False


@dataclass(slots=True)
class PortSets:
    """The sets that an image uses, for a bridge of `ports` ports. `lists` is the content of `port_sets`: indices of
    ports by index. `unions` says what set two of them make, for the pairs that packets may need."""

    ports: int
    lists: list[frozenset[int]] = field(default_factory=list)
    unions: dict[tuple[int, int], int] = field(default_factory=dict)
    _numbers: dict[PortSet, int] = field(default_factory=dict)
    _sets: dict[int, PortSet] = field(default_factory=lambda: {NOWHERE: PortSet()})

    def number(self, ports: Iterable[int] = (), *, ingress: bool = False) -> int:
        """The number of a set. Raises LimitExceeded."""
        wanted = PortSet(frozenset(ports), ingress)
        number = self._numbers.get(wanted)
        if number is None:
            number = self._numbers[wanted] = self._new(wanted)
            self._sets[number] = wanted
        return number

    @property
    def numbers(self) -> Mapping[int, PortSet]:
        """Every set that has a number."""
        return self._sets

    @property
    def size(self) -> tuple[int, int]:
        """How many sets have a number, and how many unions are known: neither ever falls."""
        return len(self._sets), len(self.unions)

    def get(self, number: int) -> PortSet:
        """The set of a number that `number` gave."""
        return self._sets[number]

    def union(self, one: int, other: int) -> int:
        """Both sets together. Raises BadAction if a port is in both, LimitExceeded."""
        if NOWHERE in (one, other):
            return one or other
        number = self.unions.get((one, other))
        if number is None:
            mine, theirs = self.get(one), self.get(other)
            if mine.ports & theirs.ports or (mine.ingress and theirs.ingress):
                raise BadAction("the packet would leave twice by one port: name each port once", reason="too-many")
            number = self.number(mine.ports | theirs.ports, ingress=mine.ingress or theirs.ingress)
            self.unions[one, other] = number
        return number

    def _new(self, wanted: PortSet) -> int:
        if not wanted.ports:
            return BACK if wanted.ingress else NOWHERE
        if len(wanted.ports) == 1 and not wanted.ingress:
            return next(iter(wanted.ports)) + 1
        place = len(self.lists)
        if wanted.ingress:
            self.lists += (wanted.ports | {port} for port in range(self.ports))
            self.lists.append(wanted.ports)
        else:
            self.lists.append(wanted.ports)
        if len(self.lists) > LIST_LIMIT:
            raise LimitExceeded("lists of ports that packets are sent to", len(self.lists), LIST_LIMIT)
        return (FIRST_LIST + place) | (WITH_INGRESS if wanted.ingress else 0)
