"""`Settings`: what okod is told, by its file okod.toml and by options, which override the file.

The fields are the keys of the file; docs/okod.md has them all. A key that is unknown is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PositiveFloat,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from oko.errors import OkoError, SettingsError
from oko.openflow.endpoint import Address, Endpoint, is_host
from oko.openflow.tls import TlsFiles
from oko.switch.datapath import DEFAULT_BPFFS
from oko.switch.limits import DEFAULT_LIMITS, Limits
from oko.switch.local import LocalSpec
from oko.switch.port import PortSpec
from oko.switch.store import DEFAULT as DEFAULT_STATEDIR

_Value = TypeVar("_Value")

DATAPATH_ID_BITS: Final = 64


def _text(kind: type[_Value], parse: Callable[[str], _Value]) -> PlainValidator:
    """Takes a value of this kind, or the text of one."""

    def read(value: object) -> _Value:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is no text")
        try:
            return parse(value)
        except OkoError as error:
            raise ValueError(str(error)) from None

    return PlainValidator(read)


def _ports(value: object) -> object:
    """The table ``[ports]`` of the file: INTERFACE = NUMBER."""
    if isinstance(value, Mapping):
        return [f"{name}={number}" for name, number in value.items()]
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConnectionSettings(_Section):
    """One of ``[[connections]]``."""

    endpoint: Annotated[Endpoint, _text(Endpoint, Endpoint.parse)]
    may_load: StrictBool = False
    """Whether its peers may load programs, write their maps and set observers."""
    may_read: StrictBool | None = None
    """Whether its peers may read maps and subscribe to events; `reads` has what holds when nothing is said."""
    peer_name: str | None = None
    """The name that the certificate of a controller that okod connects to must be for."""

    @property
    def reads(self) -> bool:
        """Whether its peers may read maps and subscribe to events. If nothing is said: where nobody else can listen in
        or pretend to be the peer, and whoever may load programs, as those could read for it."""
        if self.may_read is not None:
            return self.may_read
        return self.may_load or self.endpoint.secure or not isinstance(self.endpoint.place, Address)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.may_load and not self.reads:
            raise ValueError(f"{self.endpoint}: may_load without may_read: a program that is loaded can read all maps")
        if self.peer_name is not None:
            if self.endpoint.passive or not self.endpoint.secure:
                raise ValueError(f"{self.endpoint}: peer_name is for the controllers of ssl only")
            if not is_host(self.peer_name):
                raise ValueError(f"{self.endpoint}: peer_name {self.peer_name!r} is no name of a host, and no address")
        return self


class TlsSettings(_Section):
    """``[tls]``: PEM files, for endpoints of ssl and pssl."""

    private_key: Path
    certificate: Path
    ca_certificate: Path

    @property
    def files(self) -> TlsFiles:
        """As `oko.openflow.tls` takes them."""
        return TlsFiles(self.private_key, self.certificate, self.ca_certificate)


class AttachSettings(_Section):
    """``[attach]``: the bridge is one of Open vSwitch's."""

    ovsdb: str = "unix:/run/openvswitch/db.sock"
    """The database, as ovs-vsctl's ``--db`` names it: unix:PATH. The sockets of ovs-vswitchd are beside it."""
    mode: Literal["proxy", "listen"] = "proxy"
    """Whether controllers and tools reach okod in the bridge's place, or beside it."""
    fail: Literal["secure", "open"] = "secure"
    """What becomes of packets that Open vSwitch is to continue while it does not: dropped, or left to its other
    rules."""


class LogSettings(_Section):
    """``[log]``."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(_Section):
    """What okod is told."""

    bridge: str
    attach: AttachSettings | None = None
    """Without it, okod is the whole switch."""
    ports: Annotated[tuple[Annotated[PortSpec, _text(PortSpec, PortSpec.parse)], ...], BeforeValidator(_ports)] = ()
    local: Annotated[LocalSpec, _text(LocalSpec, LocalSpec.parse)] | None = None
    dpid: Annotated[int, Field(strict=True, ge=0, lt=1 << DATAPATH_ID_BITS)] | None = None
    """The datapath id; without one it is the hardware address of the first port."""
    bpffs: Path = DEFAULT_BPFFS
    statedir: Path = DEFAULT_STATEDIR
    """Where rules and programs are kept for the next okod."""
    connections: tuple[ConnectionSettings, ...] = ()
    inactivity_probe: PositiveFloat = 5.0
    """Seconds without a word from a peer until it is asked for an echo; after as many again the connection ends."""
    max_backoff: Annotated[float, Field(ge=1)] = 8.0
    """Seconds at most between two attempts to connect to a controller."""
    max_connections: Annotated[int, Field(strict=True, ge=1)] = 256
    """Peers that endpoints that listen take at a time."""
    allow_cleartext: StrictBool = False
    """Whether okod may listen in clear for other hosts."""
    tls: TlsSettings | None = None
    metrics: Annotated[Address, _text(Address, Address.parse)] | None = None
    """Where Prometheus finds the metrics."""
    log: LogSettings = LogSettings()
    limits: Limits = DEFAULT_LIMITS

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.attach is not None and (self.ports or self.local or self.dpid is not None):
            raise ValueError("ports, local and dpid are Open vSwitch's where okod attaches to it: leave them out")
        endpoints = [connection.endpoint for connection in self.connections]
        twice = {str(endpoint) for endpoint in endpoints if endpoints.count(endpoint) > 1}
        if twice:
            raise ValueError(f"two connections have the same endpoint: {', '.join(sorted(twice))}")
        for endpoint in endpoints:
            if endpoint.is_exposed and not self.allow_cleartext:
                raise ValueError(f"{endpoint} listens in clear for other hosts: {_CLEARTEXT_ADVICE}, or pssl")
            if endpoint.secure and self.tls is None:
                raise ValueError(
                    f"{endpoint} takes TLS: name private_key, certificate and ca_certificate in [tls], or with "
                    "--private-key, --certificate and --ca-cert"
                )
        if self.metrics is not None and not self.metrics.is_loopback and not self.allow_cleartext:
            raise ValueError(f"the metrics at {self.metrics} are in clear for other hosts: {_CLEARTEXT_ADVICE}")
        return self


_CLEARTEXT_ADVICE: Final = "use 127.0.0.1, --allow-cleartext"


def read_settings(path: Path | None, options: Mapping[str, Any]) -> Settings:
    """The settings of a file, if there is one, with the values of `options` in the place of its own; tables are merged.
    Raises SettingsError: where in the file, and what is wrong."""
    try:
        given = tomllib.loads(path.read_text()) if path is not None else {}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: no TOML: {error}") from None
    try:
        return Settings.model_validate(_merged(given, options))
    except ValidationError as error:
        where = "" if path is None else f"{path}: "
        # A setting that is misspelt is missing, too: what is wrong comes before what is missing.
        details = sorted(error.errors(), key=lambda detail: detail["type"] == "missing")
        found = [where + _said(detail) for detail in details]
        raise SettingsError(found[0], details="\n".join(found[1:])) from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        there = merged.get(key)
        merged[key] = _merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return merged


def _said(detail: ErrorDetails) -> str:
    """One error of pydantic's, with its place in the file."""
    place = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            said = "there is no such setting"
        case "missing":
            said = "is missing"
        case "value_error":
            said = str(detail["ctx"]["error"])
        case _:
            said = f"{detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    return f"{place}: {said}" if place else said
