"""The client's side of one connection, without I/O: bytes in, answers out, and which ids wait for one (spec section 3).

It never blocks, and reads no clock but the one it is given. It is not thread-safe except where said: one thread at a
time feeds it. A blocking client's call is a `Call`, an asyncio client's a future: here it is only handed back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Generic, TypeVar

from ringbroker.errors import Error, error_of, fresh, told
from ringbuf.errors import Code, RingbrokerError, is_protocol_error
from ringbuf.wire import messages
from ringbuf.wire.framing import FrameReader
from ringbuf.wire.messages import BrokerMessage, Result, decode_broker

HELLO_ID = 0  # the id under which the handshake's call waits; it never travels
FIRST_ID = 2**32  # from here to 2^53 an id is nine bytes in msgpack, so that it can be written into a finished frame

C = TypeVar("C")
A = TypeVar("A", bound=messages.Message)

next_id = count(FIRST_ID).__next__  # atomic; 19 ns. One for all connections: a request that is sent again has a new id


@cache
def own_version() -> str:
    """The version of this client, for the broker's log; `unknown` where it is not installed, as in a checkout."""
    from importlib import metadata  # 26 ms, which `import ringbroker` need not take

    try:
        return metadata.version("ringbroker")
    except metadata.PackageNotFoundError:
        return "unknown"


def hello_frame(name: str, options: messages.HelloOptions) -> bytes:
    """A HELLO, as bytes."""
    who = messages.ClientInfo(name, own_version())
    return messages.encode_frame(messages.Hello(messages.PROTOCOL_MAJOR, messages.PROTOCOL_MINOR, who, options))


class Protocol(Generic[C]):
    """One connection's state.

    `calls` maps every id in flight to its call; setting a key is atomic and may be done by any thread before the
    request is sent. `is_taking` says whether requests may be sent: not after a GOAWAY, nor where sending failed, nor
    after the end. `error` is set, and stays, once the session is over: nothing is returned after it.

    Descriptors of segments that the connection received go to `take_descriptors`, before the bytes that came with
    them; `memory` holds each by the number of its ring, until somebody pops it.
    """

    __slots__ = (
        "_arrived", "_clock", "_frames", "_hello_ns", "calls", "clock_offset_ns", "error", "is_taking", "memory",
        "opening", "welcome",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], int]) -> None:
        self.calls: dict[int, C] = {}
        self.is_taking = True
        self.error: Error | None = None
        self.welcome: messages.Welcome | None = None
        self.clock_offset_ns = 0  # the broker's clock less ours
        self.opening: set[int] = set()  # the OPENs in flight whose RING brings a descriptor
        self.memory: dict[int, int] = {}
        self._arrived: deque[int] = deque()  # descriptors whose RING is still to come
        self._clock = clock
        self._hello_ns = 0
        self._frames = FrameReader()

    def hello(self, call: C, name: str, options: messages.HelloOptions) -> bytes:
        """Begin the handshake; `call` gets the WELCOME or the ERROR. Returns the frame to send."""
        self.calls[HELLO_ID] = call
        self._hello_ns = self._clock()
        return hello_frame(name, options)

    @property
    def room(self) -> int:
        """How many descriptors may come with the next bytes."""
        return len(self.opening) - len(self._arrived)

    def take_descriptors(self, descriptors: Sequence[int]) -> None:
        """Take descriptors in the order of their coming; those that nobody asked for are closed."""
        self._arrived.extend(descriptors)
        self._close_unasked()

    def close_descriptors(self) -> None:
        """Close the descriptors that nobody has fetched; nothing is fed afterwards."""
        self.opening.clear()
        self._close_unasked()
        while self.memory:
            os.close(self.memory.popitem()[1])

    def feed(self, data: bytes) -> list[tuple[C, BrokerMessage]]:
        """Take the next bytes of the stream; return the calls that they answer, in order, each with its answer.

        What ends the session is left in `error`, after the answers that came before it: BAD_ANSWER for what the
        protocol does not allow, or the broker's own error where that ends the session.
        """
        answers: list[tuple[C, BrokerMessage]] = []
        if self.error is not None:
            return answers
        calls = self.calls
        try:
            for payload in self._frames.feed(data):
                message = decode_broker(payload)
                if type(message) is Result and message.last:  # the hot one first; `last` false is reserved
                    answers.append((calls.pop(message.id), message))
                else:
                    self._accept(message, answers)
            if self._frames.error is not None:
                raise self._frames.error
        except KeyError:
            self.error = error_of(Code.BAD_ANSWER, "an answer to a request that is not in flight", "id")
        except RingbrokerError as error:
            self.error = error if isinstance(error, Error) else _bad_answer(error)
        return answers

    def _accept(self, message: BrokerMessage, answers: list[tuple[C, BrokerMessage]]) -> None:
        """Take any other message; raises KeyError for an unknown id, and what ends the session."""
        match message:
            case messages.Error():
                self._accept_error(message, answers)
            case messages.Ring():
                call = self.calls.pop(message.id)
                self._accept_ring(message)
                answers.append((call, message))
            case messages.Models() | messages.Closed():
                answers.append((self.calls.pop(message.id), message))
            case messages.Pong():
                answers.append((self.calls.pop(message.token), message))
            case messages.Welcome():
                answers.append((self.calls.pop(HELLO_ID), message))
                self._begin(message)
            case messages.GoAway():
                self.is_taking = False
            case _:
                raise error_of(Code.BAD_ANSWER, "a RESULT that is not the last of its request", "last")

    def _accept_error(self, message: messages.Error, answers: list[tuple[C, BrokerMessage]]) -> None:
        if self.welcome is None:
            answers.append((self.calls.pop(HELLO_ID), message))
        elif is_protocol_error(message.code):
            # Its id is often nil, and then nobody can say whose fault it was: every call in flight is told.
            raise told(message)
        elif message.id is not None:
            answers.append((self.calls.pop(message.id), message))
            self.opening.discard(message.id)
            self._close_unasked()

    def _accept_ring(self, ring: messages.Ring) -> None:
        if ring.segment.kind == "fd" and self._arrived:
            self.memory[ring.ring] = self._arrived.popleft()
        self.opening.discard(ring.id)
        self._close_unasked()

    def _close_unasked(self) -> None:
        while len(self._arrived) > len(self.opening):
            os.close(self._arrived.pop())

    def _begin(self, welcome: messages.Welcome) -> None:
        if welcome.major != messages.PROTOCOL_MAJOR or welcome.minor > messages.PROTOCOL_MINOR:
            raise error_of(
                Code.BAD_ANSWER, f"a version that HELLO did not offer: {welcome.major}.{welcome.minor}", "major"
            )
        now = self._clock()
        # A broker on our own clock wrote WELCOME between our HELLO and now; one on another clock gets the difference,
        # late by the time that the answer took.
        self.clock_offset_ns = 0 if self._hello_ns <= welcome.clock_ns <= now else welcome.clock_ns - now
        self.welcome = welcome


def expect(answer: object, kind: type[A], refuse: Callable[[str], Error]) -> A:
    """Return an answer of type `kind`; raises what else it says, and what `refuse` makes of another type."""
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, messages.Error):
        raise told(answer)
    if isinstance(answer, Error):
        raise fresh(answer)
    raise refuse(f"{type(answer).__name__} answers what asked for {kind.__name__}")


def _bad_answer(error: RingbrokerError) -> Error:
    return error_of(Code.BAD_ANSWER, f"{Code(error.code).name}: {error.text}", error.path)
