"""`Endpoint`: where OpenFlow connections come from or go to, in Open vSwitch's notation (ovs-vsctl(8), "controller").

    tcp:HOST[:PORT]     connect, in clear            ptcp:[PORT][:HOST]   listen, in clear
    ssl:HOST[:PORT]     connect, over TLS            pssl:[PORT][:HOST]   listen, over TLS
                                                     punix:PATH           listen on a Unix socket

IPv6 addresses stand in brackets. A passive endpoint without a host listens on 127.0.0.1 only, where Open vSwitch
listens everywhere.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oko.errors import SettingsError

DEFAULT_PORT: Final = 6653
"""The one that IANA gave OpenFlow."""
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP port of a host: a name or an address, without brackets."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Address:
        """Reads ``HOST:PORT``. Raises SettingsError."""
        host, rest = _split_host(text)
        if not host or not rest.startswith(":") or (port := _port(rest[1:])) is None:
            raise SettingsError(f"{text!r} is no address: write HOST:PORT, an IPv6 address in brackets")
        return Address(host, port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host reaches it. A name may mean anything."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Method:
    """How an endpoint is reached: whether okod waits for peers or connects to one, over TLS or in clear."""

    passive: bool
    secure: bool


METHODS: Final = {
    "tcp": Method(passive=False, secure=False),
    "ssl": Method(passive=False, secure=True),
    "ptcp": Method(passive=True, secure=False),
    "pssl": Method(passive=True, secure=True),
}
"""Those over TCP, by name."""
_UNIX: Final = "punix"
_LONGEST_PATH: Final = 107
"""Bytes in sockaddr_un, without the zero behind them (unix(7))."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`place` is a path for ``punix``, else an address."""

    method: str
    place: Address | Path

    @staticmethod
    def parse(text: str) -> Endpoint:
        """Raises SettingsError."""
        name, colon, rest = text.partition(":")
        if name == _UNIX and rest:
            if len(rest.encode()) > _LONGEST_PATH:
                raise SettingsError(f"{text!r}: the path of a socket has at most {_LONGEST_PATH} bytes")
            return Endpoint(name, Path(rest))
        method = METHODS.get(name)
        address = None
        if method is not None:
            address = _passive(rest) if method.passive else _active(rest) if colon else None
        if address is None:
            raise SettingsError(
                f"{text!r} is no endpoint: write tcp:HOST[:PORT], ssl:HOST[:PORT], ptcp:[PORT][:ADDRESS], "
                "pssl:[PORT][:ADDRESS] or punix:PATH, IPv6 addresses in brackets"
            )
        return Endpoint(name, address)

    @property
    def passive(self) -> bool:
        """Whether okod listens there; else it connects."""
        return self.method == _UNIX or METHODS[self.method].passive

    @property
    def secure(self) -> bool:
        """Whether it takes TLS."""
        return self.method != _UNIX and METHODS[self.method].secure

    @property
    def is_exposed(self) -> bool:
        """Whether okod listens there in clear for other hosts."""
        return self.passive and not self.secure and isinstance(self.place, Address) and not self.place.is_loopback

    def __str__(self) -> str:
        if isinstance(self.place, Path):
            return f"{self.method}:{self.place}"
        if not self.passive:
            return f"{self.method}:{self.place}"
        host = f"[{self.place.host}]" if ":" in self.place.host else self.place.host
        return f"{self.method}:{self.place.port}:{host}"


def _active(text: str) -> Address | None:
    """``HOST[:PORT]``."""
    host, rest = _split_host(text)
    port = _port(rest[1:]) if rest.startswith(":") else None if rest else DEFAULT_PORT
    return None if not host or not port else Address(host, port)


def _passive(text: str) -> Address | None:
    """``[PORT][:HOST]``: the host is an address."""
    digits, colon, place = text.partition(":")
    port = _port(digits) if digits else DEFAULT_PORT
    host, rest = _split_host(place) if colon else (LOOPBACK, "")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if port is None or rest else Address(host, port)


def _split_host(text: str) -> tuple[str, str]:
    """The host at the beginning, without brackets, and what follows; no host when the brackets or the name are
    wrong."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        return (host if closed and ":" in host and is_host(host) else ""), rest
    host, colon, rest = text.partition(":")
    return (host if is_host(host) else ""), colon + rest


def is_host(host: str) -> bool:
    """Whether it is an address, or a name that a resolver can be asked for: labels of 1 to 63 bytes, as IDNA writes
    them (RFC 3490)."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return host.isprintable() and not any(character.isspace() for character in host)


def _port(text: str) -> int | None:
    """A TCP port number; 0 lets the kernel choose."""
    return int(text) if text.isascii() and text.isdigit() and int(text) <= 0xFFFF else None
