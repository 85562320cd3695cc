"""Reach the broker: a try to connect, and how often and when (spec section 2)."""

from __future__ import annotations

import random
import socket
import time

from ringbroker.errors import Error, ResumeRefused, error_of
from ringbroker.session import Session
from ringbuf.errors import Code

# A broker that starts has no socket yet (no such file), a dead one's socket refuses, and one with a full backlog says
# EAGAIN.
STARTING = (FileNotFoundError, ConnectionRefusedError, BlockingIOError)

FIRST_PAUSE_S = 0.001  # a broker between two generations is back within milliseconds
LAST_PAUSE_S = 0.1  # ten tries a second cost nothing, and nobody waits longer than this for a broker that is there


class Tries:
    """The tries to connect a session: which failures are worth another one, and the pauses between them."""

    def __init__(self, path: str, session: Session, deadline_ns: int, is_patient: bool) -> None:
        """Until `deadline_ns`, also while no broker is there; unless `is_patient` is false."""
        self._path = path
        self._session = session
        self._deadline_ns = deadline_ns
        self._is_patient = is_patient
        self._pause_s = FIRST_PAUSE_S

    def pause_after(self, error: OSError | Error) -> float:
        """The seconds to sleep before the next try, where `error` ended the last one; raises what the caller is told
        where there is none.
        """
        if isinstance(error, ResumeRefused):
            self._session.forget()
            return 0.0
        if isinstance(error, Error):
            is_worth_it, problem = self._session.may_try_again(error), error
        else:
            is_there = isinstance(error, BlockingIOError)  # with a full backlog
            is_worth_it = isinstance(error, STARTING) and (self._is_patient or is_there)
            problem = error_of(Code.BROKER_LOST, f"no broker at {self._path}: {error.strerror or error}")
        left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
        if not is_worth_it or left_s <= 0:
            raise problem from (None if problem is error else error)
        return min(left_s, self._next_s())

    def _next_s(self) -> float:
        """Each pause is twice the last, less up to half by chance, so that clients do not come in step."""
        pause_s = self._pause_s * random.uniform(0.5, 1)
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
