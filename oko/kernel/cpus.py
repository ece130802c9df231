"""The processors, as far as per-CPU maps need them."""

from __future__ import annotations

from functools import cache

from oko.kernel.libbpf import call


@cache
def possible_cpus() -> int:
    """How many CPUs the kernel may ever bring up: the number of values behind a key of a per-CPU map."""
    return call("libbpf_num_possible_cpus", what="the number of possible CPUs")
