"""One connection to a broker: its socket, what goes out, and its end. Reading is the `Reader`'s (spec sections 2 to 6).

Sending never blocks: what the socket does not take is kept in `unsent`, and whoever reads sends it when it can. So a
broker that waits for us to read before it reads itself is always read.

The end comes once: `error` is set, the socket is shut down, and every call in flight gets the error as its answer. The
descriptors are closed by the last thread that uses them, so that none reads from a descriptor of somebody else.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from threading import Lock
from time import monotonic_ns
from typing import TypeVar

from ringbroker.call import Answer, Call
from ringbroker.errors import BrokerLost, ClientClosed, Error, error_of, fresh
from ringbroker.protocol import Protocol, expect, next_id
from ringbroker.reader import Reader
from ringbroker.settings import SegmentKind
from ringbuf.errors import Code
from ringbuf.wire import messages

A = TypeVar("A", bound=messages.Message)


DRAIN_LOOK_NS = 10**6  # how often a thread that waits for others' answers looks whether they have them


class Connection:
    """One connection, shared by any number of threads.

    `lost` is the code of the requests that it had when it was lost, where the broker told it in the next WELCOME.
    """

    __slots__ = (
        "_greeting", "_reader", "_receiving", "_send", "_send_error", "_sending", "_socket", "_watchers",
        "error", "lost", "protocol", "receive", "unsent", "wait",
    )  # fmt: skip

    def __init__(self, connected: socket.socket, spin_ns: int, segments: SegmentKind = "path") -> None:
        """Take over a connected socket; `segments` is the kind that its HELLO will offer."""
        connected.setblocking(False)
        self.protocol: Protocol[Call] = Protocol(monotonic_ns)
        self.error: Error | None = None
        self.lost: int | None = None
        self.unsent = bytearray()
        self._socket = connected
        self._send = connected.send
        self._send_error: OSError | None = None
        self._sending = Lock()  # held for one non-blocking send
        self._watchers: set[Call] = set()
        self._greeting = Call()
        self._reader = Reader(self, connected.fileno(), spin_ns)
        self._receiving: Lock | None = None if segments == "path" else Lock()
        self.receive = connected.recv if segments == "path" else self._receive_with_descriptors
        self.wait = self._reader.wait

    def greet(self, name: str, options: messages.HelloOptions) -> None:
        """Send HELLO."""
        self.send(self.protocol.hello(self._greeting, name, options))

    def welcome(self, deadline_ns: int) -> messages.Welcome:
        """Wait for WELCOME. Raises the broker's error, BrokerLost or BadAnswer, and the connection is over then; or
        Timeout, and it may be waited for again.
        """
        try:
            answer = self.wait(self._greeting, deadline_ns)
            if answer is not None:
                return self.expect(answer, messages.Welcome)
        except BaseException as error:
            self.end(error if isinstance(error, Error) else _lost("the handshake was interrupted"))
            raise
        raise error_of(Code.TIMEOUT, "the broker has not answered HELLO")

    def ask(
        self,
        request: Callable[[int], messages.Message],
        kind: type[A],
        deadline_ns: int | None,
        late: Callable[[Answer], None] | None = None,
    ) -> A:
        """Send `request(id)` and wait for its answer of type `kind`; `late` gets one that comes after the deadline.

        Raises the broker's error, Timeout, BrokerLost or BadAnswer.
        """
        call = Call()
        number = next_id()
        self.protocol.calls[number] = call
        if self._receiving is not None and kind is messages.Ring:
            with self._receiving:
                self.protocol.opening.add(number)
        self.send(messages.encode_frame(request(number)))
        try:
            answer = self.wait(call, deadline_ns)
        except BaseException:
            self._reader.abandon(call, late)
            raise
        if answer is None:
            answer = self._reader.abandon(call, late)
        if answer is None:
            raise error_of(Code.TIMEOUT, "the broker has not answered in time")
        return self.expect(answer, kind)

    def post(self, request: Callable[[int], messages.Message]) -> None:
        """Send `request(id)`; nobody waits for its answer."""
        call = Call()
        call.is_abandoned = True
        number = next_id()
        self.protocol.calls[number] = call
        self.send(messages.encode_frame(request(number)))

    def expect(self, answer: Answer, kind: type[A]) -> A:
        """Return an answer of type `kind`; raises what else it says, and BadAnswer for another type."""
        return expect(answer, kind, self.refuse)

    def refuse(self, text: str, path: str | None = None) -> Error:
        """End the connection over what the broker sent; returns the BadAnswer to raise."""
        error = error_of(Code.BAD_ANSWER, text, path)
        self.end(error)
        return fresh(error)

    def send(self, frame: bytes | bytearray) -> bool:
        """Send a frame, or keep what the socket does not take now; False where the broker has not got all of it, and
        never will.

        It raises nothing: whoever reads next finds that sending failed, after what the broker said about it.
        """
        with self._sending:
            if not self.unsent:
                try:
                    sent = self._send(frame)
                    if sent == len(frame):
                        return True
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    self._send_error = error
                    self.protocol.is_taking = False
                    return False
                except BaseException:  # a signal handler's: how much of the frame was sent is not known any more
                    self._send_error = InterruptedError("a signal handler raised while a request was being sent")
                    raise
                frame = frame[sent:]
            self.unsent += frame
        self._reader.rouse()
        return True

    def flush(self) -> None:
        """Send what can be sent of what was kept."""
        with self._sending:
            try:
                while self.unsent:
                    del self.unsent[: self._send(self.unsent)]
            except BlockingIOError:
                pass
            except OSError as error:
                self._send_error = error
                self.unsent.clear()

    def check_sending(self) -> None:
        """End the connection if a send has failed; called when everything that was there has been read."""
        if self._send_error is not None:
            self.end(_lost(f"cannot send to the broker: {self._send_error}"))

    def cancel(self, number: int, call: Call, late: Callable[[Answer], None] | None) -> Answer | None:
        """Give up a request; returns its answer where that came just before, else `late` will get it."""
        answer = self._reader.abandon(call, late)
        if answer is None:
            self.send(messages.encode_frame(messages.Cancel(number)))
        return answer

    def look(self) -> None:
        """Read what has come for calls that nobody waits for."""
        self._reader.look()

    def watch(self, call: Call, deadline_ns: int | None) -> None:
        """Wait until another thread, or the late answer of an abandoned call, has delivered something to `call`, or
        the connection has ended, or the time is up. No spinning.
        """
        self._watchers.add(call)
        try:
            if self.error is None:
                self.wait(call, deadline_ns, False)
        finally:
            self._watchers.discard(call)

    def drain(self, deadline_ns: int) -> None:
        """After a GOAWAY: wait until every request has its answer, and end. Raises Timeout."""
        while self.protocol.calls and self.error is None:
            now = monotonic_ns()
            if now >= deadline_ns:
                raise error_of(Code.TIMEOUT, "the broker is being replaced, and has not answered what is in flight")
            self.wait(Call(), min(deadline_ns, now + DRAIN_LOOK_NS), False)
        self.lose("the broker sent the session away")
        self.close_descriptors()  # where a signal handler interrupted that

    def deliver(self, call: Call, answer: Answer) -> None:
        """Give a call that is being watched what it waits for."""
        self._reader.deliver(call, answer)

    def take(self, answers: list[tuple[Call, messages.BrokerMessage]]) -> None:
        """Deliver what was read, and end where the session ended with it."""
        for call, answer in answers:
            self._reader.deliver(call, answer)
        if self.protocol.error is not None:
            self.end(self.protocol.error)

    def lose(self, text: str = "the broker closed the connection") -> None:
        """The stream has ended."""
        self.end(_lost(text))

    def end(self, error: Error) -> None:
        """Be over because of `error`, or an earlier one; every call in flight is told. May be called again."""
        with self._sending:
            told = error if self.error is None else _told_afterwards(self.error)
            self.protocol.is_taking = False
            if self.error is None:
                self.error = error
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes a reader in poll
        calls = self.protocol.calls
        while calls:
            with contextlib.suppress(KeyError):  # another thread ended it too
                self._reader.deliver(calls.popitem()[1], told)
        for call in list(self._watchers):
            self._reader.wake(call)
        self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close the socket once nobody reads from it."""
        self._reader.close(self._close_socket)

    def _receive_with_descriptors(self, size: int) -> bytes:
        """Receive bytes, and the descriptors of segments where some are due."""
        assert self._receiving is not None
        with self._receiving:  # so that no OPEN is sent between the look at `room` and the receive
            room = self.protocol.room
            if room == 0:
                return self._socket.recv(size)
            data, descriptors, _, _ = socket.recv_fds(self._socket, size, room, socket.MSG_CMSG_CLOEXEC)
            self.protocol.take_descriptors(descriptors)
            return data

    def _close_socket(self) -> None:
        with self._sending:
            self._socket.close()
        self.protocol.close_descriptors()


def _told_afterwards(ended: Error) -> Error:
    """What a call is told that comes to a connection after its end: whatever ended it was not about this call."""
    return ended if isinstance(ended, BrokerLost | ClientClosed) else _lost(f"the connection was closed: {ended}")


def _lost(text: str) -> Error:
    return error_of(Code.BROKER_LOST, text)
