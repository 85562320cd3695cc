"""A broker for the faults that must not hurt it, one for those that end its workers, and bystanders beside each."""

import time
from pathlib import Path

import pytest

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.load import Load
from tests.faults.traps import Trap, served
from tests.faults.wire import Bystander, until


def models(*names):
    return [f"{name}=tests.faults.models:{name}" for name in names]


@pytest.fixture(scope="package")
def broker():
    with running_broker(*models("twice", "slow", "picky", "large")) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def undisturbed(broker):
    """A bystander infers throughout the test; afterwards the broker holds what it held before."""
    with Bystander(broker.socket_path) as bystander:
        before = leaks.settled(broker)
        yield bystander
        leaks.assert_back_to(before, broker)
    until(lambda: broker.status()["open_sessions"] == 0)  # the bystander's own is not in the next test's census


@pytest.fixture(scope="package")
def pair(tmp_path_factory):
    """A broker of two workers."""
    folder = tmp_path_factory.mktemp("pair")
    traps = [*served("waiting", Trap(folder)), *served("stateful", Trap(folder))]
    arguments = (*models("twice", "fatal", "hungry"), *traps)
    with running_broker(*arguments, "--workers", "2", folder=folder) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def trap(pair):
    """Of the models `waiting` and `stateful` of the pair."""
    trap = Trap(Path(pair.socket_path).parent)
    trap.set()
    yield trap
    trap.release()


def are_serving(broker):
    """Whether every worker is there, and nobody waits for one."""
    status = broker.status()
    workers = [worker for pool in status["pools"].values() for worker in pool["workers"]]
    is_calm = status["resumable_sessions"] == status["waiting_sessions"] == 0 and not status["is_loading"]
    return is_calm and len(workers) == 2 and all(worker["is_serving"] for worker in workers)


@pytest.fixture
def steady(pair):
    """Two clients infer throughout the test, whatever ends their workers; afterwards the broker holds what it held."""
    with Load(pair.socket_path, clients=2, rate=100.0, repost=True) as load:
        until(lambda: all(tally.answers for tally in load.tallies) and are_serving(pair))
        before = leaks.settled(pair)
        yield load
        ended = time.monotonic()
        until(lambda: are_serving(pair))
        leaks.assert_back_to(before, pair, since=ended)
        load.wait_for_more()
    load.check()
    assert load.lost == 0
    until(lambda: pair.status()["open_sessions"] == 0)  # or these are in the next test's census
