"""The queues of a port (OpenFlow 1.3.5, sections 7.2.2 and 7.3.6). Properties without a class here are kept as
bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from .codec import BAD_LEN, U16, U32, Elements, Family, Layout, Pad, Padding, Repeat, Rest, Spanned

QUEUE_PROPERTIES: Final = Family("queue property")


@QUEUE_PROPERTIES.member(1, lead=4)
@dataclass(frozen=True, slots=True)
class MinRate:
    """What the queue gets at least, in tenths of a percent of the port; above 1000 is off."""

    rate: Annotated[U16, Pad(6)]


@QUEUE_PROPERTIES.member(2, lead=4)
@dataclass(frozen=True, slots=True)
class MaxRate:
    """What the queue gets at most, in tenths of a percent of the port; above 1000 is off."""

    rate: Annotated[U16, Pad(6)]


@QUEUE_PROPERTIES.member(0xFFFF, lead=4)
@dataclass(frozen=True, slots=True)
class ExperimenterQueueProperty:
    """A property that `experimenter` defines. `data` is a multiple of 8 bytes."""

    experimenter: Annotated[U32, Pad(4)]
    data: Annotated[bytes, Rest(8)] = b""


@dataclass(frozen=True, slots=True)
class UnknownQueueProperty:
    """A property that has no class here. `body` is what follows the length: 4 bytes, 12, 20, …"""

    type: int
    body: bytes


QueueProperty = MinRate | MaxRate | ExperimenterQueueProperty | UnknownQueueProperty


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of a port (`struct ofp_packet_queue`)."""

    queue_id: U32
    port: Annotated[U32, Pad(8)]
    properties: Annotated[
        tuple[QueueProperty, ...],
        Elements(QUEUE_PROPERTIES, UnknownQueueProperty, padding=Padding.COUNTED, what=BAD_LEN),
    ] = ()


Queues = Annotated[tuple[Queue, ...], Repeat(Spanned(Layout(Queue), 8))]
