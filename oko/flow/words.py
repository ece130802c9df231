"""The words of a text in ovs-ofctl's syntax, and the numbers in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from oko.errors import FlowError
from oko.flow.action import MAX_PORT, RESERVED_PORTS

Word = tuple[str, str | None]
"""A key and its value: ``key``, ``key=value``, ``key:value`` or ``key(value)``."""

SEPARATORS: Final = ", \t\r\n"

_UNSEPARATED: Final = re.compile(f"[^{SEPARATORS}]+")
_WORD: Final = re.compile(r"([^:=(]*)(?:[:=](.*)|\((.*)\))?", re.DOTALL)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_PORT_NAMES: Final = {number: name for name, number in RESERVED_PORTS.items()}


def names(text: str) -> frozenset[str]:
    """The names in `text`, between blanks."""
    return frozenset(text.split())


def split_words(text: str) -> Iterable[str]:
    """The words, as they are written. Separators within parentheses do not separate."""
    return _split_nested(text) if "(" in text else _UNSEPARATED.findall(text)


def _split_nested(text: str) -> Iterator[str]:
    start = depth = 0
    for index, char in enumerate(text + ","):
        depth += (char == "(") - (char == ")")
        if char in SEPARATORS and (depth <= 0 or index == len(text)):
            word = text[start:index]
            start = index + 1
            if word:
                yield word


def read_words(text: str, error: type[FlowError]) -> Iterator[Word]:
    """Every word, in order. Raises `error` for what is no word."""
    return (read_word(word, error) for word in split_words(text))


def read_word(text: str, error: type[FlowError]) -> Word:
    found = _WORD.fullmatch(text)
    if found is None or not found[1]:
        raise error(f"{text!r} is not of the form key=value")
    return found[1], found[2] if found[2] is not None else found[3]


def read_number(key: str, text: str, bits: int, error: type[FlowError], reason: str = "") -> int:
    """A number as C writes it: 16, 0x10 or 020. Raises `error` with `reason` if it is none, or wider than `bits`."""
    try:
        if _NUMBER.fullmatch(text) is None:
            raise ValueError
        value = int(text, 8 if text[0] == "0" and text.isdecimal() else 0)
    except ValueError:
        raise error(f"{key}={text} is no number", reason=reason) from None
    if value >> bits:
        raise error(f"{key}={text} is out of range: use 0–{(1 << bits) - 1}", reason=reason)
    return value


def read_port(text: str, error: type[FlowError], reason: str = "") -> int:
    """A port number, always decimal as ovs-ofctl has it (or 0x…), or the name of a reserved port."""
    reserved = RESERVED_PORTS.get(text.upper())
    if reserved is not None:
        return reserved
    if _NUMBER.fullmatch(text) is None:
        raise error(f"{text!r} is no port number", reason=reason)
    port = int(text, 16 if text[:2] in ("0x", "0X") else 10)
    if port >> 32:
        raise error(f"port {text} is out of range: use 0–{MAX_PORT}", reason=reason)
    return port


def write_port(port: int) -> str:
    return _PORT_NAMES.get(port, str(port))


def write_hex(value: int) -> str:
    """As C's %#x has it: 0 without a prefix."""
    return f"{value:#x}" if value else "0"


def advice(word: str, known: Iterable[str], otherwise: str, most: int = 3) -> str:
    """What somebody may have meant who wrote `word`."""
    near = difflib.get_close_matches(word.lower(), tuple(known), most)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
