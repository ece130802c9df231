"""`Site`: where the okod of a soak listens, what it is told, and the connections that can be made to it."""

from __future__ import annotations

import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oko.cli.client import Client
from oko.openflow.tls import TlsFiles
from oko.switch.rundir import RunDirectory
from perf.stamped import PORTS

BRIDGE: Final = "soak"
FLAPPING: Final = 5
"""The number of the port whose far end goes down and up."""
CROWD: Final = 24
"""Connections that okod takes at a time."""
CONTROLLER: Final = ("127.0.0.1", 6700)
"""Where okod looks for a controller."""
METRICS: Final = "http://127.0.0.1:9653/metrics"

_CLEAR: Final = 6653
_SECURE: Final = 6654
_PATIENCE: Final = 20
"""Seconds that a socket waits."""
_SELF_SIGNED: Final = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
_NAMES: Final = ("switch", "controller", "stranger")


@dataclass(frozen=True, slots=True)
class Site:
    """All of it in one directory."""

    directory: Path

    @staticmethod
    def prepare(directory: Path) -> Site:
        """Make keys and certificates, and write the settings."""
        site = Site(directory)
        for name in _NAMES:
            subprocess.run(
                [*_SELF_SIGNED, "-subj", f"/CN={name}", "-keyout", site._key(name), "-out", site._certificate(name)],
                check=True,
                capture_output=True,
            )
        site.settings.write_text(site._settings())
        return site

    @property
    def settings(self) -> Path:
        """The okod.toml."""
        return self.directory / "okod.toml"

    def trusted(self) -> Client:
        """A connection that may load programs."""
        return Client.connect(BRIDGE, RunDirectory(self.directory / "run"))

    def untrusted(self) -> Client:
        """One that may not, over TCP."""
        return Client.connect(f"tcp:127.0.0.1:{_CLEAR}", RunDirectory(self.directory / "run"))

    def plain(self) -> socket.socket:
        """A TCP connection on which nothing was said yet."""
        return socket.create_connection(("127.0.0.1", _CLEAR), _PATIENCE)

    def unix(self) -> socket.socket:
        """A connection to the management socket on which nothing was said yet."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(RunDirectory(self.directory / "run").socket(BRIDGE)))
        except OSError:
            connection.close()
            raise
        return connection

    def secure(self, *, name: str = "controller") -> ssl.SSLSocket:
        """A connection over TLS with the certificate of `name`; okod does not believe a stranger, and may say so only
        when it is read from."""
        files = TlsFiles(self._key(name), self._certificate(name), self._certificate("switch"))
        plain = socket.create_connection(("127.0.0.1", _SECURE), _PATIENCE)
        try:
            return files.context(server=False).wrap_socket(plain)
        except OSError:
            plain.close()
            raise

    def _key(self, name: str) -> Path:
        return self.directory / f"{name}-key.pem"

    def _certificate(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def _settings(self) -> str:
        endpoints = (f"ptcp:{_CLEAR}", f"pssl:{_SECURE}", f"tcp:{CONTROLLER[0]}:{CONTROLLER[1]}")
        ports = {port.name: port.number for port in PORTS} | {f"p{FLAPPING}": FLAPPING}
        lines = [
            f"max_connections = {CROWD}",
            "inactivity_probe = 2.0",
            "max_backoff = 1.0",
            f'metrics = "{METRICS.split("/")[2]}"',
            "[ports]",
            *(f"{name} = {number}" for name, number in ports.items()),
            "[tls]",
            f'private_key = "{self._key("switch")}"',
            f'certificate = "{self._certificate("switch")}"',
            f'ca_certificate = "{self._certificate("controller")}"',
        ]
        for endpoint in endpoints:
            lines += ["[[connections]]", f'endpoint = "{endpoint}"']
        return "\n".join(lines) + "\n"
