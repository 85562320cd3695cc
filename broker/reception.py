"""The reception: connections between their HELLO and the worker that serves them.

Most are handed on at once. One waits where no worker of its pool serves yet, or where the session that it resumes is
still served; of several that resume the same session the last one counts.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence

from broker.control import Take
from broker.handshake import Handshake
from broker.loop import Loop
from broker.roster import Roster, SessionRecord
from broker.stats import Stats
from broker.worker_handle import WorkerHandle
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Hello


class Reception:
    """Finds a session and a worker for everybody who comes."""

    def __init__(
        self,
        roster: Roster,
        loop: Loop,
        stats: Stats,
        pools: Callable[[], Sequence[str]],
        worker_for: Callable[[str], WorkerHandle | None],
    ) -> None:
        """`pools` names them, the usual one first; `worker_for` gives the best worker of one, if any."""
        self._roster = roster
        self._loop = loop
        self._stats = stats
        self._pools = pools
        self._worker_for = worker_for
        self._waiting: dict[int, tuple[SessionRecord, socket.socket]] = {}  # by the session's number

    @property
    def waiting(self) -> int:
        """How many connections wait."""
        return len(self._waiting)

    def greet(self, handshake: Handshake, hello: Hello) -> None:
        """Take over a connection whose HELLO was read; raises `RingbrokerError` for the client."""
        session = self._roster.greet(hello, self._pools())
        if (former := self._waiting.pop(session.number, None)) is not None:
            former[1].close()
        self._waiting[session.number] = session, self._loop.release(handshake.connection)
        self.place()

    def place(self) -> None:
        """Hand over every connection that can be served now."""
        pools = self._pools()
        for number, (session, sock) in list(self._waiting.items()):
            worker = self._worker_for(session.pool)
            if number not in self._roster.sessions:
                del self._waiting[number]
                self._refuse(sock, RingbrokerError(Code.RESUME_REFUSED, "its session was closed", "options.resume"))
            elif session.pool not in pools:  # a reload went without it
                del self._waiting[number]
                self._refuse(sock, self._roster.dismiss(session))
            elif session.worker is None:
                session.forget_ns = None  # as long as somebody waits for it
                if worker is not None:
                    del self._waiting[number]
                    self._hand_over(session, sock, worker)

    def forget_gone(self, now_ns: int) -> None:
        """Let those go whose clients have gone: it is the end of their session too, as after a WELCOME.

        Who resumes a session that is still served is handed over first, when its former connection has ended.
        """
        if not self._waiting:
            return
        poller = select.poll()
        by_fd = {sock.fileno(): session.number for session, sock in self._waiting.values() if session.worker is None}
        for fd in by_fd:
            poller.register(fd, select.POLLRDHUP)
        for fd, _ in poller.poll(0):
            self._waiting.pop(by_fd[fd])[1].close()
            self._roster.ended(by_fd[fd], now_ns, is_resumable=False)

    def close(self) -> None:
        """Let everybody go."""
        for _, sock in self._waiting.values():
            sock.close()

    def _hand_over(self, session: SessionRecord, sock: socket.socket, worker: WorkerHandle) -> None:
        is_resumed = session.token != ""
        self._roster.assign(session, worker)
        kept = list(session.rings.values())
        records = tuple(ring.record for ring in kept)
        take = Take(session.number, session.token, session.hello, is_resumed, records, session.told)
        worker.channel.send(take, [sock.fileno(), *(ring.memory.fd for ring in kept)])
        sock.close()

    def _refuse(self, sock: socket.socket, error: RingbrokerError) -> None:
        handshake = Handshake(self._stats, self.greet)
        connection = self._loop.add(sock, handshake)
        handshake.fail(error)
        self._loop.flush(connection)
