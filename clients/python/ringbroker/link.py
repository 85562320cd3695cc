"""A link keeps one session connected: it dials, shakes hands, and takes the session up again where its connection was
lost or sent away (spec sections 4, 6, 9).

Nothing of it runs by itself: the thread that needs the connection makes it, and others wait for that thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic_ns
from typing import TypeAlias, TypeVar

from ringbroker.call import Answer, Call, deadline_after
from ringbroker.connection import Connection
from ringbroker.dial import Tries, dial
from ringbroker.errors import AttachFailed, BrokerLost, Error, Timeout, error_of, fresh
from ringbroker.facts import Listing, OpenRequest
from ringbroker.parting import part
from ringbroker.ring import Ring
from ringbroker.rings import Rings
from ringbroker.segments import attach_ring, decline
from ringbroker.session import Session
from ringbroker.settings import Settings
from ringbuf.errors import Code
from ringbuf.wire import messages

A = TypeVar("A", bound=messages.Message)
MAX_PAGES = 4096  # where a listing is taken for one without end (spec section 5)
ASKS = 3  # how often something is asked that changes nothing, or is undone by the loss of the connection


class Link:
    """One session, over one connection after another. Safe to share between threads.

    `connection` is the last one; it may have ended.
    """

    def __init__(self, settings: Settings, pool: str | None, deadline_ns: int) -> None:
        """Connect to a worker of `pool`, or of any; raises as `connect`."""
        self.session = Session(settings, pool)
        self._settings = settings
        self._connecting = threading.Lock()
        self._greeting: Connection | None = None  # a connection whose WELCOME has not come yet
        self._ended: Error | None = None
        try:
            self.connection, welcome = self._greet(deadline_ns, is_patient=True)
        except BaseException as error:
            self.close(error if isinstance(error, Error) else error_of(Code.CLIENT_CLOSED, "interrupted"))
            raise
        self.session.welcome(welcome)

    def connect(self, deadline_ns: int, *, is_patient: bool = True) -> Connection:
        """Return a connection that takes requests: the one that there is, or a new one that takes the session up.

        Tries until `deadline_ns`, also while no broker is there; unless `is_patient` is false: a session does not
        outlive its broker. Raises BrokerLost, Timeout, ClientClosed, or what the broker answers to HELLO.
        """
        connection = self.connection
        if connection.protocol.is_taking:
            return connection
        with self._while_nobody_connects(deadline_ns):
            if not self.connection.protocol.is_taking:
                self._renew(deadline_ns, is_patient)
            return self.connection

    def patience(self, deadline_ns: int | None) -> int:
        """Until when to try to connect: the call's own deadline, or the client's timeout from now."""
        return deadline_after(self._settings.timeout) if deadline_ns is None else deadline_ns

    def ask(
        self,
        request: Callable[[int], messages.Message],
        kind: type[A],
        deadline_ns: int,
        late: Callable[[Connection, Answer], None] = lambda connection, answer: None,
    ) -> tuple[Connection, A]:
        """Ask what may be asked again where the connection is lost; returns the answer and where it came from."""
        lost: Error | None = None
        for _ in range(ASKS):
            connection = self.connect(deadline_ns)
            try:
                return connection, connection.ask(request, kind, deadline_ns, partial(late, connection))
            except BrokerLost as error:
                lost = error
        assert lost is not None
        raise lost

    def list_models(self, deadline_ns: int) -> Listing[Connection]:
        """All pages of LIST, and the connection that the last of them came from."""
        models: list[messages.Model] = []
        page = 0
        for _ in range(MAX_PAGES):
            connection, answer = self.ask(partial(messages.List, page=page), messages.Models, deadline_ns)
            models += answer.models
            if answer.next_page is None:
                return Listing(connection, models)
            if answer.next_page <= page:
                break
            page = answer.next_page
        raise connection.refuse("the pages of LIST have no end", "next_page")

    def open_ring(self, request: OpenRequest, listing: Listing[Connection], rings: RingsOf, deadline_ns: int) -> RingOf:
        """Open one more of `rings`, and map it. Its model is what the connection that gives it lists, so `listing` is
        asked for again where it is another's.

        Raises the broker's error, AttachFailed, Timeout, BrokerLost or BadAnswer.
        """
        for _ in range(ASKS):
            if listing.connection is not self.connection:
                listing = self.list_models(deadline_ns)
            connection, info = self.ask(request.message, messages.Ring, deadline_ns, _drop)
            if connection is not listing.connection:  # where the model may have another signature
                decline(connection, info.ring)
                continue
            signature = request.find(listing.models)[1]
            try:
                buffer = attach_ring(connection, info, signature, self._settings.segments)
            except AttachFailed:
                if connection.error is None:
                    raise
                continue  # the descriptor went with the connection
            with self._while_nobody_connects(deadline_ns):
                if connection is self.connection and connection.error is None:
                    ring: RingOf = Ring(self, info, buffer, signature, rings)
                    self.session.rings[info.ring] = ring
                    connection.send(messages.encode_frame(messages.Attached(info.ring, 0)))
                    return ring
        raise error_of(Code.BROKER_LOST, "the broker was lost while the ring was being opened")

    def close_ring(self, ring: RingOf, error: Error) -> None:
        """End a ring, and tell the broker without waiting for its answer."""
        ring.end(error)
        number = ring.info.ring
        if self.session.rings.get(number) is ring:
            del self.session.rings[number]
            if self.connection.error is None:
                self.connection.post(partial(messages.Close, ring=number))

    def close(self, error: Error) -> None:
        """Be over because of `error`; every call is told, and the broker frees what it has of the session."""
        self._ended = error
        part(self.session, self._settings, getattr(self, "connection", None), self._greeting, error)

    @contextmanager
    def _while_nobody_connects(self, deadline_ns: int) -> Iterator[None]:
        if not self._connecting.acquire(timeout=max(0.0, (deadline_ns - monotonic_ns()) / 1e9)):
            raise error_of(Code.TIMEOUT, "another thread is still connecting")
        try:
            self._check_open()
            yield
        finally:
            self._connecting.release()

    def _check_open(self) -> None:
        if self._ended is not None:
            raise fresh(self._ended)

    def _renew(self, deadline_ns: int, is_patient: bool) -> None:
        former = self.connection
        former.drain(deadline_ns)
        connection, welcome = self._greet(deadline_ns, is_patient)
        former.lost = welcome.options.lost
        closed = self.session.welcome(welcome)
        self.connection = connection
        if self._ended is not None:  # `close` has ended `former` instead
            self.session.end(self._ended)
            connection.end(self._ended)
            raise fresh(self._ended)
        for number in closed:
            connection.post(partial(messages.Close, ring=number))

    def _greet(self, deadline_ns: int, is_patient: bool) -> tuple[Connection, messages.Welcome]:
        tries = Tries(self._settings.path, self.session, deadline_ns, is_patient)
        while True:
            self._check_open()
            try:
                return self._greet_once(deadline_ns)
            except (OSError, Error) as error:
                pause_s = tries.pause_after(error)
            time.sleep(pause_s)

    def _greet_once(self, deadline_ns: int) -> tuple[Connection, messages.Welcome]:
        """Make a connection, or go on waiting for the WELCOME of one: its session would be lost with it."""
        connection = self._greeting
        try:
            if connection is None:
                settings = self._settings
                connection = Connection(dial(settings.path), settings.spin_ns, settings.segments)
                connection.greet(settings.name, self.session.hello())
                self._greeting = connection
                self._check_open()  # `close` says so before it looks at `_greeting`
            welcome = connection.welcome(deadline_ns)
        except Timeout:
            raise
        except BaseException as error:
            self._greeting = None
            if connection is not None:
                connection.end(error if isinstance(error, Error) else error_of(Code.BROKER_LOST, "interrupted"))
            raise
        self._greeting = None
        return connection, welcome


def _drop(connection: Connection, answer: Answer) -> None:
    """A RING that came after the deadline: the broker need not keep it."""
    if isinstance(answer, messages.Ring):
        decline(connection, answer.ring)


RingOf: TypeAlias = Ring[Link]
RingsOf: TypeAlias = Rings[Link, Call]
