"""How much a filter program may use. The image that it is linked into needs the rest (docs/architecture.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """`stack` is bytes over a chain of calls, `frames` the functions in such a chain."""

    stack: int = 256
    frames: int = 6


DEFAULT: Final = Limits()

KERNEL_BUDGET: Final = 1_000_000
"""Instructions that the kernel's verifier looks at before it gives up (BPF_COMPLEXITY_LIMIT_INSNS)."""

FARTHEST_OFFSET: Final = 1 << 29
"""Bytes below which the kernel keeps the offset of a pointer, and the size that a helper is given (BPF_MAX_VAR_OFF and
BPF_MAX_VAR_SIZ of include/linux/bpf_verifier.h)."""
