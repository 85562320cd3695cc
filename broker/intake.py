"""The intake: what a worker gets from its supervisor, connections and memory, and what it reports to it.

The sessions speak to it as their `Keeper`; everything it does, it does on the worker's loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from broker.control import (
    Attached,
    Channel,
    Ended,
    Freed,
    Made,
    NotMade,
    Retire,
    RingRecord,
    Serving,
    Take,
    Want,
    socket_of,
)
from broker.loop import Loop
from broker.session import Session, SessionContext
from broker.stats import SESSIONS
from ringbuf.errors import Code, RingbrokerError


class Intake:
    """A worker's side of its channel."""

    def __init__(self, channel: Channel, loop: Loop, clock_ns: Callable[[], int]) -> None:
        self._channel = channel
        self._loop = loop
        self._clock_ns = clock_ns
        self._sessions: dict[int, Session] = {}
        self._context: SessionContext
        self._retire: Retire | None = None
        self._close_ns = 0
        self._stop: Callable[[], None]

    def begin(self, context: SessionContext, stop: Callable[[], None]) -> None:
        """Take connections; `stop` is called when there is nothing more to do."""
        self._context, self._stop = context, stop
        self._loop.watch(self._channel.fileno(), self._receive)
        self._loop.on_tick.append(self._tick)
        self._channel.send(Serving(os.getpid()))

    # --- Keeper ---

    def want(self, session: int, kind: str, ring: RingRecord) -> None:
        """See `session.Keeper`."""
        self._channel.send(Want(session, kind, ring))

    def attached(self, session: int, ring: int) -> None:
        """See `session.Keeper`."""
        self._channel.send(Attached(session, ring))

    def freed(self, session: int, ring: int) -> None:
        """See `session.Keeper`."""
        self._channel.send(Freed(session, ring))

    def ended(self, session: int, *, is_resumable: bool) -> None:
        """See `session.Keeper`."""
        self._sessions.pop(session, None)
        self._channel.send(Ended(session, is_resumable))
        self._stop_if_done()

    # --- from the supervisor ---

    def _receive(self) -> None:
        for packet, descriptors in self._channel.receive():
            match packet:
                case Take():
                    self._take(packet, descriptors)
                case Made():
                    self._made(packet, descriptors)
                case NotMade():
                    self._not_made(packet)
                case Retire():
                    self._send_away(packet)
        if not self._channel.is_open:  # the supervisor is gone, and the lifeline ends us any moment
            self._stop()

    def _take(self, take: Take, descriptors: list[int]) -> None:
        if len(descriptors) != 1 + len(take.rings):  # we had none left to receive them with
            _close_all(descriptors)
            self.ended(take.session, is_resumable=take.is_resumed)
            return
        sock = socket_of(descriptors[0])
        session = Session(take, descriptors[1:], self._context, self._clock_ns())
        self._sessions[take.session] = session
        self._context.stats.page[SESSIONS] += 1
        self._loop.flush(self._loop.add(sock, session))

    def _made(self, made: Made, descriptors: list[int]) -> None:
        session = self._sessions.get(made.session)
        if session is None:
            _close_all(descriptors)
            return
        if descriptors:
            session.give_memory(made.ring, descriptors[0], made.path)
        else:
            self.freed(made.session, made.ring)
            session.refuse_memory(made.ring, RingbrokerError(Code.SHM_FULL, "no descriptor left for the ring"))
        self._loop.flush(session.connection)

    def _not_made(self, refused: NotMade) -> None:
        session = self._sessions.get(refused.session)
        if session is not None:
            session.refuse_memory(refused.ring, RingbrokerError(refused.code, refused.text))
            self._loop.flush(session.connection)

    def _send_away(self, retire: Retire) -> None:
        self._retire = retire
        self._close_ns = self._clock_ns() + retire.grace_ms * 10**6
        for session in list(self._sessions.values()):
            session.send_away(retire.reason, retire.grace_ms)
            self._loop.flush(session.connection)
        self._stop_if_done()

    def _tick(self, now_ns: int) -> None:
        self._channel.flush()
        if self._retire is not None and now_ns >= self._close_ns:
            for session in list(self._sessions.values()):
                self._loop.close(session.connection)

    def _stop_if_done(self) -> None:
        if self._retire is not None and not self._sessions:
            self._stop()


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
