"""`broker serve`: puts the parts together, and takes them apart again. One process for now.

Order matters at the start: the lock first, so that nothing of a live broker is touched; then the models, so that a
broker which listens can answer; then the sockets.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from broker import admin, listener
from broker.admin import AdminPeer
from broker.batcher import Batcher
from broker.catalog import Catalog
from broker.config import ServeConfig
from broker.cpus import usable_cpus
from broker.engine import models
from broker.handshake import Handshake
from broker.loop import Loop
from broker.session import Session, SessionContext
from broker.stats import ModelStats, Stats, model_as_dict
from broker.stop import Stop
from broker.worker import Worker
from ringbuf.errors import RingbrokerError
from ringbuf.segment import SegmentStore
from ringbuf.wire.framing import MAX_PAYLOAD_BYTES
from ringbuf.wire.messages import Hello, Limits

log = logging.getLogger("broker.supervisor")

now_ns = time.monotonic_ns


def serve(config: ServeConfig, stop: Stop, on_ready: Callable[[Catalog], None]) -> None:
    """Serve until a signal stops it; `on_ready` is called when connections are accepted.

    Raises `RingbrokerError`, when it cannot start: a code that spec/errors.json marks `load`, or one of /dev/shm.
    """
    with listener.lock(config.socket_path):
        segments = SegmentStore(config.socket_path)
        if swept := segments.sweep():
            log.info("removed segments that a dead broker left", extra={"segments": swept})
        segments.probe()
        threads = config.threads or usable_cpus()
        catalog = Catalog(models.load(model, threads=threads) for model in config.models)
        if stop.has_interrupted:  # and a model caught that
            return
        broker = Broker(config, catalog, segments, stop)
        broker.run(lambda: on_ready(catalog))


class Broker:
    """The sockets, the sessions and the worker of one process."""

    def __init__(self, config: ServeConfig, catalog: Catalog, segments: SegmentStore, stop: Stop) -> None:
        self._config = config
        self._catalog = catalog
        self._started_ns = now_ns()
        self._session_numbers = itertools.count(1)
        self._stats = Stats(models={name: ModelStats() for name in catalog.models})
        self._loop = Loop(config.spin_ns(), now_ns)
        batcher = Batcher()
        limits = Limits(MAX_PAYLOAD_BYTES, config.max_ring_bytes, config.max_slots, config.max_rings)
        self._context = SessionContext(catalog, batcher, self._stats, limits, config.default_slots, segments.create)
        self._worker = Worker(self._loop, batcher, self._stats, now_ns)
        self._commands = {"status": self._status}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.watch(self._wake, lambda: None)
        stop.act = self._stop  # before there are sockets, so that `run` removes them in any case
        self._admin_listener = listener.listen(config.socket_path + admin.SUFFIX)
        try:
            self._listener = listener.listen(config.socket_path)
        except RingbrokerError:
            self._admin_listener.close()
            Path(config.socket_path + admin.SUFFIX).unlink()
            raise
        self._acceptor = listener.Acceptor(self._listener, self._loop, self._stats, config.max_connections, self._begin)
        self._loop.accept(self._admin_listener, lambda sock: self._loop.add(sock, AdminPeer(self._commands)))

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal stops it, then close every connection and remove the sockets."""
        try:
            on_ready()
            self._worker.run()
        finally:
            for path in (self._config.socket_path, self._config.socket_path + admin.SUFFIX):
                Path(path).unlink(missing_ok=True)
            self._listener.close()
            self._admin_listener.close()
            self._loop.close_all()
            log.info("stopped")

    def _stop(self) -> None:
        self._worker.is_stopping = True
        os.eventfd_write(self._wake, 1)  # epoll goes back to sleep after a signal; this wakes it

    def _begin(self, handshake: Handshake, hello: Hello) -> None:
        """A HELLO was read: from here on the socket is a session's."""
        session = Session(next(self._session_numbers), hello, self._context, now_ns())
        handshake.connection.become(session)
        self._stats.sessions += 1

    def _status(self) -> dict[str, Any]:
        sessions = [c.peer for c in self._loop.connections.values() if isinstance(c.peer, Session)]
        rings = [ring for session in sessions for ring in session.rings.values()]
        served = self._catalog.models
        return {
            "pid": os.getpid(),
            "socket": self._config.socket_path,
            "uptime_s": round((now_ns() - self._started_ns) / 1e9, 1),
            "open_sessions": len(sessions),
            "open_rings": len(rings),
            "segment_bytes": sum(ring.segment.size_bytes for ring in rings),
            "in_flight": sum(len(session.in_flight) for session in sessions),
            **self._stats.as_dict(),
            "models": {
                name: {"version": served[name].version, "source": served[name].config.source}
                | model_as_dict(stats, asdict(served[name].plan.ledger))
                for name, stats in self._stats.models.items()
            },
        }
