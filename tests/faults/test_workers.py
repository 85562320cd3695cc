"""Workers that die, stop or hang, by real signals, while bystanders check every answer."""

import signal
import time
from contextlib import suppress

import pytest

from broker import admin
from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.conftest import are_serving, models
from tests.faults.load import Load
from tests.faults.signals import kill, stopped, worker_of
from tests.faults.traps import WAITS, Trap, served
from tests.faults.wire import HELLO, Client, Peer, until

FORKS = 10  # workers that are killed one after another


def test_connections_are_spread_evenly(pair, steady):
    clients = [Client(pair.socket_path) for _ in range(4)]
    try:
        assert sorted(client.welcome[7] for client in clients) == [0, 0, 1, 1]
        assert {client.welcome[8] for client in clients} == {2}
    finally:
        for client in clients:
            client.peer.socket.close()


# --- killed ---


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_ring_survives_its_worker(pair, steady, number):
    with Client(pair.socket_path) as client, Client(pair.socket_path) as other:
        ring, others = client.peer.open("twice"), other.peer.open("twice")
        ring.write(1, 1.0, 2.0, 3.0, 4.0)
        others.write(0, 5.0)
        assert client.peer.ask(8, 1)[0] == 72  # so its ATTACHED has been heard
        kill(worker_of(pair, client), number)
        assert client.is_lost()
        assert client.resume() == {"pool": "default", "rings": [[ring.number, 0]]}
        assert client.peer.ask(*ring.infer(1, slot=1))[0] == 69
        assert ring.read(1) == (2.0, 4.0, 6.0, 8.0)
        assert other.peer.ask(*others.infer(1))[0] == 69, "the other worker's client noticed nothing"
        assert others.read(0, 1) == (10.0,)


def test_a_worker_that_runs_is_killed(pair, steady, trap):
    """The request that it ran is lost, and the one behind it; their inputs are there."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("waiting")
        ring.write(0, WAITS)
        ring.write(2, 4.0)
        client.peer.send(ring.infer(1), ring.infer(2, slot=2))
        trap.wait_for(1)
        kill(trap.pids[0])
        assert client.is_lost()
        client.resume()
        trap.release()
        for number, slot in ((1, 0), (2, 2)):  # the same rows, the same ids: both are the client's again
            assert client.peer.ask(*ring.infer(number, slot))[0] == 69
        assert (ring.read(0, 1), ring.read(2, 1)) == ((2 * WAITS,), (8.0,))
        assert len(trap.pids) == 2


def test_a_worker_that_answers_is_killed(pair, steady):
    """Its client does not read, so that its answers fill the socket: what is in there is whole, and good."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 21.0)
        asked = client.peer.fill(ring)
        kill(worker_of(pair, client))
        answered = set()
        with suppress(EOFError, ConnectionResetError):  # in the middle of an answer, perhaps
            while True:
                answer = client.peer.receive()
                assert answer[0] == 69 or (answer[0], answer[2]) == (64, 2005)  # ROWS_IN_FLIGHT, by an earlier one
                answered.add(answer[1])
        assert answered < set(range(asked))
        assert client.resume()["rings"] == [[ring.number, 0]]
        assert client.peer.ask(*ring.infer(0))[0] == 69
        assert ring.read(0, 1) == (42.0,)


@pytest.mark.parametrize(
    ("value", "how"),
    [(1.0, "was ended by SIGSEGV"), (2.0, "was ended by SIGABRT"), (3.0, "exited with 3")],
    ids=["segfault", "abort", "exit"],
)
def test_a_model_that_ends_its_process(pair, steady, value, how):
    """One line of the log says which model, and how, and one that another worker serves."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("fatal")
        ring.write(0, value)
        pid = worker_of(pair, client)
        client.peer.send(ring.infer(1))
        assert client.is_lost()
        until(lambda: "a worker was lost" in "".join(lines_about(pair, pid)))
        (line,) = [line for line in lines_about(pair, pid) if "a worker serves" not in line]
        assert line.endswith(f'model=fatal version=1 how="{how}"')
        assert client.resume()["rings"] == [[ring.number, 0]]
        ring.write(0, 0.0)
        assert client.peer.ask(*ring.infer(2))[0] == 69
        assert "a worker serves" in "".join(lines_about(pair, worker_of(pair, client)))


def lines_about(broker, pid):
    return [line for line in broker.log.splitlines() if f" pid={pid} " in line]


def test_workers_that_are_killed_before_they_serve(tmp_path):
    """While they warm up: the first time the start fails, later another one is forked, however often that happens."""
    trap = Trap(tmp_path)
    trap.release()
    with running_broker(*models("twice"), *served("warming", trap), "--workers", "2") as broker:
        with Load(broker.socket_path, clients=2, rate=100.0, repost=True) as load, Client(broker.socket_path) as client:
            ring = client.peer.open("warming")
            ring.write(0, 21.0)
            assert client.peer.ask(8, 1)[0] == 72
            before = leaks.settled(broker)
            trap.set()
            kill(worker_of(broker, client))
            for number in range(1, 3):
                trap.wait_for(number)
                kill(trap.pids[-1])
            trap.wait_for(3)
            trap.release()
            assert client.is_lost()
            assert client.resume()["rings"] == [[ring.number, 0]]
            assert client.peer.ask(*ring.infer(1))[0] == 69
            assert ring.read(0, 1) == (42.0,)
            leaks.assert_back_to(before, broker)
            load.wait_for_more()
        load.check()
        assert load.lost == 0
        assert broker.stop() == 0


def test_a_client_that_dies_with_its_worker_is_forgotten():
    with running_broker(*models("twice"), "--resume-grace-s", "0.3") as broker:
        before = leaks.settled(broker)
        with Client(broker.socket_path) as client:
            ring = client.peer.open("twice")
            assert client.peer.ask(8, 1)[0] == 72
            kill(broker.worker_pid)
            assert client.is_lost()
        until(lambda: broker.status()["open_sessions"] == 0)  # its worker's end was noticed
        until(lambda: broker.status()["resumable_sessions"] == 0)
        ring.memory.close()
        with Peer(broker.socket_path) as late:
            answer = late.ask(*HELLO[:4], {"resume": client.token})
            assert (answer[0], answer[2]) == (64, 6005)  # RESUME_REFUSED
        until(lambda: broker.worker_pids != [None])
        leaks.assert_back_to(before, broker)
        assert broker.stop() == 0


def test_workers_that_are_lost_are_counted():
    """Also those of a generation that is gone; workers that were sent away are not lost."""
    with running_broker(*models("twice"), "--workers", "2") as broker:

        def told(name):
            return broker.status()["pools"]["default"][name]

        for number in range(1, 3):
            kill(broker.worker_pids[0])
            until(lambda number=number: told("lost_workers") == number)
            until(lambda: are_serving(broker))
            admin.ask(broker.socket_path, "reload", timeout_s=60)
            until(lambda: len(leaks.processes(broker)) == 4)  # the former generation is gone
        assert (told("lost_workers"), told("hung_workers")) == (2, 0)
        assert broker.stop() == 0


def test_a_worker_that_was_sent_away_is_lost_where_it_ran_something(tmp_path):
    trap = Trap(tmp_path)
    trap.set()
    with running_broker(*served("waiting", trap)) as broker, Client(broker.socket_path) as client:
        ring = client.peer.open("waiting")
        ring.write(0, WAITS)
        client.peer.send(ring.infer(1))
        trap.wait_for(1)
        assert admin.ask(broker.socket_path, "reload", timeout_s=60) == {"generation": 2}
        kill(trap.pids[0])
        until(lambda: broker.status()["pools"]["default"]["lost_workers"] == 1)
        assert "model=waiting" in lines_about(broker, trap.pids[0])[-1]


def test_the_worker_that_replaces_another_is_there_soon(pair, steady):
    """Not asserted, but told with -s: how long a client waits for its next answer."""
    waits = []
    for _ in range(FORKS):
        with Client(pair.socket_path) as client:
            ring = client.peer.open("twice")
            assert client.peer.ask(*ring.infer(1))[0] == 69
            kill(worker_of(pair, client))
            began = time.monotonic()
            assert client.is_lost()
            client.resume()
            assert client.peer.ask(*ring.infer(1))[0] == 69
            waits.append(time.monotonic() - began)
    print(f"\n    from kill -9 to the next answer: {max(waits) * 1e3:.0f} ms at most of {len(waits)}", end="")


# --- stopped, and hanging ---


def test_a_worker_that_is_stopped_for_a_while(pair, steady):
    """Its requests wait in its sockets, and the supervisor answers meanwhile."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("twice")
        ring.write(0, 21.0)
        pid = worker_of(pair, client)
        with stopped(pid):
            client.peer.send(ring.infer(1))
            assert pid in pair.worker_pids
        assert client.peer.receive()[:2] == [69, 1]
        assert ring.read(0, 1) == (42.0,)


def test_a_worker_that_stays_stopped_is_ended():
    with running_broker(*models("twice"), "--max-execution-s", "1") as broker, Client(broker.socket_path) as client:
        ring = client.peer.open("twice")
        assert client.peer.ask(8, 1)[0] == 72
        before = leaks.settled(broker)
        kill(broker.worker_pid, signal.SIGSTOP)
        assert client.is_lost()
        assert client.resume()["rings"] == [[ring.number, 0]]
        assert client.peer.ask(*ring.infer(1))[0] == 69
        leaks.assert_back_to(before, broker)


def test_a_worker_that_hangs_is_ended_and_its_clients_told():
    """Those of another pool notice nothing, and a worker that is idle for longer than a model may run is left alone."""
    arguments = (*models("twice", "hangs"), "--pool", "own=hangs", "--max-execution-s", "0.5")
    with running_broker(*arguments) as broker:
        with Load(broker.socket_path, clients=2, rate=100.0, pool="default") as load, Peer(broker.socket_path) as peer:
            welcome = peer.ask(*HELLO)
            assert (welcome[0], welcome[9]["pool"]) == (65, "own")
            ring = peer.open("hangs")
            load.wait_for_more()
            time.sleep(1.5)
            assert peer.ask(*ring.infer(1))[0] == 69
            ring.write(0, 1.0)
            before = leaks.settled(broker)
            peer.send(ring.infer(2))
            assert peer.is_at_end()
            with Peer(broker.socket_path) as resumed:
                options = resumed.ask(*HELLO[:4], {"resume": welcome[4]})[9]
                assert options == {"pool": "own", "rings": [[ring.number, 0]], "lost": 5004}  # EXECUTION_TIMEOUT
                ring.write(0, 0.0)
                assert resumed.ask(*ring.infer(2))[0] == 69
                leaks.assert_back_to(before, broker)
        load.check()
        assert load.lost == 0
        (line,) = [line for line in broker.log.splitlines() if "a worker hangs" in line]
        assert line.endswith("model=hangs version=1")
        told = broker.status()["pools"]
        assert [(pool["hung_workers"], pool["lost_workers"]) for pool in told.values()] == [(1, 0), (0, 0)]


# --- pools ---


def test_a_model_of_another_pool():
    arguments = (*models("twice", "slow", "fatal"), "--pool", "fast=twice", "--pool-workers", "fast=2")
    with running_broker(*arguments) as broker:
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
            welcome = peer.ask(*HELLO[:4], {"pool": "default"})
            assert (welcome[8], welcome[9]["pool"]) == (1, "default")
            peer.open("slow")
        assert broker.stop() == 0
