"""Comparisons of scalars: what a conditional jump of RFC 9669 proves about its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from verifier import isa, tristate
from verifier.scalar import M32, Contradiction, Scalar, tightened
from verifier.tristate import M64

# Positions of the lower ends among the fields of a Scalar; the upper end follows.
_U64: Final = 2
_S64: Final = 4
_U32: Final = 6
_S32: Final = 8

_UNKNOWN: Final = Scalar.unknown()

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
    return tightened(*fields)


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
    return tightened(
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
    return a if fields == list(a) else tightened(*fields)


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
    return tightened(*fields)


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
    return tightened(scalar.value, scalar.mask & ~bits, *scalar[_U64:])


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
