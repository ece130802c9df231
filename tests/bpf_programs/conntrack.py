"""Linux's connection tracking as an oracle: what nftables' `ct state` says of each of a sequence of frames."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from pyroute2 import netns

STATES: Final = ("new", "established", "related", "invalid", "untracked")

_LOG_GROUP: Final = 5
_NETLINK_NETFILTER: Final = 12
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
_ETHERTYPES: Final = (_IPV4, _IPV6)
_TAGS: Final = (b"\x81\x00", b"\x88\xa8")
_FRAGMENT: Final = 44
_MTU: Final = 65535
_SO_RCVBUFFORCE: Final = 33

# Everything that arrives is delivered to this host, which never answers: so each packet goes through the hook that
# confirms a connection, and nothing else happens to connections.
_SETUP: Final = f"""
ip link set lo up
ip link add out mtu {_MTU} type veth peer name in mtu {_MTU}
sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
sysctl -qw net.ipv6.conf.out.disable_ipv6=1
ip link set in address 02:ff:00:00:00:01
ip link set out up
ip link set in up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.in.rp_filter=0
sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.in.accept_local=1
sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.in.route_localnet=1
sysctl -qw net.netfilter.nf_conntrack_checksum=0 net.netfilter.nf_conntrack_tcp_loose=0
nft -f -
"""

_RULES: Final = (
    "table inet oracle {\n"
    "chain arriving { type filter hook prerouting priority -100; "
    + "".join(f'ct state {state} log prefix "{state}" group {_LOG_GROUP}; ' for state in STATES)
    + "}\nchain leaving { type filter hook output priority -300; drop; }\n}\n"
)


class Conntrack:
    """A network namespace of its own, in which frames arrive at an interface. Context manager.

    Mid-stream pickup is off (nf_conntrack_tcp_loose=0), and checksums are not looked at, as in the firewall. Raises
    OSError or CalledProcessError without the rights, or the kernel's parts, that it takes.
    """

    def __init__(self) -> None:
        self._name = f"oko-conntrack-{os.getpid()}"
        with ExitStack() as owned:
            netns.create(self._name)
            owned.callback(netns.remove, self._name)
            for command in _SETUP.strip().splitlines():
                subprocess.run(
                    ["ip", "netns", "exec", self._name, *command.split()],
                    input=_RULES,
                    text=True,
                    capture_output=True,
                    check=True,
                )
            netns.pushns(self._name)
            try:
                self._out = owned.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
                self._out.bind(("out", 0))
                self._log = owned.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER))
            finally:
                netns.popns()
            self._log.bind((0, 0))
            self._log.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
            self._configure()
            self._owned = owned.pop_all()

    def states(self, frames: Sequence[bytes]) -> list[str]:
        """The state that each packet has when it arrives; "" for one that never got so far: no IP, a header that does
        not hold, a fragment of a packet that never was whole. VLAN tags are taken off, all else of the Ethernet header
        is replaced, and the checksum of an IPv4 header is made right: captures with altered addresses have none."""
        found = [""] * len(frames)
        for number, frame in enumerate(frames):
            packet = _packet(frame)
            if packet[:2] not in _ETHERTYPES:
                continue
            self._out.send(b"\x02\xff\x00\x00\x00\x01" + b"\x02\x00" + struct.pack("!I", number) + _summed(packet))
            if number % 64 == 63:
                self._read(found)
        self._read(found)
        fragments = [fragment_of(frame) for frame in frames]
        # Only one fragment comes out of reassembly, with the verdict on all.
        whole = {part[0]: state for part, state in zip(fragments, found, strict=True) if part and state}
        return [state or (whole.get(part[0], "") if part else "") for part, state in zip(fragments, found, strict=True)]

    def _configure(self) -> None:
        """Bind to the log group, without the packets' contents (NFULNL_COPY_META), each message at once."""
        for attributes in (
            _attribute(1, b"\x01"),  # NFULA_CFG_CMD: NFULNL_CFG_CMD_BIND
            _attribute(2, struct.pack("!IBB", 0, 1, 0)) + _attribute(5, struct.pack("!I", 1)),  # MODE, QTHRESH
        ):
            body = struct.pack("!BBH", 0, 0, _LOG_GROUP) + attributes
            kind = 4 << 8 | 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG
            self._log.send(struct.pack("=IHHII", 16 + len(body), kind, 0x5, 0, 0) + body)
            answer = self._log.recv(4096)
            error = struct.unpack_from("=i", answer, 16)[0]
            if error:
                raise OSError(-error, os.strerror(-error))

    def _read(self, found: list[str]) -> None:
        """Messages that are there; a frame was judged when send() has returned, or right after."""
        while True:
            try:
                data = self._log.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for attributes in _messages(data):
                header = attributes.get(16, b"")  # NFULA_HWHEADER
                found[int.from_bytes(header[8:12], "big")] = attributes[10].rstrip(b"\0").decode()  # NFULA_PREFIX

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._owned.close()


def _packet(frame: bytes) -> bytes:
    """The frame from its last EtherType on."""
    at = 12
    while frame[at : at + 2] in _TAGS:
        at += 4
    return frame[at:]


def fragment_of(frame: bytes) -> tuple[bytes, int] | None:
    """What all fragments of a packet have in common, and where this one begins (bytes); None if it is no fragment. Of
    IPv6 only where the fragment header is the first extension."""
    packet = _packet(frame)
    if packet[:2] == _IPV4 and len(packet) >= 22:
        place = int.from_bytes(packet[8:10], "big") & 0x3FFF
        return (packet[6:8] + packet[11:12] + packet[14:22], place % 0x2000 * 8) if place else None
    if packet[:2] == _IPV6 and len(packet) >= 50 and packet[8] == _FRAGMENT:
        return packet[10:42] + packet[46:50], int.from_bytes(packet[44:46], "big") & 0xFFF8
    return None


def _summed(packet: bytes) -> bytes:
    """A packet, from its EtherType on, with the checksum that its IPv4 header should have (RFC 791, section 3.1)."""
    end = 2 + 4 * (packet[2] & 0x0F) if len(packet) > 2 else 0
    if packet[:2] != _IPV4 or not 22 <= end <= len(packet):
        return packet
    header = packet[2:12] + bytes(2) + packet[14:end]
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return packet[:12] + struct.pack("!H", ~total & 0xFFFF) + packet[14:]


def _attribute(kind: int, content: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(content), kind) + content).ljust(4 + (len(content) + 3 & ~3), b"\0")


def _messages(data: bytes) -> list[dict[int, bytes]]:
    """The attributes of each message of the log."""
    found = []
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind == 4 << 8:  # NFULNL_MSG_PACKET
            found.append(_attributes(data[20:length]))
        data = data[length + 3 & ~3 :]
    return found


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x7FFF] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found
