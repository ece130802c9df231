from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import datetime

import pytest

from oko.daemon.logs import set_up
from oko.daemon.settings import LogSettings
from oko.openflow.audit import FIELDS

log = logging.getLogger("oko")


@pytest.fixture
def restored() -> Iterator[None]:
    """The root logger as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def logged(settings: LogSettings) -> list[str]:
    """What a process with these settings logs of four records."""
    with redirect_stderr(io.StringIO()) as stderr:
        set_up(settings)
        log.debug("a detail")
        log.info("port %d: ä", 1, extra={FIELDS: {"port": 1}})
        log.warning("a warning")
        try:
            raise ZeroDivisionError("nothing")
        except ZeroDivisionError:
            log.exception("a fault")
    return stderr.getvalue().splitlines()


@pytest.mark.usefixtures("restored")
def test_text() -> None:
    assert logged(LogSettings())[:3] == ["okod: port 1: ä", "okod: a warning", "okod: a fault"]
    assert logged(LogSettings(level="debug"))[0] == "okod: a detail"
    assert logged(LogSettings(level="error"))[0] == "okod: a fault"


@pytest.mark.usefixtures("restored")
def test_json() -> None:
    first, second, fault = (json.loads(line) for line in logged(LogSettings(format="json")))
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {"level": "info", "message": "port 1: ä", "port": 1}
    assert (second["level"], second["message"]) == ("warning", "a warning")
    assert fault["level"] == "error"
    assert fault["exception"].endswith("ZeroDivisionError: nothing")


@pytest.mark.usefixtures("restored")
def test_a_name_makes_no_line_and_no_colour() -> None:
    with redirect_stderr(io.StringIO()) as stderr:
        set_up(LogSettings())
        log.info("load: name %s", "a\nokod: forged\r\x1b[31m\u2028\x85ä")
        try:
            raise ValueError("a name\nokod: forged")
        except ValueError:
            log.exception("a fault")
    lines = stderr.getvalue().split("\n")
    assert lines[0] == r"okod: load: name a\nokod: forged\r\x1b[31m\u2028\x85ä"
    assert [line for line in lines if line and not line.startswith("    ")] == [lines[0], "okod: a fault"]
