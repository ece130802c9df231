"""Offload features of a network interface, as `ethtool -k` and `-K` show and set them.

The interface is one of the calling thread's network namespace. The commands are those of <linux/ethtool.h>, by ioctl.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from oko.errors import PortError

_SIOCETHTOOL = 0x8946
_GET_STRINGS = 0x1B  # ETHTOOL_GSTRINGS
_GET_SET_SIZES = 0x37  # ETHTOOL_GSSET_INFO
_GET_FEATURES = 0x3A  # ETHTOOL_GFEATURES
_SET_FEATURES = 0x3B  # ETHTOOL_SFEATURES
_FEATURE_NAMES = 4  # ETH_SS_FEATURES
_STRING_LENGTH = 32  # ETH_GSTRING_LEN, bytes


@dataclass(frozen=True, slots=True)
class Offload:
    """One feature. `wanted` is what somebody asked for, `active` what holds now (another feature may forbid it);
    `changeable` says whether the driver lets it be set."""

    wanted: bool
    active: bool
    changeable: bool


def offloads(interface: str) -> dict[str, Offload]:
    """The features of the interface by the kernel's names, e.g. ``tx-checksum-ip-generic``. Raises PortError."""
    names = _feature_names(interface)
    blocks = (len(names) + 31) // 32
    header = struct.pack("=II", _GET_FEATURES, blocks)
    answer = _command(interface, header + bytes(16 * blocks))
    # A block of 32 features: available, requested, active, never_changed
    words = [struct.unpack_from("=4I", answer, 8 + 16 * block) for block in range(blocks)]
    found = {}
    for index, name in enumerate(names):
        available, requested, active, fixed = (word >> index % 32 & 1 for word in words[index // 32])
        if name:
            found[name] = Offload(bool(requested), bool(active), bool(available and not fixed))
    return found


def set_offloads(interface: str, wanted: Mapping[str, bool]) -> None:
    """Ask for these features. Raises PortError, also when the interface has no feature of that name."""
    names = _feature_names(interface)
    blocks = (len(names) + 31) // 32
    words = [[0, 0] for _ in range(blocks)]  # per block: which to set, and to what
    for name, on in wanted.items():
        if name not in names:
            raise PortError(f"interface {interface}: this kernel knows no offload called {name}")
        block, bit = divmod(names.index(name), 32)
        words[block][0] |= 1 << bit
        words[block][1] |= int(on) << bit
    header = struct.pack("=II", _SET_FEATURES, blocks)
    _command(interface, header + b"".join(struct.pack("=2I", *pair) for pair in words))


def _feature_names(interface: str) -> list[str]:
    """The names of the feature bits, in the order of the bits."""
    answer = _command(interface, struct.pack("=IIQI", _GET_SET_SIZES, 0, 1 << _FEATURE_NAMES, 0))
    (count,) = struct.unpack_from("=I", answer, 16)
    header = struct.pack("=III", _GET_STRINGS, _FEATURE_NAMES, count)
    answer = _command(interface, header + bytes(_STRING_LENGTH * count))
    strings = (answer[12 + _STRING_LENGTH * index :][:_STRING_LENGTH] for index in range(count))
    return [string.split(b"\0")[0].decode() for string in strings]


def _command(interface: str, request: bytes) -> bytes:
    """Do one ethtool command; the kernel's answer overwrites the request."""
    buffer = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("16sP", interface.encode(), ctypes.addressof(buffer)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            fcntl.ioctl(handle, _SIOCETHTOOL, ifreq)
        except OSError as error:
            raise PortError(f"interface {interface}: its offloads cannot be reached: {error.strerror}") from None
    return buffer.raw
