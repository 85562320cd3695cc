"""The Python client against a real broker process."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ringbroker

from tests.conftest import running_broker
from tests.interop.models import SOURCES


@pytest.fixture(scope="module")
def socket_path(start_broker):
    return start_broker(SOURCES)


@pytest.fixture
def client(socket_path):
    with ringbroker.connect(socket_path) as client:
        yield client


def test_lease_infers_in_place(client):
    with client.open("affine", slots=4) as model, model.acquire(rows=3) as lease:
        lease.inputs["x"][:] = np.arange(12).reshape(3, 4)
        result = lease.infer(timeout=10)
        assert np.array_equal(result["y"], 3 * np.arange(12).reshape(3, 4) + 1)
        assert (result.version, result.batch_rows) == ("1", 3)
        assert result.compute_ns > 0


def test_one_call_with_dynamic_dims_and_several_outputs(client):
    with client.open("sequence") as model:
        for seq in (1, 5, 16):
            values = np.arange(2 * seq).reshape(2, seq)
            mask = values % 2 == 0
            answer = model(values, mask=mask, timeout=10)
            assert np.array_equal(answer["masked"], values * mask)
            assert np.array_equal(answer["count"], mask.sum(1))


def test_short_rows_beside_full_ones(client):
    with client.open("sequence", slots=8) as model, model.acquire(rows=2) as lease:
        inputs = lease.shape(seq=3)
        inputs["values"][:] = [[1, 2, 3], [4, 5, 6]]
        inputs["mask"][:] = [[True, False, True], [True, True, False]]
        result = lease.infer(timeout=10)
        assert result["masked"].tolist() == [[1, 0, 3], [4, 5, 0]]
        assert result["count"].tolist() == [2, 2]


def test_model_without_batch_axis_and_with_odd_dtypes(client):
    with client.open("single") as model:
        assert model.max_rows == 1
        brain = (np.array([1.0, 2.0, 4.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 as its bits
        assert model(np.array([0.5, 0.25, 0.125], np.float16), brain) == pytest.approx(7.875)


def test_many_threads_share_a_ring_and_get_their_own_answers(client):
    def ask(number):
        answers = []
        for round_ in range(100):
            with model.acquire() as lease:
                value = number * 1000 + round_
                lease.inputs["x"][:] = value
                answers.append((lease.infer(timeout=10)["y"] == 3 * value + 1).all())
        return all(answers)

    with client.open("affine", slots=5) as model, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))


def test_model_error_names_the_type_and_not_the_values(client):
    with client.open("picky") as model:
        with pytest.raises(ringbroker.ModelFailed) as caught:
            model(np.full((1, 4), -1, np.float32))
        assert caught.value.code == 5001
        assert "ValueError" in caught.value.text
        assert "secret" not in caught.value.text
        assert model(np.ones((1, 4), np.float32)).tolist() == [[4, 4, 4, 4]]


def test_timeout_returns_and_the_rows_come_back_with_the_answer(client):
    with client.open("slow", slots=1) as model:
        lease = model.acquire()
        lease.inputs["x"][:] = 1
        with pytest.raises(ringbroker.Timeout):
            lease.infer(timeout=0.005)
        with pytest.raises(ringbroker.LeaseBusy):
            lease.infer(timeout=0.005)
        lease.release()
        with model.acquire(timeout=10) as again:
            again.inputs["x"][:] = 2
            assert again.infer(timeout=10)["y"].tolist() == [[7, 7, 7, 7]]


def test_acquire_is_bounded(client):
    with client.open("affine", slots=2) as model:
        with pytest.raises(ringbroker.TooManyRows):
            model.acquire(rows=3)
        with model.acquire(rows=2), pytest.raises(ringbroker.AcquireTimeout):
            model.acquire(timeout=0.01)
        lease = model.acquire()
        lease.release()
        with pytest.raises(ringbroker.LeaseReleased):
            lease.infer()
        with pytest.raises(ringbroker.LeaseReleased):
            lease.release()


def test_unknown_model(client):
    with pytest.raises(ringbroker.UnknownModel) as caught:
        client.open("nothing")
    assert caught.value.path == "model"


def test_lost_broker_is_one_retryable_error_and_the_next_call_reconnects(tmp_path):
    with running_broker(f"affine={SOURCES['affine']}", folder=tmp_path) as first:
        client = ringbroker.connect(first.socket_path, timeout=60)
        model = client.open("affine")
        assert model(np.ones((1, 4), np.float32)).tolist() == [[4, 4, 4, 4]]
        lease = model.acquire()
        os.kill(first.pid, signal.SIGKILL)
        first.process.wait()
        with pytest.raises(ringbroker.BrokerLost) as caught:
            lease.infer(timeout=10)
        assert caught.value.is_retryable
        lease.release()
    with running_broker(f"affine={SOURCES['affine']}", folder=tmp_path), client:
        assert model(np.ones((1, 4), np.float32), timeout=60).tolist() == [[4, 4, 4, 4]]


def test_import_brings_no_torch():
    code = "import ringbroker, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
