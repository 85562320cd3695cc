"""A session's second connection: what stays, what is sent again, what is told (spec section 9)."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import ringbroker

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import TOKENS, WAIT_S, Background, Peer, Session, wait_until


def lose_once(peer):
    """The next INFER is not answered: its worker is lost instead."""

    def hang_up(session, infer):
        peer.on[messages.Infer] = Session.answer
        session.hang_up()

    peer.on[messages.Infer] = hang_up


def held_by(lease):
    lease.inputs["x"][:] = [1, 2, 3, 4]
    return lease


def test_lost_request_is_told_and_the_lease_goes_on(peer, model):
    with held_by(model.acquire()) as lease:
        lose_once(peer)
        with pytest.raises(ringbroker.BrokerLost) as caught:
            lease.infer()
        assert caught.value.is_retryable
        assert lease.infer()["y"].tolist() == [[2, 4, 6, 8]]
    first, second = (session.got(messages.Hello)[0].options.resume for session in peer.sessions)
    assert (first, second) == (None, "token-1")
    assert peer.sessions[1].got(messages.Open) == peer.sessions[1].got(messages.Attached) == []


@pytest.mark.parametrize("where", ["connect", "open"])
def test_repost(peer, where):
    with (
        ringbroker.connect(peer.path, repost=where == "connect") as client,
        client.open("double", repost=None if where == "connect" else True) as model,
        held_by(model.acquire()) as lease,
    ):
        lose_once(peer)
        assert lease.infer()["y"].tolist() == [[2, 4, 6, 8]]
    one, other = (session.got(messages.Infer)[0] for session in peer.sessions)
    assert one.id != other.id
    assert one.inputs == other.inputs


def test_repost_keeps_version_and_trace(peer):
    with ringbroker.connect(peer.path, repost=True) as client, client.open("double") as model:
        lose_once(peer)
        assert model.acquire().infer(version="7", trace="who").version == "7"
    assert peer.sessions[1].got(messages.Infer)[0].extra.trace == "who"


def test_repost_is_bounded(peer):
    """A request that ends its worker does not end every worker."""
    peer.on[messages.Infer] = lambda session, infer: session.hang_up()
    with ringbroker.connect(peer.path, repost=True) as client, client.open("double") as model:
        lease = model.acquire()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()
    assert sum(len(session.got(messages.Infer)) for session in peer.sessions) == 3


def test_stateful_model_is_not_asked_twice(peer):
    peer.ring_options = messages.RingOptions(True)
    with ringbroker.connect(peer.path, repost=True) as client, client.open("double") as model:
        lose_once(peer)
        lease = model.acquire()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()
    assert sum(len(session.got(messages.Infer)) for session in peer.sessions) == 1


@pytest.mark.parametrize("repost", [False, True])
def test_why_the_worker_was_ended(peer, repost):
    peer.lost = Code.EXECUTION_TIMEOUT
    with ringbroker.connect(peer.path, repost=repost) as client, client.open("double") as model:
        lease = held_by(model.acquire())
        lose_once(peer)
        with pytest.raises(ringbroker.ExecutionTimeout):
            lease.infer()
        assert lease.infer()["y"].tolist() == [[2, 4, 6, 8]]


def test_what_cannot_have_been_seen_is_sent_again_unasked(peer, model):
    """A held lease of a client that did nothing while its worker was lost, even of a stateful model."""
    peer.ring_options = messages.RingOptions(True)
    with held_by(model.acquire()) as lease:
        peer.sessions[0].hang_up()
        assert lease.infer()["y"].tolist() == [[2, 4, 6, 8]]


def test_many_threads_in_flight_are_told_once_each(peer, client):
    with client.open("double", slots=8) as model:
        held = peer.hold()
        leases = [held_by(model.acquire()) for _ in range(8)]
        inferring = [Background(lease.infer) for lease in leases]
        ((session, _), *_) = [held.get(timeout=WAIT_S) for _ in leases]
        peer.on[messages.Infer] = Session.answer
        session.hang_up()
        for one in inferring:
            with pytest.raises(ringbroker.BrokerLost):
                one.result()
        for one in [Background(lease.infer) for lease in leases]:
            assert one.result()["y"].tolist() == [[2, 4, 6, 8]]
    assert len(peer.sessions) == 2


def test_changed_signature(peer, model):
    lease, bystander = model.acquire(), model.acquire()
    view = lease.inputs["x"]
    peer.changed[1] = Code.SIGNATURE_CHANGED
    peer.models["double"] = TOKENS
    peer.sessions[0].hang_up()
    for one in (lease, bystander):
        with pytest.raises(ringbroker.SignatureChanged):
            one.infer()
    view[:] = 1  # the memory is nobody's, and still there
    assert list(lease.inputs) == ["x"]
    lease.release()
    bystander.release()
    with model.acquire() as lease:
        assert list(lease.inputs) == ["tokens", "mask"]
        lease.infer()
    assert list(model.inputs) == ["tokens", "mask"]


def test_refused_token(peer, model):
    """The session was kept for too long: the lease is lost, the model goes on with another ring."""
    with held_by(model.acquire()) as lease:
        peer.restart()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()
        lease.inputs["x"][:] = 5
    assert model(np.ones((1, 4))).tolist() == [[2] * 4]
    assert [session.got(messages.Hello)[0].options.resume for session in peer.sessions] == [None, "token-1", None]


def test_welcome_that_comes_late_is_waited_for_by_the_next_call(peer, model):
    """A connection whose HELLO carries the token is the session: closing it would end the session."""
    lease = held_by(model.acquire())
    lose_once(peer)
    held = peer.hold(messages.Hello)
    with pytest.raises(ringbroker.BrokerLost):
        lease.infer(timeout=0.05)
    for _ in range(2):
        with pytest.raises(ringbroker.Timeout):
            lease.infer(timeout=0.01)
    session, hello = held.get(timeout=WAIT_S)
    session.welcome(hello)
    assert lease.infer()["y"].tolist() == [[2, 4, 6, 8]]
    lease.release()
    assert len(peer.sessions) == 2


def test_broker_that_is_full_is_tried_again(peer, model):
    refusals = iter(range(3))

    def welcome(session, hello):
        if next(refusals, None) is None:
            session.welcome(hello)
        else:
            session.fail(None, Code.TOO_MANY_CONNECTIONS)

    with held_by(model.acquire()) as lease:
        peer.on[messages.Hello] = welcome
        peer.sessions[0].hang_up()
        assert lease.infer()["y"].tolist() == [[2, 4, 6, 8]]


def test_ring_that_was_closed_while_nobody_was_there_is_closed_again(peer, client):
    with client.open("double") as model:
        other = client.open("double")
        peer.sessions[0].hang_up()
        client._links[0].connection.look()
        other.close()
        model(np.ones((1, 4)))
    assert [ask.ring for ask in peer.sessions[1].got(messages.Close)][:1] == [2]


def test_ring_whose_attached_did_not_come_is_opened_again(peer, client):
    def lose(session, told):
        peer.on[messages.Attached] = Session.attached
        session.rings.pop(told.ring)
        session.hang_up()

    peer.on[messages.Attached] = lose
    with client.open("double") as model:
        for _ in range(2):
            try:
                assert model(np.ones((1, 4))).tolist() == [[2] * 4]
            except ringbroker.BrokerLost:  # the loss was seen only when the request was sent
                continue
        assert model.acquire(8).rows == 8


def test_open_is_asked_again(peer, client):
    def lose(session, ask):
        peer.on[messages.Open] = Session.open_ring
        session.hang_up()

    peer.on[messages.Open] = lose
    with client.open("double") as model:
        assert model(np.ones((1, 4))).tolist() == [[2] * 4]


def test_rows_of_a_timed_out_request_are_free_after_the_loss(peer, client):
    peer.hold()
    with client.open("double", slots=1) as model:
        with model.acquire() as lease, pytest.raises(ringbroker.Timeout):
            lease.infer(timeout=0)
        peer.on[messages.Infer] = Session.answer
        peer.sessions[0].hang_up()
        assert model(np.ones((1, 4)), timeout=WAIT_S).tolist() == [[2] * 4]


def test_goaway_is_invisible(peer, client):
    """What is in flight is answered by the old connection, what comes later by the new one; nothing is asked twice."""
    with client.open("double", slots=8) as model:
        held = peer.hold()
        first = held_by(model.acquire())
        inferring = Background(first.infer)
        old, infer = held.get(timeout=WAIT_S)
        peer.on[messages.Infer] = Session.answer
        old.go_away()
        wait_until(lambda: not client._links[0].connection.protocol.is_taking)
        later = Background(model, np.ones((1, 4)))
        assert client._links[0].connection.error is None
        old.answer(infer)
        assert inferring.result()["y"].tolist() == [[2, 4, 6, 8]]
        assert later.result().tolist() == [[2] * 4]
        assert first.infer()["y"].tolist() == [[2, 4, 6, 8]]
    assert len(peer.sessions) == 2
    assert len(old.got(messages.Infer)) == 1


def test_goaway_under_load(peer, client):
    """Threads that never stop asking see nothing of five generations."""
    is_over = threading.Event()

    def ask(model, number):
        count = 0
        while not is_over.is_set():
            with model.acquire() as lease:
                lease.inputs["x"][:] = number
                assert lease.infer(timeout=WAIT_S)["y"].tolist() == [[2 * number] * 4]
            count += 1
        return count

    with client.open("double", slots=4) as model:
        asking = [Background(ask, model, number) for number in range(6)]
        for generation in range(5):
            session = peer.sessions[-1]
            wait_until(lambda session=session: session.got(messages.Infer))
            session.go_away()
            wait_until(lambda generation=generation: len(peer.sessions) > generation + 1)
        is_over.set()
        assert all(one.result() for one in asking)
    asked = sum(len(session.got(messages.Infer)) for session in peer.sessions)
    assert asked >= 6


def test_goaway_to_a_client_that_does_nothing(peer, model):
    """It was sent away, and its connection closed, before its next call."""
    peer.sessions[0].go_away()
    peer.sessions[0].hang_up()
    assert model(np.ones((1, 4))).tolist() == [[2] * 4]
    assert len(peer.sessions) == 2


def test_goaway_waits_no_longer_than_the_call(peer, client):
    held = peer.hold()
    with client.open("double", slots=8) as model:
        inferring = Background(model.acquire().infer)
        old, infer = held.get(timeout=WAIT_S)
        old.go_away()
        with model.acquire() as lease, pytest.raises(ringbroker.Timeout):
            wait_until(lambda: not client._links[0].connection.protocol.is_taking)
            lease.infer(timeout=0.01)
        old.answer(infer)
        inferring.result()


def test_no_descriptor_is_left(tmp_path):
    def count():
        gc.collect()  # the connections of other tests
        return len(list(Path("/proc/self/fd").iterdir()))

    with (
        Peer(tmp_path / "broker.sock") as peer,
        ringbroker.connect(peer.path, segments="fd") as client,
        client.open("double") as model,
    ):
        model(np.ones((1, 4)))
        before = count()
        for _ in range(10):
            peer.sessions[-1].hang_up()
            model(np.ones((1, 4)))
        wait_until(lambda: sum(session.socket.fileno() >= 0 for session in peer.sessions) == 1)
        assert count() == before


def test_a_call_waits_no_longer_than_its_time_for_one_that_connects(peer, model):
    first, second = model.acquire(), model.acquire()
    held = peer.hold(messages.Hello)
    peer.sessions[0].hang_up()
    inferring = Background(held_by(first).infer)
    session, hello = held.get(timeout=WAIT_S)
    with pytest.raises(ringbroker.Timeout):
        second.infer(timeout=0.01)
    session.welcome(hello)
    assert inferring.result()["y"].tolist() == [[2, 4, 6, 8]]


def test_close_ends_a_call_that_connects(peer, model, client):
    lease = model.acquire()
    held = peer.hold(messages.Hello)
    peer.sessions[0].hang_up()
    inferring = Background(lease.infer)
    held.get(timeout=WAIT_S)
    client.close()
    with pytest.raises(ringbroker.ClientClosed):
        inferring.result()


def test_close_ends_a_call_that_waits_for_a_broker(tmp_path):
    with Peer(tmp_path / "broker.sock") as peer:
        client = ringbroker.connect(peer.path, timeout=WAIT_S)
        model = client.open("double")
        lease = model.acquire()
    with pytest.raises(ringbroker.BrokerLost):  # a session does not outlive its broker, so nobody waits for one here
        lease.infer()
    acquiring = Background(model.acquire)
    wait_until(lambda: client._links[0]._connecting.locked())
    client.close()
    with pytest.raises(ringbroker.ClientClosed):
        acquiring.result()
