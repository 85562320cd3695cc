"""One connection to a broker on an event loop: what comes in, what goes out, and its end (spec sections 2 to 6).

Sending never waits: what the socket does not take is kept, and sent when it does. The end comes once: `error` is set,
the socket is closed, and every call in flight gets the error as its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import TypeVar

from ringbroker.call import Answer
from ringbroker.connection import DRAIN_LOOK_NS
from ringbroker.errors import BrokerLost, ClientClosed, Error, error_of, fresh
from ringbroker.protocol import Protocol, expect, next_id
from ringbroker.reader import READ_BYTES
from ringbroker.settings import SegmentKind
from ringbuf.errors import Code
from ringbuf.wire import messages

A = TypeVar("A", bound=messages.Message)
Late = Callable[[Answer], None]


class Call:
    """Who waits, and for what came: an answer, or the first of the rows that an acquire waited for.

    `late`, given when the call is abandoned, takes an answer that comes afterwards.
    """

    __slots__ = ("_waiting", "answer", "late")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.late: Late | None = None
        self._waiting: asyncio.Future[None] | None = None

    def deliver(self, answer: Answer) -> None:
        """Give it its answer."""
        self.answer = answer
        if self.late is not None:
            self.late(answer)
        elif self._waiting is not None:
            _wake(self._waiting)

    async def wait(self, deadline_ns: int | None) -> Answer | None:
        """Wait for the answer until `deadline_ns` on the monotonic clock; None where it passed."""
        if self.answer is None:
            loop = asyncio.get_running_loop()
            waiting = self._waiting = loop.create_future()
            timer = None
            if deadline_ns is not None:
                timer = loop.call_later((deadline_ns - monotonic_ns()) / 1e9, _wake, waiting)
            try:
                await waiting
            finally:
                self._waiting = None
                if timer is not None:
                    timer.cancel()
        return self.answer

    def abandon(self, late: Late) -> Answer | None:
        """Give up waiting; returns the answer where it came just before, else `late` will get it."""
        if self.answer is None:
            self.late = late
        return self.answer


class Connection:
    """One connection, shared by the tasks of one event loop.

    `lost` is the code of the requests that it had when it was lost, where the broker told it in the next WELCOME.
    """

    def __init__(self, connected: socket.socket, segments: SegmentKind) -> None:
        """Take over a connected socket; `segments` is the kind that its HELLO will offer."""
        connected.setblocking(False)
        self.protocol: Protocol[Call] = Protocol(monotonic_ns)
        self.error: Error | None = None
        self.lost: int | None = None
        self._segments = segments
        self._socket = connected
        self._unsent = bytearray()
        self._greeting = Call()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connected, self._read)

    def greet(self, name: str, options: messages.HelloOptions) -> None:
        """Send HELLO."""
        self.send(self.protocol.hello(self._greeting, name, options))

    async def welcome(self, deadline_ns: int) -> messages.Welcome:
        """Wait for WELCOME. Raises the broker's error, BrokerLost or BadAnswer; or Timeout, and it may be waited for
        again.
        """
        answer = await self._greeting.wait(deadline_ns)
        if answer is None:
            raise error_of(Code.TIMEOUT, "the broker has not answered HELLO")
        return expect(answer, messages.Welcome, self.refuse)

    async def ask(
        self, request: Callable[[int], messages.Message], kind: type[A], deadline_ns: int | None, late: Late
    ) -> A:
        """Send `request(id)` and wait for its answer of type `kind`; `late` gets one that comes after the deadline.

        Raises the broker's error, Timeout, BrokerLost or BadAnswer.
        """
        call = Call()
        number = next_id()
        if self._segments == "fd" and kind is messages.Ring:
            self.protocol.opening.add(number)
        self.post(request, number, call)
        try:
            await call.wait(deadline_ns)
        finally:
            answer = call.abandon(late)
        if answer is None:
            raise error_of(Code.TIMEOUT, "the broker has not answered in time")
        return expect(answer, kind, self.refuse)

    def post(
        self, request: Callable[[int], messages.Message], number: int | None = None, call: Call | None = None
    ) -> None:
        """Send `request(id)`; its answer goes to `call`, or to nobody."""
        number = next_id() if number is None else number
        self.protocol.calls[number] = call or Call()
        self.send(messages.encode_frame(request(number)))
        if self.error is not None:
            self._tell_all(self.error)

    def send(self, frame: bytes | bytearray) -> bool:
        """Send a frame, or keep what the socket does not take now; False where the broker has not got all of it, and
        never will.
        """
        if self.error is not None:
            return False
        if not self._unsent:
            try:
                sent = self._socket.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.protocol.is_taking = False
                self._loop.call_soon(self._lose_sending, error)
                return False
            if sent == len(frame):
                return True
            frame = frame[sent:]
            self._loop.add_writer(self._socket, self._flush)
        self._unsent += frame
        return True

    def cancel(self, number: int, call: Call, late: Late) -> Answer | None:
        """Give up a request; returns its answer where that came just before, else `late` will get it."""
        answer = call.abandon(late)
        if answer is None:
            self.send(messages.encode_frame(messages.Cancel(number)))
        return answer

    async def drain(self, deadline_ns: int) -> None:
        """After a GOAWAY: wait until every request has its answer, and end. Raises Timeout."""
        while self.protocol.calls and self.error is None:
            if monotonic_ns() >= deadline_ns:
                raise error_of(Code.TIMEOUT, "the broker is being replaced, and has not answered what is in flight")
            await asyncio.sleep(DRAIN_LOOK_NS / 1e9)
        self.lose("the broker sent the session away")

    def refuse(self, text: str, path: str | None = None) -> Error:
        """End the connection over what the broker sent; returns the BadAnswer to raise."""
        error = error_of(Code.BAD_ANSWER, text, path)
        self.end(error)
        return fresh(error)

    def lose(self, text: str = "the broker closed the connection") -> None:
        """The stream has ended."""
        self.end(error_of(Code.BROKER_LOST, text))

    def end(self, error: Error) -> None:
        """Be over because of `error`, or an earlier one; every call in flight is told."""
        if self.error is None:
            self.error = error
            self.protocol.is_taking = False
            if not self._loop.is_closed():
                self._loop.remove_reader(self._socket)
                self._loop.remove_writer(self._socket)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # a forked child may have it too, and close alone says nothing
            self._socket.close()
            self.protocol.close_descriptors()
            self._tell_all(error)

    def _tell_all(self, error: Error) -> None:
        calls = self.protocol.calls
        while calls:
            calls.popitem()[1].deliver(error)
        if not isinstance(error, BrokerLost | ClientClosed):  # it was not about those who come later
            self.error = error_of(Code.BROKER_LOST, f"the connection was closed: {error}")

    def _read(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose()
            return
        for call, answer in self.protocol.feed(data):
            call.deliver(answer)
        if self.protocol.error is not None:
            self.end(self.protocol.error)

    def _receive(self) -> bytes:
        room = self.protocol.room
        if room == 0:
            return self._socket.recv(READ_BYTES)
        data, descriptors, _, _ = socket.recv_fds(self._socket, READ_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        self.protocol.take_descriptors(descriptors)
        return data

    def _flush(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            self._lose_sending(error)
            return
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _lose_sending(self, error: OSError) -> None:
        """Sending failed: the connection is over, after what the broker said about it."""
        if self.error is None:
            self._read()
        if self.error is None:
            self.lose(f"cannot send to the broker: {error}")


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
