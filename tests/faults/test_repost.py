"""Requests that are lost with their worker, with `repost` and without: what is run again, how often, and what never."""

import asyncio
import threading

import numpy as np
import pytest
import ringbroker
from ringbroker import aio

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.conftest import models
from tests.faults.load import Load
from tests.faults.signals import kill
from tests.faults.traps import WAITS, Trap, served

X = np.full((1, 4), WAITS, np.float32)


def call(path, name, repost, x=X):
    with ringbroker.connect(path, timeout=30, repost=repost) as client, client.open(name) as model:
        return model(x, timeout=30)


def call_asyncio(path, name, repost, x=X):
    async def run():
        async with await aio.connect(path, timeout=30, repost=repost) as client, await client.open(name) as model:
            return await model(x, timeout=30)

    return asyncio.run(run())


clients = pytest.mark.parametrize("call", [call, call_asyncio], ids=["blocking", "asyncio"])


class Asking(threading.Thread):
    """A call on a thread of its own."""

    def __init__(self, call, *arguments):
        super().__init__()
        self._call = (call, *arguments)
        self._outcome = None
        self.start()

    def run(self):
        call, *arguments = self._call
        try:
            self._outcome = call(*arguments)
        except ringbroker.Error as error:
            self._outcome = error

    def outcome(self):
        """What it returned or raised."""
        self.join(60)
        return self._outcome


def killed(pair, trap, call, name, repost):
    """The outcome of a call whose first worker is killed while it runs it."""
    asking = Asking(call, pair.socket_path, name, repost)
    trap.wait_for(1)
    kill(trap.pids[0])
    trap.release()
    return asking.outcome()


@clients
def test_a_lost_request_is_run_again(pair, steady, trap, call):
    assert killed(pair, trap, call, "waiting", repost=True).tolist() == [[2 * WAITS] * 4]
    assert len(trap.pids) == 2


@clients
@pytest.mark.parametrize(("name", "repost"), [("waiting", False), ("stateful", False), ("stateful", True)])
def test_a_lost_request_is_told_and_not_run_again(pair, steady, trap, call, name, repost):
    """Not unasked, and never by a model that may answer otherwise the second time."""
    lost = killed(pair, trap, call, name, repost)
    assert isinstance(lost, ringbroker.BrokerLost)
    assert lost.is_retryable
    assert len(trap.pids) == 1
    call(pair.socket_path, name, repost)
    assert len(trap.pids) == 2


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A broker whose fatal models have a pool of their own."""
    folder = tmp_path_factory.mktemp("apart")
    arguments = (*models("twice", "fatal"), *served("waiting", Trap(folder)), "--pool", "own=fatal,waiting")
    with running_broker(*arguments, "--max-execution-s", "0.5", folder=folder) as broker:
        yield broker
        assert broker.stop() == 0


@pytest.fixture
def trap_apart(apart):
    """Of that broker; a client of the other pool infers throughout, and loses nothing."""
    with Load(apart.socket_path, clients=1, rate=100.0, pool="default") as load:
        load.wait_for_more()
        before = leaks.settled(apart)
        trap = Trap(apart.log_path.parent)
        trap.set()
        yield trap
        leaks.assert_back_to(before, apart)
        load.wait_for_more()
    load.check()
    assert load.lost == 0


@clients
@pytest.mark.parametrize("repost", [False, True])
def test_a_request_that_hangs_is_told_so_and_never_run_again(apart, trap_apart, call, repost):
    outcome = Asking(call, apart.socket_path, "waiting", repost).outcome()
    assert isinstance(outcome, ringbroker.ExecutionTimeout)
    assert len(trap_apart.pids) == 1


@clients
@pytest.mark.parametrize(("repost", "runs"), [(False, 1), (True, 3)])
def test_a_request_that_ends_its_worker_ends_only_so_many(apart, trap_apart, call, repost, runs):
    before = apart.log.count("a worker was lost")
    with pytest.raises(ringbroker.BrokerLost):
        call(apart.socket_path, "fatal", repost, np.full((1, 4), 3.0, np.float32))
    assert apart.log.count("a worker was lost") - before == runs
