"""`Btf`: type information in the kernel, which programs and maps refer to."""

from __future__ import annotations

from ctypes import byref

from oko.errors import KernelError
from oko.kernel.descriptor import Descriptor
from oko.kernel.libbpf import EXHAUSTED, BtfLoadOptions, attempt, failure, log_buffer, options

_LOG_SIZE = 1 << 20


class Btf(Descriptor):
    """A loaded BTF object."""

    kind = "BTF object"
    inode = "btf"


def load_btf(raw: bytes) -> Btf:
    """Load the bytes of a .BTF section (Documentation/bpf/btf.rst of the kernel).

    Raises KernelError with the kernel's log as `details`; its message ends with what the log says last.
    """
    fd = attempt("bpf_btf_load", raw, len(raw), byref(options(BtfLoadOptions)))
    if fd >= 0:
        return Btf(fd)
    if -fd in EXHAUSTED:  # The log ends as if all were well then.
        raise failure("the kernel refused the BTF", -fd)
    log, address = log_buffer(_LOG_SIZE)
    logged = options(BtfLoadOptions, log_buf=address, log_level=1, log_size=_LOG_SIZE)
    again = attempt("bpf_btf_load", raw, len(raw), byref(logged))
    if again >= 0:
        return Btf(again)
    text = log.value.decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if lines:
        raise KernelError(f"the kernel refused the BTF: {lines[-1].strip()}", errno=-fd, details=text)
    raise failure("the kernel refused the BTF", -fd)
