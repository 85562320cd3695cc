"""Models of other pools, and several connections to one."""

import threading

import numpy as np
import pytest
import ringbroker

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, Session, wait_until


def pools_of(peer):
    return [session.got(messages.Hello)[0].options.pool for session in peer.sessions]


def test_model_of_another_pool_gets_a_connection_of_its_own(peer, client):
    peer.pools["double"] = "large"
    with client.open("tokens"), client.open("double") as one, client.open("double") as two:
        assert one(np.ones((1, 4))).tolist() == two(np.ones((1, 4))).tolist() == [[2] * 4]
    assert pools_of(peer) == [None, "large"]
    assert [ask.model for ask in peer.sessions[1].got(messages.Open)] == ["double", "double"]


def test_model_that_moves_to_another_pool(peer, client):
    """Its ring ends with the reload, the next one is in the other pool."""
    with client.open("double") as model:
        peer.pools["double"] = "large"
        peer.changed[1] = Code.SIGNATURE_CHANGED
        peer.sessions[0].go_away()
        peer.sessions[0].hang_up()
        assert model(np.ones((1, 4))).tolist() == [[2] * 4]
    assert pools_of(peer) == [None, None, "large"]


def test_pool_that_is_gone(peer, client):
    """The session cannot be taken up, nor begun anew: the model is looked for elsewhere."""
    peer.pools["double"] = "large"
    with client.open("double") as model:
        model(np.ones((1, 4)))

        def greet(session, hello):
            if hello.options.pool == "large":
                session.fail(None, Code.UNKNOWN_POOL, "options.pool")
            else:
                session.welcome(hello)

        peer.on[messages.Hello] = greet
        peer.pools.clear()
        peer.tokens.clear()
        peer.sessions[1].hang_up()
        with pytest.raises(ringbroker.ModelError):
            model.acquire().infer()
        assert model(np.ones((1, 4))).tolist() == [[2] * 4]
    assert len(peer.sessions[0].got(messages.Open)) == 1


def test_wrong_pool_is_told(peer, client):
    peer.on[messages.Open] = lambda session, ask: session.fail(ask.id, Code.WRONG_POOL, "model")
    with pytest.raises(ringbroker.WrongPool):
        client.open("double")


def test_user_that_is_refused(peer):
    peer.on[messages.Hello] = lambda session, hello: session.fail(None, Code.PEER_REFUSED)
    with pytest.raises(ringbroker.PeerRefused):
        ringbroker.connect(peer.path, timeout=WAIT_S)


def test_leases_come_from_the_least_loaded_connection(peer):
    with ringbroker.connect(peer.path, conns=3) as client, client.open("double", slots=2) as model:
        assert (model.slots, model.max_rows) == (6, 2)
        leases = [model.acquire(timeout=0) for _ in range(6)]
        with pytest.raises(ringbroker.AcquireTimeout):
            model.acquire(timeout=0)
        for number, lease in enumerate(leases):
            lease.inputs["x"][:] = number
            assert lease.infer()["y"].tolist() == [[2 * number] * 4]
        assert [len(session.got(messages.Infer)) for session in peer.sessions] == [2, 2, 2]
        leases[3].release()
        model.acquire(timeout=0).release()
    assert len(peer.sessions) == 3


def test_connections_are_shared_by_the_models_of_a_pool(peer):
    peer.pools["tokens"] = "large"
    with ringbroker.connect(peer.path, conns=2) as client:
        for name in ("double", "double", "tokens"):
            client.open(name)
    assert pools_of(peer) == [None, "default", "large", "large"]


def test_connections_are_lost_one_by_one(peer):
    with ringbroker.connect(peer.path, conns=2) as client, client.open("double", slots=1) as model:
        one, other = model.acquire(), model.acquire()
        for lease in (one, other):
            lease.inputs["x"][:] = 3
        peer.sessions[0].hang_up()
        assert [lease.infer()["y"].tolist() for lease in (one, other)] == [[[6] * 4]] * 2
    assert len(peer.sessions) == 3


@pytest.mark.parametrize("freed", [0, 1])
def test_who_waits_gets_the_first_row_that_is_free_of_any_connection(peer, freed):
    with ringbroker.connect(peer.path, conns=2) as client, client.open("double", slots=1) as model:
        leases = [model.acquire(), model.acquire()]
        waiting = []
        for count in (1, 2):
            waiting.append(Background(model.acquire))
            wait_until(lambda count=count: len(model._rings.waiting) == count)
        for lease, one in zip((leases[freed], leases[1 - freed]), waiting, strict=True):
            lease.release()
            got = one.result()
            assert (got._ring, got.slot) == (lease._ring, lease.slot)


def test_a_late_answer_of_another_connection_frees_rows_for_who_waits(peer):
    held = peer.hold()
    with ringbroker.connect(peer.path, conns=2) as client, client.open("double", slots=1) as model:
        late = {}
        for lease in (model.acquire(), model.acquire()):
            with lease, pytest.raises(ringbroker.Timeout):
                lease.infer(timeout=0)
            session, infer = held.get(timeout=WAIT_S)
            late[session] = infer
        for session, infer in late.items():
            waiting = Background(model.acquire)
            wait_until(lambda: len(model._rings.waiting) == 1)
            session.answer(infer)
            waiting.result()


def test_a_ring_that_ended_is_opened_anew_beside_one_that_goes_on(peer):
    with ringbroker.connect(peer.path, conns=2) as client, client.open("double", slots=1) as model:
        model.acquire()
        lost = model.acquire()
        peer.changed[lost._ring.info.ring] = Code.SIGNATURE_CHANGED
        waiting = Background(model.acquire)
        wait_until(lambda: len(model._rings.waiting) == 1)
        peer.sessions[1].hang_up()
        with pytest.raises(ringbroker.SignatureChanged):
            lost.infer()
        assert waiting.result().infer()


def test_many_threads_on_two_connections(peer):
    all_rows = threading.Barrier(4)  # four of the threads have them at once, so both connections are used

    def ask(model, number):
        for turn in range(50):
            with model.acquire() as lease:
                if turn == 0 and number < all_rows.parties:
                    all_rows.wait(WAIT_S)
                lease.inputs["x"][:] = number
                assert lease.infer()["y"].tolist() == [[2 * number] * 4]

    with ringbroker.connect(peer.path, conns=2) as client, client.open("double", slots=2) as model:
        for one in [Background(ask, model, number) for number in range(6)]:
            one.result()
        assert [ring.load for ring in model._rings.all] == [0, 0]
    assert all(session.got(messages.Infer) for session in peer.sessions)


def test_setting():
    with pytest.raises(ValueError, match="conns"):
        ringbroker.connect(conns=0)


def test_version_of_open_and_of_infer(peer, client):
    with client.open("double", version="3") as model, model.acquire() as lease:
        assert lease.infer(version="3").version == "3"
        peer.on[messages.Infer] = lambda session, infer: session.fail(infer.id, Code.UNKNOWN_VERSION, "version")
        with pytest.raises(ringbroker.UnknownVersion):
            lease.infer(version="4")
        peer.on[messages.Infer] = Session.answer
    assert peer.sessions[0].got(messages.Open)[0].version == "3"
