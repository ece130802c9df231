"""Scalars: what is known about a number in a register.

A `Scalar` stands for a set of 64-bit numbers, given by the bits that are known (a tristate number) and by four ranges:
of the number as unsigned and as signed, of its low half as unsigned and as signed. A number belongs to the set if it
satisfies all five. The five are kept consistent, each as narrow as the others make it; the functions here do that.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from verifier import tristate
from verifier.tristate import M64

M32: Final = 0xFFFFFFFF
S32_MIN: Final = -(1 << 31)
S32_MAX: Final = (1 << 31) - 1
S64_MIN: Final = -(1 << 63)
S64_MAX: Final = (1 << 63) - 1
SIZE32: Final = 1 << 32
SIZE64: Final = 1 << 64


class Contradiction(Exception):
    """No number satisfies what is known."""


class Scalar(NamedTuple):
    """A set of 64-bit numbers, never empty. A tuple, so that making, hashing and comparing it is cheap; make one with
    the static methods, or with the functions of this module, which keep the fields consistent.

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
        return from_unsigned(0, M64, umin, umax)

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

    def spans(self, other: Scalar) -> bool:
        """Whether the unsigned range of `other` lies within this one's: what `covers` needs at least."""
        return self is other or (self.umin <= other.umin and other.umax <= self.umax)

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
    """What Scalar(*fields) gives, at half its cost."""
    return tuple.__new__(Scalar, fields)


@lru_cache(maxsize=4096)
def _constant(number: int) -> Scalar:
    number &= M64
    signed = number - (number >> 63 << 64)
    low = number & M32
    signed_low = low - (low >> 31 << 32)
    return _made((number, 0, number, number, signed, signed, low, low, signed_low, signed_low))


def small(value: int, mask: int, low: int, high: int) -> Scalar:
    """The members of a tristate number in `low` … `high`, numbers below 2**31, for which all ranges are the same.
    Raises Contradiction if there are none."""
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


def tightened(
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
        return small(value, mask, max(umin, smin, u32min, s32min), min(umax, smax, u32max, s32max))
    # A signed and an unsigned range together are two unsigned ones, above and below the sign. Either may be empty: its
    # lower end is then above its upper end.
    plus, plus_end, minus, minus_end = _split(umin, umax, smin, smax, SIZE64)
    low_plus, low_plus_end, low_minus, low_minus_end = _split(u32min, u32max, s32min, s32max, SIZE32)
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
            *_merged(plus, plus_end, minus, minus_end, SIZE64),
            *_merged(low_plus, low_plus_end, low_minus, low_minus_end, SIZE32),
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
        low += least - half + SIZE32
    if (low ^ value) & ~mask:
        low = tristate.smallest_from(low, value, mask)
        low += max(least - (low & M32), 0)
    half = high & M32
    if half > most:
        high += most - half
    elif half < least:
        high += most - half - SIZE32
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


def from_unsigned(value: int, mask: int, low: int, high: int) -> Scalar:
    """The members of a tristate number in an unsigned range. Raises Contradiction if it finds that there are none."""
    if high <= S32_MAX:
        return small(value, mask, low, high)
    return tightened(value, mask, low, high, S64_MIN, S64_MAX, 0, M32, S32_MIN, S32_MAX)


def from_signed(value: int, mask: int, low: int, high: int) -> Scalar:
    """The same, of a signed range."""
    return tightened(value, mask, 0, M64, low, high, 0, M32, S32_MIN, S32_MAX)


_UNKNOWN: Final = _made((0, M64, 0, M64, S64_MIN, S64_MAX, 0, M32, S32_MIN, S32_MAX))
_OF_WIDTH: Final = {
    1: small(0, 0xFF, 0, 0xFF),
    2: small(0, 0xFFFF, 0, 0xFFFF),
    4: from_unsigned(0, M32, 0, M32),
    8: _UNKNOWN,
}
