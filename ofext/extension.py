"""The extension: filter programs, their maps, observers and the image, as messages of experimenter 0xff4f4b4f.
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
    """Write entries into a map of a program. `flags` is that of bpf(2): 0 any, 1 only new keys, 2 only present keys.

    Success is silent: a barrier tells.
    """

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

    The schemas say in JSON what the bytes of a key and of a value mean; empty where nothing is known.
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
    """Ask for at most `limit` entries of a map (0: all), from `cursor` on: empty for the start, else as a reply gave
    it."""

    program: U32
    limit: U32
    map: Name
    cursor: Annotated[bytes, Counted("H")] = b""


@LIST_REPLIES.member(18)
@dataclass(frozen=True, slots=True)
class MapDumpReply:
    """Entries of a map. `cursor` goes on behind the last entry of the last part; it is empty at the end of the map."""

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


Command = ProgramLoad | ProgramLoaded | ProgramUnload | MapUpdate | Observe | Unobserve
ListRequest = (
    ProgramListRequest | MapListRequest | MapDumpRequest | DropListRequest | ObserverListRequest | ImageRequest
)
ListReply = ProgramListReply | MapListReply | MapDumpReply | DropListReply | ObserverListReply | ImageReply
