"""Values that a request must not have, and results that do not fit: told by a code, and the session goes on."""

import numpy as np
import pytest
import ringbroker
import torch

from tests.conformance.reference_models import Model
from tests.conftest import running_broker

UNIFORM_MISMATCH, INVALID_BOOL, OUTPUT_TOO_LARGE = 2014, 2015, 5003


def scaled():
    """y = x * rate, one rate for all rows."""
    return Model(lambda x, rate: x * rate, {"x": "F32[batch,4]", "rate": "I64[]"}, {"y": "F32[batch,4]"})


def masked():
    return Model(lambda x, keep: x * keep, {"x": "F32[batch,4]", "keep": "BOOL[batch,4]"}, {"y": "F32[batch,4]"})


def positive():
    """The values above 0, and where they are."""

    def run(x):
        found = torch.nonzero(x > 0)[:, 0]
        return x[found], found

    return Model(run, {"x": "F32[64]"}, {"values": "F32[n]", "where": "I64[n]"}, {"n": 64})


@pytest.fixture(scope="module")
def client():
    served = [f"{name}={__name__}:{name}" for name in ("scaled", "masked", "positive")]
    with running_broker(*served, "--uniform", "scaled/rate") as broker:
        with ringbroker.connect(broker.socket_path) as client:
            yield client
        assert broker.stop() == 0


def test_rows_that_differ_in_a_uniform_input(client):
    with client.open("scaled", slots=8) as model, model.acquire(rows=3) as lease:
        lease.inputs["x"][:] = 1
        lease.inputs["rate"][:] = [2, 2, 3]
        with pytest.raises(ringbroker.RingError, match="UNIFORM_MISMATCH") as caught:
            lease.infer()
        assert (caught.value.code, caught.value.path) == (UNIFORM_MISMATCH, "inputs[1]")
        lease.inputs["rate"][:] = 3
        assert lease.infer()["y"].tolist() == [[3] * 4] * 3


def test_a_byte_that_is_no_bool(client):
    with client.open("masked", slots=8) as model, model.acquire(rows=2) as lease:
        lease.inputs["x"][:] = 5
        lease.inputs["keep"][:] = True
        lease.inputs["keep"].view(np.uint8)[1, 3] = 2
        with pytest.raises(ringbroker.RingError, match="INVALID_BOOL") as caught:
            lease.infer()
        assert (caught.value.code, caught.value.path) == (INVALID_BOOL, "inputs[1]")
        lease.inputs["keep"].view(np.uint8)[1, 3] = 0
        assert lease.infer()["y"].tolist() == [[5, 5, 5, 5], [5, 5, 5, 0]]


def test_a_result_that_is_larger_than_its_plane(client):
    x = np.linspace(-31, 32, 64, dtype=np.float32)
    with client.open("positive", slots=2, maxima={"n": 8}) as model, model.acquire() as lease:
        lease.inputs["x"][:] = x
        with pytest.raises(ringbroker.ExecutionError, match="OUTPUT_TOO_LARGE") as caught:
            lease.infer()
        assert (caught.value.code, caught.value.path) == (OUTPUT_TOO_LARGE, "outputs[0]")
        assert caught.value.needed_bytes == 32 * 4
        lease.inputs["x"][:] = np.where(x > 29, x, -1)
        result = lease.infer()
        assert result["values"].tolist() == [[30, 31, 32]]
        assert result["where"].tolist() == [[61, 62, 63]]


def test_a_result_of_nothing_and_one_of_everything(client):
    with client.open("positive", slots=2) as model:
        values, where = model(np.full(64, -1, np.float32)).values()
        assert (values.shape, where.shape) == ((0,), (0,))
        values, where = model(np.full(64, 7, np.float32)).values()
        assert (values.tolist(), where.tolist()) == ([7] * 64, list(range(64)))


def test_nan_and_infinity_pass_untouched(client):
    odd = np.array([[np.nan, np.inf, -np.inf, 0]], np.float32)
    with client.open("scaled") as model:
        assert np.array_equal(model(x=odd, rate=np.int64(2)), odd, equal_nan=True)
