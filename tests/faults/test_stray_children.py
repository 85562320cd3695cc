"""Processes that models start, forks that fail, and errors of any length: the broker goes on, or ends as it should."""

from pathlib import Path

import pytest

from tests.conftest import running_broker
from tests.faults import strays
from tests.faults.conftest import models
from tests.faults.signals import is_alive, kill, loader_of, parent_of
from tests.faults.strays import served
from tests.faults.test_loaders import starting
from tests.faults.test_start_and_stop import refused
from tests.faults.traps import Trap
from tests.faults.wire import Client, until


@pytest.fixture
def trap(tmp_path):
    trap = Trap(tmp_path)
    yield trap
    trap.release()


def exists(pid):
    """Whether it is there, be it only to be reaped."""
    return Path(f"/proc/{pid}").exists()


def test_a_command_that_a_factory_left_ends(trap):
    """Its loader reaps it, and goes on."""
    with running_broker(*served(strays.commanding, trap)) as broker:
        loader = loader_of(broker)
        kill(trap.pids[0])
        until(lambda: not exists(trap.pids[0]))
        with Client(broker.socket_path) as client:
            client.peer.open("m")
            kill(broker.worker_pid)
            assert client.is_lost()
            client.resume()
        assert loader_of(broker) == loader
        assert broker.stop() == 0


@pytest.mark.parametrize("forked", [strays.BY_PYTHON, strays.BY_C], ids=["by Python", "by C"])
def test_a_helper_outlives_its_worker(trap, forked):
    """The worker is replaced, and its client told where Python forked; who adopts the helper reaps it."""
    with running_broker(*models("twice"), *served(strays.helped, trap)) as broker:
        loader, worker = loader_of(broker), broker.worker_pid
        with Client(broker.socket_path) as client:
            ring = client.peer.open("m")
            assert client.peer.ask(8, 1)[0] == 72
            ring.write(0, forked)
            client.peer.send(ring.infer(1))
            if forked == strays.BY_PYTHON:
                assert client.is_lost()
            assert client.resume()["rings"] == [[ring.number, 0]]
            ring.write(0, 21.0)
            assert client.peer.ask(*ring.infer(2))[0] == 69
            assert ring.read(0, 1) == (42.0,)
        (helper,) = trap.pids
        assert is_alive(helper)
        assert broker.worker_pid != worker
        assert loader_of(broker) == loader
        trap.release()
        until(lambda: not exists(helper))
        assert broker.stop() == 0


def test_a_proof_that_hangs_ends_with_its_loader(trap):
    with starting(trap, "proving"):
        kill(parent_of(trap.pids[0]))
    until(lambda: not is_alive(trap.pids[0]))


def test_forks_that_fail(trap):
    """The loader tries again, when it is asked to, until there is room for a worker."""
    trap.release()
    with running_broker(*served(strays.unforkable, trap)) as broker:
        loader = loader_of(broker)
        with Client(broker.socket_path) as client:
            ring = client.peer.open("m")
            assert client.peer.ask(8, 1)[0] == 72
            trap.set()
            kill(broker.worker_pid)
            assert client.is_lost()
            trap.wait_for(2)
            trap.release()
            assert client.resume()["rings"] == [[ring.number, 0]]
        assert loader_of(broker) == loader
        assert "no worker can be forked" in broker.log
        assert broker.stop() == 0


def test_an_error_that_is_longer_than_a_packet(tmp_path):
    said = refused(tmp_path / "broker.sock", "m=tests.faults.strays:long_winded")
    assert "3104 FACTORY_FAILED: the factory raised ValueError: xxx" in said
