"""Where the tools find a switch: a bridge of this host by its name, or a target in the notation of ovs-ofctl."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from oko.errors import BridgeError, SettingsError
from oko.openflow.endpoint import Address, Endpoint
from oko.openflow.tls import TlsFiles
from oko.switch.rundir import RunDirectory

PATIENCE: Final = 60
"""Seconds that a switch may take for its part."""
_REMOTE: Final = ("tcp", "ssl")


def is_remote(target: str) -> bool:
    """Whether the switch may be on another host."""
    return target.partition(":")[0] in _REMOTE


def connect(target: str, rundir: RunDirectory, tls: TlsFiles | None) -> socket.socket:
    """A connection to the bridge called `target`, to ``unix:PATH``, in clear to ``tcp:HOST[:PORT]``, or with `tls` over
    TLS to ``ssl:HOST[:PORT]``. Raises BridgeError when there is no such bridge, or nobody listens;
    SettingsError for files of `tls` that cannot be used."""
    method, _, place = target.partition(":")
    if method in _REMOTE:
        return _connect_tcp(target, tls)
    if method == "unix":
        return _connect_unix(target, Path(place))
    return _connect_bridge(target, rundir)


def _connect_tcp(target: str, tls: TlsFiles | None) -> socket.socket:
    try:
        endpoint = Endpoint.parse(target)
    except SettingsError:
        raise BridgeError(
            f"{target!r} is no switch: write tcp:HOST[:PORT] or ssl:HOST[:PORT], IPv6 addresses in brackets"
        ) from None
    assert isinstance(endpoint.place, Address)
    if not endpoint.secure:
        context = None
    elif tls is not None:
        context = tls.context(server=False)
    else:
        raise BridgeError(f"{target} takes TLS: name files with --private-key, --certificate and --ca-cert")
    try:
        connection = socket.create_connection((endpoint.place.host, endpoint.place.port), PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # This closes the connection when it fails.
        return connection if context is None else context.wrap_socket(connection, server_hostname=endpoint.place.host)
    except OSError as error:
        raise BridgeError(f"{target}: {error.strerror or error}") from None


def _connect_unix(target: str, path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise BridgeError(f"{target}: {error.strerror or error}") from error
    return connection


def _connect_bridge(bridge: str, rundir: RunDirectory) -> socket.socket:
    try:
        return _connect_unix(f"bridge {bridge}", rundir.socket(bridge))
    except BridgeError as error:
        if not isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            raise
        if rundir.read(bridge).is_attached:
            raise BridgeError(
                f"bridge {bridge} goes on by its last filter rules, but its okod does not run: start 'okod --attach "
                f"{bridge}' again, or run 'okod --detach {bridge}', which gives back all that was changed"
            ) from None
        raise BridgeError(
            f"bridge {bridge} forwards by its last rules, but its okod does not run: nobody can change it now; "
            f"'oko bridge del {bridge}' takes it away"
        ) from None
