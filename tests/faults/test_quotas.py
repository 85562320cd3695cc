"""What all clients together may have: memory for rings, whoever holds them."""

import os
import signal

import pytest

from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.wire import Peer, until

LARGE = "large=tests.faults.models:large"
LIMIT = 4 * 2**20  # three rings of 2 slots of 512 KiB, with their pages
KINDS = [("path", "path"), ("fd", "fd"), ("path", "fd")]


@pytest.fixture(scope="module")
def serving():
    with running_broker(
        LARGE, "--max-memory-bytes", str(LIMIT), "--workers", "2", "--resume-grace-s", "3600"
    ) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def broker(serving):
    """The same for all; each gives back what it has taken."""
    yield serving
    until(lambda: serving.status()["segment_bytes"] == 0)


def greeted(broker, kind, **options):
    """A connection that takes segments of this kind, and its WELCOME."""
    peer = Peer(broker.socket_path)
    welcome = peer.ask(1, 1, 0, {"name": "quota", "version": "1"}, {"segments": [kind], **options})
    assert welcome[0] == 65, welcome
    return peer, welcome


def opening(number, slots=2):
    return [3, number, "large", None, slots, {}, {}]


@pytest.mark.parametrize("kinds", KINDS, ids=" and ".join)
def test_memory_of_all_rings(broker, kinds):
    before = leaks.settled(broker)
    peers = [greeted(broker, kind)[0] for kind in kinds]
    try:
        rings = [peers[at % 2].ask(*opening(at)) for at in range(3)]
        assert [ring[0] for ring in rings] == [67, 67, 67]
        size, used = rings[0][3]["bytes"], sum(ring[3]["bytes"] for ring in rings)
        for number, peer in enumerate(peers, 3):
            answer = peer.ask(*opening(number))
            assert (answer[0], answer[2]) == (64, 4003)  # SHM_FULL
            assert answer[3] == f"no room for a ring of {size} bytes: {used} of the {LIMIT} for all rings are used"
        status = broker.status()
        assert (status["segment_bytes"], status["max_memory_bytes"]) == (used, LIMIT)
        assert peers[0].ask(7, 9, rings[0][2])[0] == 71  # CLOSE: what one gives back, the other may have
        until(lambda: broker.status()["segment_bytes"] == used - size)
        assert peers[1].ask(*opening(10))[0] == 67
        assert peers[0].ask(*opening(11))[2] == 4003
    finally:
        for peer in peers:
            peer.socket.close()
    leaks.assert_back_to(before, broker)


@pytest.mark.parametrize("kinds", KINDS, ids=" and ".join)
def test_rings_that_are_opened_at_the_same_time(broker, kinds):
    """Each would fit alone, and while the first is being made."""
    peers = [greeted(broker, kind)[0] for kind in kinds]
    for _ in range(5):
        for peer in peers:
            peer.send(*(opening(number) for number in range(10)))
        answers = [(peer, peer.receive()) for peer in peers for _ in range(10)]
        opened = [(peer, answer[2]) for peer, answer in answers if answer[0] == 67]
        assert len(opened) == 3
        assert {answer[2] for _, answer in answers if answer[0] == 64} == {4003}
        assert broker.status()["segment_bytes"] <= LIMIT
        for peer, ring in opened:
            assert peer.ask(7, 99, ring)[0] == 71
        until(lambda: broker.status()["segment_bytes"] == 0)
    for peer in peers:
        peer.socket.close()


def test_rings_that_wait_to_be_resumed(broker):
    lost, welcome = greeted(broker, "path")
    rings = [lost.open("large", slots=2) for _ in range(3)]
    until(lambda: not leaks.names(broker))  # all are attached
    (worker,) = [each for each in broker.status()["pools"]["default"]["workers"] if each["sessions"]]
    os.kill(worker["pid"], signal.SIGKILL)
    lost.socket.close()
    until(lambda: broker.status()["resumable_sessions"] == 1)
    other, _ = greeted(broker, "fd")
    assert other.ask(*opening(1))[2] == 4003
    back, resumed = greeted(broker, "path", resume=welcome[4])
    assert resumed[3] == welcome[3]
    assert other.ask(*opening(2))[2] == 4003
    assert back.ask(7, 3, rings[0].number)[0] == 71
    until(lambda: broker.status()["open_rings"] == 2)
    assert other.ask(*opening(4))[0] == 67
    for peer in (other, back):
        peer.socket.close()
    for ring in rings:
        ring.memory.close()


def test_a_ring_that_never_fits(broker):
    """It is refused for good, and a client can know before."""
    peer, welcome = greeted(broker, "fd")
    assert welcome[6]["segment_bytes"] == LIMIT
    assert peer.ask(*opening(1, slots=9))[2] == 4004  # RING_TOO_LARGE
    peer.socket.close()
