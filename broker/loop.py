"""The event loop: sockets, and the sans-IO peers behind them. The only place that reads from and writes to connections.

A peer takes bytes (`receive`) and has bytes to send (`out`). The loop reads whatever is there, sends what it can, and
never blocks on a client: one that does not read is first read no more, and then closed (spec section 10).

After traffic the loop spins for a while on the connection that was last heard, by receives that do not block, before it
sleeps in epoll: a receive that finds its data is one system call where epoll needs two, and a sleep costs 60 us more.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT
from typing import Protocol

log = logging.getLogger("broker.loop")

MAX_UNSENT_BYTES = 2**20  # spec section 10
SEND_TIMEOUT_NS = 10 * 10**9
TICK_NS = 10**9
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LAST_RECEIVES = 16  # a socket's buffer has 200 KiB at most, where nobody has asked for more
_RECEIVES_PER_SPIN = 16  # 0.7 us each, so that other sockets are looked at every 12 us


class Peer(Protocol):
    """What the loop needs of a session, a handshake, an admin connection."""

    connection: Connection
    out: bytearray
    ended: bool
    has_more: bool
    """Whether `receive` wants to be called again, without bytes, before more is read."""
    patience_ns: int | None
    """How long it may stay this peer, from the connection's start; None for ever."""
    descriptors: list[int]
    """File descriptors to be sent with the next bytes, and then closed."""

    @property
    def receive_bytes(self) -> int:
        """The most bytes to read at once."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take bytes."""

    def expire(self) -> None:
        """Its patience is over: end."""

    def closed(self) -> None:
        """The connection is gone."""


class Connection:
    """One socket and its peer; the peer may be replaced by another (a handshake by its session)."""

    __slots__ = ("events", "fd", "opened_ns", "peer", "receive", "send", "sock", "stalled_ns")

    def __init__(self, sock: socket.socket, peer: Peer, now_ns: int) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.receive = sock.recv  # bound once: a lookup less on every request
        self.send = sock.send
        self.opened_ns = now_ns
        self.stalled_ns: int | None = None
        self.events = EPOLLIN
        self.become(peer)

    def become(self, peer: Peer) -> None:
        """Give the socket to another peer."""
        self.peer = peer
        peer.connection = self


class Loop:
    """Waits for sockets, and moves bytes."""

    def __init__(self, spin_ns: int, clock_ns: Callable[[], int]) -> None:
        self.connections: dict[int, Connection] = {}
        self.on_tick: list[Callable[[int], None]] = []
        """Called about once a second with the time."""
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._clock_ns = clock_ns
        self._epoll = select.epoll()
        self._behind: dict[Connection, None] = {}  # whose peers have more, in order
        self._hot: Connection | None = None
        self._next_tick_ns = 0
        self._paused: list[int] = []  # listeners that found no descriptor, until the next tick
        self._spin_ns = spin_ns

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is readable."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Watch `fd` no more; call it before `fd` is closed."""
        del self._callbacks[fd]
        if fd in self._paused:
            self._paused.remove(fd)
        else:
            self._epoll.unregister(fd)

    def accept(self, listener: socket.socket, take: Callable[[socket.socket], object]) -> None:
        """Call `take` with every connection that comes in."""
        self.watch(listener.fileno(), lambda: self._accept_all(listener, take))

    def add(self, sock: socket.socket, peer: Peer) -> Connection:
        """Take a connected socket over."""
        sock.setblocking(False)
        connection = Connection(sock, peer, self._clock_ns())
        self.connections[connection.fd] = connection
        self._epoll.register(connection.fd, connection.events)
        return connection

    def poll(self, until_ns: int | None) -> None:
        """Receive everything that is there; where there is nothing, wait for it until `until_ns` (0: do not wait), or
        with None until a second has passed.
        """
        events = self._epoll.poll(0)
        if self._behind:
            self._catch_up()
        elif not events and until_ns != 0:
            if self._spin(until_ns):
                return
            events = self._wait(until_ns)
        now_ns = self._clock_ns()
        for fd, mask in events:
            connection = self.connections.get(fd)
            if connection is not None:
                self._serve(connection, mask, now_ns)
            elif fd in self._callbacks:
                self._callbacks[fd]()
        if now_ns >= self._next_tick_ns:
            self._tick(now_ns)

    def flush(self, connection: Connection) -> None:
        """Send what the connection's peer has to send, as far as the socket takes it."""
        peer = connection.peer
        out = peer.out
        if out:
            try:
                sent = _send_with(connection.sock, out, peer.descriptors) if peer.descriptors else connection.send(out)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._hear_out(connection)
                return
            if sent == len(out):
                out.clear()
                connection.stalled_ns = None
            elif sent:
                del out[:sent]
                connection.stalled_ns = self._clock_ns()
            elif connection.stalled_ns is None:
                connection.stalled_ns = self._clock_ns()
        if peer.ended and not out:
            self.close(connection)
        elif connection.stalled_ns is not None or connection.events != EPOLLIN or peer.has_more:
            self._adjust(connection)

    def _hear_out(self, connection: Connection) -> None:
        """The client does not listen: take what it said before, such as a CLOSE that crossed our GOAWAY, and close.

        Not for ever, because it may go on saying something; nor where it was refused, or has broken the protocol.
        """
        peer = connection.peer
        with contextlib.suppress(OSError):
            for _ in range(_LAST_RECEIVES):
                if peer.ended or not ((data := connection.receive(peer.receive_bytes)) or peer.has_more):
                    break
                peer.receive(data, self._clock_ns())
        self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close the connection and tell its peer."""
        if self.connections.get(connection.fd) is not connection:
            return
        self.release(connection).close()
        connection.peer.closed()
        connection.peer.out.clear()  # may be a megabyte, and the two hold each other until garbage is collected

    def release(self, connection: Connection) -> socket.socket:
        """Let go of a connection without closing it; its socket is the caller's."""
        del self.connections[connection.fd]
        if self._hot is connection:
            self._hot = None
        self._epoll.unregister(connection.fd)
        return connection.sock

    def close_all(self) -> None:
        """Close every connection, then the loop."""
        for connection in list(self.connections.values()):
            self.close(connection)
        self._epoll.close()

    def _accept_all(self, listener: socket.socket, take: Callable[[socket.socket], object]) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # the client was gone before it was accepted
                log.error("no descriptor left to accept a connection", extra={"error": error.strerror})
                self._epoll.unregister(listener.fileno())  # it stays readable, and would keep the loop busy
                self._paused.append(listener.fileno())
                return
            take(sock)

    def _wait(self, until_ns: int | None) -> list[tuple[int, int]]:
        if until_ns is not None:
            left_ns = until_ns - self._clock_ns()
            if left_ns < TICK_NS:  # epoll counts in milliseconds, select in microseconds
                select.select([self._epoll], [], [], max(left_ns, 0) / 1e9)
                return self._epoll.poll(0)
        return self._epoll.poll(TICK_NS / 1e9)

    def _spin(self, until_ns: int | None) -> bool:
        """Receive from the hot connection until the spin is over or another socket is ready; True if something was
        served.
        """
        hot = self._hot
        if hot is None or hot.events != EPOLLIN:
            return False
        receive, clock_ns = hot.receive, self._clock_ns
        end_ns = clock_ns() + self._spin_ns
        if until_ns is not None:
            end_ns = min(end_ns, until_ns)
        while True:
            for _ in range(_RECEIVES_PER_SPIN):
                try:
                    data = receive(hot.peer.receive_bytes)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                self._take(hot, data, clock_ns())
                return True
            os.sched_yield()  # where the client shares our CPU, this lets it run; else it costs 0.3 us of an idle spin
            if self._epoll.poll(0):
                return False
            if clock_ns() >= end_ns:
                self._hot = None
                return False

    def _serve(self, connection: Connection, mask: int, now_ns: int) -> None:
        if mask & EPOLLOUT:
            self.flush(connection)
        if not mask & ~EPOLLOUT or connection.fd not in self.connections:
            return
        if not connection.events & EPOLLIN:
            if mask & (select.EPOLLHUP | select.EPOLLERR):  # gone while we waited for it to read
                self.close(connection)
            return
        try:
            data = connection.receive(connection.peer.receive_bytes)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._take(connection, data, now_ns)

    def _take(self, connection: Connection, data: bytes, now_ns: int) -> None:
        if not data:
            self.close(connection)
            return
        if self._spin_ns:
            self._hot = connection
        self._give(connection, data, now_ns)

    def _give(self, connection: Connection, data: bytes, now_ns: int) -> None:
        try:
            connection.peer.receive(data, now_ns)
        except Exception:
            log.exception("a bug: an error that no client should be able to cause; its connection is closed")
            self.close(connection)
            return
        peer = connection.peer  # a handshake may have become a session
        if peer.out or peer.ended or connection.events != EPOLLIN or peer.has_more:
            self.flush(connection)

    def _catch_up(self) -> None:
        """Let every peer that has more go on for a while."""
        behind, self._behind = self._behind, {}
        for connection in behind:
            if connection.fd in self.connections:
                self._give(connection, b"", self._clock_ns())

    def _adjust(self, connection: Connection) -> None:
        """Ask epoll for what the connection now waits for."""
        peer = connection.peer
        is_full = len(peer.out) > MAX_UNSENT_BYTES
        events = 0 if peer.ended or is_full or peer.has_more else EPOLLIN
        if peer.has_more and not is_full:
            self._behind[connection] = None
        if peer.out:
            events |= EPOLLOUT
        if events != connection.events:
            connection.events = events
            self._epoll.modify(connection.fd, events)

    def _tick(self, now_ns: int) -> None:
        self._next_tick_ns = now_ns + TICK_NS
        while self._paused:
            self._epoll.register(self._paused.pop(), EPOLLIN)
        for connection in list(self.connections.values()):
            stalled_ns = connection.stalled_ns
            if stalled_ns is not None and now_ns - stalled_ns > SEND_TIMEOUT_NS:
                log.warning("client does not read, closing", extra={"unsent_bytes": len(connection.peer.out)})
                self.close(connection)
                continue
            peer = connection.peer
            if peer.patience_ns is not None and now_ns - connection.opened_ns > peer.patience_ns and not peer.ended:
                peer.expire()
                self.flush(connection)
        for callback in self.on_tick:
            callback(now_ns)


def _send_with(sock: socket.socket, out: bytearray, descriptors: list[int]) -> int:
    """Send bytes with descriptors; these go with the first byte, so they are done with if any byte was sent."""
    sent = socket.send_fds(sock, [out], descriptors)
    for fd in descriptors:
        os.close(fd)
    descriptors.clear()
    return sent
