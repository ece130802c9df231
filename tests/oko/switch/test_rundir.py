from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oko.errors import BridgeError
from oko.switch.rundir import DEFAULT, BridgeRecord, LocalRecord, PortRecord, RunDirectory

PORTS = (PortRecord("p1", 1, {"peer": "eth0"}), PortRecord("p2", 2, None))
RECORD = BridgeRecord("/sys/fs/bpf/oko/br0", "/var/lib/oko/br0", PORTS, LocalRecord("oko-host", 4026531840))
HOLD = """
import sys
from pathlib import Path
from oko.switch.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).claim("br0"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def rundir(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run" / "oko")


def test_one_okod_per_bridge(rundir: RunDirectory) -> None:
    assert rundir.pid("br0") is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(rundir.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert rundir.pid("br0") == other.pid
        with (
            pytest.raises(BridgeError, match=f"bridge br0: an okod runs it already \\(process {other.pid}\\)"),
            rundir.claim("br0"),
        ):
            pass
        with rundir.claim("br1"):
            assert rundir.pid("br0") == other.pid
        other.kill()
    assert rundir.pid("br0") is None
    with rundir.claim("br0"):
        assert rundir.pid("br0") is not None
    assert not (rundir.path / "br0.pid").exists()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../br0", "a/b", "br.0", "-br0", "br 0", "brücke", "b" * 33, "br0\n"],
)
def test_names_that_no_bridge_has(rundir: RunDirectory, name: str) -> None:
    for use in (rundir.socket, rundir.read, rundir.pid, lambda name: rundir.claim(name).__enter__()):
        with pytest.raises(BridgeError, match="is no name for a bridge"):
            use(name)
    assert not rundir.path.exists()


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, local=None)], ids=["with LOCAL", "without"])
def test_a_record_is_read_as_it_was_written(rundir: RunDirectory, record: BridgeRecord) -> None:
    with rundir.claim("br0"):
        rundir.write("br0", record)
        assert rundir.read("br0") == record
        assert rundir.bridges() == ["br0"]
        rundir.forget("br0")
    assert rundir.bridges() == []
    assert list(rundir.path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param("", "cannot be read", id="empty"),
        pytest.param("{", "cannot be read", id="cut off"),
        pytest.param("[]", "cannot be read", id="no object"),
        pytest.param("null", "cannot be read", id="null"),
        pytest.param("{}", "cannot be read", id="no version"),
        pytest.param(
            json.dumps({"version": 3, "pins": "/", "state": "/", "local": None}), "cannot be read", id="no ports"
        ),
        pytest.param(
            json.dumps({"version": 3, "pins": "/", "state": "/", "ports": [{"name": "p1"}], "local": None}),
            "cannot be read",
            id="port",
        ),
        pytest.param(json.dumps({"version": 99}), "version 99, this Oko writes 3", id="newer"),
        pytest.param("\udcff", "cannot be read", id="no text"),
    ],
)
def test_records_that_are_damaged(rundir: RunDirectory, content: str, complaint: str) -> None:
    rundir.path.mkdir(parents=True)
    (rundir.path / "br0.json").write_text(content, errors="surrogateescape")
    with pytest.raises(BridgeError, match=complaint) as caught:
        rundir.read("br0")
    assert str(rundir.path / "br0.json") in str(caught.value)


def test_no_record(rundir: RunDirectory) -> None:
    with pytest.raises(BridgeError, match="bridge br0 does not exist"):
        rundir.read("br0")


def test_a_run_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rundir = RunDirectory(tmp_path / "file" / "run")
    with pytest.raises(BridgeError, match=f"the run directory {rundir.path}: Not a directory"), rundir.claim("br0"):
        pass


@pytest.mark.parametrize(
    ("option", "variable", "expected"),
    [("/a", "/b", Path("/a")), (None, "/b", Path("/b")), (None, "", DEFAULT), (None, None, DEFAULT)],
    ids=["option", "environment", "empty", "default"],
)
def test_where_it_is(monkeypatch: pytest.MonkeyPatch, option: str | None, variable: str | None, expected: Path) -> None:
    if variable is None:
        monkeypatch.delenv("OKO_RUNDIR", raising=False)
    else:
        monkeypatch.setenv("OKO_RUNDIR", variable)
    assert RunDirectory.of(option).path == expected
