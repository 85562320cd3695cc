"""Every row of the README's table of formats: served by one real broker, its answers those of the plain model."""

import json
import subprocess
import sys

import numpy as np
import pytest
import ringbroker
import torch

from tests.conftest import ROOT, running_broker
from tests.interop import formats

SIGNATURE = ("--input", "{}/x:F32[batch,4]", "--output", "{}/y:F32[batch,3]")
NAMES = {  # each model, its source, what else is said of it, and whether its result is in place
    "exported": ("exported.pt2", (), True),
    "exported_as": ("exported_as.bin", (), True),
    "onnx": ("graph.onnx", (), True),
    "quantised": ("quantised.onnx", (), True),
    "factory": ("tests.interop.formats:factory", ("--argument", "{}/seed=0"), False),
    "in_place": ("tests.interop.formats:in_place", (), True),
    "with_safetensors": ("tests.interop.formats:untrained", ("--weights", "{}/WEIGHTS.safetensors"), False),
    "with_state_dict": ("tests.interop.formats:untrained", ("--weights", "{}/WEIGHTS.pt"), False),
    "torchscript": ("scripted.pt", SIGNATURE, False),
    "aotinductor": ("compiled.pt2", SIGNATURE, False),
    "pickled": ("pickled.pt", ("--allow-pickle", "{}"), False),
    "stored": ("repository/stored", (), True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    code = f"from tests.interop import formats; formats.write_all({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=600)
    return folder


@pytest.fixture(scope="module")
def broker(folder):
    arguments = []
    for name, (source, options, _) in NAMES.items():
        path = source if ":" in source else str(folder / source)
        arguments.append(f"{name}={path}")
        arguments += [option.format(name).replace("WEIGHTS", str(folder / "weights")) for option in options]
    with running_broker(*arguments, "--threads", "1") as running:
        yield running
        assert running.stop() == 0


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_plain_models(broker, name):
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    with torch.inference_mode():
        expected = formats.Scorer()(torch.from_numpy(x)).numpy()
    with ringbroker.connect(broker.socket_path) as client, client.open(name) as model:
        (tensor,) = model.signature.inputs
        assert (tensor.dtype, tensor.shape) == ("F32", ("batch", 4))
        if name == "quantised":  # its scale is taken over the whole batch: rows of a batch are not rows alone
            assert model.max_rows == 1
        else:
            assert np.allclose(model(x), expected, atol=1e-6)
        one_by_one = np.concatenate([model(row[None]) for row in x])
        assert np.allclose(one_by_one, expected, atol=0.02 if name == "quantised" else 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_as_the_table_says(broker, name):
    rows = 2
    before = broker.status()["models"][name]["copied"]
    with ringbroker.connect(broker.socket_path) as client, client.open(name) as model:
        for _ in range(rows):
            model(np.ones((1, 4), np.float32))
    after = broker.status()["models"][name]["copied"]
    copied = {stage: after[stage] - before[stage] for stage in after}
    expected = 0 if NAMES[name][2] else rows * 3 * 4
    assert copied == {"inputs_bytes": 0, "gathered_bytes": 0, "outputs_bytes": expected}


def test_a_repository_is_served_by_its_folder(folder):
    with (
        running_broker("--repository", str(folder / "repository")) as broker,
        ringbroker.connect(broker.socket_path) as client,
        client.open("stored") as model,
    ):
        assert (model.version, model.max_rows) == ("3", 5)
        assert model(np.ones((1, 4), np.float32)).shape == (1, 3)


def test_inspect_says_what_the_folder_says(folder):
    command = [sys.executable, "-m", "broker", "inspect", "--json", str(folder / "repository" / "stored")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    assert (found["version"], found["max_batch"]) == ("3", 5)
