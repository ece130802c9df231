"""The story as `make demo` tells it: it succeeds, it can fail, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo import story
from oko.errors import OkoError
from oko.replay.capture import CaptureWriter, Packet

pytestmark = pytest.mark.needs_bpf


def start(directory: Path) -> subprocess.Popen[str]:
    """The story in a process of its own, everything temporary below `directory`."""
    return subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=story.ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_over(directory: Path) -> list[str]:
    """Files, mounts and processes that still have to do with `directory`."""
    needle = os.fsencode(directory)
    processes = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            # The story runs everything with OKO_RUNDIR below the directory.
            if b"OKO_RUNDIR=" + needle in path.read_bytes():
                processes.append(str(path))
        except OSError:
            continue  # ended meanwhile
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line]
    return [*map(str, directory.iterdir()), *mounts, *processes]


def masked(told: str) -> list[str]:
    """The words of every line, with N for what differs from run to run: numbers, times, digests."""
    return [" ".join(re.sub(r"\b[0-9a-f]{12}\b|[0-9][0-9.,:]*", "N", line).split()) for line in told.splitlines()]


def test_told_to_the_end(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, "")
    assert "All as it should be" in output
    assert not left_over(tmp_path)
    shown = (story.ROOT / "README.md").read_text().split("```\n")
    assert masked(output.strip()) in [masked(block.strip()) for block in shown]


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c"),
        pytest.param(signal.SIGTERM, 143, id="sigterm"),
    ],
)
@pytest.mark.parametrize("step", ["2.", "6."], ids=["while-okod-starts", "while-connecting"])
def test_interrupted(tmp_path: Path, step: str, number: int, status: int) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        assert any(line.startswith(step) for line in demo.stdout)
        assert left_over(tmp_path)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (status, "")
    assert not left_over(tmp_path)


UNGUARDED = """
priority=100,arp,in_port=1,actions=output:2
priority=100,arp,in_port=2,actions=output:1
priority=50,ip,in_port=1,actions=output:2
priority=50,ip,in_port=2,actions=output:1
priority=1,ip,actions=drop
"""


@pytest.mark.parametrize(
    ("flows", "failure"),
    [
        (UNGUARDED, "a connection from the server to the client came about"),
        (UNGUARDED.replace("in_port=2,actions=output:1", "in_port=2,actions=drop"), "demo.hosts download"),
        ("priority=1,nonsense,actions=drop", "oko flow add br0 'priority=1,nonsense,actions=drop': "),
    ],
    ids=["nothing-is-refused", "nothing-passes", "no-such-field"],
)
def test_failure_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flows: str, failure: str) -> None:
    (tmp_path / "flows").write_text(flows.strip() + "\n")
    monkeypatch.setattr(story, "FLOWS", tmp_path / "flows")
    with pytest.raises(OkoError) as caught:
        story.tell()
    assert failure in str(caught.value)
    assert "\n" not in str(caught.value)


def test_replays_a_capture_instead(tmp_path: Path) -> None:
    capture = tmp_path / "in.pcap"
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    with CaptureWriter(capture) as writer:
        for time_ns in range(3):
            writer.write(Packet(time_ns, arp, len(arp), 0))
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--pcap", capture], cwd=story.ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert ["3", "126", "priority=100,arp,in_port=1 actions=output:2"] in rows
