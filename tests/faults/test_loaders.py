"""Loaders and supervisors that die or stop, by real signals, while bystanders check every answer."""

import subprocess
import threading
from contextlib import contextmanager

from broker import admin
from ringbuf.errors import Code
from tests.conftest import START_TIMEOUT_S, broker_command, running_broker
from tests.faults import leaks
from tests.faults.conftest import models
from tests.faults.deployed import ENVIRONMENT
from tests.faults.load import Load
from tests.faults.signals import is_alive, kill, loader_of, stopped, worker_of
from tests.faults.test_start_and_stop import refused
from tests.faults.traps import WAITS, Trap, served
from tests.faults.wire import HELLO, Client, Peer, until

# --- the loader, before anything serves ---


def test_a_model_that_ends_the_loader(tmp_path):
    said = refused(tmp_path / "broker.sock", "dies=tests.faults.models:dies_while_loading")
    assert "6103 LOADER_DIED" in said
    assert "SIGSEGV while it loaded dies" in said


@contextmanager
def starting(trap, factory):
    """A supervisor whose model waits for leave; afterwards it has failed with 6103 LOADER_DIED, and left nothing."""
    path = trap.folder / "broker.sock"
    command = broker_command("serve", "--socket", str(path), *served("m", trap, factory))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            trap.wait_for(1)
            yield
            told, log = process.communicate(timeout=START_TIMEOUT_S)
        finally:
            process.kill()
    assert (process.returncode, told) == (1, "")
    assert "6103 LOADER_DIED" in log
    assert {left.name for left in trap.folder.iterdir()} == {"broker.sock.lock", trap.runs.name}


def test_a_loader_that_is_killed_while_it_loads(tmp_path):
    trap = Trap(tmp_path)
    with starting(trap, "loading"):
        kill(trap.pids[0])


def test_a_worker_that_is_killed_before_anything_serves(tmp_path):
    trap = Trap(tmp_path)
    with starting(trap, "warming"):
        kill(trap.pids[0])


def test_large_models_are_loaded_once_for_all_workers(broker, undisturbed):
    """Nothing of them ran with several threads before the fork, which would have hung their workers."""
    assert "large" in broker.status()["models"]
    assert "every worker loads its own" not in broker.log


# --- the loader, beside what serves ---


def test_processes_of_a_reload_are_killed(tmp_path):
    """The loader while it loads, and a worker while it warms up: what served goes on."""
    traps = {name: Trap(tmp_path / name) for name in ("loading", "warming")}
    for trap in traps.values():
        trap.folder.mkdir()
        trap.release()
    arguments = [argument for name, trap in traps.items() for argument in served(name, trap)]
    with running_broker(*models("twice"), *arguments) as broker:
        with Load(broker.socket_path, clients=2, rate=100.0) as load:
            load.wait_for_more()
            before = leaks.settled(broker)
            for trap in traps.values():
                trap.set()
                with reloading(broker) as answer:
                    trap.wait_for(1)
                    kill(trap.pids[0])
                trap.release()
                assert answer["code"] == broker.status()["last_reload"]["code"] == 6103  # LOADER_DIED
                leaks.assert_back_to(before, broker)
            assert broker.status()["generation"] == 1
            load.wait_for_more()
        load.check()
        assert load.lost == 0
        assert broker.stop() == 0


@contextmanager
def reloading(broker):
    """`broker reload`; what it answers is in the dict afterwards."""
    answer = {}
    thread = threading.Thread(target=lambda: answer.update(admin.ask(broker.socket_path, "reload", START_TIMEOUT_S)))
    thread.start()
    try:
        yield answer
    finally:
        thread.join(START_TIMEOUT_S)


def test_workers_survive_their_loader_until_it_is_replaced(pair, steady):
    generation = pair.status()["generation"]
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 2.0)
        kill(loader_of(pair))
        assert client.peer.ask(*ring.infer(1))[0] == 69
        goaway = client.peer.receive()  # of the generation that takes its place
        assert goaway[0] == 73
        assert pair.status()["generation"] == generation + 1
        assert client.peer.ask(*ring.infer(2))[0] == 69, "until it leaves, it is served"
        assert client.resume()["rings"] == [[ring.number, 0]]
        assert client.peer.ask(*ring.infer(3))[0] == 69
        assert ring.read(0, 1) == (4.0,)
    assert pair.status()["last_reload"] is None, "nobody asked for one"


def test_a_loader_dies_with_all_its_workers(pair, steady):
    """Everybody waits for the generation that takes its place."""
    generation = pair.status()["generation"]
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 2.0)
        assert client.peer.ask(8, 1)[0] == 72
        for pid in (loader_of(pair), *pair.worker_pids):
            kill(pid)
        assert client.is_lost()
        assert client.resume()["rings"] == [[ring.number, 0]]
        assert client.peer.ask(*ring.infer(1))[0] == 69
        assert ring.read(0, 1) == (4.0,)
    assert pair.status()["generation"] == generation + 1


def test_a_stopped_loader_replaces_a_worker_when_it_goes_on(pair, steady):
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 2.0)
        assert client.peer.ask(8, 1)[0] == 72
        with stopped(loader_of(pair)):
            kill(worker_of(pair, client))
            assert client.is_lost()
            assert client.resume()["rings"] == [[ring.number, 0]], "in the other worker"
            assert client.peer.ask(*ring.infer(1))[0] == 69
        assert ring.read(0, 1) == (4.0,)


def test_clients_that_leave_while_they_wait_for_a_worker(pair, steady):
    """There is none, as the loader is stopped: one resumes its session, and ends it so; one begins its first."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 2.0)
        assert client.peer.ask(8, 1)[0] == 72
        with stopped(loader_of(pair)):
            for pid in pair.worker_pids:
                kill(pid)
            assert client.is_lost()
            until(lambda: pair.worker_pids == [None, None])  # or it is given to one that is dying
            with Peer(pair.socket_path) as resuming, Peer(pair.socket_path) as beginning:
                resuming.send([*HELLO[:4], {"resume": client.token}])
                beginning.send(HELLO)
                until(lambda: pair.status()["waiting_sessions"] == 4)  # and the steady ones
            until(lambda: pair.status()["waiting_sessions"] == 2)
        with Peer(pair.socket_path) as late:
            assert late.ask(*HELLO[:4], {"resume": client.token})[2] == Code.RESUME_REFUSED


# --- the supervisor ---


def test_the_supervisor_is_killed_and_another_one_takes_its_place(tmp_path):
    """Its processes end with it, one inside a model too; what it left is swept, and its clients go on."""
    arguments = (*models("twice"), *served("waiting", Trap(tmp_path)), "--workers", "2")
    with running_broker(*arguments, folder=tmp_path) as dead, Load(dead.socket_path, rate=100.0) as load:
        load.wait_for_more()
        with Client(dead.socket_path) as client, Peer(dead.socket_path).hello() as opening:
            ring = client.peer.open("waiting")
            ring.write(0, WAITS)
            client.peer.send(ring.infer(1))
            Trap(tmp_path).wait_for(1)
            opening.ask(3, 1, "twice", None, 4, {}, {})
            pids = leaks.processes(dead)
            assert len(pids) == 4
            kill(dead.pid)
            dead.process.wait()
            assert client.is_lost()
            assert opening.is_at_end()
            until(lambda: not any(map(is_alive, pids)))
            assert len(leaks.names(dead)) == 1, "of the ring that was not attached"
        with running_broker(*arguments, folder=tmp_path) as heir:
            assert len(leaks.processes(heir)) == 4
            load.wait_for_more()
            until(lambda: leaks.names(heir) == [])
            with Peer(heir.socket_path) as late:
                assert late.ask(*HELLO[:4], {"resume": client.token})[2] == 6005
            load.stop()
            until(lambda: heir.status()["open_rings"] == 0)
            assert heir.stop() == 0
    load.check()
    assert load.answers > load.lost > 0
