"""The C library libbpf (1.1 or later) through ctypes: its prototypes, its option structures, its errors.

Nothing here has a meaning of its own: the modules beside this one give the calls their sense. The structures are
those of <bpf/bpf.h> of version 1.1; each begins with its own size, so that later versions of the library accept them.
libbpf reports an error as a negative errno in the return value (since 1.0), which `call` turns into a `KernelError`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Collection
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any, TypeVar

from oko.errors import KernelError
from oko.kernel.capabilities import Capability, advice

ENOTSUPP = 524
"""The kernel's internal "not supported", which some bpf() commands let through to user space; errno.h lacks it."""

_Options = TypeVar("_Options", bound=ctypes.Structure)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What is wrong with the process or the system, not with what it asks for."""

OBJECT_NAME_LENGTH = 15
"""BPF_OBJ_NAME_LEN of <linux/bpf.h> without the final zero, bytes."""


class MapCreateOptions(ctypes.Structure):
    """struct bpf_map_create_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    ]


class MapBatchOptions(ctypes.Structure):
    """struct bpf_map_batch_opts."""

    _fields_ = [("sz", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64)]


class ProgramLoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_int),
        ("prog_btf_fd", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_ifindex", c_uint32),
        ("kern_version", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
        ("fd_array", c_void_p),
        ("func_info", c_char_p),
        ("func_info_cnt", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("line_info", c_char_p),
        ("line_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_void_p),
    ]


class BtfLoadOptions(ctypes.Structure):
    """struct bpf_btf_load_opts."""

    _fields_ = [("sz", c_size_t), ("log_buf", c_void_p), ("log_level", c_uint32), ("log_size", c_uint32)]


class LinkCreateOptions(ctypes.Structure):
    """struct bpf_link_create_opts up to the union, of which an XDP link uses nothing."""

    _fields_ = [
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
    ]


class TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts."""

    __test__ = False  # the name of the kernel's command, not a test for pytest to collect

    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_char_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "bpf_map_create": (c_int, c_char_p, c_uint32, c_uint32, c_uint32, POINTER(MapCreateOptions)),
    "bpf_map_lookup_elem": (c_int, c_char_p, c_void_p),
    "bpf_map_update_elem": (c_int, c_char_p, c_char_p, c_uint64),
    "bpf_map_delete_elem": (c_int, c_char_p),
    "bpf_map_get_next_key": (c_int, c_char_p, c_void_p),
    "bpf_map_lookup_batch": (
        c_int,
        c_void_p,
        c_void_p,
        c_void_p,
        c_void_p,
        POINTER(c_uint32),
        POINTER(MapBatchOptions),
    ),
    "bpf_map_update_batch": (c_int, c_char_p, c_char_p, POINTER(c_uint32), POINTER(MapBatchOptions)),
    "bpf_map_freeze": (c_int,),
    "bpf_btf_load": (c_char_p, c_size_t, POINTER(BtfLoadOptions)),
    "bpf_prog_load": (c_int, c_char_p, c_char_p, c_char_p, c_size_t, POINTER(ProgramLoadOptions)),
    "bpf_prog_test_run_opts": (c_int, POINTER(TestRunOptions)),
    "bpf_link_create": (c_int, c_int, c_int, POINTER(LinkCreateOptions)),
    "bpf_link_detach": (c_int,),
    "bpf_link_update": (c_int, c_int, c_void_p),
    "bpf_obj_pin": (c_int, c_char_p),
    "bpf_obj_get": (c_char_p,),
    "bpf_obj_get_info_by_fd": (c_int, c_void_p, POINTER(c_uint32)),
    "libbpf_num_possible_cpus": (),
}
"""The arguments of each function that Oko calls; every one of them returns an int, negative errno on failure."""


@cache
def library() -> ctypes.CDLL:
    """libbpf.so.1, loaded at the first use and kept from printing to stderr.

    Raises KernelError when the library is not installed.
    """
    try:
        loaded = ctypes.CDLL("libbpf.so.1")
    except OSError as error:
        raise KernelError(f"libbpf.so.1 cannot be loaded ({error}): run 'apt install libbpf1'") from None
    loaded.libbpf_set_print.argtypes = (c_void_p,)
    loaded.libbpf_set_print.restype = c_void_p
    loaded.libbpf_set_print(None)
    for name, arguments in _PROTOTYPES.items():
        function = getattr(loaded, name)
        function.argtypes = arguments
        function.restype = c_int
    return loaded


def attempt(name: str, *arguments: Any) -> int:
    """Call the function and give back its bare result: negative errno on failure."""
    result: int = getattr(library(), name)(*arguments)
    return result


def call(name: str, *arguments: Any, what: str) -> int:
    """Call the function; a failure becomes a KernelError whose message begins with `what`."""
    result = attempt(name, *arguments)
    if result < 0:
        raise failure(what, -result)
    return result


def failure(
    what: str,
    error: int,
    *,
    details: str = "",
    needed: Collection[Capability] = (Capability.BPF, Capability.NET_ADMIN),
) -> KernelError:
    """The KernelError "`what`: the words for errno `error`", with advice where the errno has one cause. `needed` are
    the capabilities that it takes."""
    if error == errno.EPERM:
        reason = f"not permitted, {advice(needed)}"
    elif error == ENOTSUPP:
        reason = "not supported for this kind of object"
    else:
        reason = os.strerror(error)
    return KernelError(f"{what}: {reason}", errno=error, details=details)


def options(kind: type[_Options], **members: Any) -> _Options:
    """A zeroed option structure of this kind with its `sz` and the given members set."""
    return kind(sz=ctypes.sizeof(kind), **members)


def information(fd: int, structure: ctypes.Structure, what: str) -> None:
    """Fill `structure` by BPF_OBJ_GET_INFO_BY_FD. A kernel that knows fewer members leaves the rest zero."""
    size = c_uint32(ctypes.sizeof(structure))
    call("bpf_obj_get_info_by_fd", fd, ctypes.byref(structure), ctypes.byref(size), what=what)


def object_name(name: str) -> bytes:
    """The name as the kernel takes it: at most OBJECT_NAME_LENGTH bytes of letters, digits, ``_`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:OBJECT_NAME_LENGTH].encode()


def log_buffer(size: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
    """A buffer for a log of the kernel, and its address for an option structure."""
    buffer = ctypes.create_string_buffer(size)
    return buffer, ctypes.addressof(buffer)
