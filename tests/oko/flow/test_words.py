"""Words of a text: what separates them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oko.flow.words import split_words


@given(st.text(alphabet=", \t\r\nab=:)\x0b\xa0"))
def test_what_has_no_parentheses_is_split_as_what_has_some(text: str) -> None:
    assert [*split_words(f"{text} ()")] == [*split_words(text), "()"]


def test_separators_within_parentheses_do_not_separate() -> None:
    assert [*split_words("a(b, c) d(e(f,g) h),i")] == ["a(b, c)", "d(e(f,g) h)", "i"]
