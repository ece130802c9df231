"""Values of fields as text, both ways."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address
from typing import Final

from oko.errors import BadMatch
from oko.flow.fields import BY_NAME, FRAGMENT_ANY, FRAGMENT_LATER, Field, Syntax
from oko.flow.match import Condition
from oko.flow.words import read_number, write_hex

_MAC: Final = re.compile(r"[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}")

_ANY_OR_LATER: Final = FRAGMENT_ANY | FRAGMENT_LATER
FRAGMENTS: Final = {
    "no": (0, _ANY_OR_LATER),
    "yes": (FRAGMENT_ANY, FRAGMENT_ANY),
    "first": (FRAGMENT_ANY, _ANY_OR_LATER),
    "later": (_ANY_OR_LATER, _ANY_OR_LATER),
    "not_later": (0, FRAGMENT_LATER),
}
"""Words for ip_frag: value and mask."""
_FRAGMENT_WORDS: Final = {meaning: word for word, meaning in FRAGMENTS.items()}

TCP_FLAGS: Final = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]")
"""From the lowest bit; the last three have no name (RFC 9293, 3.1)."""
_FLAG_BITS: Final = {name: 1 << bit for bit, name in enumerate(TCP_FLAGS)}
_SIGNED_FLAGS: Final = re.compile(r"(?:[+-][^+-]+)+")

_UNPADDED: Final = BY_NAME["metadata"]
_SET_AS_DECIMAL: Final = BY_NAME["vlan_vid"]


def read_value(key: str, text: str, field: Field) -> tuple[int, int]:
    """Value and mask of `field`, which the text calls `key`. ``*`` has the mask 0; the value has no bits outside the
    mask, as ovs-ofctl clears them. Raises BadMatch."""
    if text == "*":
        return 0, 0
    if field.syntax is Syntax.FRAGMENT and text in FRAGMENTS:
        return FRAGMENTS[text]
    if field.syntax is Syntax.FLAGS and _SIGNED_FLAGS.fullmatch(text):
        return _read_signed_flags(key, text)
    number, slash, mask_text = text.partition("/")
    value = _read_number(key, number, field)
    if not slash:
        return value, field.full
    if field.syntax in (Syntax.IPV4, Syntax.IPV6) and mask_text.isdecimal():
        prefix = int(mask_text)
        if prefix > field.bits:
            raise BadMatch(f"{key}={text}: a prefix has 0 to {field.bits} bits", reason="bad-mask")
        mask = field.full & ~(field.full >> prefix)
    else:
        mask = _read_number(key, mask_text, field)
    return value & mask, mask


def write_condition(condition: Condition) -> str:
    """Value and mask as ovs-ofctl prints them in a match."""
    field, value, mask = condition.field, condition.value, condition.mask
    match field.syntax:
        case Syntax.FRAGMENT if (value, mask) in _FRAGMENT_WORDS:
            return _FRAGMENT_WORDS[value, mask]
        case Syntax.FLAGS if not condition.exact:
            return "".join(f"{'+' if value & bit else '-'}{name}" for name, bit in _FLAG_BITS.items() if mask & bit)
        case Syntax.FLAGS:
            return "|".join(name for name, bit in _FLAG_BITS.items() if value & bit) or "0"
        case Syntax.MAC:
            written = [_write_mac(value), _write_mac(mask)]
        case Syntax.IPV4 | Syntax.IPV6:
            host_bits = field.full & ~mask
            is_prefix = host_bits & (host_bits + 1) == 0
            written = [
                _write_address(field, value),
                str(mask.bit_count()) if is_prefix else _write_address(field, mask),
            ]
        case Syntax.HEX if field is _UNPADDED:
            written = [write_hex(value), write_hex(mask)]
        case Syntax.HEX:
            digits = (field.bits + 3) // 4
            written = [f"0x{value:0{digits}x}", f"0x{mask:0{digits}x}"]
        case Syntax.DECIMAL | Syntax.FRAGMENT:
            written = [str(value)] if condition.exact else [f"{value:#x}", f"{mask:#x}"]
    return written[0] if condition.exact else "/".join(written)


def write_value(field: Field, value: int) -> str:
    """A value as ovs-ofctl prints it in a set-field."""
    match field.syntax:
        case Syntax.MAC:
            return _write_mac(value)
        case Syntax.IPV4 | Syntax.IPV6:
            return _write_address(field, value)
        case Syntax.HEX if field is not _SET_AS_DECIMAL:
            return write_hex(value)
        case _:
            return str(value)


def _read_number(key: str, text: str, field: Field) -> int:
    match field.syntax:
        case Syntax.MAC:
            if _MAC.fullmatch(text) is None:
                raise BadMatch(f"{key}={text} is no Ethernet address: write aa:bb:cc:dd:ee:ff", reason="bad-value")
            return int.from_bytes(bytes(int(byte, 16) for byte in text.split(":")))
        case Syntax.IPV4:
            try:
                return int.from_bytes(socket.inet_pton(socket.AF_INET, text))
            except (OSError, ValueError):
                raise BadMatch(f"{key}={text} is no IPv4 address: write 10.0.0.1", reason="bad-value") from None
        case Syntax.IPV6:
            try:
                return int.from_bytes(socket.inet_pton(socket.AF_INET6, text))
            except (OSError, ValueError):
                raise BadMatch(f"{key}={text} is no IPv6 address: write 2001:db8::1", reason="bad-value") from None
        case Syntax.FLAGS if not text[:1].isdecimal():
            return _read_flags(key, text)
        case Syntax.FRAGMENT if not text[:1].isdecimal():
            raise BadMatch(f"{key}={text} is no kind of fragment: use {', '.join(FRAGMENTS)}", reason="bad-value")
        case _:
            return read_number(key, text, field.bits, BadMatch, "bad-value")


def _read_flags(key: str, text: str) -> int:
    value = 0
    for name in text.split("|"):
        value |= _flag(key, name)
    return value


def _read_signed_flags(key: str, text: str) -> tuple[int, int]:
    value = mask = 0
    for sign, name in re.findall(r"([+-])([^+-]+)", text):
        bit = _flag(key, name)
        if mask & bit:
            raise BadMatch(f"{key}={text} has {name} twice: name it once", reason="bad-value")
        mask |= bit
        value |= bit if sign == "+" else 0
    return value, mask


def _flag(key: str, name: str) -> int:
    if name not in _FLAG_BITS:
        raise BadMatch(f"{key}: {name!r} is no flag: use {', '.join(TCP_FLAGS)}", reason="bad-value")
    return _FLAG_BITS[name]


def _write_mac(value: int) -> str:
    return value.to_bytes(6).hex(":")


def _write_address(field: Field, value: int) -> str:
    """As inet_ntop(3) has it, which Python's IPv6Address has not."""
    if field.syntax is Syntax.IPV4:
        return str(IPv4Address(value))
    return socket.inet_ntop(socket.AF_INET6, value.to_bytes(16))
