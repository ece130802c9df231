"""Hypothesis strategies for every structure of the codec, derived from the declarations: a new message is covered by
being declared."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, get_type_hints

from hypothesis import strategies as st

from ofext import messages, multipart
from ofext.bundles import BUNDLE_MESSAGES, ONF, BundleAdd, BundleProperty
from ofext.codec import (
    Aligned,
    Array,
    Chars,
    Counted,
    Elements,
    Exactly,
    Family,
    Layout,
    Number,
    Padding,
    Prefixed,
    Recurring,
    Repeat,
    Rest,
    Sized,
    Spanned,
    Text,
)
from ofext.extension import COMMANDS, EXPERIMENTER, LIST_REPLIES, LIST_REQUESTS
from ofext.monitor import (
    MONITOR_MESSAGES,
    MONITOR_REPLIES,
    MONITOR_REQUESTS,
    FlowUpdate,
    OwnUpdate,
    UpdateEvent,
    _UpdatePart,
    _WithMatchLength,
)
from ofext.oxm import EXPERIMENTER_CLASS, MatchPart, Oxm, OxmId, OxmIdPart, OxmPart
from ofext.v10.match import Nxm, NxmPart

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
FOREIGN = U32.filter(lambda number: number not in (EXPERIMENTER, ONF))
SMALL = st.binary(max_size=20)


def _oxm(draw: st.DrawFn) -> Oxm:
    oxm_class = draw(st.sampled_from([0x8000, 0x0001, 0x8001, EXPERIMENTER_CLASS]))
    value = draw(st.binary(max_size=16))
    mask = draw(st.none() | st.binary(min_size=len(value), max_size=len(value)))
    experimenter = draw(U32) if oxm_class == EXPERIMENTER_CLASS else None
    return Oxm(oxm_class, draw(st.integers(0, 127)), value, mask, experimenter)


def _oxm_id(draw: st.DrawFn) -> OxmId:
    oxm_class = draw(st.sampled_from([0x8000, 0x0001, EXPERIMENTER_CLASS]))
    experimenter = draw(U32) if oxm_class == EXPERIMENTER_CLASS else None
    return OxmId(oxm_class, draw(st.integers(0, 127)), draw(st.booleans()), draw(st.integers(0, 255)), experimenter)


OXMS = st.composite(_oxm)()
OXM_IDS = st.composite(_oxm_id)()


def _fits(limit: int) -> Any:
    return lambda text: len(text.encode("utf-8", "surrogateescape")) <= limit


def of_part(part: Any) -> st.SearchStrategy[Any]:
    """The values that `part` reads and writes."""
    match part:
        case Layout():
            return of_class(part.cls)
        case MatchPart() | NxmPart():
            return st.lists(OXMS, max_size=4).map(tuple)
        case Text():
            text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
            return text.filter(_fits(part.most))
        case Counted():
            return st.binary(max_size=min(part.most, 40))
        case Chars():
            text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=part.size)
            return text.filter(_fits(part.size - 1))
        case Exactly():
            return st.binary(min_size=part.size, max_size=part.size)
        case Array():
            number = st.integers(0, (1 << 8 * struct.calcsize(f">{part.format}")) - 1)
            return st.tuples(*[number] * part.count)
        case OxmPart():
            return OXMS
        case OxmIdPart():
            return OXM_IDS
        case Recurring():
            return of_part(part.part)
        case Rest():
            return SMALL if part.multiple == 1 else st.binary(max_size=2).map(lambda data: data * part.multiple)
        case _UpdatePart():
            flows = st.builds(replace, of_class(FlowUpdate), event=st.integers(0, UpdateEvent.OWN - 1))
            return flows | of_class(OwnUpdate)
        case _WithMatchLength() | Sized() | Spanned() | Prefixed() | Aligned() | Nxm():
            return of_part(part.part)
        case Repeat():
            return st.lists(of_part(part.part), max_size=3).map(tuple)
        case Elements():
            return st.lists(of_elements(part), max_size=3).map(tuple)
        case messages._Bitmap():
            return st.frozensets(st.integers(0, 70))
    raise AssertionError(f"no strategy for {part}")


def of_elements(part: Elements) -> st.SearchStrategy[Any]:
    """Elements of a family, and unknown ones."""
    family = part.family
    types = U16.filter(lambda number: number not in family.parts)
    bodies = st.binary(max_size=2).map(lambda data: data * 8 + bytes(4)) if part.padding is Padding.COUNTED else SMALL
    unknown = st.builds(part.unknown, types, bodies)
    return st.one_of(of_family(family), unknown) if family.parts else unknown


def of_class(cls: type) -> st.SearchStrategy[Any]:
    """Values of a structure with a layout."""
    fields = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        if not marks:
            continue
        if isinstance(marks[0], Number):
            fields[name] = st.integers(0, (1 << 8 * struct.calcsize(f">{marks[0].format}")) - 1)
        else:
            fields[name] = of_part(marks[0])
    return st.builds(cls, **fields)


def of_family(family: Family) -> st.SearchStrategy[Any]:
    """Values of every class in the family whose declaration is a layout."""
    return st.one_of([of_class(part.cls) for part in family.parts.values() if isinstance(part, Layout)])


def _unknown_type(family: Family) -> st.SearchStrategy[int]:
    return U16.filter(lambda number: number not in family.parts)


def _layouts(*families: Family) -> dict[type, st.SearchStrategy[Any]]:
    """A strategy for each class in the families whose declaration is a layout."""
    parts = [part for family in families for part in family.parts.values() if isinstance(part, Layout)]
    return {part.cls: of_class(part.cls) for part in parts}


def _bodies(family: Family, *experimenters: Family) -> dict[type, st.SearchStrategy[Any]]:
    return {
        **_layouts(family, *experimenters),
        multipart.ExperimenterBody: st.builds(multipart.ExperimenterBody, FOREIGN, U32, SMALL),
        multipart.UnknownBody: st.builds(multipart.UnknownBody, _unknown_type(family), SMALL),
    }


def _hello() -> st.SearchStrategy[messages.Hello]:
    elements = of_class(messages.Hello).map(lambda hello: hello.elements)
    return st.one_of(
        st.builds(messages.Hello, elements, st.integers(4, 255)),
        st.builds(messages.Hello, st.just(()), st.integers(0, 3)),
    )


BUNDLE_PROPERTIES = st.lists(st.builds(BundleProperty, U16, SMALL), max_size=2).map(tuple)
ENCLOSED = st.builds(
    lambda kind, body, xid: bytes([4, kind]) + (8 + len(body)).to_bytes(2, "big") + xid.to_bytes(4, "big") + body,
    *(st.integers(0, 255), SMALL, U32),
)

PLAIN: dict[type, st.SearchStrategy[Any]] = {
    **_layouts(messages.MESSAGES, COMMANDS, BUNDLE_MESSAGES, MONITOR_MESSAGES),
    messages.Hello: _hello(),
    messages.Error: st.builds(messages.Error, st.integers(0, 0xFFFE), U16, SMALL),
    messages.ExperimenterError: st.builds(messages.ExperimenterError, U16, U32, SMALL),
    messages.Experimenter: st.builds(messages.Experimenter, FOREIGN, U32, SMALL),
    BundleAdd: st.builds(BundleAdd, U32, U16, ENCLOSED, BUNDLE_PROPERTIES),
    messages.Unknown: st.builds(
        messages.Unknown, st.integers(0, 255).filter(lambda number: number not in messages.MESSAGES.parts), SMALL
    ),
}
"""Every message but multipart messages, by class."""

REQUESTS = _bodies(multipart.REQUESTS, LIST_REQUESTS, MONITOR_REQUESTS)
REPLIES = _bodies(multipart.REPLIES, LIST_REPLIES, MONITOR_REPLIES)

BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    **{cls.__name__: strategy for cls, strategy in PLAIN.items()},
    **{
        f"request {cls.__name__}": st.builds(multipart.MultipartRequest, body, st.integers(0, 1))
        for cls, body in REQUESTS.items()
    },
    **{
        f"reply {cls.__name__}": st.builds(multipart.MultipartReply, body, st.integers(0, 1))
        for cls, body in REPLIES.items()
    },
}
"""Every message: a multipart message for each class of body."""

MESSAGES: st.SearchStrategy[Any] = st.one_of(*BY_NAME.values())
