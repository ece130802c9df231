"""Hypothesis strategies for every structure of the codec, derived from the declarations: a new message is covered by
being declared."""

from __future__ import annotations

import struct
from typing import Any, get_type_hints

from hypothesis import strategies as st

from ofext import instructions, messages, multipart
from ofext.codec import Chars, Counted, Elements, Exactly, Family, Layout, Number, Repeat, Rest, Sized, Text
from ofext.extension import COMMANDS, EXPERIMENTER, LIST_REPLIES, LIST_REQUESTS
from ofext.oxm import EXPERIMENTER_CLASS, MatchPart, Oxm

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
FOREIGN = U32.filter(lambda number: number != EXPERIMENTER)
SMALL = st.binary(max_size=20)


def _oxm(draw: st.DrawFn) -> Oxm:
    oxm_class = draw(st.sampled_from([0x8000, 0x0001, 0x8001, EXPERIMENTER_CLASS]))
    value = draw(st.binary(max_size=16))
    mask = draw(st.none() | st.binary(min_size=len(value), max_size=len(value)))
    experimenter = draw(U32) if oxm_class == EXPERIMENTER_CLASS else None
    return Oxm(oxm_class, draw(st.integers(0, 127)), value, mask, experimenter)


OXMS = st.composite(_oxm)()


def _fits(limit: int) -> Any:
    return lambda text: len(text.encode("utf-8", "surrogateescape")) <= limit


def of_part(part: Any) -> st.SearchStrategy[Any]:
    """The values that `part` reads and writes."""
    match part:
        case Layout():
            return of_class(part.cls)
        case MatchPart():
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
        case Rest():
            return SMALL
        case Sized():
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
    family = part._family
    types = U16.filter(lambda number: number not in family.parts)
    bodies = st.binary(max_size=2).map(lambda data: data * 8 + bytes(4)) if part._padded else SMALL
    return st.one_of(of_family(family), st.builds(part._unknown, types, bodies))


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


def _body(family: Family, lists: Family) -> st.SearchStrategy[Any]:
    return st.one_of(
        of_family(family),
        of_family(lists),
        st.builds(multipart.ExperimenterBody, FOREIGN, U32, SMALL),
        st.builds(multipart.UnknownBody, _unknown_type(family), SMALL),
    )


HELLOS = st.one_of(
    st.builds(messages.Hello, of_class(messages.Hello).map(lambda hello: hello.elements), st.integers(4, 255)),
    st.builds(messages.Hello, st.just(()), st.integers(0, 3)),
)
ACTIONS = of_family(instructions.ACTIONS)

MESSAGES: st.SearchStrategy[Any] = st.one_of(
    HELLOS,
    *[
        of_class(p.cls)
        for p in messages.MESSAGES.parts.values()
        if isinstance(p, Layout) and p.cls is not messages.Hello
    ],
    of_family(COMMANDS),
    st.builds(messages.Error, st.integers(0, 0xFFFE), U16, SMALL),
    st.builds(messages.ExperimenterError, U16, U32, SMALL),
    st.builds(messages.Experimenter, FOREIGN, U32, SMALL),
    st.builds(multipart.MultipartRequest, _body(multipart.REQUESTS, LIST_REQUESTS), st.integers(0, 1)),
    st.builds(multipart.MultipartReply, _body(multipart.REPLIES, LIST_REPLIES), st.integers(0, 1)),
    st.builds(
        messages.Unknown, st.integers(0, 255).filter(lambda number: number not in messages.MESSAGES.parts), SMALL
    ),
)
"""Every message."""
