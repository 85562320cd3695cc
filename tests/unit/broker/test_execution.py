"""From requests to forward calls, on real rings: slices, strided and gathered rows, uniform inputs, open dims.

A model writes down how it was called, so that a right answer by the wrong way is found too.
"""

import numpy as np
import pytest
import torch

from broker.batcher import Batch, Batcher, Form, Request
from broker.engine.models import inference_mode
from broker.execution import execute
from broker.validation import check, look
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from tests.conformance.reference_models import Model
from tests.unit.broker.parts import catalog_of, infer, load_model, open_message, open_ring, told

LIMITS = messages.Limits(65536, 2**24, 64, 4)
CALLS = []


def noting(run, inputs, outputs, **more):
    def noted(*tensors):
        CALLS.append([(tuple(tensor.shape), tensor.is_contiguous()) for tensor in tensors])
        return run(*tensors)

    return Model(noted, inputs, outputs, **more)


def double():
    return noting(lambda x: 2 * x, {"x": "F32[batch,seq]"}, {"y": "F32[batch,seq]"}, maxima={"seq": 6})


def permuted():
    """As a recurrent model's state: the batch axis is the second."""
    sides = {"state": "F32[2,batch,3]"}, {"next": "F32[2,batch,3]"}
    return noting(lambda state: state + torch.tensor([10.0, 20.0]).view(2, 1, 1), *sides)


def fussy():
    """Right only for rows that are adjacent."""
    return noting(
        lambda x: 2 * x.as_strided(x.shape, (x.shape[1], 1)),
        {"x": "F32[batch,seq]"},
        {"y": "F32[batch,seq]"},
        maxima={"seq": 6},
    )


def scaled():
    return noting(lambda x, rate: x * rate, {"x": "F32[batch,2]", "rate": "I64[]"}, {"y": "F32[batch,2]"})


def masked():
    return noting(lambda x, keep: x * keep, {"x": "F32[batch,2]", "keep": "BOOL[batch,2]"}, {"y": "F32[batch,2]"})


def positive():
    return noting(lambda x: x[x > 0], {"x": "F32[6]"}, {"y": "F32[n]"}, maxima={"n": 6})


@pytest.fixture
def opened(store):
    """A function: a ring of a model of this module, and numpy views of its planes."""

    def opened(name, slots=8, maxima=None, **said):
        model = load_model(f"{__name__}:{name}", **said) if isinstance(name, str) else name
        ask = open_message(1, model.name, slots=slots, maxima=maxima)
        ring = open_ring(catalog_of([model]), store, ask, LIMITS)
        CALLS.clear()
        return ring, {plane.name: view(ring, plane) for plane in ring.planes}

    return opened


def view(ring, plane):
    dtype = {"F32": np.float32, "I64": np.int64, "BOOL": np.uint8}[plane.dtype]
    count = ring.slots * plane.stride // np.dtype(dtype).itemsize
    return np.frombuffer(ring.segment.buffer, dtype, count, plane.offset).reshape(ring.slots, *plane.sample)


def request(ring, slot, rows=1, samples=None):
    asked = infer(told(ring), slot, slot, rows, samples=samples)
    _, form = check(ring, asked)
    if ring.looked_at_bytes:
        form = look(ring, slot, rows, form)
    return Request(None, ring, slot, slot, rows, form, None, 0, None, ring.model)


def run(*requests):
    """Run everything that waits; the outcomes, and each run's span."""
    batcher = Batcher()
    for each in requests:
        batcher.add(each)
    outcomes = []
    with inference_mode():
        while (batch := batcher.start(1)) is not None:
            outcomes.append(execute(batch))
            batcher.finish(batch)
    return outcomes


def test_full_rows_are_one_slice(opened):
    ring, planes = opened("double")
    planes["x"][:] = np.arange(48).reshape(8, 6)
    assert run(request(ring, 2), request(ring, 3, 2)) == [(None, 3)]
    assert CALLS == [[((3, 6), True)]]
    assert np.array_equal(planes["y"][2:5], 2 * planes["x"][2:5])
    assert not planes["y"][[0, 1, 5, 6, 7]].any()


def test_short_rows_go_as_they_are_to_a_model_that_takes_strides(opened):
    ring, planes = opened("double")
    planes["x"][:] = np.arange(48).reshape(8, 6)
    assert run(request(ring, 2, 2, [(4,)])) == [(None, 2)]
    assert CALLS == [[((2, 4), False)]]
    assert np.array_equal(planes["y"][2:4, :4], 2 * planes["x"][2:4, :4])
    assert not planes["y"][2:4, 4:].any(), "what is behind a short row is left alone"


@pytest.mark.parametrize(("gather", "calls", "batch_rows"), [("never", [1, 1, 1], 1), ("always", [3], 3)])
def test_short_rows_of_a_model_that_takes_no_strides(opened, gather, calls, batch_rows):
    ring, planes = opened("fussy", gather=gather)
    planes["x"][:] = np.arange(48).reshape(8, 6)
    assert run(request(ring, 2, 3, [(4,)])) == [(None, batch_rows)]
    assert [[((rows, 4), True)] for rows in calls] == CALLS
    assert np.array_equal(planes["y"][2:5, :4], 2 * planes["x"][2:5, :4])
    assert ring.model.plan.ledger.gathered_bytes == (2 * 3 * 4 * 4 if gather == "always" else 0)


@pytest.mark.parametrize("gather", ["never", "always"])
def test_a_batch_axis_that_is_not_first(opened, gather):
    ring, planes = opened("permuted", gather=gather)
    planes["state"][:] = np.arange(48).reshape(8, 2, 3)
    run(request(ring, 1, 3), request(ring, 6))
    expected = planes["state"] + np.array([10, 20]).reshape(1, 2, 1)
    assert np.array_equal(planes["next"][[1, 2, 3, 6]], expected[[1, 2, 3, 6]])
    assert [shapes for ((shapes, _),) in CALLS] == ([(2, 4, 3)] if gather == "always" else [(2, 3, 3), (2, 1, 3)])


def test_rings_gathered_into_one_batch(opened):
    first, a = opened("double", gather="always")
    second, b = opened(first.model, slots=4)
    a["x"][:], b["x"][:] = np.arange(48).reshape(8, 6), -np.arange(24).reshape(4, 6)
    run(request(first, 0), request(first, 5, 2), request(second, 3), request(second, 0))
    assert CALLS == [[((5, 6), True)]]
    assert np.array_equal(a["y"][[0, 5, 6]], 2 * a["x"][[0, 5, 6]])
    assert np.array_equal(b["y"][[0, 3]], 2 * b["x"][[0, 3]])
    assert not a["y"][[1, 2, 3, 4, 7]].any()
    assert first.model.plan.ledger.gathered_bytes == 2 * 5 * 6 * 4


def test_uniform_values_are_read_once_and_only_equal_ones_share_a_batch(opened):
    ring, planes = opened("scaled", uniform=frozenset({"rate"}))
    planes["x"][:] = 1
    planes["rate"][:] = [3, 3, 5, 3, 3, 3, 3, 3]
    requests = [request(ring, slot) for slot in range(4)]
    planes["rate"][:] = 100
    assert [outcome.batch_rows for outcome in run(*requests)] == [2, 1, 1]
    assert planes["y"][:4, 0].tolist() == [3, 3, 5, 3]
    assert ring.model.plan.ledger.inputs_bytes == 3 * 8
    assert [shapes for _, (shapes, _) in CALLS] == [()] * 3


def test_uniform_values_that_differ_within_a_request(opened):
    ring, planes = opened("scaled", uniform=frozenset({"rate"}))
    planes["rate"][:] = [3, 3, 5, 3, 3, 3, 3, 3]
    with pytest.raises(RingbrokerError) as caught:
        request(ring, 1, 2)
    assert (caught.value.code, caught.value.path) == (Code.UNIFORM_MISMATCH, "inputs[1]")
    assert request(ring, 3, 4).form == Form(((2,), ()), ((2,),), ((3).to_bytes(8, "little"),))


def test_bools_are_0_or_1(opened):
    ring, planes = opened("masked")
    planes["x"][:] = 7
    planes["keep"][:] = [0, 1]
    run(request(ring, 0, 8))
    assert planes["y"].tolist() == [[0, 7]] * 8
    planes["keep"][4, 1] = 2
    assert request(ring, 0, 4).form is None
    with pytest.raises(RingbrokerError) as caught:
        request(ring, 3, 2)
    assert (caught.value.code, caught.value.path) == (Code.INVALID_BOOL, "inputs[1]")


def test_an_output_whose_size_depends_on_values(opened):
    ring, planes = opened("positive")
    assert ring.max_rows == 1
    planes["x"][0] = [1, -1, 2, -2, 3, -3]
    planes["x"][1] = -1
    assert run(request(ring, 0), request(ring, 1)) == [(((3,),), 1), (((0,),), 1)]
    assert planes["y"][0].tolist() == [1, 2, 3, 0, 0, 0]


def test_an_output_that_is_larger_than_its_plane(opened):
    ring, planes = opened("positive", maxima={"n": 2})
    planes["x"][0] = [1, -1, 2, -2, 3, -3]
    with pytest.raises(RingbrokerError) as caught:
        execute(Batch(ring.model, ring, 0, 1, None, []))
    assert (caught.value.code, caught.value.needed_bytes) == (Code.OUTPUT_TOO_LARGE, 12)
    assert not planes["y"].any(), "nothing is written past the plane, or at all"
