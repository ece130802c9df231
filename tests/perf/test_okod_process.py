"""What the soak reads in the log of its okod."""

from __future__ import annotations

from pathlib import Path

import pytest

from oko.errors import OkoError
from perf.okod_process import OkodProcess

FINE = '{"time": "now", "level": "warning", "message": "peer: refused: TLS"}'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param(FINE, False, id="a warning"),
        pytest.param('{"level": "error", "message": "no"}', True, id="an error"),
        pytest.param('{"level": "warning", "message": "no", "exception": "Traceback"}', True, id="with a traceback"),
        pytest.param("Traceback (most recent call last):", True, id="what is no record"),
    ],
)
def test_errors(tmp_path: Path, line: str, told: bool) -> None:
    okod = OkodProcess("other", tmp_path, (), ("refused",))
    log = tmp_path / "other.log"
    log.write_text(f"{FINE}\n{line}\n{line[:5]}")
    assert okod.errors() == [line] * told
    assert okod.said == {"refused": 1 + ("refused" in line)}
    with log.open("a") as more:
        more.write(f"{line[5:]}\n")
    assert okod.errors() == [line] * told
    assert okod.errors() == []


def test_an_okod_that_does_not_run(tmp_path: Path) -> None:
    okod = OkodProcess("other", tmp_path, ())
    (tmp_path / "other.log").write_text("the end\n")
    with pytest.raises(OkoError, match="okod of bridge other has ended by itself: the end of its log:\nthe end"):
        assert okod.pid
    assert okod.stop() == 0
    okod.kill()
    okod.remove()
