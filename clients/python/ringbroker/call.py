"""A call: one thread's wait for one thing, which another thread may bring it (an answer, or rows that became free)."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from ringbroker.errors import Error
from ringbroker.rings import Grant
from ringbuf.wire import messages

if TYPE_CHECKING:
    from ringbroker.connection import Connection

# Eleven days. A longer timeout is cut to this: poll counts milliseconds in 31 bits, and a deadline on the wire ends at
# 2^53.
LONGEST_S = 10**6

Answer: TypeAlias = messages.BrokerMessage | Error | Grant[Any]  # the last, where an acquire waited for rows


class Call:
    """Who waits, and for what came.

    `answer` is None until there is one; the broker's ERROR is an answer like any other, and an `Error` of our own says
    that the connection ended. `late`, given when the call is abandoned, takes an answer that comes afterwards. Apart
    from the reader that brings its own answer to itself, all of it changes under the reader's lock.
    """

    __slots__ = ("answer", "is_abandoned", "late", "wake", "watched")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.is_abandoned = False
        self.late: Callable[[Answer], None] | None = None
        # Made when a thread must sleep while another one reads. A queue, because wake-ups may come twice.
        self.wake: SimpleQueue[None] | None = None
        self.watched: Connection | None = None  # which one an acquire reads, while it waits for rows


def deadline_after(timeout: float) -> int:
    """The monotonic clock's nanoseconds in `timeout` seconds from now."""
    return monotonic_ns() + int(min(max(timeout, 0.0), LONGEST_S) * 1e9)
