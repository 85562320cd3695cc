"""The reader's role: of the threads that wait for answers, one reads for all of them (leader and followers).

A thread that waits and finds no reader becomes it. It spins on non-blocking receives for a while, then sleeps in poll;
it hands every answer to the thread that waits for it, and steps down when its own has come or its time is up: then the
follower that has waited longest is woken and takes the role. So a lone thread pays for no other: its answer comes out
of its own `recv`, and costs one uncontended lock.

Two orders keep a wake-up from being lost. A follower enters the list *before* it tries the role once more, and a
reader gives up the role *before* it looks into the list: one of them sees the other. What a sleeping reader must
notice besides its socket (rows that became free, bytes to send) is set *before* its event is written, and looked at
after it said that it sleeps.
"""

from __future__ import annotations

import math
import os
import select
import threading
from collections.abc import Callable
from os import sched_yield
from queue import Empty, SimpleQueue
from time import monotonic_ns
from typing import TYPE_CHECKING

from ringbroker.call import Answer, Call

if TYPE_CHECKING:
    from ringbroker.connection import Connection

# One read takes what a burst of answers needs (some 40 bytes each); 4 KiB and 64 KiB cost the same to within 30 ns.
READ_BYTES = 65536


class Reader:
    """Who reads a connection, and who waits for it meanwhile."""

    __slots__ = ("_connection", "_event", "_fd", "_followers", "_lock", "_poll", "_role", "_sleeper", "_spin_ns")

    def __init__(self, connection: Connection, fd: int, spin_ns: int) -> None:
        self._event = -1  # until there is one: `__del__` asks
        self._connection = connection
        self._spin_ns = spin_ns
        self._role = threading.RLock()  # held by the thread that reads; it knows its owner, which `wait` may ask
        self._lock = threading.Lock()  # guards the followers, and the answers and flags of calls
        self._followers: dict[Call, None] = {}  # in order of arrival
        self._sleeper: Call | None = None  # the call of a reader that is in poll, or about to be
        self._fd = fd
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._event, select.POLLIN)

    def wait(self, call: Call, deadline_ns: int | None, spin: bool = True) -> Answer | None:
        """Wait for the call's answer until `deadline_ns` on the monotonic clock; None where it passed.

        What is there already is read in any case, so a deadline that has passed makes this a look.
        """
        try:
            if self._role.acquire(False):  # the whole cost of sharing, where nobody shares: 90 ns with its release
                return self._lead(call, deadline_ns, spin)
            return self._follow(call, deadline_ns, spin)
        except BaseException:
            if self._is_reading():  # a signal handler raised before `_lead` began
                self._role.release()
                self._step_down()
            raise

    def look(self) -> None:
        """Read what is there, without waiting, unless another thread is reading anyway."""
        self.wait(Call(), 0, False)

    def deliver(self, call: Call, answer: Answer) -> None:
        """Give a call its answer, and wake whoever waits for it; for an abandoned one, call its `late`."""
        with self._lock:
            call.answer = answer
            self._followers.pop(call, None)
            is_abandoned = call.is_abandoned
        if is_abandoned:
            if call.late is not None:
                call.late(answer)
        elif call.wake is not None:
            call.wake.put(None)
        if self._sleeper is call:
            self.rouse()

    def wake(self, call: Call) -> None:
        """Make the thread that waits for a call look around, though there is no answer."""
        with self._lock:
            if call.wake is not None:
                call.wake.put(None)

    def abandon(self, call: Call, late: Callable[[Answer], None] | None) -> Answer | None:
        """Give up waiting for a call; returns its answer where it came just before, else `late` will get it."""
        with self._lock:
            if call.answer is None:
                call.is_abandoned = True
                call.late = late
            return call.answer

    def rouse(self) -> None:
        """Make a sleeping reader look at what changed besides its socket."""
        with self._lock:  # so that the event is not closed under us
            if self._sleeper is not None and self._event >= 0:
                os.eventfd_write(self._event, 1)

    def close(self, close_socket: Callable[[], None]) -> None:
        """Close the descriptors; but where a thread is reading, it does so itself when it steps down."""
        if self._is_reading():
            return
        try:
            if self._role.acquire(False):
                close_socket()
                self._close_event()
        finally:
            if self._is_reading():
                self._role.release()
            self._wake_follower()

    def _close_event(self) -> None:
        with self._lock:
            event, self._event = self._event, -1
        if event >= 0:
            os.close(event)

    def __del__(self) -> None:  # a socket closes itself, a descriptor that is only a number does not
        self._close_event()

    def _is_reading(self) -> bool:
        """Whether this thread has the role: known even where a signal handler raised just as it got it."""
        return bool(self._role._is_owned())  # type: ignore[attr-defined]

    def _lead(self, call: Call, deadline_ns: int | None, spin: bool) -> Answer | None:
        """Read until the call has its answer or its time is up. The role is held, and given up at the end."""
        connection = self._connection
        receive, feed = connection.receive, connection.protocol.feed
        spin_until_ns = 0
        try:
            while True:
                try:
                    try:
                        data = receive(READ_BYTES)
                    except BlockingIOError:  # 0.7 us; asking poll first would cost every successful read 0.2 us more
                        data = None
                    except OSError:
                        data = b""
                    if data:
                        answers = feed(data)
                        if len(answers) == 1 and answers[0][0] is call and connection.protocol.error is None:
                            return answers[0][1]
                        connection.take(answers)
                    elif data is not None:
                        connection.lose()
                        return call.answer if call.answer is not None else connection.error
                except BaseException:
                    connection.lose("a signal handler raised while answers were being read")  # some may be lost with it
                    raise
                if call.answer is not None:
                    return call.answer
                if data is not None:
                    continue
                sched_yield()  # to a broker that waits for a CPU: 270 us became 155 where its threads took both of 2
                now = monotonic_ns()
                if not spin_until_ns:
                    spin_until_ns = now + self._spin_ns if spin else now
                    if deadline_ns is not None and deadline_ns < spin_until_ns:
                        spin_until_ns = deadline_ns
                if now >= spin_until_ns and not self._sleep(call, now, deadline_ns):
                    return call.answer
        finally:
            self._role.release()
            if self._followers or connection.error is not None:
                self._step_down()

    def _sleep(self, call: Call, now_ns: int, deadline_ns: int | None) -> bool:
        """Sleep until there is something to do; False where the deadline has passed."""
        self._connection.check_sending()
        timeout_ms = None
        if deadline_ns is not None:
            if now_ns >= deadline_ns:
                return False
            timeout_ms = math.ceil((deadline_ns - now_ns) / 1e6)
        self._sleeper = call
        try:
            if call.answer is not None:
                return True
            self._poll.modify(self._fd, select.POLLIN | (select.POLLOUT if self._connection.unsent else 0))
            for fd, flags in self._poll.poll(timeout_ms):
                if fd == self._event:
                    os.eventfd_read(fd)
                elif flags & select.POLLOUT:
                    self._connection.flush()
        finally:
            self._sleeper = None
        return True

    def _follow(self, call: Call, deadline_ns: int | None, spin: bool) -> Answer | None:
        """Wait while another thread reads; take the role when it is free."""
        with self._lock:
            if call.answer is not None:
                return call.answer
            wake = call.wake = SimpleQueue()
            self._followers[call] = None
        try:
            while call.answer is None:
                if self._role.acquire(False):
                    with self._lock:
                        self._followers.pop(call, None)
                    return self._lead(call, deadline_ns, spin)
                timeout_s = None if deadline_ns is None else max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
                try:
                    wake.get(timeout=timeout_s)
                except Empty:
                    break
            return call.answer
        finally:
            with self._lock:
                self._followers.pop(call, None)
                call.wake = None
            # A reader may have stepped down for this thread just as it left.
            if self._followers and self._role.acquire(False):
                self._role.release()
                self._step_down()

    def _step_down(self) -> None:
        """The role is free: wake the follower that takes it, or close what nobody reads any more."""
        if self._connection.error is not None:
            self._connection.close_descriptors()
        else:
            self._wake_follower()

    def _wake_follower(self) -> None:
        with self._lock:
            wake = next((follower.wake for follower in self._followers), None)
        if wake is not None:
            wake.put(None)
