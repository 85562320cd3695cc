"""The model's one-call form, its facts, and its ring's second life."""

import numpy as np
import pytest
import ringbroker

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, Model, Session

STATE = Model(
    [("x", "F32", ("batch", 2), 0), ("state", "F32", (3, "batch", 2), 1), ("rate", "I64", (), None)],
    [("y", "F32", ("batch", 2), 0), ("next", "F32", (3, "batch", 2), 1)],
    lambda x, state, rate: [x * rate[:, None], state + 1],
)
ALONE = Model([("x", "I64", (2, 3), None)], [("sum", "I64", (), None)], lambda x: [x.sum(axis=(1, 2))], max_rows=1)


@pytest.fixture
def peer(peer):
    peer.models |= {"state": STATE, "alone": ALONE}
    return peer


def test_facts(client):
    with client.open("tokens", slots=4, maxima={"seq": 8}) as model:
        assert (model.name, model.version, model.slots, model.max_rows) == ("tokens", "1", 4, 4)
        assert {name: plane.sample for name, plane in model.inputs.items()} == {"tokens": (8,), "mask": (8,)}
        assert {name: plane.dtype for name, plane in model.outputs.items()} == {"score": "F32", "echo": "I64"}
        assert model.signature.dims == {"seq": 16}


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_one_output_is_the_array_itself(model, rows):
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    y = model(x)
    assert y.tolist() == (2 * x).tolist()
    assert y.flags.owndata
    assert model(x=x.astype(np.float64)).tolist() == (2 * x).tolist()
    assert model(x.tolist()).tolist() == (2 * x).tolist()


def test_several_outputs_are_a_dict_and_short_dims_are_seen(client):
    with client.open("tokens", slots=4) as model:
        outputs = model([[1, 2], [3, 4]], mask=[[True, True], [False, True]])
        assert outputs["score"].tolist() == [3, 4]
        assert outputs["echo"].tolist() == [[1, 2], [0, 4]]
        assert model(tokens=np.ones((1, 16), int), mask=np.ones((1, 16), bool))["score"].tolist() == [16]


def test_batch_axis_that_is_not_first_and_input_without_one(client):
    with client.open("state", slots=4) as model:
        state = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
        outputs = model([[1, 2], [3, 4]], state, 10)
        assert outputs["y"].tolist() == [[10, 20], [30, 40]]
        assert outputs["next"].tolist() == (state + 1).tolist()


def test_model_without_a_batch_axis(client):
    with client.open("alone", slots=2) as model:
        assert model([[1, 2, 3], [4, 5, 6]]).tolist() == 21


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (np.zeros(4), Code.WRONG_RANK),
        (np.zeros((1, 2, 2)), Code.WRONG_RANK),
        (np.zeros((1, 5)), Code.WRONG_DIM),
        (np.zeros((1, 0)), Code.WRONG_DIM),
        (np.zeros((0, 4)), Code.TOO_MANY_ROWS),
        (np.zeros((9, 4)), Code.TOO_MANY_ROWS),
    ],
)
def test_shapes_that_do_not_fit(model, given, code):
    with pytest.raises(ringbroker.RingError) as caught:
        model(given)
    assert caught.value.code == code
    model.acquire(8, timeout=0).release()


def test_different_numbers_of_rows(client):
    with client.open("tokens") as model, pytest.raises(ringbroker.RingError):
        model(np.zeros((2, 4), int), np.zeros((3, 4), bool))


def test_inputs_by_the_wrong_name_or_number(model):
    x = np.zeros((1, 4))
    for arrays, named in (((), {}), ((x, x), {}), ((x,), {"x": x}), ((), {"z": x}), ((x,), {"z": x})):
        with pytest.raises(TypeError):
            model(*arrays, **named)


def test_values_are_not_cast_unsafely(client):
    with client.open("tokens") as model, pytest.raises(TypeError):
        model(np.zeros((1, 4)), np.zeros((1, 4), bool))


def test_call_times_out(peer, model):
    held = peer.hold()
    with pytest.raises(ringbroker.Timeout):
        model(np.zeros((8, 4)), timeout=0.01)
    with pytest.raises(ringbroker.AcquireTimeout):
        model(np.zeros((8, 4)), timeout=0.01)
    session, infer = held.get(timeout=WAIT_S)
    session.answer(infer)
    peer.on[messages.Infer] = Session.answer
    assert model(np.ones((8, 4)), timeout=WAIT_S).tolist() == [[2] * 4] * 8


def test_ring_is_opened_again_after_a_restart(peer, model):
    model(np.ones((1, 4)))
    peer.restart()
    lost = 0
    for _ in range(2):
        try:
            assert model(np.ones((1, 4))).tolist() == [[2] * 4]
        except ringbroker.BrokerLost:
            lost += 1
    assert lost <= 1
    assert len(peer.sessions) == 2
    assert peer.sessions[1].got(messages.Open)[0].slots == 8


def test_many_threads_open_one_ring_again(peer, model):
    peer.restart()

    def call_until_it_works():
        while True:
            try:
                return model(np.ones((1, 4))).tolist()
            except ringbroker.BrokerLost:
                continue

    for one in [Background(call_until_it_works) for _ in range(6)]:
        assert one.result() == [[2] * 4]
    assert len(peer.sessions) == 2
    assert len(peer.sessions[1].got(messages.Open)) == 1


def notice_the_loss(model):
    with model.acquire() as lease, pytest.raises(ringbroker.BrokerLost):
        lease.infer()


def test_acquire_keeps_its_time_while_another_thread_opens_the_ring(peer, model):
    peer.restart()
    notice_the_loss(model)
    held = peer.hold(messages.Open)
    first = Background(model.acquire, timeout=WAIT_S)
    session, ask = held.get(timeout=WAIT_S)
    with pytest.raises(ringbroker.AcquireTimeout):
        model.acquire(timeout=0.05)
    session.open_ring(ask)
    first.result().release()


def test_a_closed_model_does_not_look_for_the_broker(peer, model):
    peer.restart()
    notice_the_loss(model)
    model.close()
    with pytest.raises(ringbroker.ClientClosed):
        model.acquire(timeout=WAIT_S)
    assert len(peer.sessions) == 1


def test_close(peer, client):
    model = client.open("double")
    model.close()
    model.close()
    assert len(peer.sessions[0].got(messages.Close)) == 1
    with pytest.raises(ringbroker.ClientClosed):
        model.acquire()
    with pytest.raises(ringbroker.ClientClosed):
        model(np.ones((1, 4)))


def test_close_after_the_broker_was_lost(peer, client):
    with client.open("double") as model, model.acquire() as lease:
        peer.restart()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()
