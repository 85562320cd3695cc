"""Leases against a peer: what infer gives, what a timeout leaves, who gets the rows when."""

import contextlib
import gc
import signal

import numpy as np
import pytest
import ringbroker

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, wait_until


def test_infer_in_shared_memory(model):
    with model.acquire() as lease:
        lease.inputs["x"][:] = [1, 2, 3, 4]
        result = lease.infer()
        assert result["y"].tolist() == [[2, 4, 6, 8]]
        assert result["y"] is result.outputs["y"]
        assert result["y"].dtype == np.float32
        assert (result.version, result.queue_ns, result.compute_ns, result.batch_rows) == ("1", 11, 22, 1)
        lease.inputs["x"][:] = 5
        assert lease.infer(timeout=WAIT_S)["y"].tolist() == [[10] * 4]


def test_several_rows_and_their_slots(model):
    with model.acquire(3) as first, model.acquire(2) as second:
        assert (first.slot, first.rows, second.slot, second.rows) == (0, 3, 3, 2)
        first.inputs["x"][:] = np.arange(12).reshape(3, 4)
        second.inputs["x"][:] = -1
        assert first.infer()["y"].tolist() == (np.arange(12).reshape(3, 4) * 2).tolist()
        assert second.infer()["y"].tolist() == [[-2] * 4] * 2


def test_the_infer_that_is_sent(peer, model):
    with model.acquire(2) as lease:
        lease.infer()
        lease.infer(WAIT_S, version="1", trace="who")
        (plane,) = (plane for plane in peer.sessions[0].rings[1][1] if plane.direction == "in")
    plain, rare = peer.sessions[0].got(messages.Infer)
    inputs = ((plane.offset, (2, 4), "F32"),)
    expected = (1, 0, 2, inputs, None, None, None, messages.NO_INFER_EXTRA)
    assert (plain.ring, plain.slot, plain.rows, plain.inputs, plain.outputs) == expected[:5]
    assert (plain.deadline_ns, plain.version, plain.extra) == expected[5:]
    assert (rare.version, rare.extra.trace) == ("1", "who")
    assert rare.id != plain.id


def test_deadline_is_on_the_brokers_clock(peer, tmp_path):
    behind_ns = 10**15

    def welcome(session, hello):
        session.send(
            messages.Welcome(1, 0, 7, None, behind_ns, messages.Limits(65536, 1, 1, 1), 0, 1, messages.NOTHING)
        )

    peer.on[messages.Hello] = welcome
    with ringbroker.connect(peer.path) as client, client.open("double") as model, model.acquire() as lease:
        lease.infer(timeout=1000)
        lease.infer(timeout=1e30)
    sent, longest = (infer.deadline_ns for infer in peer.sessions[0].got(messages.Infer))
    assert behind_ns + 900 * 10**9 < sent < behind_ns + 1100 * 10**9
    assert sent < longest < 2**53


def test_error_of_the_model_leaves_the_lease_usable(peer, model):
    peer.on[messages.Infer] = lambda session, infer: session.fail(infer.id, Code.MODEL_FAILED)
    with model.acquire() as lease:
        with pytest.raises(ringbroker.ModelFailed):
            lease.infer()
        peer.on[messages.Infer] = type(peer.sessions[0]).answer
        lease.infer()


def test_timeout_cancels_and_leaves_the_lease_busy(peer, model):
    held = peer.hold()
    lease = model.acquire()
    with pytest.raises(ringbroker.Timeout):
        lease.infer(timeout=0)
    session, infer = held.get(timeout=WAIT_S)
    wait_until(lambda: session.got(messages.Cancel))
    assert session.got(messages.Cancel)[0].id == infer.id
    for use in (lease.infer, lambda: lease.inputs, lease.shape):
        with pytest.raises(ringbroker.LeaseBusy):
            use()
    session.fail(infer.id, Code.CANCELLED)
    wait_until(lambda: is_usable(lease))
    peer.on[messages.Infer] = type(session).answer
    lease.infer()
    lease.release()


def is_usable(lease):
    try:
        return lease.inputs is not None
    except ringbroker.LeaseBusy:
        return False


def test_rows_of_a_timed_out_request_stay_taken_until_its_answer(peer, client):
    held = peer.hold()
    with client.open("double", slots=1) as model:
        with model.acquire() as lease, pytest.raises(ringbroker.Timeout):
            lease.infer(timeout=0)
        with pytest.raises(ringbroker.AcquireTimeout):
            model.acquire(timeout=0)
        waiting = Background(model.acquire)
        session, infer = held.get(timeout=WAIT_S)
        session.answer(infer)
        waiting.result().release()


def test_deadline_exceeded_by_the_broker(peer, model):
    peer.on[messages.Infer] = lambda session, infer: session.fail(infer.id, Code.DEADLINE_EXCEEDED)
    with model.acquire() as lease, pytest.raises(TimeoutError) as caught:
        lease.infer(timeout=WAIT_S)
    assert type(caught.value) is ringbroker.DeadlineExceeded


def test_use_after_release(model):
    lease = model.acquire()
    lease.release()
    for use in (lease.release, lease.infer, lambda: lease.inputs, lease.shape):
        with pytest.raises(ringbroker.LeaseReleased):
            use()
    with model.acquire() as other:
        assert other.slot == 1  # the next one in ring order
        with pytest.raises(ringbroker.LeaseReleased):
            lease.infer()


def test_release_inside_the_with_block(model):
    with model.acquire() as lease:
        lease.release()


def test_second_thread_finds_the_lease_busy(peer, model):
    held = peer.hold()
    with model.acquire() as lease:
        first = Background(lease.infer)
        session, infer = held.get(timeout=WAIT_S)
        with pytest.raises(ringbroker.LeaseBusy):
            lease.infer()
        session.answer(infer)
        first.result()


def test_release_while_another_thread_infers_takes_effect_with_the_answer(peer, client):
    held = peer.hold()
    with client.open("double", slots=1) as model:
        lease = model.acquire()
        inferring = Background(lease.infer)
        session, infer = held.get(timeout=WAIT_S)
        lease.release()
        with pytest.raises(ringbroker.AcquireTimeout):
            model.acquire(timeout=0)
        session.answer(infer)
        inferring.result()
        model.acquire(timeout=0).release()


def test_short_rows_are_packed(peer, client):
    with client.open("tokens", slots=4) as model, model.acquire(2) as lease:
        inputs = lease.shape(seq=3)
        assert inputs["tokens"].shape == (2, 3)
        assert inputs["tokens"].strides == (16 * 8, 8)
        assert inputs["tokens"][1].flags.c_contiguous
        inputs["tokens"][:] = [[1, 2, 3], [4, 5, 6]]
        inputs["mask"][:] = [[True, True, False], [True, True, True]]
        result = lease.infer()
        assert result["score"].tolist() == [3, 15]
        assert result["echo"].tolist() == [[1, 2, 0], [4, 5, 6]]
        assert lease.shape()["tokens"].shape == (2, 16)
    (infer,) = peer.sessions[0].got(messages.Infer)
    assert [shape for _, shape, _ in infer.inputs] == [(2, 3), (2, 3)]


def test_shapes_that_do_not_fit(client):
    with client.open("tokens", slots=4, maxima={"seq": 8}) as model, model.acquire() as lease:
        for dims, code in (({"seq": 9}, Code.MAXIMUM_TOO_LARGE), ({"seq": 0}, Code.MAXIMUM_TOO_LARGE)):
            with pytest.raises(ringbroker.ModelError) as caught:
                lease.shape(**dims)
            assert caught.value.code == code
        with pytest.raises(ringbroker.ModelError) as caught:
            lease.shape(words=3)
        assert (caught.value.code, caught.value.path) == (Code.UNKNOWN_DIM, "dims.words")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda offset, shape, dtype: (offset + 4, shape, dtype),
        lambda offset, shape, dtype: (offset, (2, *shape[1:]), dtype),
        lambda offset, shape, dtype: (offset, (shape[0], 5), dtype),
        lambda offset, shape, dtype: (offset, (*shape, 1), dtype),
        lambda offset, shape, dtype: (offset, shape, "I32"),
        lambda offset, shape, dtype: (offset, (), dtype),
    ],
)
def test_result_that_describes_something_else(peer, model, spoil):
    def answer(session, infer):
        result = session.result_of(infer)
        result.outputs = tuple(spoil(*descriptor) for descriptor in result.outputs)
        session.send(result)

    peer.on[messages.Infer] = answer
    with model.acquire() as lease, pytest.raises(ringbroker.BadAnswer):
        lease.infer()


def test_result_without_outputs(peer, model):
    def answer(session, infer):
        result = session.result_of(infer)
        result.outputs = ()
        session.send(result)

    peer.on[messages.Infer] = answer
    with model.acquire() as lease:
        with pytest.raises(ringbroker.BadAnswer):
            lease.infer()
        with pytest.raises(ringbroker.BrokerLost):  # the connection was closed over it
            lease.infer()


def test_answer_of_another_kind(peer, model):
    peer.on[messages.Infer] = lambda session, infer: session.send(messages.Closed(infer.id, 1))
    with model.acquire() as lease, pytest.raises(ringbroker.BadAnswer):
        lease.infer()


def test_lost_broker(peer, model):
    peer.on[messages.Infer] = lambda session, infer: session.hang_up()
    lease = model.acquire()
    with pytest.raises(ringbroker.BrokerLost) as caught:
        lease.infer()
    assert caught.value.is_retryable
    with pytest.raises(ringbroker.BrokerLost):
        lease.infer()
    lease.release()
    with pytest.raises(ringbroker.LeaseReleased):
        lease.release()
    peer.on[messages.Infer] = type(peer.sessions[0]).answer
    with model.acquire() as lease:
        lease.inputs["x"][:] = 3
        assert lease.infer()["y"].tolist() == [[6] * 4]


def test_views_outlive_everything(peer, client):
    with client.open("double", slots=2) as model, model.acquire() as lease:
        lease.inputs["x"][:] = 7
        outputs = lease.infer()["y"]
    client.close()
    assert outputs.tolist() == [[14] * 4]


def test_leases_make_no_garbage(model):
    """A lease in a reference cycle would keep its ring's memory until the collector runs."""
    gc.collect()
    gc.disable()
    try:
        with model.acquire() as lease:
            lease.infer(timeout=WAIT_S)
        del lease
        assert gc.collect() == 0
    finally:
        gc.enable()


class Interrupted(Exception):  # noqa: N818 - a signal's, like KeyboardInterrupt
    pass


def test_signal_handler_that_raises_during_infer(no_collector, client):
    """The next inference on these rows is right, or says why not; and rows do not stay taken."""

    def interrupt(*_):
        nonlocal is_interrupted
        is_interrupted = True
        raise Interrupted

    def infer_until_interrupted(model, delay_us):
        with contextlib.suppress(ringbroker.BrokerLost), model.acquire() as lease:
            lease.inputs["x"][:] = delay_us
            signal.setitimer(signal.ITIMER_REAL, delay_us / 1e6)
            while not is_interrupted:
                lease.infer()

    is_interrupted = False
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with client.open("double", slots=2) as model:
            for delay_us in range(5, 605, 5):
                is_interrupted = False
                with contextlib.suppress(Interrupted):
                    infer_until_interrupted(model, delay_us)
                with contextlib.suppress(ringbroker.BrokerLost), model.acquire(timeout=WAIT_S) as lease:
                    lease.inputs["x"][:] = -delay_us
                    assert lease.infer(timeout=WAIT_S)["y"].tolist() == [[-2 * delay_us] * 4]
    finally:
        signal.signal(signal.SIGALRM, before)
