"""The service's log: one record a line on stderr, as text or as JSON, with a time in UTC and a level. No record holds a text that a user sent."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from pathlib import Path

from serve.config import LogConfig
from tell.errors import printable

# The packages whose records are written from the chosen level on; a library's are written from WARNING on.
OURS = ("serve", "eval", "tell", "tellmt")
# What a record may hold beside its message, passed as `extra`: a list, so that nothing else a caller passes reaches the log.
FIELDS = ("pair", "version", "status", "kind")


def where(error: BaseException) -> str:
    """The kind of an unexpected error and the line it comes from; never its message, which may hold a user's text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))


def _message(record: logging.LogRecord) -> str:
    """The message in one line. Of an exception only `where`; of a library's record only the first line, since asyncio's next ones quote exceptions."""
    message = record.getMessage()
    if record.name.partition(".")[0] not in OURS:
        message = message.partition("\n")[0]
    if record.exc_info and record.exc_info[1] is not None:
        message = f"{message.strip()}: {where(record.exc_info[1])}"
    return printable(message.replace("\r", " ").replace("\n", " "))


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z WARNING message`"""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname} {_message(record)}"


class JsonFormatter(logging.Formatter):
    """An object with time, level, logger and message, and those of FIELDS that the record has."""

    def format(self, record: logging.LogRecord) -> str:
        values = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": _message(record)}
        values |= {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name) is not None}
        return json.dumps(values, ensure_ascii=False)


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is now. That nobody reads the log any more, or that its disk is full, is no reason to stop working."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """The inherited one would print the record's arguments."""


def set_up(config: LogConfig) -> None:
    """Send the records of this process to stderr. A second call replaces what the first set."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, StderrHandler)]:
        root.removeHandler(handler)
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    root.addHandler(handler)
    for package in OURS:
        logging.getLogger(package).setLevel(config.level.upper())
