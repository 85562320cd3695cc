"""A worker process, from its fork to its end: its models bound, its loop, its sessions (DESIGN section 7)."""

from __future__ import annotations

import mmap
import os
import time

from broker.batcher import Batcher
from broker.catalog import Catalog
from broker.config import PoolConfig, ServeConfig
from broker.control import Channel, Fork
from broker.intake import Intake
from broker.loop import Loop
from broker.session import SessionContext
from broker.stats import Stats
from broker.worker import Worker
from ringbuf.wire.framing import MAX_PAYLOAD_BYTES
from ringbuf.wire.messages import Limits

now_ns = time.monotonic_ns


def work(config: ServeConfig, pool: PoolConfig, catalog: Catalog, fork: Fork, channel: Channel, page_fd: int) -> None:
    """Serve what comes through `channel` until all is done; `page_fd` is the page of counters.

    Raises `RingbrokerError` where a model cannot be bound.
    """
    stats = Stats(memory=memoryview(mmap.mmap(page_fd, os.fstat(page_fd).st_size)))
    os.close(page_fd)
    ours = [model.bound(pool.threads or 1) if model.name in pool.models else model for model in catalog.models()]
    bound = Catalog(ours, catalog.pools)
    loop = Loop(config.spin_ns(), now_ns)
    batcher = Batcher()
    worker = Worker(loop, batcher, stats, now_ns)
    intake = Intake(channel, loop, now_ns)
    limits = Limits(MAX_PAYLOAD_BYTES, config.largest_ring_bytes, config.max_slots, config.max_rings)
    context = SessionContext(
        bound, batcher, stats, limits, config.default_slots, intake, pool.name, fork.index, fork.workers
    )
    os.register_at_fork(after_in_child=lambda: _let_go(channel, loop))
    intake.begin(context, worker.stop)
    worker.run()
    loop.close_all()


def _let_go(channel: Channel, loop: Loop) -> None:
    """In a process that a model forks: or nobody would see our end while it lives."""
    channel.close()
    for connection in loop.connections.values():
        connection.sock.close()
