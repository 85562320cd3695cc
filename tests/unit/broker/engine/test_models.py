"""Loading: from what the operator named to a model whose trial run gave what its signature says."""

import pytest
import torch

from broker.engine import models
from ringbuf.errors import Code, RingbrokerError
from tests.conformance.reference_models import Model


def doubles():
    return Model(lambda x: 2 * x, {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def scaled():
    return Model(lambda x, s: x * s, {"x": "F32[batch,4]", "s": "F32[]"}, {"y": "F32[batch,4]"})


def counts():
    return Model(lambda x: (x, x.sum()), {"x": "F32[batch,4]"}, {"y": "F32[batch,4]", "n": "F32[]"})


def wrong_shape():
    return Model(lambda x: x[:, :3], {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def wrong_only_for_two():
    return Model(lambda x: x[:1], {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def wrong_dtype():
    return Model(lambda x: x.double(), {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def raising():
    return Model(lambda x: x @ x, {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def picky():
    """Takes `seq` at its maximum of 1 alone: the trial is not made at 2."""

    def run(x):
        assert x.shape[1] == 1
        return x

    return Model(run, {"x": "F32[batch,seq]"}, {"y": "F32[batch,seq]"}, {"seq": 1})


def only_small_batches():
    return Model(lambda x: x[:4], {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def keeps_its_grad():
    """Would fail to write its output in place, were autograd on."""
    weight = torch.nn.Parameter(torch.ones(4))
    return Model(lambda x: x * weight, {"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})


def load(name, max_batch=8, source=None):
    return models.load("m", source or f"{__name__}:{name}", max_batch=max_batch, threads=1)


def refusal(*arguments, **named):
    with pytest.raises(RingbrokerError) as caught:
        load(*arguments, **named)
    return caught.value


@pytest.mark.parametrize(
    ("name", "max_batch"), [("doubles", 8), ("picky", 8), ("keeps_its_grad", 8), ("scaled", 1), ("counts", 1)]
)
def test_a_model_without_a_batch_axis_somewhere_runs_row_by_row(name, max_batch):
    model = load(name)
    assert (model.name, model.version, model.max_batch) == ("m", "1", max_batch)
    assert model.plan.ledger.outputs_bytes == 0, "the trial run is not counted"
    assert load(name, max_batch=1).max_batch == 1


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("wrong_shape", "m.outputs[0]", "float32[1, 3]"),
        ("wrong_only_for_two", "m.outputs[0]", "float32[1, 4], its signature says float32[2, 4]"),
        ("only_small_batches", "m.outputs[0]", "float32[4, 4], its signature says float32[8, 4]"),
        ("wrong_dtype", "m.outputs[0]", "float64"),
        ("raising", "m", "a trial run on 1 rows of zeros raised RuntimeError"),
    ],
)
def test_a_trial_run_that_gives_something_else(name, path, text):
    error = refusal(name)
    assert (error.code, error.path) == (Code.SIGNATURE_MISMATCH, path)
    assert text in error.text


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 129, "\u00e9"])
def test_names_that_are_refused(name):
    with pytest.raises(RingbrokerError) as caught:
        models.load(name, f"{__name__}:doubles", max_batch=8, threads=1)
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, name)


def test_sources_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("absent.pt2", str(tmp_path / "absent"), str(tmp_path), "package.module:", ":factory", "1a:b"):
        error = refusal(None, source=source)
        assert (error.code, error.path) == (Code.MODEL_NOT_FOUND, source)


def test_a_factory_beside_the_operator_is_found(tmp_path, monkeypatch):
    (tmp_path / "rb_beside.py").write_text("from tests.unit.broker.engine.test_models import doubles as factory\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert load(None, source="rb_beside:factory").source == "rb_beside:factory"
