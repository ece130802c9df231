"""What of the extension only those may ask for who have the right to (`oko.openflow.terms`).

What programs, maps, observers and subscriptions there are, and how often programs ran, is told to everybody, as flow
statistics are.
"""

from __future__ import annotations

from typing import Final

from ofext.extension import (
    EventSubscribe,
    ListRequest,
    MapDelete,
    MapDumpRequest,
    MapLookupRequest,
    MapUpdate,
    Observe,
    ProgramLoad,
    ProgramUnload,
    Unobserve,
)
from ofext.messages import Message
from ofext.multipart import RequestBody
from oko.openflow.terms import Terms
from oko.wire.refusal import refused

Asked = Message | RequestBody | ListRequest
"""A message, or the body of a multipart request."""

LOADING: Final[frozenset[type]] = frozenset({ProgramLoad, ProgramUnload, MapUpdate, MapDelete, Observe, Unobserve})
"""Changes what the switch does by the extension: for those who `may_load`."""
READING: Final[frozenset[type]] = frozenset({MapDumpRequest, MapLookupRequest, EventSubscribe})
"""Tells what programs have seen of the traffic: for those who `may_read`."""


def require_right(asked: Asked, terms: Terms) -> None:
    """Raises ProtocolError for what a peer on these terms may not ask for."""
    kind = type(asked)
    if kind in LOADING and not terms.may_load:
        may_not, option = "load programs, write maps or observe", "--may-load"
    elif kind in READING and not terms.may_read:
        may_not, option = "read maps or subscribe to events", "--may-read"
    else:
        return
    raise refused(
        "bad-request/eperm",
        f"{kind.__name__}: connections of this endpoint may not {may_not}: let them with {option}",
    )
