"""A model that fails at run time: its client is told, the operator finds why in the log, and nobody else notices."""

import resource
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults import leaks, models
from tests.faults.signals import worker_of
from tests.faults.wire import Client, Peer, until

FAILURES = {
    models.RAISES: (5001, "ZeroDivisionError"),
    models.EXITS: (5001, "SystemExit"),
    models.GOES: (5001, "NotAnException"),
    models.BREAKS: (5001, "RingbrokerError"),
    models.WRONG_SHAPE: (5002, None),
    models.WRONG_DTYPE: (5002, None),
    models.WRONG_COUNT: (5002, None),
    models.NO_TENSOR: (5002, None),
}  # 5001 MODEL_FAILED, 5002 OUTPUT_MISMATCH


@pytest.mark.parametrize("failure", FAILURES)
def test_failure_is_told_and_the_session_goes_on(failure, broker, undisturbed):
    code, kind = FAILURES[failure]
    with Peer(broker.socket_path).hello() as peer:
        ring = peer.open("picky")
        ring.write(0, failure)
        trace = f"failure-{failure}"
        answer = peer.ask(*ring.infer(1, trace=trace))
        assert answer[:3] == [64, 1, code]
        assert kind is None or answer[3].endswith(kind)
        assert "thirteen" not in answer[3]
        ring.write(0, 1.0)
        assert peer.ask(*ring.infer(2))[:2] == [69, 2]
        assert ring.read(0)[0] == 2.0
        _, after = broker.log.split(trace)
        assert after.startswith("\n    Traceback (most recent call last):\n")
        assert kind is None or kind in after


def test_of_several_in_a_batch_only_the_guilty_one_fails(broker, undisturbed):
    with Peer(broker.socket_path).hello() as peer:
        ring = peer.open("picky")
        for slot in range(4):
            ring.write(slot, slot)
        peer.send(*(ring.infer(slot, slot) for slot in range(4)))
        assert [peer.receive()[6] for _ in range(4)] == [4, 4, 4, 4], "sent together, they are one batch"
        ring.write(2, models.RAISES)
        peer.send(*(ring.infer(slot, slot) for slot in range(4)))
        answers = {answer[1]: answer for answer in (peer.receive() for _ in range(4))}
        assert answers[2][:3] == [64, 2, 5001]
        assert [answers[slot][0] for slot in (0, 1, 3)] == [69, 69, 69]
        assert [ring.read(slot)[0] for slot in (0, 1, 3)] == [0.0, 2.0, 6.0]


def test_client_that_is_gone_when_its_batch_fails(broker, undisturbed):
    with Peer(broker.socket_path).hello() as peer:
        ring = peer.open("picky")
        for slot in range(4):
            ring.write(slot, models.RAISES)
        peer.send(*(ring.infer(slot, slot) for slot in range(4)))


def test_client_that_is_gone_when_its_requests_have_expired(broker):
    """Tried until the broker has read the requests, but not yet the end behind them, when it looks at the deadlines."""
    with Peer(broker.socket_path).hello() as busy:
        slow = busy.open("slow")
        before = broker.status()["errors"].get("DEADLINE_EXCEEDED", 0)

        def expires():
            with Peer(broker.socket_path).hello() as peer:
                ring = peer.open("twice")
                peer.ask(8, 1)
                busy.send(slow.infer(1))
                peer.send(*(ring.infer(slot, slot, deadline_ns=0) for slot in range(4)))
            assert busy.receive()[0] == 69
            return broker.status()["errors"].get("DEADLINE_EXCEEDED", 0) > before

        until(expires)


@pytest.mark.parametrize("first", [1.0, models.RAISES])
def test_an_idle_broker_lets_go_of_the_last_ring_that_it_ran(first, broker):
    until(lambda: not leaks.maps(broker) and not broker.status()["open_rings"])
    before = leaks.settled(broker)
    with Peer(broker.socket_path).hello() as peer:
        ring = peer.open("picky")
        ring.write(0, first)
        peer.ask(*ring.infer(1))
        assert peer.ask(7, 2, ring.number) == [71, 2, ring.number]
        until(lambda: not leaks.maps(broker))
    leaks.assert_back_to(before, broker)


def test_a_failure_that_keeps_its_frames_does_not_keep_the_ring(broker, undisturbed):
    """An error that holds itself holds its traceback, whose frames hold the inputs, which hold the segment."""
    before = leaks.settled(broker)
    for _ in range(5):
        with Peer(broker.socket_path).hello() as peer:
            ring = peer.open("picky")
            ring.write(0, models.KEEPS)
            assert peer.ask(*ring.infer(1))[2] == 5001
        ring.memory.close()
    leaks.assert_back_to(before, broker)


# --- no memory left ---


@pytest.fixture
def starved(pair, steady):
    """A client and its ring of `hungry`, and its worker, which may take 32 MiB more; others infer in there, too."""
    with Client(pair.socket_path) as client:
        ring = client.peer.open("hungry")
        assert client.peer.ask(8, 1)[0] == 72
        pid = worker_of(pair, client)
        status = Path(f"/proc/{pid}/status").read_text()
        used_bytes = int(status.partition("VmData:")[2].split()[0]) * 1024
        resource.prlimit(pid, resource.RLIMIT_DATA, (used_bytes + 32 * 2**20, resource.RLIM_INFINITY))
        yield client, ring, pid
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("asked", "kind"),
    [(models.TENSOR, "RuntimeError"), (models.BYTES, "MemoryError"), (models.PIECES, "MemoryError")],
    ids=["tensor", "bytes", "pieces"],
)
def test_a_model_that_finds_no_memory(pair, starved, asked, kind):
    client, ring, pid = starved
    ring.write(0, asked)
    assert client.peer.ask(*ring.infer(1))[:4] == [64, 1, 5001, f"the model raised {kind}"]  # MODEL_FAILED
    ring.write(0, 21.0)
    assert client.peer.ask(*ring.infer(2))[0] == 69
    assert ring.read(0, 1) == (42.0,)
    assert worker_of(pair, client) == pid, "it goes on"


def test_a_model_that_leaves_no_memory(pair, starved):
    """Its worker cannot go on without, and is replaced; everybody finds all in the next one."""
    client, ring, _ = starved
    ring.write(0, models.HOARD)
    client.peer.send(ring.infer(1))
    with suppress(EOFError, ConnectionResetError):
        assert client.peer.receive()[:3] == [64, 1, 5001]
        client.peer.ask(8, 2)
    assert client.resume()["rings"] == [[ring.number, 0]]
    ring.write(0, 21.0)
    assert client.peer.ask(*ring.infer(2))[0] == 69
    assert ring.read(0, 1) == (42.0,)
    assert "no memory left" in pair.log
