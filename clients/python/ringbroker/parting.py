"""Ending a session, so that the broker frees its memory now and does not keep it for a resume (spec sections 8, 9)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ringbroker.dial import dial
from ringbroker.errors import Error
from ringbroker.protocol import Protocol as WireProtocol
from ringbroker.protocol import hello_frame
from ringbroker.session import Session
from ringbroker.settings import Settings
from ringbuf.wire import messages


class Connected(Protocol):
    """What is needed of a connection, blocking or asyncio."""

    @property
    def protocol(self) -> WireProtocol[Any]:
        """The connection without its I/O."""

    @property
    def error(self) -> Error | None:
        """Why it has ended, if it has."""

    def post(self, request: Callable[[int], messages.Message]) -> None:
        """Send `request(id)`; nobody waits for its answer."""

    def end(self, error: Error) -> None:
        """Be over."""


def part(
    session: Session, settings: Settings, connection: Connected | None, greeting: Connected | None, error: Error
) -> None:
    """End a session and its connections because of `error`; `greeting` is one whose WELCOME has not come. Nothing is
    waited for.

    The rings are closed first, because a GOAWAY may be on its way, after which the end of the connection would not free
    them. Where no connection takes requests, a last one takes the session up: its end is the session's.
    """
    rings, hello = list(session.rings), session.hello() if session.is_resumable else None
    session.end(error)
    if connection is not None:
        for number in rings if connection.error is None else ():
            connection.post(partial(messages.Close, ring=number))
        if connection.protocol.is_taking:
            hello = None
        connection.end(error)
    if greeting is not None:  # it has said this HELLO
        greeting.end(error)
    elif hello is not None:
        with contextlib.suppress(OSError), dial(settings.path) as last:  # a broker that is not there keeps nothing
            last.send(hello_frame(settings.name, hello))
