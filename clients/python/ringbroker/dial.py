"""Reach the broker: a try to connect, and waiting for one that is still starting (spec section 2)."""

from __future__ import annotations

import contextlib
import random
import socket
import time

from ringbroker.errors import Error, error_of
from ringbuf.errors import Code

# A broker that starts has no socket yet (no such file), a dead one's socket refuses, and one with a full backlog says
# EAGAIN.
STARTING = (FileNotFoundError, ConnectionRefusedError, BlockingIOError)

FIRST_PAUSE_S = 0.001  # a broker between two generations is back within milliseconds
LAST_PAUSE_S = 0.1  # ten tries a second cost nothing, and nobody waits longer than this for a broker that is there


class Backoff:
    """Pauses between tries: each twice the last, less up to half by chance, so that clients do not come in step."""

    def __init__(self, deadline_ns: int) -> None:
        self._deadline_ns = deadline_ns
        self._pause_s = FIRST_PAUSE_S

    def next_s(self) -> float | None:
        """The seconds to sleep before the next try; None where the deadline has passed."""
        left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            return None
        pause_s = min(left_s, self._pause_s * random.uniform(0.5, 1))
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        return pause_s


def dial(path: str) -> socket.socket:
    """Try once to connect; raises OSError (one of `STARTING` where a later try may succeed)."""
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Non-blocking, because a blocking connect to a full backlog waits without end; on a Unix socket it is instant.
        connecting.setblocking(False)
        connecting.connect(path)
    except BaseException:
        connecting.close()
        raise
    return connecting


def farewell(path: str, hello: bytes) -> None:
    """Take a session up, by its HELLO, and let go of it: the broker need not keep it for a resume any more.

    Nothing is waited for, and a broker that is not there keeps nothing.
    """
    with contextlib.suppress(OSError), dial(path) as connected:
        connected.send(hello)


def unreachable(path: str, error: OSError) -> Error:
    """What to raise where no try succeeded."""
    return error_of(Code.BROKER_LOST, f"no broker at {path}: {error.strerror or error}")
