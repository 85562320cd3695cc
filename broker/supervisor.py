"""The supervisor: accepts connections, hands them to workers, and keeps what must outlive a worker (DESIGN section 7).

It owns the listening socket, the admin socket, the memory of all rings, and the children. It loads no model and no
torch, so it is up in milliseconds and stays up whatever a model does; it never looks into a segment, and a connection
that it has handed on is no longer its own.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker import admin, health, lifeline, listener
from broker.admin import AdminPeer
from broker.config import ServeConfig
from broker.control import Attached, Ended, Freed, Made, NotMade, Packet, Serving, Take, Want
from broker.generation import Generation, Worker
from broker.handshake import Handshake
from broker.health import HttpPeer
from broker.loop import Loop
from broker.memory import MemoryMaker
from broker.notify import Notifier
from broker.roster import Roster, SessionRecord
from broker.settings import check_reload
from broker.stats import Stats
from broker.status import status_of
from ringbuf.errors import Code, RingbrokerError, name_of
from ringbuf.segment import SegmentStore
from ringbuf.wire.messages import Hello

if TYPE_CHECKING:
    from broker.watch import Watch

log = logging.getLogger("broker.supervisor")

now_ns = time.monotonic_ns

_TICK_NS = 10**8
_REPLACE_NS = 5 * 10**9


def serve(
    config: ServeConfig,
    on_ready: Callable[[Generation], None],
    read_config: Callable[[], ServeConfig] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` is called when the first generation serves, and `read_config` for
    every reload.

    Raises `RingbrokerError`, when it cannot start: a code that spec/errors.json marks `load`, or one of /dev/shm.
    """
    with listener.lock(config.socket_path):
        segments = SegmentStore(config.socket_path)
        if swept := segments.sweep():
            log.info("removed segments that a dead broker left", extra={"segments": swept})
        segments.probe()
        supervisor = Supervisor(config, segments, on_ready, read_config or (lambda: config))
        supervisor.heed_signals()
        supervisor.run()


class Supervisor:
    """The sockets, the sessions, and the generations."""

    def __init__(
        self,
        config: ServeConfig,
        segments: SegmentStore,
        on_ready: Callable[[Generation], None],
        read_config: Callable[[], ServeConfig],
    ) -> None:
        self.config = config
        self.began_ns = now_ns()
        self.stats = Stats()
        self.roster = Roster(int(config.resume_grace_s * 1e9))
        self.current: Generation | None = None
        """The one that new sessions go to."""
        self.others: list[Generation] = []
        """Those that were sent away, and the one that loads."""
        self.is_draining = False
        self.parked: list[tuple[SessionRecord, socket.socket]] = []
        """Connections that wait for a worker, or for the end of the session that they resume."""
        self._on_ready = on_ready
        self._read_config = read_config
        self.last_reload: dict[str, Any] | None = None
        self._generations = 0
        self._is_reload_due = False
        self._askers: list[AdminPeer] = []  # of the generation that loads
        self._next_askers: list[AdminPeer] = []
        self._replace_ns = 0
        self._failure: RingbrokerError | None = None
        self._end_ns: int | None = None
        self._signals: deque[int] = deque()
        self._lifeline, self._lifeline_end = lifeline.make()
        lifeline.adopt_orphans()
        self._loop = Loop(0, now_ns)
        self._maker = MemoryMaker(segments.create)
        self._loop.watch(self._maker.wake, self._memory_made)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.watch(self._wake, self._heed)
        self._notifier = Notifier.from_environment()
        self._listeners: dict[str, socket.socket] = {}
        self._made: set[str] = set()  # those of them whose paths are ours to remove
        self._watch = self._start_watch()
        self._listen()
        self._begin(config)

    def run(self) -> None:
        """Serve until a signal ends it; raises `RingbrokerError` where the first generation cannot serve."""
        try:
            while self._end_ns is None or now_ns() < self._end_ns:
                self._loop.poll(now_ns() + _TICK_NS)
                self._tick(now_ns())
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure
        log.info("stopped")

    # --- connections ---

    def _listen(self) -> None:
        path, port = self.config.socket_path, self.config.health_port
        given = listener.inherited((path, path + admin.SUFFIX))
        commands: admin.Commands = {
            "health": lambda _: {"why_not_ready": health.why_not_ready(self)},
            "reload": self._asked_to_reload,
            "status": lambda _: status_of(self, now_ns()),
        }
        try:
            asked = self._open(path + admin.SUFFIX, given)
            self._loop.accept(asked, lambda sock: self._loop.add(sock, AdminPeer(commands)))
            served = self._open(path, given)
            self._acceptor = listener.Acceptor(served, self._loop, self.stats, self._is_full, self._greet)
            if port is not None:
                probed = self._listeners["http"] = listener.listen_loopback(port)
                self._loop.accept(probed, self._take_probe)
        except RingbrokerError:
            for name in list(self._listeners):
                self._close_listener(name)
            raise

    def _open(self, path: str, given: dict[str, socket.socket]) -> socket.socket:
        """The listening socket that was given to us, or one that is made."""
        if path in given:
            self._listeners[path] = given[path]
        else:
            self._listeners[path] = listener.listen(path)
            self._made.add(path)
        return self._listeners[path]

    def _take_probe(self, sock: socket.socket) -> None:
        if sum(isinstance(each.peer, HttpPeer) for each in self._loop.connections.values()) < health.MAX_PROBES:
            self._loop.add(sock, HttpPeer(lambda: health.why_not_ready(self)))
        else:
            sock.close()

    def _is_full(self) -> str | None:
        held = self.roster.served + len(self.parked) + self._acceptor.waiting
        most = self.config.max_connections
        return f"{most} connections are the most" if held >= most else None

    def _greet(self, handshake: Handshake, hello: Hello) -> None:
        """A HELLO was read: find the session, and somebody who serves it. Raises `RingbrokerError` for the client."""
        session = self.roster.greet(hello, [pool.name for pool in self.config.all_pools()])
        if any(session is waiting for waiting, _ in self.parked):
            raise RingbrokerError(Code.RESUME_REFUSED, "it is being resumed already", "options.resume")
        session.forget_ns = None
        self.parked.append((session, self._loop.release(handshake.connection)))
        self._place()

    def _place(self) -> None:
        """Give every connection that can be served now to a worker."""
        parked, self.parked = self.parked, []
        for session, sock in parked:
            worker = self._least_loaded(session.pool)
            if session.number not in self.roster.sessions:
                self._refuse(sock, RingbrokerError(Code.RESUME_REFUSED, "its session was closed", "options.resume"))
            elif session.worker is not None or worker is None:
                self.parked.append((session, sock))
            else:
                self._hand_over(session, sock, worker)

    def _hand_over(self, session: SessionRecord, sock: socket.socket, worker: Worker) -> None:
        is_resumed, lost = session.token != "", session.lost
        self.roster.assign(session, worker)
        kept = list(session.rings.values())
        records = tuple(ring.record for ring in kept)
        take = Take(session.number, session.token, session.hello, is_resumed, records, lost)
        worker.channel.send(take, [sock.fileno(), *(ring.memory.fd for ring in kept)])
        sock.close()

    def _least_loaded(self, pool: str) -> Worker | None:
        workers = self.current.workers if self.current else []
        able = [worker for worker in workers if worker.pool.name == pool and worker.is_serving]
        return min(able, key=lambda worker: sum(1 for _ in self.roster.served_by(worker)), default=None)

    def _refuse(self, sock: socket.socket, error: RingbrokerError) -> None:
        handshake = Handshake(self.stats, self._greet)
        connection = self._loop.add(sock, handshake)
        handshake.fail(error)
        self._loop.flush(connection)

    # --- what workers say, and memory ---

    def packet(self, worker: Worker, packet: Packet) -> None:
        """See `generation.Events`."""
        match packet:
            case Serving():
                self._place()
            case Want():
                self._maker.want(packet, worker)
            case Attached(session, ring):
                self.roster.attached(session, ring)
            case Freed(session, ring):
                self.roster.freed(session, ring)
            case Ended(session, is_resumable):
                self.roster.ended(session, now_ns(), is_resumable=is_resumable)
                self._place()

    def _memory_made(self) -> None:
        for want, asker, outcome in self._maker.done():
            assert isinstance(asker, Worker)
            ring = want.ring
            if isinstance(outcome, RingbrokerError):
                asker.channel.send(NotMade(want.session, ring.number, outcome.code, outcome.text))
            elif self.roster.keep(want.session, asker, ring, outcome):
                asker.channel.send(Made(want.session, ring.number, outcome.path), [outcome.fd])

    # --- generations ---

    def reload(self) -> None:
        """Load what the config says now, beside what serves; it takes over when it is ready.

        Raises `RingbrokerError` for a config that cannot be read.
        """
        config = self._read_config()
        check_reload(self.config, config)
        if self._watch is not None:
            self._watch.follow(config)
        self._begin(config)

    def _start_watch(self) -> Watch | None:
        if not self.config.watch:
            return None
        from broker.watch import Watch  # its package is not needed elsewhere

        try:
            watch = Watch(self.config)
        except OSError as error:  # such as too many of them
            text = f"files cannot be watched: {error.strerror}"
            raise RingbrokerError(Code.CONFIG_INVALID, text, "server.watch") from error
        self._loop.watch(watch.fileno(), lambda: watch.heed(now_ns()))
        return watch

    def ready(self, generation: Generation) -> None:
        """See `generation.Events`."""
        self.others.remove(generation)
        former, self.current = self.current, generation
        self.config = generation.config
        self.roster.grace_ns = int(self.config.resume_grace_s * 1e9)
        log.info("a generation serves", extra={"generation": generation.number, "models": len(generation.loaded)})
        if former is None:
            self._on_ready(generation)
            self._notifier.ready(f"serving on {self.config.socket_path}")
            self._reload_if_due()
        else:
            self.others.append(former)
            former.retire("reload", int(self.config.drain_grace_s * 1000))
            self._reloaded({"generation": generation.number})
        self._place()

    def failed(self, generation: Generation, error: RingbrokerError) -> None:
        """See `generation.Events`."""
        self.others.remove(generation)
        if self.current is None:
            self._failure, self._end_ns = error, 0
            self._notifier.stopping(str(error))
        else:
            self._reload_failed(error)

    def worker_lost(self, worker: Worker) -> None:
        """See `generation.Events`."""
        for session in self.roster.served_by(worker):
            self.roster.ended(session.number, now_ns(), is_resumable=True, lost=worker.ended_for)
        self._place()

    def generations(self) -> list[Generation]:
        """All that there are."""
        return [*self.others, self.current] if self.current else list(self.others)

    def _begin(self, config: ServeConfig) -> None:
        self._generations += 1
        self.others.append(Generation(self._generations, config, self._loop, self, self._lifeline, now_ns))

    @property
    def is_loading(self) -> bool:
        """Whether a generation is on its way."""
        return any(not generation.is_retiring for generation in self.others)

    def _reload_asked(self, by: str, peer: AdminPeer | None = None) -> None:
        """Reload, or, where a generation is loading, once more after it; `peer` is told what came of it."""
        log.info("a reload is asked for", extra={"by": by})
        if peer is not None:
            peer.patience_ns = None
            self._next_askers.append(peer)
        self._is_reload_due = True
        if not self.is_loading:
            self._reload_if_due()

    def _reload_if_due(self) -> None:
        if not self._is_reload_due:
            return
        self._is_reload_due = False
        self._askers, self._next_askers = self._next_askers, []
        self._notifier.reloading("loading the next generation", now_ns())
        try:
            self.reload()
        except RingbrokerError as error:
            self._reload_failed(error)

    def _asked_to_reload(self, peer: AdminPeer) -> None:
        self._reload_asked("command", peer)

    def _reload_failed(self, error: RingbrokerError) -> None:
        log.error(
            "the reload failed, and what served goes on", extra={"code": name_of(error.code), "error": str(error)}
        )
        self._reloaded({"error": str(error), "code": error.code})

    def _reloaded(self, outcome: dict[str, Any]) -> None:
        self.last_reload = {**outcome, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        if not self.is_draining:
            failure = f"; the last reload failed: {outcome['error']}" if "error" in outcome else ""
            self._notifier.ready(f"serving on {self.config.socket_path}{failure}")
        askers, self._askers = self._askers, []
        for peer in askers:
            peer.answer(outcome)
            self._loop.flush(peer.connection)
        self._reload_if_due()

    # --- time, signals and the end ---

    def heed_signals(self) -> None:
        """Let SIGTERM drain, SIGINT and a second SIGTERM end at once, SIGHUP and SIGUSR2 reload."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        os.eventfd_write(self._wake, 1)  # epoll goes back to sleep after a signal; this wakes it

    def _heed(self) -> None:
        os.eventfd_read(self._wake)
        while self._signals:
            number = self._signals.popleft()
            if number in (signal.SIGHUP, signal.SIGUSR2):
                self._reload_asked(signal.Signals(number).name)
            else:
                self._drain(number, is_urgent=number == signal.SIGINT or self.is_draining)

    def _drain(self, number: int, *, is_urgent: bool) -> None:
        """Take no more connections, and end when those that there are have ended, or the grace has."""
        log.info("stopping", extra={"signal": signal.Signals(number).name, "open_sessions": self.roster.served})
        self.is_draining = True
        self._notifier.stopping("stopping: clients finish")
        grace_s = 0.0 if is_urgent or self.current is None else self.config.drain_grace_s
        self._end_ns = now_ns() + int(grace_s * 1e9)
        self._close_listener(self.config.socket_path)

    def _tick(self, now: int) -> None:
        self.roster.expire(now)
        for generation in self.generations():
            generation.tick(now)
        for generation in [generation for generation in self.others if generation.is_over]:
            self.others.remove(generation)
            self.stats.absorb(generation.past)
        if self._watch is not None and self._watch.is_due(now):
            self._reload_asked("the watch")
        if self.is_draining and not self.roster.served and not self.parked:
            self._end_ns = 0
        if self.current and self.current.is_orphaned and not self.is_loading and now >= self._replace_ns:
            log.warning("the loader is gone: its generation is replaced", extra={"generation": self.current.number})
            self._replace_ns = now + _REPLACE_NS
            self._begin(self.current.config)

    def _close_listener(self, path: str) -> None:
        if (sock := self._listeners.pop(path, None)) is not None:
            if path in self._made:
                Path(path).unlink(missing_ok=True)
            self._loop.unwatch(sock.fileno())
            sock.close()

    def _close(self) -> None:
        for path in list(self._listeners):
            self._close_listener(path)
        for generation in self.generations():
            generation.kill()
        self._loop.close_all()
        for _, sock in self.parked:
            sock.close()
        self._maker.close()
        if self._watch is not None:
            self._watch.close()
        self.roster.clear()
        for fd in (self._wake, self._lifeline, self._lifeline_end):
            os.close(fd)
