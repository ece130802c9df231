"""Signatures of SYNs as p0f 3 writes them down, and what bpf_programs/p0f.c wants in its maps for them.

The format is in section 5 of p0f's README: in the section ``[tcp:request]`` of its database, lines ``label = …``, and
lines ``sig = …`` that belong to them. What a signature means is what p0f 3.09 does, which is not in every detail what
its README says; docs/programs/p0f.md has the differences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from oko.errors import LimitExceeded, OkoError

T = TypeVar("T")
Value = int | bool | str | list["Value"] | dict[str, "Value"]

BANKS: Final = 2
BANK_SIZE: Final = 512
"""Elements of a bank in the maps. The first is no signature: it counts the SYNs without one."""
MAX_CANDIDATES: Final = 64
LABEL_SIZE: Final = 64
TEXT_SIZE: Final = 192
"""Bytes, with the zero at the end."""

MAX_DISTANCE: Final = 35
"""Hops beyond which p0f calls a match fuzzy."""
MAX_OPTIONS: Final = 24
"""TCP options that p0f looks at."""

OPTIONS: Final = {"eol": 0, "nop": 1, "mss": 2, "ws": 3, "sok": 4, "sack": 5, "ts": 8}
"""The names of TCP options (RFC 9293, section 3.2) that are not written ``?N``."""

QUIRKS: Final = {
    name: 1 << bit
    for bit, name in enumerate(
        (
            *("df", "id+", "id-", "ecn", "0+", "flow"),
            *("seq-", "ack+", "ack-", "uptr+", "urgf+", "pushf+"),
            *("ts1-", "ts2+", "opt+", "exws", "bad"),
        )
    )
}
"""The bits of enum quirk."""

_IPV4_ONLY: Final = QUIRKS["df"] | QUIRKS["id+"] | QUIRKS["id-"]
_IPV6_ONLY: Final = QUIRKS["flow"]
_ANY_WINDOW: Final = "*"
_WINDOW: Final = re.compile(r"(?P<unit>mss\*|mtu\*|%|)(?P<number>\d+)")
_UNITS: Final = {"": "UNIT_BYTES", "%": "UNIT_BYTES", "mss*": "UNIT_MSS", "mtu*": "UNIT_MTU"}
_ALL: Final = 0xFFFFFFFF
_MAX_TTL: Final = 255


class Layout(NamedTuple):
    """What a SYN's headers consist of: kinds of TCP options, bytes of padding behind an end of options, bytes of IP
    options."""

    kinds: tuple[int, ...]
    padding: int
    ip_options: int


@dataclass(frozen=True, slots=True)
class Window:
    """The window of a SYN in `unit`, a key of the program's enum window_unit: is `number`, or divisible by it."""

    unit: str
    number: int
    divisible: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """One line ``sig = …`` with its label. None stands for a wildcard."""

    line: int
    label: str
    """The name and the flavour, as p0f prints them."""
    generic: bool
    tool: bool
    """Of an application, not of an operating system."""
    text: str
    version: int | None
    ttl: int
    random_ttl: bool
    layout: Layout
    mss: int | None
    window: Window | None
    scale: int | None
    quirks: int
    payload: bool | None


def parse_database(text: str, name: str) -> tuple[Signature, ...]:
    """The signatures of SYNs in a database called `name`, in its order. Raises OkoError with the line that is wrong."""
    found = []
    section = label = ""
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content.startswith("["):
            section, label = content, ""
        if section != "[tcp:request]" or content.startswith(("[", ";")) or not content:
            continue
        key, _, value = (part.strip() for part in content.partition("="))
        try:
            match key:
                case "label":
                    label = value
                case "sig":
                    found.append(_signature(number, label, value))
                case "sys":
                    pass
                case _:
                    raise OkoError(f"{key!r} is none of label, sys and sig")
        except OkoError as error:
            raise OkoError(f"{name}:{number}: {error}") from None
    if not found:
        raise OkoError(f"{name} has no signatures in a section [tcp:request]: is it a database of p0f 3?")
    return tuple(found)


def map_entries(
    signatures: Iterable[Signature], is_chosen: Callable[[Signature], bool], bank: int
) -> dict[str, list[tuple[Value, Value]]]:
    """What to write into each map for these signatures in a bank, as keys and values by the names of the C members.

    `counts` become zero. Raises LimitExceeded for signatures that the program has no room for.
    """
    by_layout: dict[Layout, list[Signature]] = {}
    for signature in signatures:
        by_layout.setdefault(signature.layout, []).append(signature)
    count = sum(len(group) for group in by_layout.values())
    if count >= BANK_SIZE:
        raise LimitExceeded("signatures of p0f", count, BANK_SIZE - 1, advice="choose a smaller database")
    first = bank * BANK_SIZE
    entries: dict[str, list[tuple[Value, Value]]] = {
        "names": [(first, _name("", ""))],
        "signatures": [],
        "layouts": [],
        "counts": [(first, 0)],
    }
    index = first
    for layout, group in by_layout.items():
        if len(group) > MAX_CANDIDATES:
            raise LimitExceeded(f"signatures with the layout of {group[0].text!r}", len(group), MAX_CANDIDATES)
        entries["layouts"].append((layout_key(layout, bank), {"first": index + 1, "count": len(group)}))
        for signature in group:
            index += 1
            entries["names"].append((index, _name(signature.label, signature.text)))
            entries["signatures"].append((index, _condition(signature, chosen=is_chosen(signature))))
            entries["counts"].append((index, 0))
    return entries


def layout_key(layout: Layout, bank: int) -> dict[str, Value]:
    """The key that a SYN of this layout is looked up with."""
    packed = int.from_bytes(bytes(layout.kinds), "big")
    return {
        "kinds": [packed >> 64 * word & (1 << 64) - 1 for word in range(3)],
        "options": len(layout.kinds),
        "padding": layout.padding,
        "ip_options": layout.ip_options,
        "bank": bank,
    }


def _name(label: str, text: str) -> dict[str, Value]:
    return {
        "label": label.encode().ljust(LABEL_SIZE, b"\0").hex(),
        "text": text.encode().ljust(TEXT_SIZE, b"\0").hex(),
    }


def _condition(signature: Signature, *, chosen: bool) -> dict[str, Value]:
    """The value in the map `signatures`."""
    quirks = signature.quirks, signature.quirks
    if signature.version is None:
        quirks = signature.quirks & ~_IPV6_ONLY, signature.quirks & ~_IPV4_ONLY
    window = signature.window or Window("UNIT_BYTES", 0)
    return {
        "quirks": list(quirks),
        "traits": {
            "mss": signature.mss or 0,
            "scale": signature.scale or 0,
            "payload": int(signature.payload or False),
        },
        "mask": {
            "mss": 0 if signature.mss is None else 0xFFFF,
            "scale": 0 if signature.scale is None else 0xFF,
            "payload": 0 if signature.payload is None else 0xFF,
        },
        "window_unit": window.unit,
        "window_modulus": window.number if window.divisible else 0,
        "window": 0 if window.divisible else window.number,
        "window_mask": 0 if signature.window is None else _ALL,
        "exact_hops": _MAX_TTL if signature.random_ttl else MAX_DISTANCE,
        "most_hops": _MAX_TTL if signature.random_ttl else _ALL,
        "ttl": signature.ttl,
        "generic": signature.generic,
        "tool": signature.tool,
        "chosen": chosen,
    }


def _signature(line: int, label: str, text: str) -> Signature:
    """Raises OkoError without the place."""
    parts = label.split(":", 3)
    if len(parts) != 4 or parts[0] not in ("s", "g"):
        raise OkoError(f"label {label!r} above it is not TYPE:CLASS:NAME:FLAVOR, with s or g for the type")
    kind, family, name, flavor = parts
    full_name = f"{name} {flavor}".rstrip()
    fields = text.split(":")
    if len(fields) != 8:
        raise OkoError(f"a signature has 8 fields with colons between them, this has {len(fields)}")
    for what, value, size in (("label", full_name, LABEL_SIZE), ("signature", text, TEXT_SIZE)):
        if len(value.encode()) >= size:
            raise LimitExceeded(f"bytes of {what} {value!r}", len(value.encode()), size - 1)
    version, ttl, ip_options, mss, window_and_scale, options, quirks, payload = fields
    window, comma, scale = window_and_scale.partition(",")
    if not comma:
        raise OkoError(f"{window_and_scale!r} is not WINDOW,SCALE")
    initial, random = _ttl(ttl)
    kinds, padding = _options(options)
    return Signature(
        line=line,
        label=full_name,
        generic=kind == "g",
        tool=family == "!",
        text=text,
        version=_choice("version", version, {"4": 4, "6": 6, "*": None}),
        ttl=initial,
        random_ttl=random,
        layout=Layout(kinds, padding, _number("length of IP options", ip_options, 0, 255)),
        mss=_number_or_any("MSS", mss, 0xFFFF),
        window=_window(window),
        scale=_number_or_any("window scale", scale, 255),
        quirks=sum(_choice("quirk", quirk, QUIRKS) for quirk in dict.fromkeys(_listed(quirks))),
        payload=_choice("payload class", payload, {"0": False, "+": True, "*": None}),
    )


def _ttl(text: str) -> tuple[int, bool]:
    """The initial TTL, and whether the sender's differ from packet to packet. ``54+10`` is written for 64."""
    if text.endswith("-"):
        return _number("TTL", text[:-1], 1, _MAX_TTL), True
    observed, plus, distance = text.partition("+")
    initial = _number("TTL", observed, 1, _MAX_TTL)
    return initial + (_number("distance", distance, 0, _MAX_TTL - initial) if plus else 0), False


def _window(text: str) -> Window | None:
    if text == _ANY_WINDOW:
        return None
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise OkoError(f"window {text!r} is none of *, NUMBER, %NUMBER, mss*NUMBER and mtu*NUMBER")
    unit = found["unit"]
    least, most = {"": (0, 0xFFFF), "%": (2, 0xFFFF)}.get(unit, (1, 1000))
    return Window(_UNITS[unit], _number("window", found["number"], least, most), divisible=unit == "%")


def _options(text: str) -> tuple[tuple[int, ...], int]:
    """The kinds of TCP options, and the padding behind an end of options."""
    kinds = []
    padding = 0
    names = list(_listed(text))
    for position, name in enumerate(names, 1):
        if name.startswith("eol+"):
            if position != len(names):
                raise OkoError(f"options {text!r} go on behind the end of options")
            padding = _number("padding", name.removeprefix("eol+"), 0, 255)
            kinds.append(OPTIONS["eol"])
        elif name.startswith("?"):
            kinds.append(_number("kind of an option", name[1:], 0, 255))
        elif name != "eol":
            kinds.append(_choice("option", name, OPTIONS))
        else:
            raise OkoError(f"options {text!r} do not say how much padding is behind the end: write eol+N")
    if len(kinds) > MAX_OPTIONS:
        raise LimitExceeded("options of a signature", len(kinds), MAX_OPTIONS)
    return tuple(kinds), padding


def _listed(text: str) -> Iterator[str]:
    return iter(text.split(",")) if text else iter(())


def _number(what: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise OkoError(f"{what} {text!r} is not a number from {least} to {most}")
    return int(text)


def _number_or_any(what: str, text: str, most: int) -> int | None:
    return None if text == "*" else _number(what, text, 0, most)


def _choice(what: str, text: str, choices: dict[str, T]) -> T:
    if text not in choices:
        raise OkoError(f"{what} {text!r} is none of {', '.join(choices)}")
    return choices[text]
