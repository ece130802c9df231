"""`TlsFiles`: who okod is on connections over TLS, and whom it believes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from oko.errors import SettingsError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files, as Open vSwitch's --private-key, --certificate and --ca-cert.

    A peer is believed when its certificate leads to `ca_certificate`: both sides must have one.
    """

    private_key: Path
    certificate: Path
    ca_certificate: Path

    def context(self, *, server: bool, named: bool = False) -> ssl.SSLContext:
        """For accepting connections or for making them; TLS 1.2 or newer. With `named`, the peer's certificate has to
        be for the host that the connection is made to, by its subjectAltName, or its common name if it has none (RFC
        6125). Raises SettingsError for files that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = named
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in (self.private_key, self.certificate, self.ca_certificate):
            _require_readable(path)
        try:
            context.load_cert_chain(self.certificate, self.private_key, self._refuse_password)
        except ssl.SSLError as error:
            raise SettingsError(
                f"{self.private_key} and {self.certificate} are no key and certificate that fit: {error.reason}"
            ) from None
        try:
            context.load_verify_locations(self.ca_certificate)
        except ssl.SSLError as error:
            raise SettingsError(f"{self.ca_certificate} is no CA certificate: {error.reason}") from None
        return context

    def _refuse_password(self) -> str:
        """Called for a key that is encrypted; OpenSSL would ask at the terminal."""
        raise SettingsError(f"{self.private_key} is encrypted: nobody is asked for the password, decrypt it")


def _require_readable(path: Path) -> None:
    """Raises SettingsError; OpenSSL does not say which file it was."""
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
