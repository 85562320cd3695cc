"""Which workers hang, by a clock that is moved."""

import os
from contextlib import contextmanager

import pytest

from broker.config import PoolConfig
from broker.control import channel_pair
from broker.stats import ALIVE_NS, BUSY_SINCE_NS, Stats
from broker.worker_handle import WorkerHandle

SECOND_NS = 10**9
BEGAN_NS = 50 * SECOND_NS


@contextmanager
def serving():
    """A worker that serves, without its process."""
    channel, far = channel_pair()
    worker = WorkerHandle(1, PoolConfig("default"), 0, channel, Stats(), BEGAN_NS)
    worker.is_serving = True
    try:
        yield worker
    finally:
        worker.close()
        os.close(far)


@pytest.mark.parametrize(("limit_s", "silent_s"), [(1, 3), (5, 5), (60, 10)])
def test_an_idle_worker_may_be_silent_for_3_to_10_s(limit_s, silent_s):
    with serving() as worker:
        worker.stats.page[ALIVE_NS] = BEGAN_NS
        assert not worker.is_hanging(BEGAN_NS + silent_s * SECOND_NS, limit_s * SECOND_NS)
        assert worker.is_hanging(BEGAN_NS + silent_s * SECOND_NS + 1, limit_s * SECOND_NS)


@pytest.mark.parametrize("limit_s", [1, 60])
def test_a_busy_worker_may_be_silent_for_as_long_as_a_batch_may_take(limit_s):
    with serving() as worker:
        worker.stats.page[BUSY_SINCE_NS] = BEGAN_NS
        assert not worker.is_hanging(BEGAN_NS + limit_s * SECOND_NS, limit_s * SECOND_NS)
        assert worker.is_hanging(BEGAN_NS + limit_s * SECOND_NS + 1, limit_s * SECOND_NS)
