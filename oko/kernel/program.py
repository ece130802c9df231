"""`LoadedProgram`: a BPF program in the kernel, how it is loaded and how it is run on given bytes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Mapping
from ctypes import byref, c_uint32, c_uint64, create_string_buffer
from pathlib import Path
from typing import NamedTuple

from oko.errors import KernelError, KernelRejected
from oko.kernel.btf import Btf
from oko.kernel.descriptor import Descriptor
from oko.kernel.libbpf import (
    EXHAUSTED,
    ProgramLoadOptions,
    TestRunOptions,
    attempt,
    call,
    failure,
    information,
    log_buffer,
    object_name,
    options,
)
from oko.kernel.maps import Map

XDP = 6
"""BPF_PROG_TYPE_XDP of <linux/bpf.h>."""

SCHED_CLS = 3
"""BPF_PROG_TYPE_SCHED_CLS: programs of traffic control."""

LIVE_BATCH = 64
"""Frames that a live run makes at a time by default, as many as a NAPI poll."""

_ATTACH_XDP = 37  # BPF_XDP of enum bpf_attach_type
_TEST_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES

_STATS_ENABLED = Path("/proc/sys/kernel/bpf_stats_enabled")

_SLOT = 8  # bytes of an instruction; lddw takes two
_LDDW = 0x18
_PSEUDO_MAP_FD = 1
_PSEUDO_MAP_VALUE = 2
_FUNC_INFO_RECORD = 8  # struct bpf_func_info, bytes
_LINE_INFO_RECORD = 16  # struct bpf_line_info, bytes

LONGEST_TEST_FRAME = mmap.PAGESIZE - 256 - 320
"""Bytes of the longest frame that a test run takes, and that XDP without frags sees on most drivers: a page without
XDP's headroom and the skb_shared_info at the end (bpf_prog_test_run_xdp in net/bpf/test_run.c)."""

_LOG_TRACE = 1  # BPF_LOG_LEVEL1: every instruction visited, its source line, and the message
_LOG_MESSAGE = 4  # BPF_LOG_STATS: the message and the statistics only
_LOG_SIZE = 16 << 20

# Words of the kernel's verifier that mean "more than I am willing to look at", not "unsafe".
_BUDGET_WORDS = (
    "BPF program is too large",
    "too many instructions",
    "too complex",
    "too many subprograms",
    "combined stack size",
    "the call stack of",
    "maps per program",
)
# Lines that follow the message in a log.
_AFTERMATH = ("processed ", "verification time ", "stack depth ", "insns processed", "mark_precise:", "peak_states")


class ProgramInfo(NamedTuple):
    """What the kernel tells of a program.

    Lengths are bytes of the translated and of the machine code; `run_time_ns` and `run_count` only grow while
    kernel.bpf_stats_enabled is set.
    """

    id: int
    name: str
    type: int
    tag: str
    translated_size: int
    jited_size: int
    verified_instructions: int
    run_time_ns: int
    run_count: int


def measures_run_time() -> bool:
    """Whether the kernel counts the runs of programs and their time now (kernel.bpf_stats_enabled)."""
    return _STATS_ENABLED.read_text().strip() != "0"


class RunResult(NamedTuple):
    """One test run: the program's return value, the packet after it, and the mean time of a repetition in ns."""

    retval: int
    data: bytes
    duration_ns: int


class _ProgramInfo(ctypes.Structure):
    """struct bpf_prog_info of kernel 5.16 and later."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_ubyte * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", c_uint64),
        ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
        ("verified_insns", c_uint32),
        ("attach_btf_obj_id", c_uint32),
        ("attach_btf_id", c_uint32),
    ]


class LoadedProgram(Descriptor):
    """A program that the kernel has accepted."""

    kind = "program"
    inode = "bpf-prog"

    def info(self) -> ProgramInfo:
        """The program's properties and statistics now."""
        info = _ProgramInfo()
        information(self.fd, info, "reading a program's properties")
        return ProgramInfo(
            id=info.id,
            name=info.name.decode(),
            type=info.type,
            tag=bytes(info.tag).hex(),
            translated_size=info.xlated_prog_len,
            jited_size=info.jited_prog_len,
            verified_instructions=info.verified_insns,
            run_time_ns=info.run_time_ns,
            run_count=info.run_cnt,
        )

    def test_run(self, data: bytes, *, repeat: int = 1, ingress_ifindex: int | None = None) -> RunResult:
        """Run on a packet (BPF_PROG_TEST_RUN), at least 14 bytes of it, `repeat` times; nothing is sent.

        The packet seems to come from the loopback device, or from `ingress_ifindex` in the caller's network namespace,
        whose receive queue 0 must be up. Every repetition sees the packet as the one before it left it.
        Raises KernelError.
        """
        # Room for whatever bpf_xdp_adjust_head and _tail may add: a packet never outgrows its page.
        room = create_string_buffer(max(4096, len(data)))
        run = options(
            TestRunOptions,
            data_in=data,
            data_size_in=len(data),
            data_out=ctypes.addressof(room),
            data_size_out=len(room),
            repeat=repeat,
        )
        if ingress_ifindex is not None:
            run.ctx_in = context = struct.pack("=6I", 0, len(data), 0, ingress_ifindex, 0, 0)  # struct xdp_md
            run.ctx_size_in = len(context)
        call("bpf_prog_test_run_opts", self.fd, byref(run), what="test run")
        return RunResult(run.retval, room.raw[: run.data_size_out], run.duration)

    def test_run_live(self, data: bytes, repeat: int, batch: int = LIVE_BATCH) -> None:
        """Make `repeat` real frames of `data`, `batch` (1–256) at a time, and do what the program says of each.

        XDP_TX and redirects transmit the frame, XDP_PASS hands it to the stack of the loopback device. What a device
        cannot take is lost. Raises KernelError; needs kernel 5.18.
        """
        run = options(
            TestRunOptions,
            data_in=data,
            data_size_in=len(data),
            repeat=repeat,
            flags=_TEST_LIVE_FRAMES,
            batch_size=batch,
        )
        call("bpf_prog_test_run_opts", self.fd, byref(run), what="test run with live frames")


def load_program(
    name: str,
    instructions: bytes,
    license: str,
    *,
    references: Mapping[int, tuple[Map, int | None]],
    btf: Btf | None = None,
    func_info: bytes = b"",
    line_info: bytes = b"",
    program_type: int = XDP,
) -> LoadedProgram:
    """Load a program. `instructions` are slots of 8 bytes in host order.

    `references` says which map the lddw at a slot means: the map itself when the second member is None, otherwise
    the address so many bytes into the map's (first) value. `func_info` and `line_info` are records of 8 and 16 bytes
    that refer to `btf`. The kernel keeps the first 15 bytes of `name`.

    Raises KernelRejected when the kernel's verifier refuses it (`details` is the whole log), KernelError otherwise.
    """
    patched = _resolve(instructions, references)

    def load(log_level: int, log_address: int) -> int:
        described = options(
            ProgramLoadOptions,
            expected_attach_type=_ATTACH_XDP if program_type == XDP else 0,
            prog_btf_fd=btf.fd if btf else 0,
            func_info=func_info or None,
            func_info_cnt=len(func_info) // _FUNC_INFO_RECORD,
            func_info_rec_size=_FUNC_INFO_RECORD if func_info else 0,
            line_info=line_info or None,
            line_info_cnt=len(line_info) // _LINE_INFO_RECORD,
            line_info_rec_size=_LINE_INFO_RECORD if line_info else 0,
            log_level=log_level,
            log_size=_LOG_SIZE if log_level else 0,
            log_buf=log_address or None,
        )
        slots = len(patched) // _SLOT
        return attempt(
            "bpf_prog_load", program_type, object_name(name), license.encode(), patched, slots, byref(described)
        )

    # Without a log first: the kernel's verifier takes several times as long when it writes one.
    fd = load(0, 0)
    if fd >= 0:
        return LoadedProgram(fd)
    if -fd in EXHAUSTED:
        raise failure(f"loading the program {name}", -fd)
    log, address = log_buffer(_LOG_SIZE)
    # A program beyond the budget was followed for a million instructions: their trace helps nobody.
    level = _LOG_MESSAGE if fd == -errno.E2BIG else _LOG_TRACE
    again = load(level, address)
    if again == -errno.ENOSPC:  # the trace did not fit; before 6.4 its end, with the message, is what is missing
        again = load(_LOG_MESSAGE, address)
    if again >= 0:
        return LoadedProgram(again)
    raise _rejection(name, -fd, log.value.decode(errors="replace"))


def _resolve(instructions: bytes, references: Mapping[int, tuple[Map, int | None]]) -> bytes:
    """The instructions with map descriptors in their lddw pairs."""
    patched = bytearray(instructions)
    for slot, (target, offset) in references.items():
        start = slot * _SLOT
        if start + 2 * _SLOT > len(patched) or patched[start] != _LDDW:
            raise KernelError(
                f"slot {slot} is to refer to the map {target.name}, but holds no lddw", errno=errno.EINVAL
            )
        pseudo = _PSEUDO_MAP_FD if offset is None else _PSEUDO_MAP_VALUE
        patched[start + 1] = patched[start + 1] & 0x0F | pseudo << 4
        struct.pack_into("=i", patched, start + 4, target.fd)
        struct.pack_into("=i", patched, start + _SLOT + 4, offset or 0)
    return bytes(patched)


def _rejection(name: str, error: int, log: str) -> KernelError:
    """The error that says why the kernel answered `error` and logged `log`."""
    if error == errno.EPERM and not log:
        return failure(f"loading the program {name}", error)
    reason = _reason(log)
    beyond = error == errno.E2BIG or any(words in reason for words in _BUDGET_WORDS)
    without_words = "it is larger than the kernel takes" if error == errno.E2BIG else os.strerror(error)
    return KernelRejected(
        f"the kernel refused the program {name}: {reason or without_words}",
        code="kernel-budget" if beyond else "kernel-verifier",
        errno=error,
        details=log,
    )


def _reason(log: str) -> str:
    """The last message of a verifier log, and the source line it was at."""
    lines = [line.strip() for line in log.splitlines()]
    message = next((line for line in reversed(lines) if line and not line.startswith(_AFTERMATH)), "")
    source = next((line for line in reversed(lines) if line.startswith("; ")), "")
    return f"{message} (at: {source[2:]})" if message and source else message
