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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from broker import admin, descriptors, health, lifeline, listener
from broker.admin import AdminPeer
from broker.config import ServeConfig
from broker.control import Attached, Ended, Freed, Made, NotMade, Packet, Serving, Want
from broker.generation import Generation
from broker.health import HttpPeer
from broker.listener import Acceptor, Listeners
from broker.loop import Loop
from broker.memory import MemoryMaker
from broker.notify import Notifier
from broker.reception import Reception
from broker.reloads import Reloads
from broker.roster import Roster
from broker.settings import check_reload
from broker.stats import Stats
from broker.status import status_of
from broker.worker_handle import WorkerHandle
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import SegmentStore

if TYPE_CHECKING:
    from broker.watch import Watch

log = logging.getLogger("broker.supervisor")

now_ns = time.monotonic_ns

ReadConfig: TypeAlias = Callable[[], tuple[ServeConfig, Sequence[RingbrokerError]]]
"""Gives what the configuration says now, and what is wrong with it."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_TICK_NS = 10**8
_REPLACE_NS = 5 * 10**9


def serve(
    config: ServeConfig,
    on_ready: Callable[[Generation], None],
    read_config: ReadConfig | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` is called when the first generation serves, and `read_config` for
    every reload.

    Raises `RingbrokerError`, when it cannot start: a code that spec/errors.json marks `load`, or one of /dev/shm.
    """
    with listener.lock(config.socket_path):
        descriptors.provide(config)
        segments = SegmentStore(config.socket_path)
        if swept := segments.sweep():
            log.info("removed segments that a dead broker left", extra={"segments": swept})
        segments.probe()
        supervisor = Supervisor(config, segments, on_ready, read_config or (lambda: (config, ())))
        supervisor.heed_signals()
        supervisor.run()


class Supervisor:
    """The sockets, the sessions, and the generations."""

    def __init__(
        self,
        config: ServeConfig,
        segments: SegmentStore,
        on_ready: Callable[[Generation], None],
        read_config: ReadConfig,
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
        self._on_ready = on_ready
        self._read_config = read_config
        self._generations = 0
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
        self._notifier = Notifier.from_environment(f"serving on {config.socket_path}")
        self.reloads = Reloads(self._load_anew, self._loop, self._notifier, now_ns, time.time)
        self.reception = Reception(self.roster, self._loop, self.stats, self._pools, self._least_loaded)
        self._watch = self._start_watch()
        self._listeners = Listeners(self._loop)
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
        commands: admin.Commands = {
            "health": lambda _: {"why_not_ready": health.why_not_ready(self)},
            "reload": self.reloads.ask_for,
            "status": lambda _: status_of(self, now_ns()),
        }
        try:
            self._listeners.inherit((path, path + admin.SUFFIX))
            asked = self._listeners.open(path + admin.SUFFIX)
            self._loop.accept(asked, lambda sock: self._loop.add(sock, AdminPeer(commands)))
            served = self._listeners.open(path)
            self._acceptor = Acceptor(served, self._loop, self.stats, self._why_full, self.reception.greet)
            if port is not None:
                self._loop.accept(self._listeners.open_loopback(port), self._take_probe)
        except RingbrokerError:
            self._listeners.close_all()
            raise

    def _take_probe(self, sock: socket.socket) -> None:
        held = [each for each in self._loop.connections.values() if isinstance(each.peer, HttpPeer)]
        if len(held) == health.MAX_PROBES:
            self._loop.close(held[0])  # the oldest: a probe asks at once
        self._loop.add(sock, HttpPeer(lambda: health.why_not_ready(self)))

    def _why_full(self) -> str | None:
        held = self.roster.served + self.reception.waiting + self._acceptor.waiting
        most = self.config.max_connections
        return f"{most} connections are the most" if held >= most else None

    def _pools(self) -> list[str]:
        return [pool.name for pool in self.config.all_pools()]

    def _least_loaded(self, pool: str) -> WorkerHandle | None:
        workers = self.current.workers if self.current else []
        able = [worker for worker in workers if worker.pool.name == pool and worker.is_serving]
        return min(able, key=lambda worker: sum(1 for _ in self.roster.served_by(worker)), default=None)

    # --- what workers say, and memory ---

    def packet(self, worker: WorkerHandle, packet: Packet) -> None:
        """See `generation.Events`."""
        match packet:
            case Serving():
                self.reception.place()
            case Want():
                self._maker.want(packet, worker, self.roster.segment_bytes, self.config.max_memory_bytes)
            case Attached(session, ring):
                self.roster.attached(session, ring)
            case Freed(session, ring):
                self.roster.freed(session, ring)
            case Ended(session, is_resumable):
                self.roster.ended(session, now_ns(), is_resumable=is_resumable)
                self.reception.place()

    def _memory_made(self) -> None:
        for want, asker, outcome, _ in self._maker.done():
            assert isinstance(asker, WorkerHandle)
            ring = want.ring
            if isinstance(outcome, RingbrokerError):
                asker.channel.send(NotMade(want.session, ring.number, outcome.code, outcome.text))
            elif self.roster.keep(want.session, asker, ring, outcome):
                asker.channel.send(Made(want.session, ring.number, outcome.path), [outcome.fd])

    # --- generations ---

    def _load_anew(self) -> None:
        """Load what the config says now, beside what serves; it takes over when it is ready.

        Raises `RingbrokerError` for a config that cannot be read.
        """
        config, problems = self._read_config()
        if self._watch is not None:  # also where it is wrong: what it misses may come
            self._watch.follow(self.config, config)
        if problems:
            raise problems[0]
        check_reload(self.config, config)
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
        if self._watch is not None:
            self._watch.follow(self.config)
        if former is None:
            self._on_ready(generation)
            self._notifier.ready()
        else:
            self.others.append(former)
            former.retire("reload", int(self.config.drain_grace_s * 1000))
            self.reloads.succeeded(generation.number)
        self.reception.place()

    def failed(self, generation: Generation, error: RingbrokerError) -> None:
        """See `generation.Events`."""
        self.others.remove(generation)
        if self.current is None:
            self._failure, self._end_ns = error, 0
            self._notifier.stopping(str(error))
        else:
            self.reloads.failed(error)

    def worker_lost(self, worker: WorkerHandle) -> None:
        """See `generation.Events`."""
        for session in self.roster.served_by(worker):
            self.roster.ended(session.number, now_ns(), is_resumable=True, lost=worker.ended_for)
        self.reception.place()

    def generations(self) -> list[Generation]:
        """All that there are."""
        return [*self.others, self.current] if self.current else list(self.others)

    def _begin(self, config: ServeConfig) -> None:
        self._generations += 1
        self.others.append(Generation(self._generations, config, self._loop, self, self._lifeline, now_ns))

    def _load_what_is_due(self, now: int) -> None:
        """A reload that was asked for, or what replaces a generation whose loader is gone."""
        if self.reloads.is_due:
            self.reloads.begin()
        elif self.current and self.current.is_orphaned and now >= self._replace_ns:
            self._replace_ns = now + _REPLACE_NS
            log.warning("the loader is gone: its generation is replaced", extra={"generation": self.current.number})
            try:
                self._begin(self.current.config)
            except RingbrokerError as error:  # no process or descriptor is left; it is tried again
                log.error("no loader can be started", extra={"error": str(error)})

    @property
    def is_loading(self) -> bool:
        """Whether a generation is on its way."""
        return any(not generation.is_retiring for generation in self.others)

    # --- time, signals and the end ---

    def heed_signals(self) -> None:
        """Let SIGTERM drain, SIGINT and a second SIGTERM end at once, SIGHUP and SIGUSR2 reload."""
        for number in _SIGNALS:
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        os.eventfd_write(self._wake, 1)  # epoll goes back to sleep after a signal; this wakes it

    def _heed(self) -> None:
        os.eventfd_read(self._wake)
        while self._signals:
            number = self._signals.popleft()
            if number in (signal.SIGHUP, signal.SIGUSR2):
                self.reloads.ask(signal.Signals(number).name)
            else:
                self._drain(number, is_urgent=number == signal.SIGINT or self.is_draining)

    def _drain(self, number: int, *, is_urgent: bool) -> None:
        """Take no more connections, and end when those that there are have ended, or the grace has."""
        log.info("stopping", extra={"signal": signal.Signals(number).name, "open_sessions": self.roster.served})
        self.is_draining = True
        self._notifier.stopping("stopping: clients finish")
        grace_s = 0.0 if is_urgent or self.current is None else self.config.drain_grace_s
        self._end_ns = now_ns() + int(grace_s * 1e9)
        self._listeners.close(self.config.socket_path)
        for loading in [generation for generation in self.others if not generation.is_retiring]:
            self.others.remove(loading)
            loading.kill()
        self.reloads.stop()

    def _tick(self, now: int) -> None:
        self.roster.expire(now)
        for generation in self.generations():
            generation.tick(now)
        lifeline.reap_strays([generation.loader_pid for generation in self.generations()])
        for generation in [generation for generation in self.others if generation.is_over]:
            self.others.remove(generation)
            self.stats.absorb(generation.past)
        if self._watch is not None and self._watch.is_due(now):
            self.reloads.ask("the watch")
        self.reception.forget_gone(now)
        if self.is_draining and not self.roster.served and not self.reception.waiting:
            self._end_ns = 0
        if not self.is_draining and not self.is_loading:
            self._load_what_is_due(now)

    def _close(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._listeners.close_all()
        for generation in self.generations():
            generation.kill()
        self._loop.close_all()
        self.reception.close()
        self._maker.close()
        if self._watch is not None:
            self._watch.close()
        self.roster.clear()
        for fd in (self._wake, self._lifeline, self._lifeline_end):
            os.close(fd)
