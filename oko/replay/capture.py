"""Capture files: reading pcap and pcapng, writing one pcap per output port.

Plain `struct` readers rather than scapy's: scapy's end without a word where a truncated file ends, and take any
link type; a replay must not give the figures of half a file as those of the whole.

Formats: draft-ietf-opsawg-pcap (version 2.4; µs and ns; both byte orders) and draft-ietf-opsawg-pcapng. Either
may be compressed with gzip; the content decides, not the name.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import BinaryIO, Self

from oko.errors import CaptureError

ETHERNET = 1
# The longest frame that capture tools write (libpcap's MAXIMUM_SNAPLEN), and a bound for a pcapng block. A length
# beyond them is damage, and must not become an allocation.
LONGEST_FRAME = 262_144
LONGEST_BLOCK = 16 * 1024 * 1024
# Nanoseconds since the epoch, in 63 bits.
LATEST = (1 << 63) - 1

_SECOND = 1_000_000_000
_GZIP_MAGIC = b"\x1f\x8b"
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
# magic → (byte order, ns per unit of the fraction of a second)
_PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_PCAPNG_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}

_INTERFACE_DESCRIPTION = 1
_PACKET = 2  # obsolete, still in old files
_SIMPLE_PACKET = 3
_ENHANCED_PACKET = 6

_OPTION_END = 0
_OPTION_TIME_RESOLUTION = 9
_OPTION_FCS_LENGTH = 13
_OPTION_TIME_OFFSET = 14

_LINK_TYPES = {
    0: "NULL",
    9: "PPP",
    12: "RAW",
    14: "RAW",
    101: "RAW",
    105: "IEEE802_11",
    108: "LOOP",
    113: "LINUX_SLL",
    127: "IEEE802_11_RADIOTAP",
    195: "IEEE802_15_4_WITHFCS",
    220: "USB_LINUX_MMAPPED",
    228: "IPV4",
    229: "IPV6",
    253: "NETLINK",
    276: "LINUX_SLL2",
}

_PROGRESS_INTERVAL = 4096  # packets between two calls of the progress hook


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame from a capture. `time_ns` since the epoch; `data` what was captured, from the destination address on;
    `wire_length` the bytes that the frame had, more than `len(data)` where the capture cut it off; `interface` the
    pcapng interface id (0 in a pcap file)."""

    time_ns: int
    data: bytes
    wire_length: int
    interface: int


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_length: int
    ticks_per_second: int = 1_000_000
    offset_ns: int = 0
    fcs_length: int = 0


class Capture:
    """The packets of one capture file, once, in file order: ``with Capture(path) as capture: for packet in capture``.

    `format` is ``pcap`` or ``pcapng``; `link_types` those of the interfaces described so far (a pcapng section
    describes them on the way); `packets` the number read so far; `position` and `size` are bytes of the file as it
    lies on disk. `progress`, if given, is called with these two every few thousand packets and at the end.

    Raises CaptureError, here or from the iteration: a file that cannot be opened, that is neither format, that
    ends inside a packet, is damaged, or holds frames of another link type than Ethernet.
    """

    def __init__(self, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> None:
        self.path = Path(path)
        self.packets = 0
        self._progress = progress
        try:
            self._disk = self.path.open("rb")
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be opened: {error.strerror}") from error
        try:
            self.size = os.fstat(self._disk.fileno()).st_size
            self._file: BinaryIO = self._disk
            if self._disk.peek(2)[:2] == _GZIP_MAGIC:
                # BufferedReader: the reads of GzipFile itself are too slow for 16 bytes at a time.
                self._file = io.BufferedReader(gzip.GzipFile(fileobj=self._disk))
            self._interfaces: list[_Interface] = []
            self._source = self._open()
        except BaseException:
            self._disk.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disk.close()

    @property
    def link_types(self) -> tuple[int, ...]:
        return tuple(interface.link_type for interface in self._interfaces)

    @property
    def position(self) -> int:
        return self._disk.tell()

    def __iter__(self) -> Iterator[Packet]:
        for packet in self._guarded():
            if self._progress is not None and self.packets % _PROGRESS_INTERVAL == 0:
                self._progress(self.position, self.size)
            yield packet
        if self._progress is not None:
            self._progress(self.position, self.size)

    def _guarded(self) -> Iterator[Packet]:
        try:
            for packet in self._source:
                self.packets += 1
                yield packet
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from error

    def _open(self) -> Iterator[Packet]:
        try:
            magic = self._file.read(4)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from error
        if magic == _PCAPNG_MAGIC:
            self.format = "pcapng"
            return self._pcapng()
        if magic in _PCAP_MAGICS:
            self.format = "pcap"
            return self._pcap(*_PCAP_MAGICS[magic])
        if not magic:
            raise CaptureError(f"{self.path}: is empty; a pcap or pcapng file is needed")
        raise CaptureError(f"{self.path}: neither pcap nor pcapng: it starts with {magic.hex(' ')}")

    def _pcap(self, order: str, fraction_ns: int) -> Iterator[Packet]:
        """Reads the file header now, the records as the iterator is used."""
        header = self._exactly(20, "the file header")
        major, minor, _zone, _accuracy, snap_length, link = struct.unpack(f"{order}HHiIII", header)
        if (major, minor) != (2, 4):
            raise CaptureError(f"{self.path}: pcap version {major}.{minor}; only 2.4 can be read")
        # The upper half of the link type word: bit 26 says that bits 28–31 hold the FCS length in 16-bit words.
        fcs_length = (link >> 28) * 2 if link >> 26 & 1 else 0
        self._interfaces.append(_Interface(link & 0xFFFF, snap_length, fcs_length=fcs_length))
        self._check_link(0)
        return self._records(Struct(f"{order}IIII"), fraction_ns)

    def _records(self, layout: Struct, fraction_ns: int) -> Iterator[Packet]:
        read, unpack = self._file.read, layout.unpack
        while header := read(16):
            if len(header) < 16:
                raise self._truncated(f"the header of packet {self.packets + 1}", len(header), 16)
            seconds, fraction, captured, wire_length = unpack(header)
            self._check_length(captured)
            data = read(captured)
            if len(data) < captured:
                raise self._truncated(f"packet {self.packets + 1}", len(data), captured)
            yield Packet(seconds * _SECOND + fraction * fraction_ns, data, wire_length, 0)

    def _pcapng(self) -> Iterator[Packet]:
        order = ""
        time_ns = 0
        kind_bytes = _PCAPNG_MAGIC
        while kind_bytes:
            self._check_whole(kind_bytes, 4, self._place("a block"))
            # The type of a section header reads the same in both byte orders; its body says which it is.
            if kind_bytes == _PCAPNG_MAGIC:
                order = self._section()
            else:
                (kind,) = struct.unpack(f"{order}I", kind_bytes)
                body = self._block_body(order, self._exactly(4, self._place("a block")))
                try:
                    if kind == _INTERFACE_DESCRIPTION:
                        self._interfaces.append(_interface(order, body))
                    elif kind in (_ENHANCED_PACKET, _PACKET):
                        packet = self._packet(order, kind, body)
                        time_ns = packet.time_ns
                        yield packet
                    elif kind == _SIMPLE_PACKET:
                        yield self._simple_packet(order, body, time_ns)
                except struct.error as error:
                    raise self._damaged(f"a block of type {kind} does not hold its fields") from error
            kind_bytes = self._file.read(4)

    def _section(self) -> str:
        """Starts a section; its byte order."""
        place = self._place("a section header")
        length = self._exactly(4, place)
        magic = self._exactly(4, place)
        if magic not in _PCAPNG_BYTE_ORDERS:
            raise self._damaged(f"a section header has the byte order mark {magic.hex(' ')}")
        order = _PCAPNG_BYTE_ORDERS[magic]
        body = self._block_body(order, length, magic)
        major, minor = struct.unpack_from(f"{order}HH", body, 4)
        if major != 1:
            raise CaptureError(f"{self.path}: pcapng version {major}.{minor}; only 1.x can be read")
        self._interfaces.clear()
        return order

    def _block_body(self, order: str, length_bytes: bytes, begun: bytes = b"") -> bytes:
        """The body of the block whose type, length and first bytes (`begun`) are read already."""
        (length,) = struct.unpack(f"{order}I", length_bytes)
        smallest = 28 if begun else 12
        if not smallest <= length <= LONGEST_BLOCK or length % 4:
            raise self._damaged(f"a block claims a length of {length} bytes")
        rest = self._exactly(length - 8 - len(begun), self._place("a block"))
        if rest[-4:] != length_bytes:
            raise self._damaged("the two lengths of a block differ")
        return begun + rest[:-4]

    def _packet(self, order: str, kind: int, body: bytes) -> Packet:
        # The obsolete block has a 16-bit interface and a 16-bit drop count where the enhanced one has 32 bits.
        layout = f"{order}IIIII" if kind == _ENHANCED_PACKET else f"{order}HxxIIII"
        number, high, low, captured, wire_length = struct.unpack_from(layout, body)
        interface = self._check_link(number)
        data = self._frame(body, 20, captured)
        ticks = high << 32 | low
        time_ns = ticks * _SECOND // interface.ticks_per_second + interface.offset_ns
        if not 0 <= time_ns <= LATEST:
            raise self._damaged(f"packet {self.packets + 1} is of {time_ns} ns since 1970; possible are 0 to {LATEST}")
        return Packet(time_ns, data, wire_length, number)

    def _simple_packet(self, order: str, body: bytes, time_ns: int) -> Packet:
        """A block without a time: it gets that of the packet before it, so that a virtual clock never jumps back."""
        (wire_length,) = struct.unpack_from(f"{order}I", body)
        snap_length = self._check_link(0).snap_length
        captured = min(wire_length, snap_length) if snap_length else wire_length
        return Packet(time_ns, self._frame(body, 4, captured), wire_length, 0)

    def _frame(self, body: bytes, start: int, captured: int) -> bytes:
        self._check_length(captured)
        if start + captured > len(body):
            raise self._damaged(f"packet {self.packets + 1} claims {captured} bytes, its block has {len(body) - start}")
        return body[start : start + captured]

    def _check_length(self, captured: int) -> None:
        if captured > LONGEST_FRAME:
            raise self._damaged(f"packet {self.packets + 1} claims {captured} bytes, the most is {LONGEST_FRAME}")

    def _check_link(self, number: int) -> _Interface:
        """The interface of that number, if its frames are what the pipeline expects."""
        if number >= len(self._interfaces):
            raise self._damaged(f"packet {self.packets + 1} is from interface {number}, which is not described")
        interface = self._interfaces[number]
        where = f"interface {number}: " if self.format == "pcapng" else ""
        if interface.link_type != ETHERNET:
            name = _LINK_TYPES.get(interface.link_type)
            named = f"{interface.link_type} ({name})" if name else str(interface.link_type)
            raise CaptureError(f"{self.path}: {where}link type {named}; only Ethernet ({ETHERNET}) can be replayed")
        if interface.fcs_length:
            raise CaptureError(
                f"{self.path}: {where}frames end in a checksum (FCS) of {interface.fcs_length} bytes; "
                "only frames without one can be replayed"
            )
        return interface

    def _place(self, what: str) -> str:
        return f"{what} after packet {self.packets}"

    def _exactly(self, length: int, what: str) -> bytes:
        data = self._file.read(length)
        self._check_whole(data, length, what)
        return data

    def _check_whole(self, data: bytes, length: int, what: str) -> None:
        if len(data) < length:
            raise self._truncated(what, len(data), length)

    def _truncated(self, what: str, have: int, need: int) -> CaptureError:
        return CaptureError(f"{self.path}: truncated: the file ends in {what} ({have} of {need} bytes are there)")

    def _damaged(self, what: str) -> CaptureError:
        return CaptureError(f"{self.path}: damaged after packet {self.packets}: {what}")

    def _unreadable(self, error: Exception) -> CaptureError:
        reason = "the compressed data is truncated" if isinstance(error, EOFError) else str(error)
        return CaptureError(f"{self.path}: cannot be read after packet {self.packets}: {reason}")


def _interface(order: str, body: bytes) -> _Interface:
    """The interface that an Interface Description Block describes. Raises struct.error where it is too short."""
    link_type, snap_length = struct.unpack_from(f"{order}HxxI", body)
    options = dict(_options(order, body, 8))
    (exponent,) = struct.unpack("B", options.get(_OPTION_TIME_RESOLUTION, b"\x06"))
    # The top bit chooses between powers of two and of ten.
    ticks_per_second = 1 << (exponent & 0x7F) if exponent & 0x80 else 10**exponent
    (offset,) = struct.unpack(f"{order}q", options.get(_OPTION_TIME_OFFSET, bytes(8)))
    (fcs_length,) = struct.unpack("B", options.get(_OPTION_FCS_LENGTH, b"\x00"))
    return _Interface(link_type, snap_length, ticks_per_second, offset * _SECOND, fcs_length)


def _options(order: str, body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    while start < len(body):
        code, length = struct.unpack_from(f"{order}HH", body, start)
        if code == _OPTION_END:
            return
        start += 4
        yield code, body[start : start + length]
        start += (length + 3) & ~3


class CaptureWriter:
    """One pcap file of Ethernet frames in the machine's usual little-endian order. A context manager.

    `resolution` is ``ns`` or ``us``; with ``us`` the times are cut to whole microseconds. Raises CaptureError
    where the file cannot be written or a time lies outside the format's 1970–2106.
    """

    def __init__(self, path: str | os.PathLike[str], resolution: str = "ns") -> None:
        self.path = Path(path)
        self._fraction_ns = {"ns": 1, "us": 1000}[resolution]
        self._record = Struct("<IIII")
        magic = next(magic for magic, shape in _PCAP_MAGICS.items() if shape == ("<", self._fraction_ns))
        try:
            self._file = self.path.open("wb")
            self._file.write(magic + struct.pack("<HHiIII", 2, 4, 0, 0, LONGEST_FRAME, ETHERNET))
        except OSError as error:
            raise self._failed(error) from error

    def write(self, packet: Packet) -> None:
        seconds, rest = divmod(packet.time_ns, _SECOND)
        try:
            header = self._record.pack(seconds, rest // self._fraction_ns, len(packet.data), packet.wire_length)
        except struct.error as error:
            raise CaptureError(f"{self.path}: a pcap file cannot hold the time {packet.time_ns} ns") from error
        try:
            self._file.write(header)
            self._file.write(packet.data)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self.path}: cannot be written: {error.strerror}")


class PortCaptures:
    """A directory with one pcap per output port, ``port-N.pcap``, made when its first packet comes. The directory
    is made if need be; files of the same names are overwritten. A context manager. Raises CaptureError."""

    def __init__(self, directory: str | os.PathLike[str], resolution: str = "ns") -> None:
        self.directory = Path(directory)
        self._resolution = resolution
        self._writers: dict[int, CaptureWriter] = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaptureError(f"{self.directory}: cannot be made: {error.strerror}") from error

    def write(self, port: int, packet: Packet) -> None:
        writer = self._writers.get(port)
        if writer is None:
            writer = CaptureWriter(self.directory / f"port-{port}.pcap", self._resolution)
            self._writers[port] = writer
        writer.write(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as closing:
            for writer in self._writers.values():
                closing.callback(writer.close)
