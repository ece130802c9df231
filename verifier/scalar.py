"""Scalars: what is known about a number in a register, and how instructions and branches change it.

A `Scalar` stands for a set of 64-bit numbers, given by the bits that are known (a tristate number) and by four ranges:
of the number as unsigned and as signed, of its low half as unsigned and as signed. A number belongs to the set if it
satisfies all five. Every result contains the results of all members; the five are kept consistent, each as narrow as
the others make it.

The arithmetic is that of RFC 9669: division by zero gives 0, the remainder by zero is the dividend, the counts of
shifts are taken modulo the width, and the results of 32-bit operations are zero-extended.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from verifier import isa, tristate
from verifier.tristate import M64

M32: Final = 0xFFFFFFFF
S32_MIN: Final = -(1 << 31)
S32_MAX: Final = (1 << 31) - 1
S64_MIN: Final = -(1 << 63)
S64_MAX: Final = (1 << 63) - 1
_SIZE32: Final = 1 << 32
_SIZE64: Final = 1 << 64

# Positions of the lower ends among the fields of a Scalar; the upper end follows.
_U64: Final = 2
_S64: Final = 4
_U32: Final = 6
_S32: Final = 8

# What an END instruction does: to little-endian, to big-endian, or the swap of ISA v4.
Swap = Literal["to_le", "to_be", "swap"]


class Contradiction(Exception):
    """No number satisfies what is known."""


class Scalar(NamedTuple):
    """A set of 64-bit numbers, never empty. A tuple, so that making, hashing and comparing it is cheap; make one with
    the class methods, which keep the fields consistent.

    `value` and `mask` are the tristate number of verifier.tristate. `umin` … `umax` is the unsigned, `smin` … `smax`
    the signed range, both ends included; `u32min` … `u32max` and `s32min` … `s32max` are those of the low half.
    """

    value: int
    mask: int
    umin: int
    umax: int
    smin: int
    smax: int
    u32min: int
    u32max: int
    s32min: int
    s32max: int

    @staticmethod
    def constant(number: int) -> Scalar:
        """Exactly `number`, taken modulo 2**64."""
        return _constant(number)

    @staticmethod
    def unknown() -> Scalar:
        """Any number; always the same object."""
        return _UNKNOWN

    @staticmethod
    def between(umin: int, umax: int) -> Scalar:
        """The unsigned numbers from `umin` to `umax`; the caller sees to 0 ≤ umin ≤ umax < 2**64."""
        return _from_unsigned(0, M64, umin, umax)

    @staticmethod
    def of_width(size: int) -> Scalar:
        """Any number of `size` bytes (1, 2, 4 or 8), zero-extended: what a load gives."""
        return _OF_WIDTH[size]

    @property
    def is_constant(self) -> bool:
        return not self.mask

    @property
    def constant_value(self) -> int:
        """The one member, unsigned. Raises ValueError if there are more."""
        if self.mask:
            raise ValueError(f"{self} is not a constant")
        return self.value

    def contains(self, number: int) -> bool:
        """Whether `number`, taken modulo 2**64, is a member."""
        number &= M64
        signed = number - (number >> 63 << 64)
        low = number & M32
        return (
            not (number ^ self.value) & ~self.mask
            and self.umin <= number <= self.umax
            and self.smin <= signed <= self.smax
            and self.u32min <= low <= self.u32max
            and self.s32min <= low - (low >> 31 << 32) <= self.s32max
        )

    def join(self, other: Scalar) -> Scalar:
        """The least scalar, component by component, with the members of both."""
        if self is other or self == other:
            return self
        value, mask, umin, umax, smin, smax, u32min, u32max, s32min, s32max = self
        value2, mask2, umin2, umax2, smin2, smax2, u32min2, u32max2, s32min2, s32max2 = other
        mask |= mask2 | (value ^ value2)
        joined = _made(
            (
                value & ~mask,
                mask,
                umin if umin < umin2 else umin2,
                umax if umax > umax2 else umax2,
                smin if smin < smin2 else smin2,
                smax if smax > smax2 else smax2,
                u32min if u32min < u32min2 else u32min2,
                u32max if u32max > u32max2 else u32max2,
                s32min if s32min < s32min2 else s32min2,
                s32max if s32max > s32max2 else s32max2,
            )
        )
        return _UNKNOWN if mask == M64 and joined == _UNKNOWN else joined

    def covers(self, other: Scalar) -> bool:
        """Whether every component of `other` lies within this one's, hence every member of `other` is one of these."""
        if self is other:
            return True
        value, mask, umin, umax, smin, smax, u32min, u32max, s32min, s32max = self
        value2, mask2, umin2, umax2, smin2, smax2, u32min2, u32max2, s32min2, s32max2 = other
        return (
            umin <= umin2
            and umax2 <= umax
            and not ((value ^ value2) | mask2) & ~mask
            and smin <= smin2
            and smax2 <= smax
            and u32min <= u32min2
            and u32max2 <= u32max
            and s32min <= s32min2
            and s32max2 <= s32max
        )

    def __str__(self) -> str:
        value, mask, umin, umax, smin, smax, *_ = self
        signed = smin > -_DECIMAL and smax < 0
        if not mask:
            return _number(smin if signed else umin)
        step = mask & -mask
        if umax - umin == step:
            return f"{_number(smin)} or {_number(smax)}" if signed else f"{_number(umin)} or {_number(umax)}"
        shown = ""
        told = ~mask & step - 1 | -1 << (umin ^ umax).bit_length()
        # Where the sign is not known, a range whose ends have the high half that the known bits allow says nothing.
        hull = _signed_hull(value, mask, 63)
        if (smin >> 32, smax >> 32) != (hull[0] >> 32, hull[1] >> 32) and (signed or smax - smin < umax - umin):
            shown = f"{_number(smin)} to {_number(smax)}"
        elif not mask >> 63 or (umin >> 32, umax >> 32) != (value >> 32, (value | mask) >> 32):
            shown = f"{_number(umin)}–{_number(umax)}"
        else:
            shown, told_low = _low_half(self)
            told |= told_low
        known = (("set", value & ~told), ("clear", M64 & ~value & ~mask & ~told))
        parts = [" in ".join(filter(None, (_stride(step, value & step - 1), shown)))]
        parts += [f"bits {hex(bits)} {state}" for state, bits in known if bits]
        return ", ".join(filter(None, parts)) or "unknown"


# --- text -------------------------------------------------------------------------------------------------------------

_DECIMAL: Final = 1 << 16


def _number(number: int) -> str:
    return str(number) if -_DECIMAL < number < _DECIMAL else hex(number)


def _stride(step: int, rest: int) -> str:
    """What the known lowest bits say, which are those of `rest`, below the bit `step`."""
    if step == 1:
        return ""
    if step == 2:
        return "odd" if rest else "even"
    return f"{_number(rest)} more than a multiple of {_number(step)}" if rest else f"multiple of {_number(step)}"


def _signed_hull(value: int, mask: int, sign: int) -> tuple[int, int]:
    """The least and the largest member of a tristate number whose bit `sign`, its highest, is not known."""
    return value - (1 << sign), value | mask & (1 << sign) - 1


def _low_half(scalar: Scalar) -> tuple[str, int]:
    """What the ranges of the low half say beyond the known bits, and the bits that this tells."""
    value, mask = scalar.value & M32, scalar.mask & M32
    low, high = scalar.u32min, scalar.u32max
    if mask >> 31 and (scalar.s32min, scalar.s32max) != _signed_hull(value, mask, 31) and low < S32_MAX < high:
        return f"low half {_number(scalar.s32min)} to {_number(scalar.s32max)}", 0
    if (low, high) != (value, value | mask):
        return f"low half {_number(low)}–{_number(high)}", M32 & -1 << (low ^ high).bit_length()
    return "", 0


# --- making scalars ---------------------------------------------------------------------------------------------------


def _made(fields: tuple[int, int, int, int, int, int, int, int, int, int]) -> Scalar:
    return tuple.__new__(Scalar, fields)


@lru_cache(maxsize=4096)
def _constant(number: int) -> Scalar:
    number &= M64
    signed = number - (number >> 63 << 64)
    low = number & M32
    signed_low = low - (low >> 31 << 32)
    return _made((number, 0, number, number, signed, signed, low, low, signed_low, signed_low))


def _small(value: int, mask: int, low: int, high: int) -> Scalar:
    """The members of a tristate number in `low` … `high`, numbers below 2**31, for which all ranges are the same."""
    if low > high:
        raise Contradiction
    if (low ^ value) & ~mask:
        low = tristate.smallest_from(low, value, mask)
    if (high ^ value) & ~mask:
        high = tristate.largest_upto(high, value, mask)
    if low >= high:
        if low > high:
            raise Contradiction
        return _constant(low)
    below = (1 << (low ^ high).bit_length()) - 1
    return _made((value & below | low & ~below, mask & below, low, high, low, high, low, high, low, high))


def _tightened(
    value: int,
    mask: int,
    umin: int,
    umax: int,
    smin: int,
    smax: int,
    u32min: int,
    u32max: int,
    s32min: int,
    s32max: int,
) -> Scalar:
    """The scalar of the numbers that satisfy all of these. Raises Contradiction if it finds that there are none."""
    if umax <= S32_MAX or (smin >= 0 and smax <= S32_MAX):
        return _small(value, mask, max(umin, smin, u32min, s32min), min(umax, smax, u32max, s32max))
    # A signed and an unsigned range together are two unsigned ones, above and below the sign. Either may be empty: its
    # lower end is then above its upper end.
    plus, plus_end, minus, minus_end = _split(umin, umax, smin, smax, _SIZE64)
    low_plus, low_plus_end, low_minus, low_minus_end = _split(u32min, u32max, s32min, s32max, _SIZE32)
    least = low_plus if low_plus <= low_plus_end else low_minus
    most = low_minus_end if low_minus <= low_minus_end else low_plus_end
    while True:
        # The number, by the known bits and the low half; then the known bits, by the number.
        if plus <= plus_end:
            plus, plus_end = _fitted(plus, plus_end, value, mask, least, most)
        if minus <= minus_end:
            minus, minus_end = _fitted(minus, minus_end, value, mask, least, most)
        if plus > plus_end:
            if minus > minus_end:
                raise Contradiction
            value, mask = tristate.within(value, mask, minus, minus_end)
        elif minus > minus_end:
            value, mask = tristate.within(value, mask, plus, plus_end)
        used = mask, least, most
        # The low half, by the number and the known bits; then the known bits, by the low half.
        halves = _low_halves(plus, plus_end, minus, minus_end)
        if halves is not None:
            low_plus, low_plus_end = _clipped(low_plus, low_plus_end, *halves)
            low_minus, low_minus_end = _clipped(low_minus, low_minus_end, *halves)
        if low_plus <= low_plus_end:
            low_plus, low_plus_end = _fitted(low_plus, low_plus_end, value & M32, mask & M32, 0, M32)
        if low_minus <= low_minus_end:
            low_minus, low_minus_end = _fitted(low_minus, low_minus_end, value & M32, mask & M32, 0, M32)
        least, most = low_plus, low_minus_end
        if low_plus > low_plus_end:
            if low_minus > low_minus_end:
                raise Contradiction
            value, mask = _low_within(value, mask, low_minus, low_minus_end)
            least = low_minus
        elif low_minus > low_minus_end:
            value, mask = _low_within(value, mask, low_plus, low_plus_end)
            most = low_plus_end
        # What was done to the number stays right unless what it relied on has changed since.
        if (mask, least, most) == used:
            break
    scalar = _made(
        (
            value,
            mask,
            *_merged(plus, plus_end, minus, minus_end, _SIZE64),
            *_merged(low_plus, low_plus_end, low_minus, low_minus_end, _SIZE32),
        )
    )
    return _UNKNOWN if scalar == _UNKNOWN else scalar


def _split(umin: int, umax: int, smin: int, smax: int, size: int) -> tuple[int, int, int, int]:
    """The range without and the range with the sign bit, both unsigned, of the numbers below `size` in two ranges."""
    smin_up, smax_up = smin + size, smax + size
    return (
        umin if umin > smin else smin,
        umax if umax < smax else smax,
        umin if umin > smin_up else smin_up,
        umax if umax < smax_up else smax_up,
    )


def _merged(plus: int, plus_end: int, minus: int, minus_end: int, size: int) -> tuple[int, int, int, int]:
    """The unsigned and the signed range of what `_split` gives, of which at most one range is empty."""
    if plus > plus_end:
        return minus, minus_end, minus - size, minus_end - size
    if minus > minus_end:
        return plus, plus_end, plus, plus_end
    return plus, minus_end, minus - size, plus_end


def _fitted(low: int, high: int, value: int, mask: int, least: int, most: int) -> tuple[int, int]:
    """The range shrunk to its first and last member of a tristate number whose low half is in `least` … `most`.

    These two must be the ends of members; where they are not yet, the range may stay too wide, never become too narrow.
    """
    half = low & M32
    if half < least:
        low += least - half
    elif half > most:
        low += least - half + _SIZE32
    if (low ^ value) & ~mask:
        low = tristate.smallest_from(low, value, mask)
        low += max(least - (low & M32), 0)
    half = high & M32
    if half > most:
        high += most - half
    elif half < least:
        high += most - half - _SIZE32
    if (high ^ value) & ~mask:
        high = tristate.largest_upto(high, value, mask)
        high -= max((high & M32) - most, 0)
    return (low, high) if low <= high else (1, 0)


def _low_halves(plus: int, plus_end: int, minus: int, minus_end: int) -> tuple[int, int, int, int] | None:
    """The ranges of the low half of numbers in two ranges, where the high half does not vary; None if one does."""
    if plus > plus_end:
        plus, plus_end = minus, minus_end
    elif minus > minus_end:
        minus, minus_end = plus, plus_end
    if plus >> 32 != plus_end >> 32 or minus >> 32 != minus_end >> 32:
        return None
    return plus & M32, plus_end & M32, minus & M32, minus_end & M32


def _clipped(low: int, high: int, first: int, first_end: int, second: int, second_end: int) -> tuple[int, int]:
    """The least range that holds what `low` … `high` has in common with either of two others."""
    begin, end = first if first > low else low, first_end if first_end < high else high
    if first == second and first_end == second_end:
        return begin, end
    begin2, end2 = second if second > low else low, second_end if second_end < high else high
    if begin > end:
        return begin2, end2
    if begin2 > end2:
        return begin, end
    return min(begin, begin2), max(end, end2)


def _low_within(value: int, mask: int, low: int, high: int) -> tristate.Tristate:
    low_value, low_mask = tristate.within(value & M32, mask & M32, low, high)
    return value & ~M32 | low_value, mask & ~M32 | low_mask


def _from_unsigned(value: int, mask: int, low: int, high: int) -> Scalar:
    if high <= S32_MAX:
        return _small(value, mask, low, high)
    return _tightened(value, mask, low, high, S64_MIN, S64_MAX, 0, M32, S32_MIN, S32_MAX)


def _from_signed(value: int, mask: int, low: int, high: int) -> Scalar:
    return _tightened(value, mask, 0, M64, low, high, 0, M32, S32_MIN, S32_MAX)


def _unsigned(low: int, high: int, size: int) -> tuple[int, int]:
    """The range modulo `size` of results that lie in `low` … `high` before they wrap."""
    base = low & -size
    return (low - base, high - base) if high - base < size else (0, size - 1)


def _signed(low: int, high: int, size: int) -> tuple[int, int]:
    """The same, for results that are read as signed."""
    half = size >> 1
    base = low + half & -size
    return (low - base, high - base) if high - base < half else (-half, half - 1)


_UNKNOWN: Final = _made((0, M64, 0, M64, S64_MIN, S64_MAX, 0, M32, S32_MIN, S32_MAX))
_ZERO: Final = _constant(0)
_OF_WIDTH: Final = {
    1: _small(0, 0xFF, 0, 0xFF),
    2: _small(0, 0xFFFF, 0, 0xFFFF),
    4: _from_unsigned(0, M32, 0, M32),
    8: _UNKNOWN,
}


# --- arithmetic -------------------------------------------------------------------------------------------------------


def alu(operation: int, wide: bool, a: Scalar, b: Scalar, *, signed: bool = False) -> Scalar:
    """The result of an ALU instruction other than isa.END: `a` is the destination before it, `b` the source.

    `wide` is 64 bit, else 32; `signed` makes isa.DIV and isa.MOD those of ISA v4. isa.NEG ignores `b`, isa.MOV `a`.
    """
    if operation == isa.MOV:
        return b if wide else truncate(b, 4)
    if operation == isa.NEG:
        operation, a, b = isa.SUB, _ZERO, a
    if operation in _EXACT and not a.mask and not b.mask:
        number: int = _EXACT[operation](a.value, b.value)
        return _constant(number & M64 if wide else number & M32)
    if operation in _SHIFTS:
        result = _shift(operation, wide, a, b)
    elif operation in _DIVISIONS:
        if not wide:
            a, b = (sign_extend(a, 32, True), sign_extend(b, 32, True)) if signed else (truncate(a, 4), truncate(b, 4))
        result = _DIVISIONS[operation][signed](a, b)
    else:
        result = _RINGS[operation](a, b)
    return result if wide else truncate(result, 4)


def _add(a: Scalar, b: Scalar) -> Scalar:
    if a is _UNKNOWN or b is _UNKNOWN:
        return _UNKNOWN
    value, mask = tristate.add(a.value, a.mask, b.value, b.mask)
    if a.umax + b.umax <= S32_MAX:
        return _small(value, mask, a.umin + b.umin, a.umax + b.umax)
    return _tightened(
        value,
        mask,
        *_unsigned(a.umin + b.umin, a.umax + b.umax, _SIZE64),
        *_signed(a.smin + b.smin, a.smax + b.smax, _SIZE64),
        *_unsigned(a.u32min + b.u32min, a.u32max + b.u32max, _SIZE32),
        *_signed(a.s32min + b.s32min, a.s32max + b.s32max, _SIZE32),
    )


def _subtract(a: Scalar, b: Scalar) -> Scalar:
    if a is _UNKNOWN or b is _UNKNOWN:
        return _UNKNOWN
    value, mask = tristate.subtract(a.value, a.mask, b.value, b.mask)
    if b.umax <= a.umin and a.umax <= S32_MAX:
        return _small(value, mask, a.umin - b.umax, a.umax - b.umin)
    return _tightened(
        value,
        mask,
        *_unsigned(a.umin - b.umax, a.umax - b.umin, _SIZE64),
        *_signed(a.smin - b.smax, a.smax - b.smin, _SIZE64),
        *_unsigned(a.u32min - b.u32max, a.u32max - b.u32min, _SIZE32),
        *_signed(a.s32min - b.s32max, a.s32max - b.s32min, _SIZE32),
    )


def _multiply(a: Scalar, b: Scalar) -> Scalar:
    value, mask = tristate.multiply(a.value, a.mask, b.value, b.mask)
    if a.umax * b.umax <= S32_MAX:
        return _small(value, mask, a.umin * b.umin, a.umax * b.umax)
    products = (a.smin * b.smin, a.smin * b.smax, a.smax * b.smin, a.smax * b.smax)
    low_products = (a.s32min * b.s32min, a.s32min * b.s32max, a.s32max * b.s32min, a.s32max * b.s32max)
    return _tightened(
        value,
        mask,
        *_unsigned(a.umin * b.umin, a.umax * b.umax, _SIZE64),
        *_signed(min(products), max(products), _SIZE64),
        *_unsigned(a.u32min * b.u32min, a.u32max * b.u32max, _SIZE32),
        *_signed(min(low_products), max(low_products), _SIZE32),
    )


def _and(a: Scalar, b: Scalar) -> Scalar:
    value, mask = tristate.bitwise(isa.AND, a.value, a.mask, b.value, b.mask)
    most = min(a.umax, b.umax)
    if most <= S32_MAX:
        return _small(value, mask, 0, most)
    # A result without the sign bit is at most the operand that has none; one with it keeps the operands' sign bits.
    floor, _ = _bit_range(a.smin, a.smax, b.smin, b.smax)
    low_floor, _ = _bit_range(a.s32min, a.s32max, b.s32min, b.s32max)
    return _tightened(
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
        return _small(value, mask, least, value | mask)
    # A result with the sign bit is at least the operand that has it; one without keeps the operands' clear bits.
    _, ceiling = _bit_range(a.smin, a.smax, b.smin, b.smax)
    _, low_ceiling = _bit_range(a.s32min, a.s32max, b.s32min, b.s32max)
    return _tightened(
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
        return _small(value, mask, value, value | mask)
    return _tightened(
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


def _shift(operation: int, wide: bool, a: Scalar, b: Scalar) -> Scalar:
    """A shift; of a 32-bit one, only the low half of the result counts."""
    limit = 63 if wide else 31
    least, most = b.umin, b.umax
    if most > limit:
        least = b.value & limit
        most = least | b.mask & limit
    if not most:
        return a
    if operation == isa.LSH:
        return _shift_left(a, least, most)
    if operation == isa.RSH:
        return _shift_right(a if wide else truncate(a, 4), least, most)
    return _shift_right_signed(a if wide else sign_extend(a, 32, True), least, most)


def _shift_left(a: Scalar, least: int, most: int) -> Scalar:
    if least >= 32:
        a, least, most = _raised_half(a), least - 32, most - 32
        if not most:
            return a
    value, mask = tristate.shift_left(a.value, a.mask, least, most)
    if a.umax << most <= S32_MAX:
        return _small(value, mask, a.umin << least, a.umax << most)
    return _tightened(
        value,
        mask,
        *_unsigned(a.umin << least, a.umax << most, _SIZE64),
        *_signed(a.smin << (most if a.smin < 0 else least), a.smax << (least if a.smax < 0 else most), _SIZE64),
        *_unsigned(a.u32min << least, a.u32max << most, _SIZE32),
        *_signed(a.s32min << (most if a.s32min < 0 else least), a.s32max << (least if a.s32max < 0 else most), _SIZE32),
    )


def _raised_half(a: Scalar) -> Scalar:
    """Shifted left by 32: the low half becomes the high one, as tight as it was."""
    value, mask, _, _, _, _, u32min, u32max, s32min, s32max = a
    return _made(
        (
            value << 32 & M64,
            mask << 32 & M64,
            u32min << 32,
            u32max << 32,
            s32min << 32,
            s32max << 32,
            0,
            0,
            0,
            0,
        )
    )


def _shift_right(a: Scalar, least: int, most: int) -> Scalar:
    value, mask = tristate.shift_right(a.value, a.mask, least, most)
    return _from_unsigned(value, mask, a.umin >> most, a.umax >> least)


def _shift_right_signed(a: Scalar, least: int, most: int) -> Scalar:
    value, mask = tristate.shift_right_signed(a.value, a.mask, least, most)
    return _from_signed(
        value,
        mask,
        a.smin >> (least if a.smin < 0 else most),
        a.smax >> (most if a.smax < 0 else least),
    )


def _divide(a: Scalar, b: Scalar) -> Scalar:
    if not b.umax:
        return _ZERO
    value, mask = 0, M64
    if not b.mask and not b.value & b.value - 1:
        places = b.value.bit_length() - 1
        value, mask = tristate.shift_right(a.value, a.mask, places, places)
    return _from_unsigned(value, mask, a.umin // b.umax if b.umin else 0, a.umax // (b.umin or 1))


def _modulo(a: Scalar, b: Scalar) -> Scalar:
    if not b.umax or (a.umax < b.umin):
        return a
    if not b.umin:
        return _from_unsigned(0, M64, 0, a.umax)
    if not b.mask:
        divisor = b.value
        if not divisor & divisor - 1:
            return _and(a, _constant(divisor - 1))
        if a.umin // divisor == a.umax // divisor:
            return _from_unsigned(0, M64, a.umin % divisor, a.umax % divisor)
    return _from_unsigned(0, M64, 0, min(a.umax, b.umax - 1))


def _divide_signed(a: Scalar, b: Scalar) -> Scalar:
    if a.smin >= 0 and b.smin >= 0:
        return _divide(a, b)
    # The ends of the quotient come from the ends of the dividend and the divisors farthest from and nearest to zero.
    divisors = {b.smin, b.smax, *(near for near in (-1, 1) if b.smin <= near <= b.smax)} - {0}
    quotients = [_quotient(dividend, divisor) for dividend in (a.smin, a.smax) for divisor in divisors]
    if b.contains(0):
        quotients.append(0)
    return _from_signed(0, M64, *_signed(min(quotients), max(quotients), _SIZE64))


def _modulo_signed(a: Scalar, b: Scalar) -> Scalar:
    if a.smin >= 0 and b.smin >= 0:
        return _modulo(a, b)
    if not b.smin and not b.smax:
        return a
    if not a.mask and not b.mask:
        return _constant(a.smin - _quotient(a.smin, b.smin) * b.smin)
    # The remainder has the sign of the dividend, and is nearer to zero than both dividend and divisor.
    least, most = min(a.smin, 0), max(a.smax, 0)
    if not b.contains(0):
        limit = max(-b.smin, b.smax) - 1
        least, most = max(least, -limit), min(most, limit)
    return _from_signed(0, M64, least, most)


def _quotient(dividend: int, divisor: int) -> int:
    """Truncated towards zero."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


_Binary = Callable[[Scalar, Scalar], Scalar]

_RINGS: Final[dict[int, _Binary]] = {
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
_DIVISIONS: Final[dict[int, tuple[_Binary, _Binary]]] = {
    isa.DIV: (_divide, _divide_signed),
    isa.MOD: (_modulo, _modulo_signed),
}


# --- casts ------------------------------------------------------------------------------------------------------------


def truncate(a: Scalar, size: int) -> Scalar:
    """The lowest `size` bytes (1, 2, 4 or 8), zero-extended: what a store keeps."""
    low = (1 << 8 * size) - 1
    if a.umax <= low:
        return a
    value, mask, _, _, _, _, u32min, u32max, s32min, s32max = a
    if size == 4:
        # The half is as tight as it was; alone it is the whole.
        return _made((value & M32, mask & M32, u32min, u32max, u32min, u32max, u32min, u32max, s32min, s32max))
    return _from_unsigned(value & low, mask & low, *_unsigned(u32min, u32max, low + 1))


def sign_extend(a: Scalar, bits: int, wide: bool) -> Scalar:
    """The lowest `bits` (8, 16 or 32) as a signed number, in 64 bits if `wide`, else in 32 and zero-extended."""
    if not (-1 << bits - 1 <= a.smin and a.smax < 1 << bits - 1):
        if bits == 32:
            a = _signed_half(a)
        else:
            places = tristate.WIDTH - bits
            a = _shift_right_signed(_shift_left(a, places, places), places, places)
    return a if wide else truncate(a, 4)


def _signed_half(a: Scalar) -> Scalar:
    """The low half as a signed number. It is as tight as it was; the high half repeats its sign."""
    value, mask, _, _, _, _, u32min, u32max, s32min, s32max = a
    high = M64 & ~M32
    return _made(
        (
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
    )


def byte_swap(a: Scalar, bits: int, kind: Swap) -> Scalar:
    """The lowest `bits` (16, 32 or 64) as an END instruction of a little-endian machine leaves them, zero-extended."""
    size = bits // 8
    if kind == "to_le":
        return truncate(a, size)
    return _from_unsigned(*tristate.swap_bytes(a.value, a.mask, size), 0, (1 << bits) - 1)


# --- branches ---------------------------------------------------------------------------------------------------------

Operands = tuple[Scalar, Scalar]


def refine(comparison: int, wide: bool, a: Scalar, b: Scalar) -> tuple[Operands | None, Operands | None]:
    """What is known of `a` and `b` when ``a comparison b`` holds and when it does not; None if that cannot be.

    `comparison` is the operation of a conditional jump, `wide` 64 bit, else on the low halves.
    """
    assume, refute = _COMPARISONS[comparison]
    try:
        taken = assume(wide, a, b)
    except Contradiction:
        taken = None
    try:
        return taken, refute(wide, a, b)
    except Contradiction:
        return taken, None


_Assumption = Callable[[bool, Scalar, Scalar], Operands]


def _less(signed: bool, gap: int) -> _Assumption:
    """Assumes ``a + gap <= b`` without overflow: ``a < b`` with `gap` 1, ``a <= b`` with 0."""
    wide_range, low_range = (_S64, _S32) if signed else (_U64, _U32)

    def assume(wide: bool, a: Scalar, b: Scalar) -> Operands:
        low = wide_range if wide else low_range
        least, most = a[low] + gap, b[low + 1] - gap
        if a[low] > most:
            raise Contradiction
        refined = a if a[low + 1] <= most else _with_end(a, low + 1, most)
        return refined, b if b[low] >= least else _with_end(b, low, least)

    return assume


def _swapped(assume: _Assumption) -> _Assumption:
    def swapped(wide: bool, a: Scalar, b: Scalar) -> Operands:
        b, a = assume(wide, b, a)
        return a, b

    return swapped


def _with_end(scalar: Scalar, position: int, end: int) -> Scalar:
    fields = list(scalar)
    fields[position] = end
    return _tightened(*fields)


def _equal(wide: bool, a: Scalar, b: Scalar) -> Operands:
    if wide:
        both = _common(a, b, M64)
        return both, both
    return _common(a, b, M32), _common(b, a, M32)


def _common(a: Scalar, b: Scalar, bits: int) -> Scalar:
    """What of `a` agrees with `b` in the low half or in all 64 bits, as the mask `bits` says."""
    found = tristate.meet(a.value, a.mask, b.value & bits, b.mask | M64 & ~bits)
    if found is None:
        raise Contradiction
    wide_ends = b[_U64:_U32] if bits == M64 else _UNKNOWN[_U64:_U32]
    return _tightened(
        *found,
        max(a.umin, wide_ends[0]),
        min(a.umax, wide_ends[1]),
        max(a.smin, wide_ends[2]),
        min(a.smax, wide_ends[3]),
        max(a.u32min, b.u32min),
        min(a.u32max, b.u32max),
        max(a.s32min, b.s32min),
        min(a.s32max, b.s32max),
    )


def _unequal(wide: bool, a: Scalar, b: Scalar) -> Operands:
    ranges = (_U64, _S64) if wide else (_U32, _S32)
    return _without(a, b, ranges), _without(b, a, ranges)


def _without(a: Scalar, b: Scalar, ranges: tuple[int, int]) -> Scalar:
    """`a` without the one number that `b` is in these ranges, if that is an end of a range of `a`."""
    if b[ranges[0]] != b[ranges[0] + 1]:
        return a
    fields = list(a)
    for low in ranges:
        if fields[low] == b[low]:
            fields[low] += 1
        if fields[low + 1] == b[low]:
            fields[low + 1] -= 1
    return a if fields == list(a) else _tightened(*fields)


def _share_bits(wide: bool, a: Scalar, b: Scalar) -> Operands:
    """Assumes ``a & b`` is not zero."""
    shared = (a.value | a.mask) & (b.value | b.mask) & (M64 if wide else M32)
    if not shared:
        raise Contradiction
    return _with_bits(a, shared), _with_bits(b, shared)


def _with_bits(scalar: Scalar, bits: int) -> Scalar:
    """The members that have one of the bits."""
    if scalar.value & bits:
        return scalar
    lowest = bits & -bits
    fields = list(scalar)
    if bits == lowest:
        fields[0] |= bits
        fields[1] &= ~bits
    else:
        low = _U32 if bits <= M32 else _U64
        if fields[low] >= lowest:
            return scalar
        fields[low] = lowest
    return _tightened(*fields)


def _share_none(wide: bool, a: Scalar, b: Scalar) -> Operands:
    """Assumes ``a & b`` is zero."""
    bits = M64 if wide else M32
    if a.value & b.value & bits:
        raise Contradiction
    return _without_bits(a, b.value & bits), _without_bits(b, a.value & bits)


def _without_bits(scalar: Scalar, bits: int) -> Scalar:
    """The members that have none of the bits, none of which all members have."""
    if not scalar.mask & bits:
        return scalar
    return _tightened(scalar.value, scalar.mask & ~bits, *scalar[_U64:])


_BELOW: Final = _less(False, 1)
_UP_TO: Final = _less(False, 0)
_BELOW_SIGNED: Final = _less(True, 1)
_UP_TO_SIGNED: Final = _less(True, 0)

# What holds on the taken and on the other side.
_COMPARISONS: Final[dict[int, tuple[_Assumption, _Assumption]]] = {
    isa.JEQ: (_equal, _unequal),
    isa.JNE: (_unequal, _equal),
    isa.JGT: (_swapped(_BELOW), _UP_TO),
    isa.JLE: (_UP_TO, _swapped(_BELOW)),
    isa.JGE: (_swapped(_UP_TO), _BELOW),
    isa.JLT: (_BELOW, _swapped(_UP_TO)),
    isa.JSGT: (_swapped(_BELOW_SIGNED), _UP_TO_SIGNED),
    isa.JSLE: (_UP_TO_SIGNED, _swapped(_BELOW_SIGNED)),
    isa.JSGE: (_swapped(_UP_TO_SIGNED), _BELOW_SIGNED),
    isa.JSLT: (_BELOW_SIGNED, _swapped(_UP_TO_SIGNED)),
    isa.JSET: (_share_bits, _share_none),
}
