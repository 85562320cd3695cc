"""Logs: a line for each event, with its level and its fields, as text or as JSON, on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "event": ..., fields}`: one line, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        head = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        return json.dumps(head | {"event": record.getMessage()} | _fields(record), default=str)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL event key=value ...`; a traceback follows on lines of its own, which are indented."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        traceback = str(fields.pop("traceback", ""))
        said = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{said}"
        return "\n".join([line, *(f"    {_printable(each)}" for each in traceback.splitlines())])


def configure(log_format: str) -> None:
    """Send every log line of this process to stderr as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("torch").setLevel(logging.WARNING)  # as it does itself, but not before it is imported


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD and value is not None}
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
