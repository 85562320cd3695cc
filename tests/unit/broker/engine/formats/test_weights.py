"""Weights: into the module that they are of, and into no other."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from broker.engine.formats.weights import load_weights
from ringbuf.errors import Code, RingbrokerError


class Writes:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def module():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def refused(path, into=None):
    with pytest.raises(RingbrokerError) as caught:
        load_weights(into or module(), path)
    assert caught.value.path == str(path)
    return caught.value


@pytest.mark.parametrize("save", ["safetensors", "torch", "legacy", "state_dict", "model", "model_state_dict"])
def test_every_kind_of_file(tmp_path, save):
    path, state = tmp_path / "weights", module().state_dict()
    if save == "safetensors":
        save_file(state, path)
    elif save in ("torch", "legacy"):
        torch.save(state, path, _use_new_zipfile_serialization=save == "torch")
    else:
        torch.save({save: state, "epoch": 3}, path)
    target = module()
    load_weights(target, path)
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("is_safetensors", [True, False])
def test_what_is_missing_unexpected_and_misshapen_is_named(tmp_path, is_safetensors):
    state = module().state_dict()
    del state["0.bias"]
    state["0.weight"] = torch.zeros(2, 4)
    state["extra"] = torch.zeros(1)
    path = tmp_path / "weights"
    (save_file if is_safetensors else torch.save)(state, path)
    target = module()
    before = target[0].weight.clone()
    error = refused(path, target)
    assert error.code == Code.MODEL_INVALID
    for text in ("1 missing, as 0.bias", "1 unexpected, as extra", "0.weight [2, 4] instead of [2, 3]"):
        assert text in error.text
    assert torch.equal(target[0].weight, before)


def test_many_names_are_cut(tmp_path):
    torch.save({f"net.{name}": value for name, value in module().state_dict().items()}, tmp_path / "w")
    error = refused(tmp_path / "w")
    assert "7 missing, as 0.weight, 0.bias, 1.weight, ...; 7 unexpected, as net.0.weight" in error.text


@pytest.mark.parametrize("is_safetensors", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 9, 40, -1, -40])
def test_truncated_files(tmp_path, is_safetensors, keep):
    path = tmp_path / "weights"
    (save_file if is_safetensors else torch.save)(module().state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refused(path).code == Code.MODEL_INVALID


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {3: torch.zeros(1)}, torch.zeros(3)])
def test_other_values(tmp_path, value):
    torch.save(value, tmp_path / "w")
    assert refused(tmp_path / "w").code == Code.MODEL_INVALID


def test_no_code_of_a_file_is_run(tmp_path):
    torch.save({"0.weight": Writes(tmp_path / "ran")}, tmp_path / "w")
    assert refused(tmp_path / "w").code == Code.MODEL_INVALID
    (tmp_path / "p").write_bytes(pickle.dumps(Writes(tmp_path / "ran")))
    assert refused(tmp_path / "p").code == Code.MODEL_INVALID
    assert not (tmp_path / "ran").exists()


def test_no_such_file(tmp_path):
    assert refused(tmp_path / "absent").code == Code.MODEL_NOT_FOUND
    assert refused(tmp_path).code == Code.MODEL_NOT_FOUND
    assert refused(tmp_path / ("x" * 300)).code == Code.MODEL_NOT_FOUND
