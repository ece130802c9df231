"""okod's log on stderr: a line per record, as text or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

from oko.switch.settings import LogSettings

FIELDS: Final = "fields"
"""The attribute of a record with its values for machines: ``log.info(…, extra={FIELDS: {"program": 1}})``."""


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
    handler.setFormatter(JsonFormatter() if settings.format == "json" else logging.Formatter("okod: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
