"""The extension: filter programs, their maps and events, observers and the image, as messages of experimenter
0xff4f4b4f.
Described in docs/openflow-extension.md.

Commands travel in OFPT_EXPERIMENTER, lists and dumps in multipart messages of type OFPMP_EXPERIMENTER. Fields of
fixed size come first, aligned to their size; text and byte strings stand behind their length, without padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Final, NamedTuple

from .codec import U8, U16, U32, U64, Counted, Exactly, Family, Layout, Pad, Prefixed, Repeat, Rest, Text
from .oxm import Oxm, OxmPart

EXPERIMENTER: Final = 0xFF4F4B4F
"""The experimenter id of the extension. Its first byte is not zero, so it is no OUI (OpenFlow 1.3.5, section 7.5.4);
it is not registered with the ONF."""

FILTER_PROG_CLASS: Final = 0xFFFF
FILTER_PROG_FIELD: Final = 1
FILTER_PROG_SIZE: Final = 4
"""The OXM `filter_prog`: an experimenter field without a mask, whose value is the program's id, 32 bits."""

DIGEST_SIZE: Final = 32
NAME_LIMIT: Final = 63
"""Bytes that the name of a program or map may have, as UTF-8."""

COMMANDS: Final = Family("experimenter message")
LIST_REQUESTS: Final = Family("experimenter multipart request")
LIST_REPLIES: Final = Family("experimenter multipart reply")

Name = Annotated[str, Text("B", NAME_LIMIT)]


class LoadFlag(IntFlag):
    """How a program is loaded."""

    VERIFY_ONLY = 1
    """Say whether it would be accepted, and change nothing."""
    FRESH_MAPS = 2
    """Give it new maps, also where the program that it replaces has the same ones."""


class UnloadFlag(IntFlag):
    """How a program is unloaded."""

    FORCE = 1
    """Also if flows name it."""


class UpdateFlag(IntEnum):
    """Which keys an update or delete is about; the numbers are those of bpf(2)."""

    ANY = 0
    """All."""
    NEW = 1
    """Only keys that are not there. (No delete has it.)"""
    PRESENT = 2
    """Only keys that are there."""


class EventFlag(IntFlag):
    """What an event is besides a record."""

    ENDED = 1
    """There is no record, and there are no more to come: the program or its map is gone."""


class RunTimeFlag(IntFlag):
    """What is known of run times."""

    MEASURING = 1
    """The kernel measures now."""


class ImageFormat(IntEnum):
    """How the image is told."""

    TEXT = 0
    """Its instructions, with the stage or rule that they belong to."""
    DOT = 1
    """The tables, segments, programs and groups, as a graph for Graphviz."""


@COMMANDS.member(1)
@dataclass(frozen=True, slots=True)
class ProgramLoad:
    """One chunk of an object file: `data` stands at byte `offset` of `total`. `digest` is the SHA-256 of the whole
    file.

    The other fields are the same in every chunk of a load.
    """

    program: U32
    flags: U32
    total: U32
    offset: U32
    digest: Annotated[bytes, Exactly(DIGEST_SIZE)]
    name: Name
    data: Annotated[bytes, Rest()]


@COMMANDS.member(2)
@dataclass(frozen=True, slots=True)
class ProgramLoaded:
    """The answer to the last chunk: the program is in place (or would be accepted, if `flags` has VERIFY_ONLY).

    `instructions` counts those of the filter, `maps` its maps.
    """

    program: U32
    flags: U32
    instructions: U32
    maps: Annotated[U16, Pad(2)]
    name: Name


@COMMANDS.member(3)
@dataclass(frozen=True, slots=True)
class ProgramUnload:
    """Take a program away. Success is silent: a barrier tells."""

    program: U32
    flags: U32 = 0


class MapEntry(NamedTuple):
    """A key and a value, as the bytes that the map holds (host order, padding and all)."""

    key: Annotated[bytes, Counted("H")]
    value: Annotated[bytes, Counted("H")]


MAP_ENTRIES: Final = Repeat(Layout(MapEntry))


@COMMANDS.member(4)
@dataclass(frozen=True, slots=True)
class MapUpdate:
    """Write entries into a map of a program; `flags`: `UpdateFlag`. Success is silent: a barrier tells."""

    program: U32
    flags: U32
    map: Name
    entries: Annotated[tuple[MapEntry, ...], MAP_ENTRIES] = ()


ObserverMatch = Annotated[tuple[Oxm, ...], Prefixed("H", Repeat(OxmPart()))]


@COMMANDS.member(5)
@dataclass(frozen=True, slots=True)
class Observe:
    """Run a program for the packets that enter a table and have these headers: `match` has `filter_prog`, and any
    other fields. Success is silent: a barrier tells."""

    table_id: Annotated[U8, Pad(3)]
    match: ObserverMatch


@COMMANDS.member(6)
@dataclass(frozen=True, slots=True)
class Unobserve:
    """Take an observer away: the one with this table and match. Success is silent: a barrier tells."""

    table_id: Annotated[U8, Pad(3)]
    match: ObserverMatch


class MapKey(NamedTuple):
    """A key, as the bytes that the map holds."""

    key: Annotated[bytes, Counted("H")]


MAP_KEYS: Final = Repeat(Layout(MapKey))


@COMMANDS.member(7)
@dataclass(frozen=True, slots=True)
class MapDelete:
    """Take entries out of a map of a program; `flags`: ANY or PRESENT of `UpdateFlag`. Success is silent: a barrier
    tells."""

    program: U32
    flags: U32
    map: Name
    keys: Annotated[tuple[MapKey, ...], MAP_KEYS] = ()


@COMMANDS.member(8)
@dataclass(frozen=True, slots=True)
class EventSubscribe:
    """Send what a program puts into this ring buffer, as `Event` messages. Success is silent: a barrier tells."""

    program: U32
    map: Name


@COMMANDS.member(9)
@dataclass(frozen=True, slots=True)
class EventUnsubscribe:
    """Send no more of it. Success is silent: a barrier tells."""

    program: U32
    map: Name


@COMMANDS.member(10)
@dataclass(frozen=True, slots=True)
class Event:
    """A record that a program has put into a ring buffer. Unasked: its transaction id is 0.

    `time` is when the switch read it, ns since 1970-01-01 UTC. `lost` counts the records of this subscription that were
    not sent so far. `length` is that of the record in bytes, of which `data` are the first: all that a message holds.
    `flags`: `EventFlag`.
    """

    program: U32
    flags: U32
    time: U64
    lost: U64
    length: U32
    map: Name
    data: Annotated[bytes, Rest()]


@COMMANDS.member(11)
@dataclass(frozen=True, slots=True)
class FilterRulesShow:
    """Let what this connection is told of flows include those with `filter_prog`: a switch that stands in front of
    another hides them from readers that may not know the field. Success is silent: a barrier tells."""


@COMMANDS.member(12)
@dataclass(frozen=True, slots=True)
class ReasonsShow:
    """Let a Reason come before each error of this connection that is a number only. Success is silent: a barrier
    tells."""


@COMMANDS.member(13)
@dataclass(frozen=True, slots=True)
class Reason:
    """What is wrong with a request, in words. Its transaction id is that of the error that follows."""

    text: Annotated[str, Text("H")]


@LIST_REQUESTS.member(16)
@dataclass(frozen=True, slots=True)
class ProgramListRequest:
    """Ask for all programs."""


@dataclass(frozen=True, slots=True)
class ProgramEntry:
    """A program that is loaded. `runs` counts the packets it has seen, `matches` those it returned non-zero for."""

    program: U32
    instructions: U32
    maps: Annotated[U16, Pad(6)]
    runs: U64
    matches: U64
    digest: Annotated[bytes, Exactly(DIGEST_SIZE)]
    name: Name


@LIST_REPLIES.member(16)
@dataclass(frozen=True, slots=True)
class ProgramListReply:
    """Programs, by ascending id."""

    entries: Annotated[tuple[ProgramEntry, ...], Repeat(Layout(ProgramEntry))] = ()


@LIST_REQUESTS.member(17)
@dataclass(frozen=True, slots=True)
class MapListRequest:
    """Ask for the maps of a program, or of all programs if it is 0."""

    program: U32 = 0


@dataclass(frozen=True, slots=True)
class MapDescription:
    """A map of a program. `type` is the kernel's number of the map type; sizes are bytes.

    The schemas say in JSON what the bytes of a key and of a value mean, of a ring buffer those of a record; empty where
    nothing is known.
    """

    program: U32
    type: U32
    key_size: U32
    value_size: U32
    max_entries: U32
    name: Name
    key_schema: Annotated[str, Text("H")]
    value_schema: Annotated[str, Text("H")]


@LIST_REPLIES.member(17)
@dataclass(frozen=True, slots=True)
class MapListReply:
    """Maps, by program and name."""

    entries: Annotated[tuple[MapDescription, ...], Repeat(Layout(MapDescription))] = ()


@LIST_REQUESTS.member(18)
@dataclass(frozen=True, slots=True)
class MapDumpRequest:
    """Ask for the entries of a map: for all of them, or with a `limit` or `cursor` for one page.

    A page has at most `limit` entries (0: what fits into a message) behind `cursor`: empty for the start, else as a
    reply gave it.
    """

    program: U32
    limit: U32
    map: Name
    cursor: Annotated[bytes, Counted("H")] = b""


@LIST_REPLIES.member(18)
@dataclass(frozen=True, slots=True)
class MapDumpReply:
    """Entries of a map. `cursor` goes on behind the last entry; it is empty at the end of the map."""

    program: U32
    map: Name
    cursor: Annotated[bytes, Counted("H")] = b""
    entries: Annotated[tuple[MapEntry, ...], MAP_ENTRIES] = ()


@LIST_REQUESTS.member(19)
@dataclass(frozen=True, slots=True)
class DropListRequest:
    """Ask for the packets that were dropped although no flow said so."""


@dataclass(frozen=True, slots=True)
class DropEntry:
    """Packets dropped for one `reason`, and their bytes (0 where only packets are counted)."""

    packets: U64
    bytes: U64
    reason: Name


@LIST_REPLIES.member(19)
@dataclass(frozen=True, slots=True)
class DropListReply:
    """Packets that were dropped although no flow said so, by reason."""

    entries: Annotated[tuple[DropEntry, ...], Repeat(Layout(DropEntry))] = ()


@LIST_REQUESTS.member(20)
@dataclass(frozen=True, slots=True)
class ObserverListRequest:
    """Ask for all observers."""


@dataclass(frozen=True, slots=True)
class ObserverEntry:
    """An observer: the program that `match` names runs for the packets that enter the table and have the headers."""

    table_id: Annotated[U8, Pad(3)]
    match: ObserverMatch


@LIST_REPLIES.member(20)
@dataclass(frozen=True, slots=True)
class ObserverListReply:
    """Observers, by table and program."""

    entries: Annotated[tuple[ObserverEntry, ...], Repeat(Layout(ObserverEntry))] = ()


@LIST_REQUESTS.member(21)
@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Ask for the image that decides packets now, in the format `ImageFormat`."""

    format: U32 = ImageFormat.TEXT


@dataclass(frozen=True, slots=True)
class ImageLine:
    """A line of text."""

    text: Annotated[str, Text("H")]


@LIST_REPLIES.member(21)
@dataclass(frozen=True, slots=True)
class ImageReply:
    """The image, line by line."""

    entries: Annotated[tuple[ImageLine, ...], Repeat(Layout(ImageLine))] = ()


@LIST_REQUESTS.member(22)
@dataclass(frozen=True, slots=True)
class MapLookupRequest:
    """Ask for the values behind these keys of a map."""

    program: U32
    map: Name
    keys: Annotated[tuple[MapKey, ...], MAP_KEYS] = ()


@LIST_REPLIES.member(22)
@dataclass(frozen=True, slots=True)
class MapLookupReply:
    """Keys and values, in the order of the request. A key that is not there is left out."""

    program: U32
    map: Name
    entries: Annotated[tuple[MapEntry, ...], MAP_ENTRIES] = ()


@LIST_REQUESTS.member(23)
@dataclass(frozen=True, slots=True)
class EventListRequest:
    """Ask for the subscriptions of this connection."""


@dataclass(frozen=True, slots=True)
class EventEntry:
    """A subscription: how many records it has been `sent`, and how many it has `lost` because the connection was
    slow."""

    program: Annotated[U32, Pad(4)]
    sent: U64
    lost: U64
    map: Name


@LIST_REPLIES.member(23)
@dataclass(frozen=True, slots=True)
class EventListReply:
    """The subscriptions of this connection, by program and map."""

    entries: Annotated[tuple[EventEntry, ...], Repeat(Layout(EventEntry))] = ()


@LIST_REQUESTS.member(24)
@dataclass(frozen=True, slots=True)
class RunTimeRequest:
    """Ask how long the packets have taken."""


@LIST_REPLIES.member(24)
@dataclass(frozen=True, slots=True)
class RunTimeReply:
    """What the kernel has measured of all packets of the bridge, from the driver's call to its decision: `packets`, and
    the ns that they took together. Both grow only while it measures. `flags`: `RunTimeFlag`."""

    flags: Annotated[U32, Pad(4)]
    packets: U64
    run_time: U64


class AttachmentFlag(IntFlag):
    """Whether the bridge is one of Open vSwitch's."""

    ATTACHED = 1


class Concern(IntEnum):
    """What it is that filter rules cannot do all that they say for."""

    BRIDGE = 0
    """Packets of the bridge `subject` are not continued."""
    PORT = 1
    """Packets of the interface `subject` are not seen."""
    FLOW = 2
    """The flow `subject` is suspended."""


@LIST_REQUESTS.member(25)
@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """Ask whether the switch is attached to Open vSwitch, and what keeps its filter rules from being all in effect."""


@dataclass(frozen=True, slots=True)
class ConcernEntry:
    """`kind`: `Concern`. `subject` is a name, or a flow in the syntax of ovs-ofctl."""

    kind: Annotated[U32, Pad(4)]
    subject: Annotated[str, Text("H", 0xFFFF)]
    reason: Annotated[str, Text("H", 0xFFFF)]


@LIST_REPLIES.member(25)
@dataclass(frozen=True, slots=True)
class AttachmentReply:
    """`flags`: `AttachmentFlag`."""

    flags: Annotated[U32, Pad(4)]
    entries: Annotated[tuple[ConcernEntry, ...], Repeat(Layout(ConcernEntry))] = ()


Command = (
    ProgramLoad
    | ProgramLoaded
    | ProgramUnload
    | MapUpdate
    | MapDelete
    | Observe
    | Unobserve
    | EventSubscribe
    | EventUnsubscribe
    | Event
    | FilterRulesShow
    | ReasonsShow
    | Reason
)
ListRequest = (
    ProgramListRequest
    | MapListRequest
    | MapDumpRequest
    | MapLookupRequest
    | DropListRequest
    | ObserverListRequest
    | ImageRequest
    | EventListRequest
    | RunTimeRequest
    | AttachmentRequest
)
ListReply = (
    ProgramListReply
    | MapListReply
    | MapDumpReply
    | MapLookupReply
    | DropListReply
    | ObserverListReply
    | ImageReply
    | EventListReply
    | RunTimeReply
    | AttachmentReply
)
