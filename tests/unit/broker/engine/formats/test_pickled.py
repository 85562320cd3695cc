"""Pickled modules: refused without running anything, and loaded only if allowed."""

import pickle

import pytest
import torch

from broker.engine.config import ModelConfig
from broker.engine.formats import pickled
from broker.engine.signature import declare
from ringbuf.errors import Code, RingbrokerError

ROWS = {"inputs": {"x": "F32[batch,4]"}, "outputs": {"y": "F32[batch,2]"}}


class Writes:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Declared(torch.nn.Linear):
    """A module that says its signature itself."""

    inputs = ROWS["inputs"]
    outputs = ROWS["outputs"]


class Gone:
    """A class that is no more when its pickle is loaded."""


def save_zip(value, path):
    torch.save(value, path)


def save_legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_bare(value, path):
    path.write_bytes(pickle.dumps(value))


SAVES = pytest.mark.parametrize("save", [save_zip, save_legacy, save_bare])


def prepare(path, **said):
    return pickled.prepare(path, ModelConfig(name="m", source=str(path), **said))


def code_of(path, **said):
    with pytest.raises(RingbrokerError) as caught:
        prepare(path, **said)
    return caught.value.code


@SAVES
def test_refused_without_running_anything(tmp_path, save):
    save(Writes(tmp_path / "ran"), tmp_path / "m.pt")
    with pytest.raises(RingbrokerError, match=r"runs whatever code it holds.*--allow-pickle m") as caught:
        prepare(tmp_path / "m.pt")
    assert caught.value.code == Code.PICKLE_REFUSED
    assert not (tmp_path / "ran").exists()


def test_the_refusal_names_what_would_be_imported(tmp_path):
    torch.save(torch.nn.Linear(4, 2), tmp_path / "m.pt")
    with pytest.raises(RingbrokerError, match=r"torch\.nn\.modules\.linear\.Linear"):
        prepare(tmp_path / "m.pt")


@SAVES
def test_loaded_if_allowed(tmp_path, save):
    save(torch.nn.Linear(4, 2).train(), tmp_path / "m.pt")
    prepared = prepare(tmp_path / "m.pt", allow_pickle=True, **ROWS)
    assert prepared.signature == declare(**ROWS)
    assert not prepared.model.training


def test_the_module_may_declare_itself(tmp_path):
    torch.save(Declared(4, 2), tmp_path / "m.pt")
    assert prepare(tmp_path / "m.pt", allow_pickle=True).signature == declare(**ROWS)


def test_a_module_that_nobody_declared(tmp_path):
    torch.save(torch.nn.Linear(4, 2), tmp_path / "m.pt")
    assert code_of(tmp_path / "m.pt", allow_pickle=True) == Code.SIGNATURE_INVALID


@pytest.mark.parametrize("allow_pickle", [True, False])
@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_a_state_dict_is_no_model(tmp_path, save, allow_pickle):
    save(torch.nn.Linear(4, 2).state_dict(), tmp_path / "m.pt")
    with pytest.raises(RingbrokerError, match="holds weights and no model: name a factory") as caught:
        prepare(tmp_path / "m.pt", allow_pickle=allow_pickle)
    assert caught.value.code == Code.MODEL_FORMAT_UNKNOWN


@SAVES
def test_what_cannot_be_called(tmp_path, save):
    save({"module": torch.nn.Linear(4, 2)}, tmp_path / "m.pt")
    assert code_of(tmp_path / "m.pt", allow_pickle=True) == Code.MODEL_INVALID


@SAVES
@pytest.mark.parametrize("keep", [2, 40, -40])
def test_truncated(tmp_path, save, keep):
    path = tmp_path / "m.pt"
    save(torch.nn.Linear(4, 2), path)
    path.write_bytes(path.read_bytes()[:keep])
    assert code_of(path) == Code.PICKLE_REFUSED
    assert code_of(path, allow_pickle=True) == Code.MODEL_INVALID


@SAVES
def test_its_class_is_not_there(tmp_path, save, monkeypatch):
    save(Gone(), tmp_path / "m.pt")
    monkeypatch.delattr(f"{__name__}.Gone")
    with pytest.raises(RingbrokerError, match="AttributeError") as caught:
        prepare(tmp_path / "m.pt", allow_pickle=True)
    assert caught.value.code == Code.MODEL_INVALID
