"""Loading: from what the operator named to a model that was tried out."""

import logging
import math

import pytest
import torch

from broker.engine import models
from broker.engine.config import ModelConfig
from ringbuf.errors import Code, RingbrokerError
from tests.conformance.reference_models import Model
from tests.unit.broker.parts import load_model

ROW = "F32[batch,4]"


def doubles():
    return Model(lambda x: 2 * x, {"x": ROW}, {"y": ROW})


def scaled():
    return Model(lambda x, s: x * s, {"x": ROW, "s": "F32[]"}, {"y": ROW})


def counts():
    return Model(lambda x: (x, x.sum()), {"x": ROW}, {"y": ROW, "n": "F32[]"})


def wrong_shape():
    return Model(lambda x: x[:, :3], {"x": ROW}, {"y": ROW})


def wrong_dtype():
    return Model(lambda x: x.double(), {"x": ROW}, {"y": ROW})


def raising():
    return Model(lambda x: x @ x, {"x": ROW}, {"y": ROW})


def gives_one_row():
    return Model(lambda x: x[:1], {"x": ROW}, {"y": ROW})


def only_small_batches():
    return Model(lambda x: x[:4], {"x": ROW}, {"y": ROW})


def mixes_rows():
    """Right shapes, wrong rows: what a batch gives is not what rows give alone."""
    return Model(lambda x: x - x.mean(0), {"x": ROW}, {"y": ROW})


def barely_mixes_rows():
    return Model(lambda x: x + x.mean(0) / 1000, {"x": ROW}, {"y": ROW})


def rotates_all_but_the_first_three():
    return Model(lambda x: torch.cat((x[:3], x[3:].roll(1, 0))), {"x": ROW}, {"y": ROW})


def drops_the_last_row_of_a_full_batch():
    return Model(lambda x: x * (torch.arange(len(x)) < 7).view(-1, 1), {"x": ROW}, {"y": ROW})


def rotates_long_rows():
    """Right at the smallest size, and for batches of 2."""
    sequence = "F32[batch,seq]"
    return Model(
        lambda x: x if x.shape[1] == 2 else torch.cat((x[:2], x[2:].roll(1, 0))), {"x": sequence}, {"y": sequence}
    )


def refuses_its_last_row():
    """When it is alone."""
    bad = []

    def run(x):
        if len(x) == 8:
            bad.append(x[7].clone())
        assert len(x) > 1 or not any(torch.equal(x[0], row) for row in bad)
        return x + 1

    return Model(run, {"x": ROW}, {"y": ROW})


def random():
    return Model(lambda x: x + torch.rand(4), {"x": ROW}, {"y": ROW})


class Remembering:
    """Adds what it was given before."""

    inputs = {"x": ROW}
    outputs = {"y": ROW}

    def __init__(self):
        self.sum = torch.zeros(1, 4)

    def __call__(self, x):
        self.sum = self.sum + x.sum(0, keepdim=True)
        return self.sum.expand(x.shape).clone()


def writes_into_its_input():
    return Model(lambda x: x.mul_(2), {"x": ROW}, {"y": ROW})


def random_where_short():
    sequence = "F32[batch,seq]"
    return Model(lambda x: x + torch.rand(2) if x.shape[1] == 2 else x.mul_(2), {"x": sequence}, {"y": sequence})


def picky():
    """Takes `seq` at its maximum of 1 alone: the trial is not made at 2."""

    def run(x):
        assert x.shape[1] == 1
        return x

    return Model(run, {"x": "F32[batch,seq]"}, {"y": "F32[batch,seq]"}, {"seq": 1})


def embedding():
    """Raises for ids that it has not; the operator's range keeps the trial to those that it has."""
    table = torch.arange(40.0).view(10, 4)
    return Model(lambda ids: table[ids - 100], {"ids": "I64[batch]"}, {"y": ROW})


def embedding_with_ranges():
    model = embedding()
    model.ranges = {"ids": (100, 109)}
    return model


def embedding_with_a_wrong_range():
    model = embedding()
    model.ranges = {"ids": (109, 100)}
    return model


def keeps_its_grad():
    """Would fail to write its output in place, were autograd on."""
    weight = torch.nn.Parameter(torch.ones(4))
    return Model(lambda x: x * weight, {"x": ROW}, {"y": ROW})


def sorted_rows():
    """Reads its input's memory as if the rows were adjacent, as compiled code does."""

    def run(x):
        return x.as_strided(x.shape, (x.shape[1], 1)).clone()

    return Model(run, {"x": "F32[batch,seq]"}, {"y": "F32[batch,seq]"}, {"seq": 8})


def above():
    """The values above 0: how many, nobody knows beforehand."""
    return Model(lambda x: x[x > 0], {"x": "F32[8]"}, {"y": "F32[n]"}, {"n": 8})


def enormous():
    """32 MiB of input and as much output for a row."""
    return Model(lambda x: x + 1, {"x": "F32[batch,8388608]"}, {"y": "F32[batch,8388608]"})


def fixed():
    return Model(lambda x, y, rate: x * rate, {"x": "F32[1,4]", "y": "F32[1]", "rate": "F32[]"}, {"y": "F32[1,4]"})


def fixed_detector():
    """A batch would not help it: how many it finds differs from row to row."""
    return Model(lambda x: x[0, :2], {"x": "F32[1,4]"}, {"y": "F32[n]"}, {"n": 4})


def above_all():
    """As many values as there are: more than its maximum, with usual inputs."""
    return Model(lambda x: x.flatten(), {"x": ROW}, {"y": "F32[n]"}, {"n": 3})


def enormous_where_long():
    return Model(lambda x: x + 1, {"x": "F32[batch,8388608,seq]"}, {"y": "F32[batch,8388608,seq]"}, {"seq": 1})


_HUGE = "F32[batch,2147483647,2147483647]"


def huge_input():
    return Model(lambda x: x, {"x": _HUGE}, {"y": ROW})


def huge_output():
    return Model(lambda x: x, {"x": ROW}, {"y": _HUGE})


def huge_maximum():
    return Model(lambda x: x, {"x": ROW}, {"y": "F32[batch,n,m]"}, {"n": 2**31 - 1, "m": 2**31 - 1})


def load(name, **said):
    return load_model(f"{__name__}:{name}", "m", **{"max_batch": 8, **said})


def refusal(name, **said):
    with pytest.raises(RingbrokerError) as caught:
        load(name, **said)
    return caught.value


@pytest.mark.parametrize("name", ["doubles", "picky", "keeps_its_grad"])
def test_a_batch_axis_is_proven(name):
    model = load(name)
    assert (model.name, model.version, model.max_batch) == ("m", "1", 8)
    assert model.proof.batch.startswith("proven")
    assert model.proof.is_repeatable
    assert model.plan.ledger.outputs_bytes == 0, "trial runs are not counted"
    assert load(name, max_batch=1).max_batch == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scaled", "s without a batch axis"),
        ("counts", "n without a batch axis"),
        ("gives_one_row", "a batch of 2 raised OutputError"),
        ("only_small_batches", "a batch of 8 raised OutputError"),
        ("mixes_rows", "row 0 of a batch of 2 is not what it is alone: y off by"),
        ("barely_mixes_rows", "row 0 of a batch of 2 is not what it is alone: y off by"),
        ("rotates_all_but_the_first_three", "row 4 of a batch of 8 is not what it is alone"),
        ("drops_the_last_row_of_a_full_batch", "row 7 of a batch of 8 is not what it is alone"),
        ("rotates_long_rows", "row 2 of a batch of 4 is not what it is alone"),
        ("refuses_its_last_row", "row 7 of a batch of 8, alone, raised AssertionError"),
        ("random", "the same input twice gave different answers"),
        ("Remembering", "the same input twice gave different answers"),
        ("above", "x, y without a batch axis"),
    ],
)
def test_a_model_whose_batch_axis_is_none_runs_row_by_row_and_says_why(name, why, caplog):
    with caplog.at_level(logging.WARNING, "broker.engine"):
        model = load(name)
    assert model.max_batch == 1
    assert why in model.proof.batch
    (record,) = caplog.records
    assert record.because == model.proof.batch


@pytest.mark.parametrize("name", ["mixes_rows", "doubles"])
def test_rows_that_cannot_be_told_apart_prove_nothing(name):
    model = load(name, ranges={"x": (3, 3)})
    assert model.max_batch == 1
    assert model.proof.batch == "the trial's rows are all equal: give --range x=LOW..HIGH"


def test_a_batch_is_no_larger_than_what_was_tried():
    model = load("enormous", max_batch=64)
    assert model.max_batch == 4
    assert model.proof.batch == "rows are large: no batch of more than 256 MiB is tried, or made"
    assert "256 MiB at the smallest sizes of its dynamic dims" in load("enormous_where_long").proof.batch


def test_what_a_batch_may_differ_is_the_operators_to_say():
    assert load("barely_mixes_rows", batch_tolerance=0.01).max_batch == 8
    assert load("mixes_rows", batch_tolerance=0.01).max_batch == 1


@pytest.mark.parametrize(("name", "repeatable"), [("doubles", True), ("random", False), ("Remembering", False)])
def test_a_model_that_answers_the_same_input_differently_is_found(name, repeatable):
    assert load(name).proof.is_repeatable is repeatable


def test_a_model_that_writes_into_its_input_is_refused_or_given_a_copy():
    error = refusal("writes_into_its_input")
    assert (error.code, error.path) == (Code.INPUT_MODIFIED, "m.x")
    model = load("writes_into_its_input", private_inputs=True)
    x, y = torch.ones(2, 4), torch.zeros(2, 4)
    model.plan.run([x], [y])
    assert x.eq(1).all()
    assert y.eq(2).all()
    assert model.plan.ledger.inputs_bytes == 32


def test_a_uniform_input_does_not_keep_rows_apart():
    model = load("scaled", uniform=frozenset({"s"}))
    assert (model.max_batch, model.uniform) == (8, (1,))


@pytest.mark.parametrize(
    "said", [{"uniform": frozenset({"x"})}, {"uniform": frozenset({"z"})}, {"ranges": {"z": (0, 1)}}]
)
def test_what_an_operator_says_of_inputs_that_are_not_so(said):
    assert refusal("scaled", **said).code == Code.CONFIG_INVALID


def test_rows_that_lie_apart_are_given_only_to_a_model_that_was_seen_to_take_them():
    assert not load("sorted_rows").proof.accepts_strides
    assert load("sorted_rows").max_batch == 8
    assert not load("doubles").proof.accepts_strides, "its rows never lie apart, so nobody asked"


def test_values_between_the_ends_of_the_declared_range():
    assert refusal("embedding").code == Code.SIGNATURE_MISMATCH
    assert load("embedding", ranges={"ids": (100, 109)}).max_batch == 8
    assert load("embedding_with_ranges").max_batch == 8
    assert refusal("embedding_with_a_wrong_range").code == Code.SIGNATURE_INVALID


class InPlace(torch.nn.Module):
    """Writes into `out` where that lies in one piece, or everywhere."""

    def __init__(self, tensor, everywhere):
        super().__init__()
        self.inputs, self.outputs, self.everywhere = {"x": tensor}, {"y": tensor}, everywhere

    def forward(self, x, out=None):
        is_used = out is not None and (self.everywhere or out.is_contiguous())
        return torch.add(x, x, out=out if is_used else None)


def in_place(tensor=ROW, everywhere=True):
    return InPlace(tensor, everywhere)


TURNED, SHORT = "F32[2,batch,4]", "F32[batch,seq]"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"arguments": {"tensor": TURNED}},
        {"arguments": {"tensor": SHORT}},
        {"arguments": {"tensor": SHORT, "everywhere": False}, "max_batch": 1},
        {"gather": "always", "max_batch": 1},
    ],
)
def test_what_copies_nothing_is_served_where_zero_copy_is_required(said):
    load("in_place", require_zero_copy=True, **said)


@pytest.mark.parametrize(
    ("name", "said", "path", "text"),
    [
        ("doubles", {}, "m.y", "the result is copied: the model returns new tensors"),
        ("in_place", {"private_inputs": True}, "m", "private"),
        ("in_place", {"gather": "always"}, "m", "copied together"),
        ("in_place", {"arguments": {"tensor": TURNED, "everywhere": False}}, "m", "where rows lie apart"),
        ("in_place", {"arguments": {"tensor": SHORT, "everywhere": False}}, "m", "where rows lie apart"),
    ],
)
def test_what_copies_is_refused_where_zero_copy_is_required(name, said, path, text):
    assert load(name, **said)
    error = refusal(name, require_zero_copy=True, **said)
    assert (error.code, error.path) == (Code.ZERO_COPY_IMPOSSIBLE, path)
    assert text in error.text


def test_a_first_dim_that_was_fixed_at_export():
    assert load("fixed").proof.batch == (
        "x, y, rate, y without a batch axis; if the first dim, which is fixed at 1, is the batch, export it as a "
        "dynamic one: an example of 2 rows, and torch.export's dynamic_shapes="
        "{'x': {0: Dim('batch')}, 'y': {0: Dim('batch')}}"
    )
    assert load("fixed_detector").proof.batch == "x, y without a batch axis"


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("above_all", "m.outputs[0]", "raise --maximum n, or give --range x=LOW..HIGH for a realistic trial"),
        ("embedding", "m", "(the log has the traceback); if its inputs' values were wrong, give --range ids=LOW..HIGH"),
        ("wrong_shape", "m.outputs[0]", "float32[1, 3]"),
        ("wrong_dtype", "m.outputs[0]", "float64"),
        ("raising", "m", "a trial run of one row raised RuntimeError"),
    ],
)
def test_a_trial_run_that_gives_something_else(name, path, text):
    error = refusal(name)
    assert (error.code, error.path) == (Code.SIGNATURE_MISMATCH, path)
    assert text in error.text


@pytest.mark.parametrize(
    ("said", "code", "path"),
    [
        ({"name": "a b"}, Code.SIGNATURE_INVALID, "a b"),
        ({"max_batch": 10**12}, Code.CONFIG_INVALID, "m.max_batch"),
        ({"ranges": {"x": (0, math.nan)}}, Code.CONFIG_INVALID, "m.ranges.x"),
    ],
)
def test_what_no_model_can_be_served_with(said, code, path):
    with pytest.raises(RingbrokerError) as caught:
        models.load(ModelConfig(**{"name": "m", "source": f"{__name__}:doubles", **said}), threads=1)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_folder_of_a_repository(tmp_path):
    version = tmp_path / "net" / "3"
    version.mkdir(parents=True)
    (version / "model.toml").write_text(f"factory = '{__name__}:doubles'\nmax_batch = 4")
    for folder in (tmp_path / "net", version):
        model = load_model(str(folder))
        assert (model.version, model.max_batch) == ("3", 4)


def test_a_repositorys_word_is_checked_as_well(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "model.toml").write_text(f"factory = '{__name__}:doubles'\nmax_batch = 4097")
    with pytest.raises(RingbrokerError) as caught:
        load_model(str(tmp_path / "m"), "m")
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.max_batch")


def test_sources_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("absent.pt2", str(tmp_path / "absent"), "package.module:", ":factory", "1a:b", "x" * 5000, "nul\0"):
        with pytest.raises(RingbrokerError) as caught:
            load_model(source)
        assert (caught.value.code, caught.value.path) == (Code.MODEL_NOT_FOUND, source)


def test_a_factory_beside_the_operator_is_found(tmp_path, monkeypatch):
    source = "from tests.unit.broker.engine.test_models import doubles as factory\n"
    (tmp_path / "rb_loaded_beside.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert load_model("rb_loaded_beside:factory").config.source == "rb_loaded_beside:factory"


@pytest.mark.parametrize("name", ["huge_input", "huge_output", "huge_maximum"])
def test_rows_for_which_there_is_no_room(name):
    error = refusal(name)
    assert (error.code, error.path) == (Code.SIGNATURE_INVALID, "m")
    assert "one row of its inputs and outputs cannot be made" in error.text


def test_every_size_is_tried_whatever_the_first_one_gives():
    """It gives random numbers at the smallest size, and writes into its input at the next."""
    assert refusal("random_where_short").code == Code.INPUT_MODIFIED
