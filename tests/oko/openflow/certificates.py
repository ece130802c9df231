"""Private keys and certificates for tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path

from oko.openflow.tls import TlsFiles


class Authority:
    """A CA in a directory of its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.certificate = self.directory / "ca.pem"
        self._key = self.directory / "ca-key.pem"
        self._openssl("req", "-x509", "-newkey", *_KEY, "-nodes", "-subj", f"/CN={name}", "-keyout", self._key,
                      "-out", self.certificate)  # fmt: skip

    def sign(self, name: str, *others: str) -> TlsFiles:
        """A new key and its certificate, for somebody of this name; `others` are what else the certificate is for, as
        openssl writes a subjectAltName: "DNS:a.example"."""
        key, request, certificate = (self.directory / f"{name}{suffix}.pem" for suffix in ("-key", "-request", ""))
        self._openssl("req", "-newkey", *_KEY, "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        more = self.directory / f"{name}.ext"
        more.write_text(f"subjectAltName={','.join(others)}\n" if others else "")
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
                      "-out", certificate, "-extfile", more)  # fmt: skip
        return TlsFiles(key, certificate, self.certificate)

    def _openssl(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)


_KEY = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
