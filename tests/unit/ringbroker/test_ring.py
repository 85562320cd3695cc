"""Who gets rows, in which order, and what becomes of those who wait."""

import mmap
from pathlib import Path

import pytest
import ringbroker

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, Peer, Session, wait_until


def is_waiting(model, count):
    return len(model._rings.waiting) == count


@pytest.mark.parametrize("rows", [0, -1, 9])
def test_impossible_rows_fail_at_once(model, rows):
    with model.acquire(8), pytest.raises(ringbroker.TooManyRows):
        model.acquire(rows)


def test_acquire_times_out(model):
    with model.acquire(8):
        for timeout in (0, 0.01):
            with pytest.raises(ringbroker.AcquireTimeout):
                model.acquire(1, timeout)
    assert is_waiting(model, 0)


def test_rows_are_given_in_order_of_arrival(model):
    """A lease of many rows is not overtaken by a small one, though that would fit."""
    first, second = model.acquire(4), model.acquire(3)
    big = Background(model.acquire, 8)
    wait_until(lambda: is_waiting(model, 1))
    small = Background(model.acquire, 1)
    wait_until(lambda: is_waiting(model, 2))
    first.release()
    assert is_waiting(model, 2)
    second.release()
    got = big.result()
    assert is_waiting(model, 1)
    got.release()
    small.result().release()


def test_those_behind_one_that_gave_up_are_served(model):
    with model.acquire(4):
        big = Background(model.acquire, 8, 0.05)
        wait_until(lambda: is_waiting(model, 1))
        small = Background(model.acquire, 1)
        with pytest.raises(ringbroker.AcquireTimeout):
            big.result()
        small.result().release()


def test_waiting_beside_a_thread_that_reads(peer, model):
    held = peer.hold()
    lease = model.acquire(8)
    inferring = Background(lease.infer)
    session, infer = held.get(timeout=WAIT_S)
    waiting = Background(model.acquire, 8)
    wait_until(lambda: is_waiting(model, 1))
    session.answer(infer)
    inferring.result()
    lease.release()
    waiting.result().release()


def test_closing_tells_those_who_wait(model):
    lease = model.acquire(8)
    waiting = Background(model.acquire, 1)
    wait_until(lambda: is_waiting(model, 1))
    model.close()
    with pytest.raises(ringbroker.ClientClosed):
        waiting.result()
    with pytest.raises(ringbroker.ClientClosed):
        lease.infer()
    lease.release()


def test_those_who_wait_get_rows_of_the_next_ring(peer, model):
    with model.acquire(8):
        waiting = Background(model.acquire, 1)
        wait_until(lambda: is_waiting(model, 1))
        peer.restart()
        waiting.result().release()


def test_a_lost_connection_keeps_the_queue(peer, model):
    lease = model.acquire(8)
    waiting = Background(model.acquire, 1)
    wait_until(lambda: is_waiting(model, 1))
    peer.sessions[0].hang_up()
    wait_until(lambda: len(peer.sessions) == 2)
    lease.release()
    waiting.result().release()


def test_broker_that_is_gone_for_good_tells_those_who_wait(tmp_path):
    with Peer(tmp_path / "broker.sock") as peer:
        client = ringbroker.connect(peer.path, timeout=0.1)
        model = client.open("double", slots=8)
        lease = model.acquire(8)
        waiting = Background(model.acquire, 1)
        wait_until(lambda: is_waiting(model, 1))
    with pytest.raises(ringbroker.BrokerLost):
        waiting.result()
    assert is_waiting(model, 0)
    lease.release()
    client.close()


def test_no_rows_are_lost_among_many_threads(model):
    taken, most = [], 0

    def work(rows):
        nonlocal most
        for number in range(100):
            with model.acquire(rows) as lease:
                mine = set(range(lease.slot, lease.slot + rows))
                taken.append(mine)
                held = list(taken)
                assert not any(mine & other for other in held if other is not mine)
                most = max(most, sum(map(len, held)))
                lease.inputs["x"][:] = number
                assert (lease.infer()["y"] == 2 * number).all()
                taken.remove(mine)

    for one in [Background(work, rows) for rows in (1, 1, 2, 3, 5)]:
        one.result()
    assert most <= 8
    model.acquire(8, timeout=0).release()


def test_segment_is_mapped_once_and_its_name_gone(peer, model):
    model.acquire().release()
    wait_until(lambda: not Path(peer.segments[0].path).exists())
    assert peer.sessions[0].got(messages.Attached) == [messages.Attached(1, 0)]


@pytest.mark.parametrize("path", ["/dev/shm/ringbroker-there-is-none", "/dev/null"])
def test_segment_that_cannot_be_mapped(peer, client, path):
    def open_elsewhere(session, ask):
        ring = session.ring_of(ask, peer.models["double"])
        ring.segment = messages.SegmentInfo("path", path, ring.segment.bytes)
        session.send(ring)

    peer.on[messages.Open] = open_elsewhere
    peer.on[messages.Attached] = lambda session, told: None
    with pytest.raises(ringbroker.AttachFailed):
        client.open("double")
    wait_until(lambda: peer.sessions[0].got(messages.Attached))
    assert peer.sessions[0].got(messages.Attached) == [messages.Attached(1, Code.ATTACH_FAILED)]
    assert client.models()


def test_ring_that_is_not_as_the_protocol_says(peer, client):
    def open_wrongly(session, ask):
        ring = session.ring_of(ask, peer.models["double"])
        ring.segment = messages.SegmentInfo("path", ring.segment.path, ring.segment.bytes - mmap.PAGESIZE)
        session.send(ring)

    peer.on[messages.Open] = open_wrongly
    with pytest.raises(ringbroker.BadAnswer) as caught:
        client.open("double", slots=8)
    assert caught.value.path == "planes[1].offset"
    assert peer.sessions[0].got(messages.Attached) == []
    peer.on[messages.Open] = Session.open_ring
    client.open("double").close()


def test_ring_that_comes_too_late_is_given_back(peer, client):
    held = peer.hold(messages.Open)
    peer.on[messages.Attached] = lambda session, told: None
    with pytest.raises(ringbroker.Timeout):
        client.open("double", timeout=0.01)
    session, ask = held.get(timeout=WAIT_S)
    session.open_ring(ask)
    wait_until(lambda: client.models() and session.got(messages.Attached))
    assert session.got(messages.Attached) == [messages.Attached(1, Code.ATTACH_FAILED)]
