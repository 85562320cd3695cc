"""What is copied under load, by real brokers: nothing for models that write in place, once for those that cannot.

Every result is compared with the plain model's.
"""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ringbroker
import torch

from tests.conftest import ROOT, running_broker

THREADS, REQUESTS = 4, 40
BATCH = {0: torch.export.Dim("batch", max=64)}


class Scorer(torch.nn.Sequential):
    def __init__(self):
        torch.manual_seed(1)
        super().__init__(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1), torch.nn.Sigmoid())


class Normed(torch.nn.Sequential):
    def __init__(self):
        torch.manual_seed(2)
        super().__init__(torch.nn.Linear(64, 256), torch.nn.LayerNorm(256))


class Convolved(torch.nn.Sequential):
    def __init__(self):
        torch.manual_seed(3)
        super().__init__(torch.nn.Unflatten(1, (1, 8, 8)), torch.nn.Conv2d(1, 4, 3, padding=1))


MODELS = {"scorer": Scorer, "normed": Normed, "convolved": Convolved}
OUTPUT_BYTES = {"scorer": 0, "normed": 256 * 4, "convolved": 4 * 8 * 8 * 4}  # copied, of one row


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The models as exported programs, and the scorer as ONNX."""
    folder = tmp_path_factory.mktemp("copies")
    for name, kind in MODELS.items():
        model = kind().eval()
        program = torch.export.export(model, (torch.randn(2, 64),), dynamic_shapes=(BATCH,))
        torch.export.save(program, folder / f"{name}.pt2")
    with warnings.catch_warnings(action="ignore"):  # torch's exporter uses what torch deprecates
        torch.onnx.export(
            Scorer().eval(), (torch.randn(2, 64),), folder / "onnx.onnx", dynamic_shapes=(BATCH,), verbose=False
        )
    return folder


@pytest.fixture(scope="module")
def broker(files):
    served = [f"{path.stem}={path}" for path in sorted(files.iterdir()) if path.suffix in (".pt2", ".onnx")]
    with running_broker(*served, "--threads", "1") as running:
        yield running
        assert running.stop() == 0


def load(client, name, plain, thread):
    """Requests of 1 to 3 rows on one ring that several threads share, each compared with the plain model's answer."""
    random = np.random.default_rng(thread)
    with client.open(name) as model:
        for number in range(REQUESTS):
            rows = 1 + number % 3
            x = random.standard_normal((rows, 64)).astype(np.float32)
            with model.acquire(rows) as lease:
                next(iter(lease.inputs.values()))[:] = x
                found = lease.infer(timeout=60)[model.signature.outputs[0].name]
                with torch.inference_mode():
                    expected = plain(torch.from_numpy(x)).numpy()
                assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    return sum(1 + number % 3 for number in range(REQUESTS))


@pytest.mark.parametrize("name", ["scorer", "onnx", "normed", "convolved"])
def test_what_is_copied_under_load(broker, name):
    plain = MODELS.get(name, Scorer)().eval()
    with ringbroker.connect(broker.socket_path) as client, ThreadPoolExecutor(THREADS) as pool:
        rows = sum(pool.map(lambda thread: load(client, name, plain, thread), range(THREADS)))
    status = broker.status()["models"][name]
    assert status["rows"] == rows
    copied = {"inputs_bytes": 0, "gathered_bytes": 0, "outputs_bytes": rows * OUTPUT_BYTES.get(name, 0)}
    assert status["copied"] == copied


@pytest.mark.parametrize("name", ["scorer", "onnx", "normed", "convolved"])
def test_zero_copy_is_required_of_those_that_can(files, name):
    path = next(path for path in files.iterdir() if path.stem == name)
    command = [sys.executable, "-m", "broker", "inspect", str(path), "--require-zero-copy", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if OUTPUT_BYTES.get(name, 0):
        assert "ZERO_COPY_IMPOSSIBLE" in done.stderr
        assert done.stdout == ""
    else:
        assert done.returncode == 0, done.stderr
        assert "in place" in done.stdout


def test_sentences_of_full_length_are_embedded_without_a_copy(tmp_path):
    """all-MiniLM-L6-v2, in a ring whose rows are as long as the sentences."""
    make = [sys.executable, "-m", "examples.models", "embed", "--out", str(tmp_path)]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True, timeout=300)
    plain = torch.export.load(tmp_path / "models" / "embed" / "1" / "model.pt2").module()
    random = np.random.default_rng(5)
    with running_broker(f"embed={tmp_path / 'models' / 'embed'}", "--threads", "1") as broker:
        with ringbroker.connect(broker.socket_path) as client, client.open("embed", maxima={"seq": 24}) as model:
            for rows in (1, 3, 8):
                ids = random.integers(1000, 20000, (rows, 24))
                mask = np.ones((rows, 24), np.int64)
                found = model(input_ids=ids, attention_mask=mask, timeout=60)
                expected = plain(torch.from_numpy(ids), torch.from_numpy(mask))["embedding"].detach().numpy()
                assert np.allclose(found, expected, atol=1e-5)
        status = broker.status()["models"]["embed"]
        assert status["rows"] == 12
        assert status["copied"] == {"inputs_bytes": 0, "gathered_bytes": 0, "outputs_bytes": 0}
