"""A session, without I/O: what outlives its connections, and how the next one takes it up (spec section 9)."""

from __future__ import annotations

from typing import Any

from ringbroker import arguments
from ringbroker.errors import BrokerLost, Error, error_of
from ringbroker.ring import Ring
from ringbroker.settings import Settings
from ringbuf.errors import Code
from ringbuf.wire import messages

REPOSTS = 2  # how often a request is sent again: one that ends its worker shall not end many


class Session:
    """The rings and the resume token of one session, and of the one that follows it where the broker has it no more.

    `pool` is the one that the broker told. Whoever calls it sees to it that one thread at a time does.
    """

    __slots__ = ("_asked_pool", "_segments", "_token", "pool", "rings")

    def __init__(self, settings: Settings, pool: str | None) -> None:
        """`pool`: the one to ask for; None for any. Raises TypeError, ValueError for what is no name."""
        pool = None if pool is None else arguments.name("pool", pool)
        self.rings: dict[int, Ring[Any]] = {}
        self.pool = pool
        self._asked_pool = pool
        self._segments = (settings.segments,)
        self._token: str | None = None

    @property
    def is_resumable(self) -> bool:
        """Whether there is a token for the next HELLO."""
        return self._token is not None

    def hello(self) -> messages.HelloOptions:
        """The options of the next HELLO: with the token, where there is one."""
        pool = None if self.is_resumable else self._asked_pool
        return messages.HelloOptions(self._segments, pool, self._token)

    def welcome(self, welcome: messages.Welcome) -> list[int]:
        """Go on as WELCOME tells: rings that are not as they were have ended afterwards.

        Returns the rings that the broker still has, and that were closed here: they are to be closed again.
        """
        told = dict(welcome.options.rings or ())
        for number, ring in list(self.rings.items()):
            code = told.get(number, Code.BROKER_LOST)
            if code != 0:
                del self.rings[number]
                ring.end(_ended(code))
        self._token = welcome.resume_token
        self.pool = welcome.options.pool or self._asked_pool
        return [number for number, code in told.items() if code == 0 and number not in self.rings]

    def may_try_again(self, error: Error) -> bool:
        """Whether a HELLO that ended in `error` may go better later: a broker that restarts, or that is full now."""
        return isinstance(error, BrokerLost) or (self.is_resumable and error.is_retryable)

    def forget(self) -> None:
        """The broker refused the token: every ring is lost, and the next HELLO begins anew."""
        self.end(_ended(Code.BROKER_LOST))

    def end(self, error: Error) -> None:
        """End every ring; the session is not resumed."""
        self._token = None
        while self.rings:
            self.rings.popitem()[1].end(error)


def _ended(code: int) -> Error:
    if code == Code.BROKER_LOST:
        return error_of(code, "the broker no longer has the lease's ring; acquire a new lease")
    if code == Code.SIGNATURE_CHANGED:
        return error_of(code, "the model has another signature now, or is gone; acquire a new lease")
    return error_of(code, "the broker no longer serves the lease's ring; acquire a new lease")
