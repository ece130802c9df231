"""The extension for applications of os-ken. Importing this module registers the match field `filter_prog` with os-ken,
so that ``OFPMatch(eth_type=0x800, filter_prog=1)`` is what it says, and the messages of the extension.

`OkoRequest` sends what `ofext.extension` has for controllers, and there is an event for everything that a switch sends,
called EventOko and the name of the structure::

    from ofext import osken

    datapath.send_msg(osken.OkoRequest(datapath, MapUpdate(1, 0, "blocked", entries)))
    for request in osken.load_requests(datapath, 1, "firewall", elf):
        datapath.send_msg(request)

    @set_ev_cls(osken.EventOkoProgramLoaded, MAIN_DISPATCHER)
    def loaded(self, event):
        log.info("%s is in place", event.msg.content.name)

A reply in several parts is several events, as os-ken has it of other replies: all but the last have
OFPMPF_REPLY_MORE in `event.msg.flags`. An error comes as EventOFPErrorMsg, of which `refusal` makes an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from os_ken.controller import ofp_event
from os_ken.lib import type_desc
from os_ken.ofproto import ofproto_v1_3, ofproto_v1_3_parser, oxm_fields
from os_ken.ofproto.ofproto_parser import MsgBase

from oko.errors import RemoteError

from .answers import remote_error
from .extension import (
    EXPERIMENTER,
    FILTER_PROG_FIELD,
    LIST_REPLIES,
    Command,
    Event,
    ListReply,
    ListRequest,
    ProgramLoaded,
)
from .load import chunks
from .messages import Error, ExperimenterError, decode, encode
from .multipart import MultipartReply, MultipartRequest

FIELD: Final = "filter_prog"

_EXPERIMENTER_AT: Final = {ofproto_v1_3.OFPT_EXPERIMENTER: 8, ofproto_v1_3.OFPT_MULTIPART_REPLY: 16}
"""Where a message that a switch sends has its experimenter, by its type."""
_PARSERS: Final = ofproto_v1_3_parser._MSG_PARSERS


class OkoRequest(MsgBase):  # type: ignore[misc]
    """A command or the request for a list. To be sent with `datapath.send_msg`, which gives it a transaction id."""

    def __init__(self, datapath: Any, content: Command | ListRequest) -> None:
        super().__init__(datapath)
        self.content = content
        listed = isinstance(content, ListRequest)
        self.cls_msg_type = ofproto_v1_3.OFPT_MULTIPART_REQUEST if listed else ofproto_v1_3.OFPT_EXPERIMENTER

    def serialize(self) -> None:
        """Write the message into `buf`. Raises ProtocolError and LimitExceeded for a value that does not fit."""
        content = self.content
        message = MultipartRequest(content) if isinstance(content, ListRequest) else content
        self.buf = bytearray(encode(message, self.xid or 0))
        self.set_headers(ofproto_v1_3.OFP_VERSION, self.cls_msg_type, len(self.buf), self.xid or 0)


class OkoMessage(MsgBase):  # type: ignore[misc]
    """A message of the extension that a switch has sent: `content` is the value of `ofext.extension`, `flags` are those
    of a multipart reply."""

    content: Command | ListReply
    flags: int = 0


def load_requests(datapath: Any, program: int, name: str, elf: bytes, flags: int = 0) -> Iterator[OkoRequest]:
    """What loads an object file, to be sent in order. The answer has the transaction id of the last."""
    for chunk in chunks(program, name, elf, flags):
        yield OkoRequest(datapath, chunk)


def refusal(message: Any) -> RemoteError:
    """What an OFPErrorMsg says, be it of OpenFlow or of the extension; not raised. Raises ProtocolError for a message
    that is none."""
    answer, _ = decode(bytes(message.buf))
    if not isinstance(answer, Error | ExperimenterError):
        raise TypeError(f"{type(answer).__name__} is no error")
    return remote_error(answer)


class _FilterProg(oxm_fields._Experimenter):  # type: ignore[misc]
    """`filter_prog`, as os-ken describes the fields of an experimenter."""

    experimenter_id = EXPERIMENTER


def _event_of(structure: type, msg_type: int) -> tuple[type[OkoMessage], type]:
    """The message of os-ken that holds a structure, and its event."""
    name = f"Oko{structure.__name__}"
    message = type(name, (OkoMessage,), {"cls_msg_type": msg_type, "__doc__": structure.__doc__})
    ofp_event._create_ofp_msg_ev_class(message)
    return message, ofp_event._OFP_MSG_EVENTS[f"Event{name}"]


_MADE: Final = {
    structure: _event_of(structure, msg_type)
    for msg_type, structures in (
        (ofproto_v1_3.OFPT_EXPERIMENTER, (ProgramLoaded, Event)),
        (ofproto_v1_3.OFPT_MULTIPART_REPLY, tuple(LIST_REPLIES.numbers)),
    )
    for structure in structures
}
globals().update({event.__name__: event for _, event in _MADE.values()})


def _reading(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """A parser that reads the messages of the extension, and leaves the others to os-ken's own."""

    def parse(datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: Any) -> Any:
        at = _EXPERIMENTER_AT[msg_type]
        multipart = msg_type == ofproto_v1_3.OFPT_MULTIPART_REPLY
        known = not multipart or int.from_bytes(buf[8:10], "big") == ofproto_v1_3.OFPMP_EXPERIMENTER
        if not known or int.from_bytes(buf[at : at + 4], "big") != EXPERIMENTER:
            return theirs(datapath, version, msg_type, msg_len, xid, buf)
        decoded, _ = decode(bytes(buf[:msg_len]))
        content = decoded.body if isinstance(decoded, MultipartReply) else decoded
        if type(content) not in _MADE:
            return theirs(datapath, version, msg_type, msg_len, xid, buf)
        message = _MADE[type(content)][0].parser(datapath, version, msg_type, msg_len, xid, buf)
        message.content = content
        message.flags = decoded.flags if isinstance(decoded, MultipartReply) else 0
        return message

    return parse


def _register() -> None:
    ofproto_v1_3.oxm_types.append(_FilterProg(FIELD, FILTER_PROG_FIELD, type_desc.Int4))
    oxm_fields.generate(ofproto_v1_3.__name__)
    for msg_type in _EXPERIMENTER_AT:
        _PARSERS[msg_type] = _reading(_PARSERS[msg_type])


_register()
