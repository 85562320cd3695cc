"""A link keeps one session connected, as `ringbroker.link` does, for the tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic_ns
from typing import TypeAlias, TypeVar

from ringbroker.aio.connection import Call, Connection
from ringbroker.call import Answer, deadline_after
from ringbroker.dial import Tries, dial
from ringbroker.errors import AttachFailed, BrokerLost, Error, Timeout, error_of, fresh
from ringbroker.facts import Listing, OpenRequest
from ringbroker.link import ASKS, MAX_PAGES
from ringbroker.parting import part
from ringbroker.ring import Ring
from ringbroker.rings import Rings
from ringbroker.segments import attach_ring, decline
from ringbroker.session import Session
from ringbroker.settings import Settings
from ringbuf.errors import Code
from ringbuf.wire import messages

A = TypeVar("A", bound=messages.Message)


class Link:
    """One session, over one connection after another; `connection` is the last one, which may have ended."""

    connection: Connection

    def __init__(self, settings: Settings, pool: str | None) -> None:
        """A link to `pool`, or to any; `begin` connects it."""
        self.session = Session(settings, pool)
        self._settings = settings
        self._connecting = asyncio.Lock()
        self._greeting: Connection | None = None  # a connection whose WELCOME has not come yet
        self._ended: Error | None = None

    async def begin(self, deadline_ns: int) -> None:
        """Connect; raises as `connect`, and has ended then."""
        try:
            self.connection, welcome = await self._greet(deadline_ns, is_patient=True)
        except BaseException:
            self.close(error_of(Code.CLIENT_CLOSED, "it could not connect"))
            raise
        self.session.welcome(welcome)

    async def connect(self, deadline_ns: int, *, is_patient: bool = True) -> Connection:
        """Return a connection that takes requests: the one that there is, or a new one that takes the session up.

        Tries until `deadline_ns`, also while no broker is there; unless `is_patient` is false: a session does not
        outlive its broker. Raises BrokerLost, Timeout, ClientClosed, or what the broker answers to HELLO.
        """
        if not self.connection.protocol.is_taking:
            async with held(self._connecting, deadline_ns):
                self._check_open()
                if not self.connection.protocol.is_taking:
                    await self._renew(deadline_ns, is_patient)
        return self.connection

    def patience(self, deadline_ns: int | None) -> int:
        """Until when to try to connect: the call's own deadline, or the client's timeout from now."""
        return deadline_after(self._settings.timeout) if deadline_ns is None else deadline_ns

    async def ask(
        self,
        request: Callable[[int], messages.Message],
        kind: type[A],
        deadline_ns: int,
        late: Callable[[Connection, Answer], None] = lambda connection, answer: None,
    ) -> tuple[Connection, A]:
        """Ask what may be asked again where the connection is lost; returns the answer and where it came from."""
        lost: Error | None = None
        for _ in range(ASKS):
            connection = await self.connect(deadline_ns)
            try:
                return connection, await connection.ask(request, kind, deadline_ns, partial(late, connection))
            except BrokerLost as error:
                lost = error
        assert lost is not None
        raise lost

    async def list_models(self, deadline_ns: int) -> Listing[Connection]:
        """All pages of LIST, and the connection that the last of them came from."""
        models: list[messages.Model] = []
        page = 0
        for _ in range(MAX_PAGES):
            connection, answer = await self.ask(partial(messages.List, page=page), messages.Models, deadline_ns)
            models += answer.models
            if answer.next_page is None:
                return Listing(connection, models)
            if answer.next_page <= page:
                break
            page = answer.next_page
        raise connection.refuse("the pages of LIST have no end", "next_page")

    async def open_ring(
        self, request: OpenRequest, listing: Listing[Connection], rings: RingsOf, deadline_ns: int
    ) -> RingOf:
        """Open one more of `rings`, and map it. Its model is what the connection that gives it lists, so `listing` is
        asked for again where it is another's.

        Raises the broker's error, AttachFailed, Timeout, BrokerLost or BadAnswer.
        """
        for _ in range(ASKS):
            if listing.connection is not self.connection:
                listing = await self.list_models(deadline_ns)
            connection, info = await self.ask(request.message, messages.Ring, deadline_ns, _drop)
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

    def _check_open(self) -> None:
        if self._ended is not None:
            raise fresh(self._ended)

    async def _renew(self, deadline_ns: int, is_patient: bool) -> None:
        former = self.connection
        await former.drain(deadline_ns)
        connection, welcome = await self._greet(deadline_ns, is_patient)
        former.lost = welcome.options.lost
        closed = self.session.welcome(welcome)
        self.connection = connection
        for number in closed:
            connection.post(partial(messages.Close, ring=number))

    async def _greet(self, deadline_ns: int, is_patient: bool) -> tuple[Connection, messages.Welcome]:
        tries = Tries(self._settings.path, self.session, deadline_ns, is_patient)
        while True:
            self._check_open()
            try:
                return await self._greet_once(deadline_ns)
            except (OSError, Error) as error:
                pause_s = tries.pause_after(error)
            await asyncio.sleep(pause_s)

    async def _greet_once(self, deadline_ns: int) -> tuple[Connection, messages.Welcome]:
        """Make a connection, or go on waiting for the WELCOME of one: its session would be lost with it."""
        connection = self._greeting
        if connection is None:
            connection = self._greeting = Connection(dial(self._settings.path), self._settings.segments)
            connection.greet(self._settings.name, self.session.hello())
        try:
            welcome = await connection.welcome(deadline_ns)
        except Timeout:
            raise
        except Error as error:
            self._greeting = None
            connection.end(error)
            raise
        self._greeting = None
        return connection, welcome


@asynccontextmanager
async def held(lock: asyncio.Lock, deadline_ns: int) -> AsyncIterator[None]:
    """Hold a lock of connecting or opening; raises Timeout where another task holds it until `deadline_ns`."""
    try:
        async with asyncio.timeout((deadline_ns - monotonic_ns()) / 1e9):
            await lock.acquire()
    except TimeoutError:
        raise error_of(Code.TIMEOUT, "another task is still connecting") from None
    try:
        yield
    finally:
        lock.release()


def _drop(connection: Connection, answer: Answer) -> None:
    """A RING that came after the deadline: the broker need not keep it."""
    if isinstance(answer, messages.Ring):
        decline(connection, answer.ring)


RingOf: TypeAlias = Ring[Link]
RingsOf: TypeAlias = Rings[Link, Call]
