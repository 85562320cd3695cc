"""The model's one-call form, its facts, and its ring's second life."""

import numpy as np
import pytest
import ringbroker
from ringbroker.planes import view_rows

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, Model, Session, wait_until

STATE = Model(
    [("x", "F32", ("batch", 2), 0), ("state", "F32", (3, "batch", 2), 1), ("rate", "I64", (), None)],
    [("y", "F32", ("batch", 2), 0), ("next", "F32", (3, "batch", 2), 1)],
    lambda x, state, rate: [x * rate[:, None], state + 1],
)
LISTEN = Model(
    [("window", "F32", (3,), None), ("audio", "F32", ("batch", "samples"), 0), ("sr", "I64", (), None)],
    [("seconds", "F32", ("batch",), 0)],
    lambda window, audio, sr: [audio.sum(axis=1) / sr + window[:, 0]],
    {"samples": 8},
)
FOUND = Model(
    [("x", "F32", ("batch", 4), 0)],
    [("boxes", "F32", ("batch", "n", 2), 0), ("scores", "F32", ("batch", "n"), 0)],
    lambda x: [x[:, : int(x.max()) * 2].reshape(len(x), -1, 2), x[:, : int(x.max())]],
    {"n": 2},
)
ALONE = Model([("x", "I64", (2, 3), None)], [("sum", "I64", (), None)], lambda x: [x.sum(axis=(1, 2))], max_rows=1)


@pytest.fixture
def peer(peer):
    peer.models |= {"state": STATE, "alone": ALONE, "listen": LISTEN, "found": FOUND}
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


def rows_in_memory(peer, ring=1):
    """What stands in each plane of a ring, as `[slots, *sample]` by name."""
    _, planes, segment = peer.sessions[0].rings[ring]
    return {(plane.direction, plane.name): view_rows(plane, segment.buffer, 0, 4) for plane in planes}


def test_rows_of_a_batch_axis_that_is_not_first_lie_side_by_side(peer, client):
    """`[3, batch, 2]` is a plane `[slots, 3, 2]`: row i holds what stands at i of the batch axis."""
    with client.open("state", slots=4) as model:
        given = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
        outputs = model([[1, 2], [3, 4]], given, 1)
        assert outputs["next"].shape == (3, 2, 2)
        memory = rows_in_memory(peer)
        for row in range(2):
            assert memory["in", "state"][row].tolist() == given[:, row].tolist()
            assert memory["out", "next"][row].tolist() == (given[:, row] + 1).tolist()
        with model.acquire(2) as lease:
            assert lease.inputs["state"].shape == (2, 3, 2)
            lease.inputs["x"][:] = 0
            lease.inputs["state"][:] = np.moveaxis(given, 1, 0)
            assert lease.infer()["next"].tolist() == np.moveaxis(given + 1, 1, 0).tolist()


@pytest.mark.parametrize("rows", [1, 3])
def test_uniform_inputs_are_in_every_row(peer, client, rows):
    with client.open("listen", slots=4) as model:
        audio = np.ones((rows, 8), np.float32)
        assert model([5, 6, 7], audio, sr=2).tolist() == [9] * rows
        memory = rows_in_memory(peer)
        assert memory["in", "sr"][:rows].tolist() == [2] * rows
        assert memory["in", "window"][:rows].tolist() == [[5, 6, 7]] * rows
        assert model([5, 6, 7], audio[:, :4], sr=2).tolist() == [7] * rows
        with model.acquire(rows) as lease:
            assert {name: view.shape for name, view in lease.inputs.items()} == {
                "window": (rows, 3), "audio": (rows, 8), "sr": (rows,),
            }  # fmt: skip


def test_uniform_inputs_that_differ_are_the_brokers_to_refuse(peer, client):
    peer.on[messages.Infer] = lambda session, infer: session.fail(infer.id, Code.UNIFORM_MISMATCH, "inputs[2]")
    with client.open("listen", slots=4) as model, model.acquire(2) as lease:
        lease.inputs["sr"][:] = [8000, 16000]
        with pytest.raises(ringbroker.RingError) as caught:
            lease.infer()
        assert (caught.value.code, caught.value.path) == (Code.UNIFORM_MISMATCH, "inputs[2]")


def test_open_dims_have_the_size_that_the_result_tells(client):
    with client.open("found", slots=4) as model:
        assert model.outputs["boxes"].sample == (2, 2)
        for n in (0, 1, 2):
            x = np.array([[n, 0.5, -1, -2], [0, 0.25, -3, -4]])
            outputs = model(x)
            assert outputs["boxes"].tolist() == x[:, : 2 * n].reshape(2, n, 2).tolist()
            assert outputs["scores"].tolist() == x[:, :n].tolist()
            assert outputs["boxes"].shape == (2, n, 2)
            with model.acquire(2) as lease:
                lease.inputs["x"][:] = x
                result = lease.infer()
                assert (result["boxes"].shape, result["scores"].shape) == ((2, n, 2), (2, n))
                assert result["scores"].tolist() == x[:, :n].tolist()


def test_an_open_dims_maximum_may_be_smaller(client):
    with client.open("found", slots=4, maxima={"n": 1}) as model:
        assert {name: plane.sample for name, plane in model.outputs.items()} == {"boxes": (1, 2), "scores": (1,)}
        with model.acquire() as lease, pytest.raises(ringbroker.ModelError):
            lease.shape(n=1)  # it is no input's


def test_an_output_that_is_too_large(peer, client):
    peer.on[messages.Infer] = lambda session, infer: session.fail(
        infer.id, Code.OUTPUT_TOO_LARGE, "outputs[0]", messages.ErrorExtra(96)
    )
    with client.open("found", slots=4) as model:
        with pytest.raises(ringbroker.OutputTooLarge) as caught:
            model(np.zeros((1, 4)))
        assert (caught.value.path, caught.value.needed_bytes) == ("outputs[0]", 96)


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [((1, 3, 2), (1, 2)), ((1, 2, 2), (1, 3)), ((1, 2, 1), (1, 2)), ((1, 2, 0), (1, 2)), ((1, 4), (1, 2))],
)
def test_a_result_that_is_larger_or_of_another_fixed_dim(peer, client, boxes, scores):
    def answer(session, infer):
        result = session.result_of(infer)
        shapes = (boxes, scores)
        result.outputs = tuple(
            (offset, shape, dtype) for (offset, _, dtype), shape in zip(result.outputs, shapes, strict=True)
        )
        session.send(result)

    peer.on[messages.Infer] = answer
    with client.open("found", slots=4) as model, model.acquire() as lease:
        lease.inputs["x"][:] = 0
        with pytest.raises(ringbroker.BadAnswer):
            lease.infer()


def test_a_result_that_is_longer_than_its_request(peer, client):
    def answer(session, infer):
        result = session.result_of(infer)
        result.outputs = tuple(
            (offset, (*shape[:1], *[16] * len(shape[1:])), dtype) for offset, shape, dtype in result.outputs
        )
        session.send(result)

    peer.on[messages.Infer] = answer
    with client.open("tokens", slots=4) as model, model.acquire() as lease:
        lease.shape(seq=3)
        with pytest.raises(ringbroker.BadAnswer):
            lease.infer()


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
    with client.open("tokens") as model, pytest.raises(TypeError, match=r"'tokens'.*float64.*int64"):
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
    assert peer.sessions[-1].got(messages.Open)[0].slots == 8


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
    assert len(peer.sessions[-1].got(messages.Open)) == 1


def restart_and_notice(peer, model):
    with model.acquire() as lease:
        peer.restart()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()


def test_acquire_keeps_its_time_while_another_thread_opens_the_ring(peer, model):
    restart_and_notice(peer, model)
    held = peer.hold(messages.Open)
    first = Background(model.acquire, timeout=WAIT_S)
    session, ask = held.get(timeout=WAIT_S)
    with pytest.raises(ringbroker.AcquireTimeout):
        model.acquire(timeout=0.05)
    session.open_ring(ask)
    first.result().release()


def test_a_closed_model_does_not_look_for_the_broker(peer, model):
    peer.restart()
    model.close()
    with pytest.raises(ringbroker.ClientClosed):
        model.acquire(timeout=WAIT_S)
    assert len(peer.sessions) == 1


def test_close(peer, client):
    model = client.open("double")
    model.close()
    model.close()
    client.ping()  # what was sent before it has been read by then
    assert len(peer.sessions[0].got(messages.Close)) == 1
    with pytest.raises(ringbroker.ClientClosed):
        model.acquire()
    with pytest.raises(ringbroker.ClientClosed):
        model(np.ones((1, 4)))


def test_close_does_not_wait_for_a_busy_broker(peer, client):
    held = peer.hold(messages.Close)
    client.open("double").close()
    session, ask = held.get(timeout=WAIT_S)
    session.close_ring(ask)  # an answer that nobody waits for disturbs nobody
    assert client.ping() > 0
    assert len(peer.sessions) == 1


def test_close_while_another_thread_opens_the_ring_again(peer, client):
    model = client.open("double")
    restart_and_notice(peer, model)
    held = peer.hold(messages.Open)
    acquiring = Background(model.acquire, timeout=WAIT_S)
    session, ask = held.get(timeout=WAIT_S)
    model.close()
    session.open_ring(ask)
    with pytest.raises(ringbroker.ClientClosed):
        acquiring.result()
    wait_until(lambda: session.got(messages.Close))


def test_close_after_the_broker_was_lost(peer, client):
    with client.open("double") as model, model.acquire() as lease:
        peer.restart()
        with pytest.raises(ringbroker.BrokerLost):
            lease.infer()
