from __future__ import annotations

import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from oko.errors import SettingsError
from oko.openflow.tls import TlsFiles
from tests.oko.openflow.certificates import Authority


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return Authority(tmp_path_factory.mktemp("tls")).sign("switch")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "a.example") -> str | None:
    """A handshake between the two and its version; the client has connected to `host`. Raises SSLError."""
    ends = [ssl.MemoryBIO() for _ in range(2)]
    there = client.wrap_bio(ends[0], ends[1], server_hostname=host)
    here = server.wrap_bio(ends[1], ends[0], server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in (there, here):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    return here.version()


def test_both_sides_have_certificates(files: TlsFiles) -> None:
    assert shake_hands(files.context(server=True), files.context(server=False)) == "TLSv1.3"


@pytest.mark.parametrize("old", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_are_refused(files: TlsFiles, old: ssl.TLSVersion) -> None:
    client = files.context(server=False)
    client.minimum_version = client.maximum_version = old
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|unsupported protocol"):
        shake_hands(files.context(server=True), client)


def test_a_peer_without_a_certificate_is_refused(files: TlsFiles) -> None:
    client = ssl.create_default_context(cafile=str(files.ca_certificate))
    client.check_hostname = False
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake_hands(files.context(server=True), client)


@pytest.mark.parametrize(
    ("others", "host", "believed"),
    [
        pytest.param((), "controller", True, id="common name"),
        pytest.param((), "a.example", False, id="another common name"),
        pytest.param(("DNS:b.example", "DNS:a.example"), "a.example", True, id="alternative name"),
        pytest.param(("DNS:*.b.example",), "a.b.example", True, id="wildcard"),
        pytest.param(("DNS:a.example",), "b.example", False, id="another alternative name"),
        pytest.param(("DNS:a.example",), "controller", False, id="common name behind an alternative name"),
        pytest.param(("IP:127.0.0.1",), "127.0.0.1", True, id="address"),
        pytest.param(("IP:127.0.0.1",), "127.0.0.2", False, id="another address"),
    ],
)
def test_the_name_of_a_peer(tmp_path: Path, others: tuple[str, ...], host: str, believed: bool) -> None:
    authority = Authority(tmp_path)
    ours, theirs = authority.sign("switch"), authority.sign("controller", *others)
    server = theirs.context(server=True)
    assert shake_hands(server, ours.context(server=False), host), "without a look at names"
    client = ours.context(server=False, named=True)
    if believed:
        assert shake_hands(server, client, host)
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"[Mm]ismatch"):
            shake_hands(server, client, host)


@pytest.mark.parametrize("stranger", ["client", "server"])
def test_a_peer_of_another_authority_is_refused(files: TlsFiles, stranger: str, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").sign("stranger")
    # The stranger believes everybody.
    other = replace(other, ca_certificate=files.ca_certificate)
    sides = {name: other if name == stranger else files for name in ("server", "client")}
    with pytest.raises(ssl.SSLError, match="verify failed"):
        shake_hands(sides["server"].context(server=True), sides["client"].context(server=False))


def test_files_that_cannot_be_used(files: TlsFiles, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no key")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-in", files.private_key, "-out", locked, "-aes128", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    another = Authority(tmp_path, "another").sign("another")
    for changed, complaint in (
        (replace(files, private_key=tmp_path / "none"), "none: No such file"),
        (replace(files, certificate=text), "no key and certificate that fit"),
        (replace(files, private_key=another.private_key), "no key and certificate that fit: KEY_VALUES_MISMATCH"),
        (replace(files, private_key=locked), "locked.pem is encrypted"),
        (replace(files, ca_certificate=text), "text.pem is no CA certificate"),
    ):
        with pytest.raises(SettingsError, match=complaint):
            changed.context(server=True)
