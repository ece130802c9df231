"""Arithmetic on scalars: what ALU instructions and casts make of them.

Every result contains the results of all members, by RFC 9669: results are taken modulo the width, and those of 32-bit
operations are zero-extended. Only what the kernel's verifier computes, too, is here: verifier/transfer.py says what it
knows nothing of.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final

from verifier import isa, tristate
from verifier.scalar import (
    M32,
    S32_MAX,
    SIZE32,
    SIZE64,
    Scalar,
    from_signed,
    from_unsigned,
    small,
    tightened,
)
from verifier.tristate import M64

_UNKNOWN: Final = Scalar.unknown()


def alu(operation: int, wide: bool, a: Scalar, b: Scalar) -> Scalar:
    """The result of isa.ADD, isa.SUB, isa.MUL, isa.AND, isa.OR, isa.XOR or a shift: `a` is the destination before it,
    `b` the source. `wide` is 64 bit, else 32.

    The count of a shift is a constant, taken modulo the width; raises ValueError if it is not.
    """
    if operation in _SHIFTS:
        result = _shift(operation, wide, a, b.constant_value & (63 if wide else 31))
    elif not a.mask and not b.mask:
        number = _EXACT[operation](a.value, b.value)
        return Scalar.constant(number & M64 if wide else number & M32)
    else:
        result = _BINARY[operation](a, b)
    return result if wide else truncate(result, 4)


def _add(a: Scalar, b: Scalar) -> Scalar:
    if a is _UNKNOWN or b is _UNKNOWN:
        return _UNKNOWN
    value, mask = tristate.add(a.value, a.mask, b.value, b.mask)
    if a.umax + b.umax <= S32_MAX:
        return small(value, mask, a.umin + b.umin, a.umax + b.umax)
    return tightened(
        value,
        mask,
        *_unsigned(a.umin + b.umin, a.umax + b.umax, SIZE64),
        *_signed(a.smin + b.smin, a.smax + b.smax, SIZE64),
        *_unsigned(a.u32min + b.u32min, a.u32max + b.u32max, SIZE32),
        *_signed(a.s32min + b.s32min, a.s32max + b.s32max, SIZE32),
    )


def _subtract(a: Scalar, b: Scalar) -> Scalar:
    if a is _UNKNOWN or b is _UNKNOWN:
        return _UNKNOWN
    value, mask = tristate.subtract(a.value, a.mask, b.value, b.mask)
    if b.umax <= a.umin and a.umax <= S32_MAX:
        return small(value, mask, a.umin - b.umax, a.umax - b.umin)
    return tightened(
        value,
        mask,
        *_unsigned(a.umin - b.umax, a.umax - b.umin, SIZE64),
        *_signed(a.smin - b.smax, a.smax - b.smin, SIZE64),
        *_unsigned(a.u32min - b.u32max, a.u32max - b.u32min, SIZE32),
        *_signed(a.s32min - b.s32max, a.s32max - b.s32min, SIZE32),
    )


def _multiply(a: Scalar, b: Scalar) -> Scalar:
    value, mask = tristate.multiply(a.value, a.mask, b.value, b.mask)
    if a.umax * b.umax <= S32_MAX:
        return small(value, mask, a.umin * b.umin, a.umax * b.umax)
    products = (a.smin * b.smin, a.smin * b.smax, a.smax * b.smin, a.smax * b.smax)
    low_products = (a.s32min * b.s32min, a.s32min * b.s32max, a.s32max * b.s32min, a.s32max * b.s32max)
    return tightened(
        value,
        mask,
        *_unsigned(a.umin * b.umin, a.umax * b.umax, SIZE64),
        *_signed(min(products), max(products), SIZE64),
        *_unsigned(a.u32min * b.u32min, a.u32max * b.u32max, SIZE32),
        *_signed(min(low_products), max(low_products), SIZE32),
    )


def _and(a: Scalar, b: Scalar) -> Scalar:
    value, mask = tristate.bitwise(isa.AND, a.value, a.mask, b.value, b.mask)
    most = min(a.umax, b.umax)
    if most <= S32_MAX:
        return small(value, mask, 0, most)
    # A result without the sign bit is at most the operand that has none; one with it keeps the operands' sign bits.
    floor, _ = _bit_range(a.smin, a.smax, b.smin, b.smax)
    low_floor, _ = _bit_range(a.s32min, a.s32max, b.s32min, b.s32max)
    return tightened(
        value,
        mask,
        0,
        most,
        floor,
        max(a.smax, b.smax),
        0,
        min(a.u32max, b.u32max),
        low_floor,
        max(a.s32max, b.s32max),
    )


def _or(a: Scalar, b: Scalar) -> Scalar:
    value, mask = tristate.bitwise(isa.OR, a.value, a.mask, b.value, b.mask)
    least = max(a.umin, b.umin)
    if value | mask <= S32_MAX:
        return small(value, mask, least, value | mask)
    # A result with the sign bit is at least the operand that has it; one without keeps the operands' clear bits.
    _, ceiling = _bit_range(a.smin, a.smax, b.smin, b.smax)
    _, low_ceiling = _bit_range(a.s32min, a.s32max, b.s32min, b.s32max)
    return tightened(
        value,
        mask,
        least,
        M64,
        min(a.smin, b.smin),
        ceiling,
        max(a.u32min, b.u32min),
        M32,
        min(a.s32min, b.s32min),
        low_ceiling,
    )


def _xor(a: Scalar, b: Scalar) -> Scalar:
    value, mask = tristate.bitwise(isa.XOR, a.value, a.mask, b.value, b.mask)
    if value | mask <= S32_MAX:
        return small(value, mask, value, value | mask)
    return tightened(
        value,
        mask,
        0,
        M64,
        *_bit_range(a.smin, a.smax, b.smin, b.smax),
        0,
        M32,
        *_bit_range(a.s32min, a.s32max, b.s32min, b.s32max),
    )


def _bit_range(low: int, high: int, low2: int, high2: int) -> tuple[int, int]:
    """The signed numbers of as many bits as those in two signed ranges need: AND, OR and XOR give no longer ones."""
    bits = max((end if end >= 0 else ~end).bit_length() for end in (low, high, low2, high2))
    return -1 << bits, (1 << bits) - 1


def _shift(operation: int, wide: bool, a: Scalar, places: int) -> Scalar:
    """A shift; of a 32-bit one, only the low half of the result counts."""
    if not places:
        return a
    if operation == isa.LSH:
        return _shift_left(a, places)
    if operation == isa.RSH:
        return _shift_right(a if wide else truncate(a, 4), places)
    return _shift_right_signed(a if wide else sign_extend(a, 32, True), places)


def _shift_left(a: Scalar, places: int) -> Scalar:
    if places >= 32:
        a, places = _raised_half(a), places - 32
        if not places:
            return a
    value, mask = tristate.shift_left(a.value, a.mask, places)
    if a.umax << places <= S32_MAX:
        return small(value, mask, a.umin << places, a.umax << places)
    return tightened(
        value,
        mask,
        *_unsigned(a.umin << places, a.umax << places, SIZE64),
        *_signed(a.smin << places, a.smax << places, SIZE64),
        *_unsigned(a.u32min << places, a.u32max << places, SIZE32),
        *_signed(a.s32min << places, a.s32max << places, SIZE32),
    )


def _raised_half(a: Scalar) -> Scalar:
    """Shifted left by 32: the low half becomes the high one, as tight as it was."""
    value, mask, _, _, _, _, u32min, u32max, s32min, s32max = a
    high = (u32min << 32, u32max << 32, s32min << 32, s32max << 32)
    return Scalar(value << 32 & M64, mask << 32 & M64, *high, 0, 0, 0, 0)


def _shift_right(a: Scalar, places: int) -> Scalar:
    value, mask = tristate.shift_right(a.value, a.mask, places)
    return from_unsigned(value, mask, a.umin >> places, a.umax >> places)


def _shift_right_signed(a: Scalar, places: int) -> Scalar:
    value, mask = tristate.shift_right_signed(a.value, a.mask, places)
    return from_signed(value, mask, a.smin >> places, a.smax >> places)


def truncate(a: Scalar, size: int) -> Scalar:
    """The lowest `size` bytes (1, 2, 4 or 8), zero-extended: what a store keeps."""
    low = (1 << 8 * size) - 1
    if a.umax <= low:
        return a
    value, mask, _, _, _, _, u32min, u32max, s32min, s32max = a
    if size == 4:
        # The half is as tight as it was; alone it is the whole.
        return Scalar(value & M32, mask & M32, u32min, u32max, u32min, u32max, u32min, u32max, s32min, s32max)
    return from_unsigned(value & low, mask & low, *_unsigned(u32min, u32max, low + 1))


def sign_extend(a: Scalar, bits: int, wide: bool) -> Scalar:
    """The lowest `bits` (8, 16 or 32) as a signed number, in 64 bits if `wide`, else in 32 and zero-extended."""
    if not (-1 << bits - 1 <= a.smin and a.smax < 1 << bits - 1):
        if bits == 32:
            a = _signed_half(a)
        else:
            places = tristate.WIDTH - bits
            a = _shift_right_signed(_shift_left(a, places), places)
    return a if wide else truncate(a, 4)


def _signed_half(a: Scalar) -> Scalar:
    """The low half as a signed number. It is as tight as it was; the high half repeats its sign."""
    value, mask, _, _, _, _, u32min, u32max, s32min, s32max = a
    high = M64 & ~M32
    return Scalar(
        value & M32 | (high if value & ~S32_MAX & M32 else 0),
        mask & M32 | (high if mask & ~S32_MAX & M32 else 0),
        u32min | (high if s32max < 0 else 0),
        u32max | (high if s32min < 0 else 0),
        s32min,
        s32max,
        u32min,
        u32max,
        s32min,
        s32max,
    )


def _unsigned(low: int, high: int, size: int) -> tuple[int, int]:
    """The range modulo `size` of results that lie in `low` … `high` before they wrap."""
    base = low & -size
    return (low - base, high - base) if high - base < size else (0, size - 1)


def _signed(low: int, high: int, size: int) -> tuple[int, int]:
    """The same, for results that are read as signed."""
    half = size >> 1
    base = low + half & -size
    return (low - base, high - base) if high - base < half else (-half, half - 1)


_BINARY: Final[dict[int, Callable[[Scalar, Scalar], Scalar]]] = {
    isa.ADD: _add,
    isa.SUB: _subtract,
    isa.MUL: _multiply,
    isa.AND: _and,
    isa.OR: _or,
    isa.XOR: _xor,
}
# The same on constants: the low half of the result is the result of the low halves.
_EXACT: Final[dict[int, Callable[[int, int], int]]] = {
    isa.ADD: operator.add,
    isa.SUB: operator.sub,
    isa.MUL: operator.mul,
    isa.AND: operator.and_,
    isa.OR: operator.or_,
    isa.XOR: operator.xor,
}
_SHIFTS: Final = frozenset({isa.LSH, isa.RSH, isa.ARSH})
