"""okod's log on stderr: a line per record, as text or as JSON."""

from __future__ import annotations

import json
import logging
import textwrap
from datetime import UTC, datetime
from typing import Any

from oko.daemon.settings import LogSettings
from oko.openflow.audit import FIELDS


class TextFormatter(logging.Formatter):
    """A line per record; lines below it that are indented belong to it. Names of programs and certificates are a
    peer's to choose: what does not print in them is escaped, so that no record looks like another, and no terminal
    obeys."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record without its exception, as a line."""
        said = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in record.message
        )
        return f"okod: {said}"

    def formatException(self, ei: Any) -> str:
        """The traceback, indented."""
        return textwrap.indent(super().formatException(ei), "    ")


class JsonFormatter(logging.Formatter):
    """An object per record: time (RFC 3339, UTC), level, message, with an exception its traceback, and the record's own
    fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def set_up(settings: LogSettings) -> None:
    """Let every record of this process that the settings want go to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
