"""Workers, loaders and supervisors that die, stop or hang, by real signals, while a bystander checks every answer."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.wire import HELLO, Peer, until

MODELS = [f"{name}=tests.faults.models:{name}" for name in ("twice", "slow", "fatal")]


class Client:
    """A session that goes on after its worker: keeps its token and its rings."""

    def __init__(self, path):
        self.path = path
        self.peer = Peer(path)
        self.welcome = self.peer.ask(*HELLO)
        assert self.welcome[0] == 65, self.welcome

    @property
    def token(self):
        return self.welcome[4]

    def resume(self):
        """Connect again, and go on."""
        self.peer.socket.close()
        self.peer = Peer(self.path)
        self.welcome = self.peer.ask(1, 1, 0, {"name": "fault", "version": "1"}, {"resume": self.token})
        assert self.welcome[0] == 65, self.welcome
        return self.welcome[9]

    def is_lost(self):
        """Whether the connection ended; waits for it."""
        return self.peer.is_at_end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.socket.close()


@pytest.fixture(scope="module")
def pair():
    """A broker of two workers."""
    with running_broker(*MODELS, "--workers", "2") as broker:
        yield broker
        assert broker.stop() == 0


@pytest.fixture
def nothing_left(pair):
    """Afterwards the broker has what it had, and two workers that serve."""
    until(lambda: len(pair.worker_pids) == 2)
    before = leaks.census(pair)
    yield
    until(lambda: sum(w["is_serving"] for w in pair.status()["pools"]["default"]["workers"]) == 2)
    until(lambda: pair.status()["resumable_sessions"] == 0)
    leaks.assert_back_to(before, pair)


def worker_of(broker, client):
    """The process that serves a client."""
    (pid,) = [w["pid"] for w in broker.status()["pools"]["default"]["workers"] if w["index"] == client.welcome[7]]
    return pid


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


def test_connections_are_spread_evenly(pair, nothing_left):
    clients = [Client(pair.socket_path) for _ in range(4)]
    try:
        assert sorted(client.welcome[7] for client in clients) == [0, 0, 1, 1]
        assert {client.welcome[8] for client in clients} == {2}
    finally:
        for client in clients:
            client.peer.socket.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_ring_survives_its_worker(pair, nothing_left, number):
    with Client(pair.socket_path) as client, Client(pair.socket_path) as other:
        ring, others = client.peer.open("twice"), other.peer.open("twice")
        ring.write(1, 1.0, 2.0, 3.0, 4.0)
        others.write(0, 5.0)
        kill(worker_of(pair, client), number)
        assert client.is_lost()
        assert client.resume() == {"pool": "default", "rings": [[ring.number, 0]]}
        assert client.peer.ask(*ring.infer(1, slot=1))[0] == 69
        assert ring.read(1) == (2.0, 4.0, 6.0, 8.0)
        assert other.peer.ask(*others.infer(1))[0] == 69, "the other worker's client noticed nothing"
        assert others.read(0, 1) == (10.0,)


def test_a_request_that_was_running_is_lost_and_its_inputs_are_there(pair, nothing_left):
    with Client(pair.socket_path) as client:
        ring = client.peer.open("slow")
        ring.write(0, 21.0)
        client.peer.send(ring.infer(1))
        pid = worker_of(pair, client)
        until(lambda: pair.status()["in_flight"] == 1)
        kill(pid)
        assert client.is_lost()
        client.resume()
        assert client.peer.ask(*ring.infer(1))[0] == 69  # the same rows, the same id: both are the client's again
        assert ring.read(0, 1) == (42.0,)


@pytest.mark.parametrize("value", [1.0, 2.0, 3.0], ids=["segfault", "abort", "exit"])
def test_a_model_that_ends_its_process(pair, nothing_left, value):
    with Client(pair.socket_path) as client:
        ring = client.peer.open("fatal")
        ring.write(0, value)
        client.peer.send(ring.infer(1))
        assert client.is_lost()
        assert client.resume()["rings"] == [[ring.number, 0]]
        ring.write(0, 0.0)
        assert client.peer.ask(*ring.infer(2))[0] == 69


def test_a_client_that_dies_with_its_worker_is_forgotten():
    with running_broker(*MODELS, "--resume-grace-s", "0.3") as broker:
        before = leaks.census(broker)
        with Client(broker.socket_path) as client:
            ring = client.peer.open("twice")
            kill(broker.worker_pid)
            assert client.is_lost()
        until(lambda: broker.status()["open_sessions"] == 0)  # its worker's end was noticed
        until(lambda: broker.status()["resumable_sessions"] == 0)
        ring.memory.close()
        with Peer(broker.socket_path) as late:
            answer = late.ask(1, 1, 0, {"name": "fault", "version": "1"}, {"resume": client.token})
            assert (answer[0], answer[2]) == (64, 6005)  # RESUME_REFUSED
        until(lambda: broker.worker_pids != [None])
        leaks.assert_back_to(before, broker)
        assert broker.stop() == 0


def test_a_model_of_another_pool():
    with running_broker(*MODELS, "--pool", "fast=twice", "--pool-workers", "fast=2") as broker:
        with Peer(broker.socket_path) as peer:
            welcome = peer.ask(*HELLO)
            assert (welcome[8], welcome[9]["pool"]) == (2, "fast"), "the first pool, as none was asked for"
            assert {model[0]: model[2] for model in peer.ask(2, 1, 0)[2]} == {
                "twice": "fast",
                "slow": "default",
                "fatal": "default",
            }
            peer.open("twice")
            refused = peer.ask(3, 2, "slow", None, 4, {}, {})
            assert (refused[0], refused[2]) == (64, 3007)  # WRONG_POOL
        with Peer(broker.socket_path) as peer:
            welcome = peer.ask(1, 1, 0, {"name": "fault", "version": "1"}, {"pool": "default"})
            assert (welcome[8], welcome[9]["pool"]) == (1, "default")
            peer.open("slow")
        assert broker.stop() == 0


def test_a_worker_that_hangs_is_ended_and_its_clients_told():
    with running_broker(*MODELS, "hangs=tests.faults.models:hangs", "--max-execution-s", "0.5") as broker:
        with Client(broker.socket_path) as client:
            ring = client.peer.open("hangs")
            ring.write(0, 1.0)
            client.peer.send(ring.infer(1))
            assert client.is_lost()
            options = client.resume()
            assert options["lost"] == 5004  # EXECUTION_TIMEOUT
            ring.write(0, 0.0)
            assert client.peer.ask(*ring.infer(2))[0] == 69
        assert "a worker hangs" in broker.log


def test_a_worker_that_is_stopped_is_ended():
    with running_broker(*MODELS, "--max-execution-s", "1") as broker, Client(broker.socket_path) as client:
        ring = client.peer.open("twice")
        kill(broker.worker_pid, signal.SIGSTOP)
        assert client.is_lost()
        client.resume()
        assert client.peer.ask(*ring.infer(1))[0] == 69


def test_the_supervisor_answers_while_a_worker_is_stopped(pair, nothing_left):
    pid = pair.worker_pids[0]
    kill(pid, signal.SIGSTOP)
    try:
        status = pair.status()
        assert pid in [worker["pid"] for worker in status["pools"]["default"]["workers"]]
    finally:
        kill(pid, signal.SIGCONT)


def test_workers_survive_their_loader_until_it_is_replaced(pair, nothing_left):
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


def test_nothing_outlives_the_supervisor():
    with running_broker(*MODELS, "hangs=tests.faults.models:hangs", "--workers", "2") as broker:
        with Client(broker.socket_path) as client, Client(broker.socket_path) as other:
            ring = client.peer.open("hangs")
            ring.write(0, 1.0)
            client.peer.send(ring.infer(1))  # it is inside the model when its supervisor dies
            until(lambda: broker.status()["in_flight"] == 1)
            pids = leaks.processes(broker)
            assert len(pids) == 4
            broker.process.kill()
            broker.process.wait()
            assert client.is_lost()
            assert other.is_lost()
            until(lambda: not any(is_alive(pid) for pid in pids))
        assert leaks.names(broker) == []


def test_a_generation_that_dies_while_it_loads_is_told():
    with refused_start("dies=tests.faults.models:dies_while_loading") as said:
        assert "6103 LOADER_DIED" in said
        assert "SIGSEGV while it loaded dies" in said


@contextmanager
def refused_start(*models):
    from tests.faults.test_start_and_stop import refused

    path = Path(f"/tmp/refused-{os.getpid()}.sock")
    try:
        yield refused(path, *models)
    finally:
        path.with_name(path.name + ".lock").unlink(missing_ok=True)


def loader_of(broker):
    """The process that the workers were forked from."""
    (pid,) = {int(Path(f"/proc/{worker}/stat").read_text().split(")")[1].split()[1]) for worker in broker.worker_pids}
    assert pid != broker.pid
    return pid


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_worker_that_replaces_another_is_there_soon(pair, nothing_left):
    """Not asserted, but told with -s: how long a client waits for its next answer."""
    waits = []
    for _ in range(10):
        with Client(pair.socket_path) as client:
            ring = client.peer.open("twice")
            assert client.peer.ask(*ring.infer(1))[0] == 69  # so its ATTACHED has been heard
            kill(worker_of(pair, client))
            began = time.monotonic()
            assert client.is_lost()
            client.resume()
            assert client.peer.ask(*ring.infer(1))[0] == 69
            waits.append(time.monotonic() - began)
    print(f"from kill -9 to the next answer: {max(waits) * 1e3:.0f} ms at most of {len(waits)}")
