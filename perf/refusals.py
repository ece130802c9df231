"""Requests that a switch has to refuse, each with the name of the error that it has to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from ofext.bundles import BundleCommand, BundleControl
from ofext.constants import NO_BUFFER, Role
from ofext.errors import BUNDLE_BY_TYPE, BY_CODE, EXPERIMENTER_ERROR, EXTENSION_BY_TYPE
from ofext.extension import (
    EventSubscribe,
    EventUnsubscribe,
    MapDelete,
    MapEntry,
    MapKey,
    MapUpdate,
    ProgramLoad,
    ProgramUnload,
)
from ofext.load import chunks
from ofext.messages import Experimenter, Message, PacketOut, PortMod, RoleRequest, SetConfig
from oko.errors import RemoteError
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.rule import Command
from oko.flow.text import parse_actions, parse_flow_mod
from oko.wire.action import write_actions
from oko.wire.change import write_flow_mod, write_group_mod
from perf.xdp import OBJECTS

CHATTER: Final = 9
"""The id of ``perf/programs/chatter.c``, which an observer runs: nothing that is sent depends on it."""
SPARE: Final = 8
"""A program that comes and goes."""

GENERATION: Final = 1 << 40
"""That of every role that is asked for and granted."""

_UNKNOWN: Final = 60
_RULE: Final = write_flow_mod(parse_flow_mod("priority=3,ip,actions=output:2", Command.ADD))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request: the last of `messages` is refused with the error called `error`. `trusted` says whether it is sent by
    a connection that may load programs."""

    error: str
    messages: Callable[[Random], Sequence[Message]]
    trusted: bool = True


def _flow(text: str) -> Callable[[Random], Sequence[Message]]:
    message = write_flow_mod(parse_flow_mod(text, Command.ADD))
    return lambda _random: [message]


def _constant(*messages: Message) -> Callable[[Random], Sequence[Message]]:
    return lambda _random: messages


def _object(name: str) -> bytes:
    return (OBJECTS / f"{name}.o").read_bytes()


def _of_another_digest(random: Random) -> list[ProgramLoad]:
    digest = random.randbytes(32)
    return [replace(chunk, digest=digest) for chunk in _pieces(random)]


def _pieces(random: Random) -> list[ProgramLoad]:
    """A load in pieces."""
    return list(chunks(SPARE, "", _object("any"), size=random.choice((100, 1000, 5000))))


REFUSALS: Final[dict[str, Refusal]] = {
    "load without the right": Refusal(
        "bad-request/eperm", lambda random: list(chunks(SPARE, "", _object("any")))[:1], trusted=False
    ),
    "map update without the right": Refusal(
        "bad-request/eperm", _constant(MapUpdate(CHATTER, 0, "notes", (MapEntry(bytes(4), bytes(8)),))), trusted=False
    ),
    "unload without the right": Refusal("bad-request/eperm", _constant(ProgramUnload(CHATTER)), trusted=False),
    "load of what is no object": Refusal(
        "program-not-readable", lambda random: list(chunks(SPARE, "", random.randbytes(random.randrange(1, 9000))))
    ),
    "load of another kind of program": Refusal(
        "program-not-readable", lambda _random: list(chunks(SPARE, "", _object("generator")))
    ),
    "load of another digest": Refusal("load-digest-mismatch", _of_another_digest),
    "load out of order": Refusal(
        "load-out-of-order", lambda random: [replace(_pieces(random)[0], offset=random.randrange(1, 99))]
    ),
    "oversized load": Refusal(
        "limit-exceeded", lambda random: [replace(_pieces(random)[0], total=(1 << 30) + random.randrange(1 << 30))]
    ),
    "load as a program beyond the last": Refusal(
        "limit-exceeded", lambda _random: list(chunks(1 << 20, "", _object("any")))
    ),
    "unload of a program that is not there": Refusal("unknown-program", _constant(ProgramUnload(_UNKNOWN))),
    "unload of a program that is observing": Refusal("program-in-use", _constant(ProgramUnload(CHATTER))),
    "map that is not there": Refusal("unknown-map", _constant(MapDelete(CHATTER, 0, "nothing", ()))),
    "key of another size": Refusal(
        "bad-map-access", _constant(MapUpdate(CHATTER, 0, "notes", (MapEntry(bytes(3), bytes(8)),)))
    ),
    "key beyond the array": Refusal(
        "bad-map-access", _constant(MapUpdate(CHATTER, 0, "notes", (MapEntry(b"\xff" * 4, bytes(8)),)))
    ),
    "delete from an array": Refusal("bad-map-access", _constant(MapDelete(CHATTER, 0, "notes", (MapKey(bytes(4)),)))),
    "events of what is no ring": Refusal("bad-map-access", _constant(EventSubscribe(CHATTER, "notes"))),
    "end of what was not subscribed to": Refusal("bad-map-access", _constant(EventUnsubscribe(CHATTER, "events"))),
    "flow_mod of a slave": Refusal("bad-request/is-slave", _constant(RoleRequest(Role.SLAVE, GENERATION), _RULE)),
    "role of an old generation": Refusal(
        "role-request-failed/stale",
        _constant(RoleRequest(Role.SLAVE, GENERATION), RoleRequest(Role.MASTER, GENERATION - 1)),
        trusted=False,
    ),
    "role that is none": Refusal("role-request-failed/bad-role", _constant(RoleRequest(17, 0)), trusted=False),
    "output to a port that is not there": Refusal("bad-action/bad-out-port", _flow("ip,actions=output:77")),
    "rule of a program that is not there": Refusal("unknown-program", _flow(f"filter_prog={_UNKNOWN},actions=drop")),
    "rule of a group that is not there": Refusal("bad-action/bad-out-group", _flow("ip,actions=group:4711")),
    "group that is not there": Refusal(
        "group-mod-failed/unknown-group",
        _constant(write_group_mod(GroupMod(GroupCommand.MODIFY, parse_group("group_id=4711,type=all")))),
    ),
    "port_mod of another address": Refusal("port-mod-failed/bad-hw-addr", _constant(PortMod(2, bytes(6)))),
    "port_mod of a port that is not there": Refusal("port-mod-failed/bad-port", _constant(PortMod(77, bytes(6)))),
    "packet_out of a buffer": Refusal("bad-request/buffer-unknown", _constant(PacketOut(5, 1, (), b""))),
    "packet_out to a port that is not there": Refusal(
        "bad-action/bad-out-port",
        _constant(PacketOut(NO_BUFFER, 1, write_actions(parse_actions("output:77")), bytes(60))),
        trusted=False,
    ),
    "fragments reassembled": Refusal("switch-config-failed/bad-flags", _constant(SetConfig(2, 128)), trusted=False),
    "experimenter that is not known": Refusal("bad-request/bad-experimenter", _constant(Experimenter(0x1234, 5))),
    "commit of a bundle that is not open": Refusal(
        "bundle-failed/bad-id", _constant(BundleControl(5, BundleCommand.COMMIT_REQUEST))
    ),
}
"""By what is tried."""


def name_of(error: RemoteError) -> str:
    """What the error is called in `ofext.errors`."""
    if error.error_type == EXPERIMENTER_ERROR:
        kinds = EXTENSION_BY_TYPE.get(error.error_code), BUNDLE_BY_TYPE.get(error.error_code)
        return next((kind.name for kind in kinds if kind is not None), f"error {error.error_code}")
    known = BY_CODE.get((error.error_type, error.error_code))
    return known.name if known is not None else f"error {error.error_type}, {error.error_code}"
