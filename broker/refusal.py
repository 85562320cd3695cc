"""Refusing: an error as its ERROR frame, counted."""

from __future__ import annotations

from broker.stats import Stats
from ringbuf.errors import RingbrokerError
from ringbuf.wire import messages
from ringbuf.wire.messages import NO_ERROR_EXTRA, ErrorExtra, append_frame

_TEXT_CHARS = 4096  # messages.json: the longest text of an ERROR


def append_error(out: bytearray, stats: Stats, request_id: int | None, error: RingbrokerError) -> None:
    """Append the ERROR for `error` to `out`; `request_id` is None where it belongs to no request."""
    stats.count_error(error.code)
    text = error.text if len(error.text) <= _TEXT_CHARS else error.text[: _TEXT_CHARS - 3] + "..."
    extra = NO_ERROR_EXTRA if error.needed_bytes is None else ErrorExtra(error.needed_bytes)
    append_frame(out, messages.Error(request_id, error.code, text, error.path, error.retry_after_ms, extra))
