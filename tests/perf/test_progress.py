from __future__ import annotations

import time

import pytest

from perf.progress import Progress


def test_it_tells_no_more_often_than_the_interval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    run = Progress()
    for now, line in ((1000.0, "at once"), (1060.0, "after a minute"), (1060.5, "later"), (1120.0, "soon again")):
        clock.append(now)
        run.tell(line)
    assert capsys.readouterr().err == "later\n"
    assert run.seconds == 120.0
