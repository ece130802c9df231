from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ofext.messages import EchoReply, EchoRequest, Hello, encode
from oko.cli.client import Client
from oko.cli.target import is_remote
from oko.errors import BridgeError
from oko.openflow.tls import TlsFiles
from oko.switch.rundir import RunDirectory
from tests.oko.openflow.certificates import Authority
from tests.stage import BRIDGE, FIREWALL, TOOLS, Done, Stage, mounted


@dataclass(frozen=True, slots=True)
class Secure:
    """An okod that listens for TLS at `target`, and who may talk to it there."""

    stage: Stage
    target: str
    files: TlsFiles
    stranger: TlsFiles

    def run(self, *words: str | Path, files: TlsFiles | None = None, stdin: str = "") -> Done:
        """A command with the options for these files, if there are any."""
        if files is not None:
            words += ("-p", files.private_key, "-c", files.certificate, "-C", files.ca_certificate)
        return self.stage.run(*words, stdin=stdin)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    directory = tmp_path_factory.mktemp("secure")
    authority = Authority(directory)
    ours, theirs = authority.sign("switch"), authority.sign("operator")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with mounted(Stage(directory)) as stage:
        stage.start(
            f"--listen=pssl:{port}",
            f"--may-load=pssl:{port}",
            f"--private-key={ours.private_key}",
            f"--certificate={ours.certificate}",
            f"--ca-cert={ours.ca_certificate}",
        )
        stranger = Authority(directory, "other").sign("stranger")
        yield Secure(stage, f"ssl:127.0.0.1:{port}", theirs, stranger)


@pytest.mark.needs_bpf
def test_tools_over_tls(secure: Secure) -> None:
    loaded = secure.run("oko-load", secure.target, "1", FIREWALL, files=secure.files)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    listed = secure.run("oko", "map", "list", secure.target, "--json", files=secure.files)
    names = [found["name"] for found in json.loads(listed.stdout)]
    assert secure.run("oko", "map", "dump", secure.target, "1", names[0], files=secure.files).returncode == 0


@pytest.mark.needs_bpf
def test_much_both_ways_over_tls(secure: Secure) -> None:
    flows = "\n".join(f"priority={number} actions=drop" for number in range(3000))
    added = secure.run("oko", "flow", "add", secure.target, "-", files=secure.files, stdin=flows)
    assert (added.returncode, added.stderr) == (0, "")
    listed = secure.run("oko", "flow", "list", secure.target, "--json", files=secure.files)
    assert sorted(flow["priority"] for flow in json.loads(listed.stdout)) == list(range(3000))
    with Client.connect(secure.target, secure.stage.rundir, secure.files) as client:
        for size in (0, 1, 16_384, 60_000):
            assert client.request(EchoRequest(bytes(size))) == EchoReply(bytes(size))


@pytest.mark.needs_bpf
def test_files_from_the_environment(secure: Secure) -> None:
    variables = (
        f"OKO_PRIVATE_KEY={secure.files.private_key}",
        f"OKO_CERTIFICATE={secure.files.certificate}",
        f"OKO_CA_CERT={secure.files.ca_certificate}",
    )
    command = ("env", *variables, TOOLS / "oko", "flow", "list", secure.target)
    assert secure.run(*command).returncode == 0
    assert secure.run(*command, files=secure.stranger).returncode == 1, "options come first"


@pytest.mark.needs_bpf
def test_strangers_over_tls(secure: Secure) -> None:
    mixed = TlsFiles(secure.stranger.private_key, secure.stranger.certificate, secure.files.ca_certificate)
    for files, complaint in (
        (None, "takes TLS: name files with --private-key, --certificate and --ca-cert"),
        (secure.stranger, "certificate verify failed"),
        (mixed, "closed the connection"),
        (TlsFiles(Path("/none"), *(secure.files.certificate,) * 2), "/none: No such file or directory"),
    ):
        done = secure.run("oko", "flow", "list", secure.target, files=files)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert complaint in done.stderr


def test_a_switch_that_speaks_no_tls(tmp_path: Path) -> None:
    files = Authority(tmp_path).sign("operator")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(ConnectionResetError):
                connection.sendall(encode(Hello()))
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        target = f"ssl:127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(BridgeError, match=f"{target}: .*(?i:wrong.version.number)"):
            Client.connect(target, RunDirectory(tmp_path), files)
        thread.join()


@pytest.mark.parametrize(
    ("target", "remote"),
    [(BRIDGE, False), ("unix:/a", False), ("tcp:a", True), ("ssl:a:1", True), ("sslbridge", False)],
)
def test_which_may_be_elsewhere(target: str, remote: bool) -> None:
    assert is_remote(target) == remote
