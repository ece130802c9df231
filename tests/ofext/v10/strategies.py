"""Hypothesis strategies for every message of OpenFlow 1.0, derived from the declarations."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ofext.codec import Family, Layout
from ofext.messages import Error, Experimenter, Hello, Unknown
from ofext.multipart import ExperimenterBody, UnknownBody
from ofext.v10 import actions, messages, stats
from ofext.v10.constants import NICIRA, VERSION
from ofext.v10.errors import NICIRA_ERROR
from ofext.v10.match import Nxm
from tests.ofext.strategies import SMALL, U16, U32, of_family, of_part

FOREIGN = U32.filter(lambda number: number != NICIRA)


def _members(*families: Family) -> dict[type, st.SearchStrategy[Any]]:
    """A strategy for each class that is declared as a layout."""
    found = {}
    for family in families:
        for part in family.parts.values():
            if isinstance(part, Layout | Nxm):
                layout = part if isinstance(part, Layout) else part.part
                found[layout.cls] = of_part(layout)
    return found


def _foreign_types(family: Family) -> st.SearchStrategy[int]:
    return U16.filter(lambda number: number not in family.parts)


def _bodies(family: Family, nicira: Family) -> dict[type, st.SearchStrategy[Any]]:
    return {
        **_members(family, nicira),
        ExperimenterBody: st.builds(ExperimenterBody, FOREIGN, U32, SMALL),
        UnknownBody: st.builds(UnknownBody, _foreign_types(family), SMALL),
    }


REQUESTS = _bodies(stats.REQUESTS, stats.NICIRA_REQUESTS)
REPLIES = _bodies(stats.REPLIES, stats.NICIRA_REPLIES)

PLAIN: dict[type, st.SearchStrategy[Any]] = {
    **_members(messages.MESSAGES, messages.NICIRA_MESSAGES),
    Hello: st.just(Hello((), VERSION)),
    Error: st.builds(Error, U16.filter(lambda number: number != NICIRA_ERROR), U16, SMALL),
    messages.VendorError: st.builds(messages.VendorError, U32, U16, U16, SMALL),
    Experimenter: st.builds(Experimenter, FOREIGN, U32, SMALL),
    Unknown: st.builds(
        Unknown, st.integers(0, 255).filter(lambda number: number not in messages.MESSAGES.parts), SMALL
    ),
}

ACTIONS: st.SearchStrategy[Any] = st.one_of(
    of_family(actions.ACTIONS),
    of_family(actions.NICIRA_ACTIONS),
    st.builds(actions.VendorAction, FOREIGN, st.binary(max_size=2).map(lambda data: data * 8 + bytes(8))),
)

BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    **{cls.__name__: strategy for cls, strategy in PLAIN.items()},
    **{f"request {cls.__name__}": st.builds(stats.StatsRequest, body) for cls, body in REQUESTS.items()},
    **{f"reply {cls.__name__}": st.builds(stats.StatsReply, body, st.integers(0, 1)) for cls, body in REPLIES.items()},
    "actions": st.builds(messages.PacketOut, U32, U16, st.lists(ACTIONS, max_size=3).map(tuple), SMALL),
}
"""Every message: a statistics message for each class of body."""

MESSAGES: st.SearchStrategy[Any] = st.one_of(*BY_NAME.values())
"""Messages."""
