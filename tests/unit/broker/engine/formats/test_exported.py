"""Exported programs: their signature read from the file, run on real views, and the files that are refused."""

import pytest
import torch
from torch.export import Dim

from broker.engine import models
from broker.engine.formats import exported
from broker.engine.signature import written
from ringbuf.errors import Code, RingbrokerError


class Function(torch.nn.Module):
    """A function as a module, as `torch.export` wants it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x):
        return x * self.weight


class Named(torch.nn.Module):
    def forward(self, tokens, mask):
        return {"sum": (tokens * mask).sum(1), "any": mask.any(1)}


class Pair(torch.nn.Module):
    def forward(self, a, b):
        return a + b, (a - b).to(torch.float64)


class One(torch.nn.Module):
    def forward(self, x):
        return x + 1


class Doubled(torch.nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


class Picks(torch.nn.Module):
    def forward(self, x):
        return x[0].sum(), x


class Number(torch.nn.Module):
    def forward(self, x):
        return x, 3


BATCH = Dim("batch", max=512)
F32 = torch.float32


def zeros(*shape, dtype=F32):
    return torch.zeros(shape, dtype=dtype)


PROGRAMS = {
    "static": (Scale(), (zeros(2, 4),), None),
    "batch": (Scale(), (zeros(2, 4),), ({0: BATCH},)),
    "auto": (One(), (zeros(3, 4),), ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)),
    "seq": (One(), (zeros(3, 5, dtype=torch.int64),), ({0: BATCH, 1: Dim("seq", max=16)},)),
    "at_most_8": (One(), (zeros(3, 4),), ({0: Dim("few", max=8)},)),
    "any_batch": (One(), (zeros(3, 4),), ({0: Dim("rows")},)),
    "from_1": (One(), (zeros(3, 4),), ({0: Dim("rows", min=1, max=512)},)),
    "from_2": (One(), (zeros(3, 4),), ({0: Dim("rows", min=2)},)),
    "from_4": (One(), (zeros(5, 4),), ({0: Dim("rows", min=4)},)),
    "long": (One(), (zeros(3, 9),), ({0: BATCH, 1: Dim("seq", min=8, max=64)},)),
    "named": (
        Named(),
        (zeros(3, 5, dtype=torch.int64), zeros(3, 5, dtype=torch.bool)),
        ({0: BATCH, 1: Dim("seq", max=16)}, {0: BATCH, 1: Dim("seq", max=16)}),
    ),
    "pair": (Pair(), (zeros(3, 4), zeros(3, 4)), ({0: BATCH}, {0: BATCH})),
    "shared": (Pair(), (zeros(3, 4), zeros(4)), ({0: BATCH}, None)),
    "bf16": (One(), (zeros(3, 4, dtype=torch.bfloat16),), ({0: BATCH},)),
    "scalar": (One(), (torch.zeros(()),), None),
    "doubled": (Doubled(), (zeros(3, 5),), ({0: BATCH, 1: Dim("seq", max=16)},)),
    "picks": (Picks(), (zeros(3, 4),), ({0: BATCH},)),
    "number": (Number(), (zeros(3, 4),), ({0: BATCH},)),
    "complex": (One(), (zeros(3, 4, dtype=torch.complex64),), ({0: BATCH},)),
}


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """A function from the name of a program to its file; each is exported once."""
    folder = tmp_path_factory.mktemp("programs")

    def program(name):
        path = folder / f"{name}.pt2"
        if not path.exists():
            module, args, dynamic = PROGRAMS[name]
            torch.export.save(torch.export.export(module.eval(), args, dynamic_shapes=dynamic), path)
        return path

    return program


def signature_of(program, name):
    signature = exported.prepare(program(name)).signature
    sides = [{t.name: written(t) for t in tensors} for tensors in (signature.inputs, signature.outputs)]
    return *sides, signature.dims


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "dims"),
    [
        ("static", {"x": "F32[2,4]"}, {"output": "F32[2,4]"}, {}),
        ("batch", {"x": "F32[batch,4]"}, {"output": "F32[batch,4]"}, {}),
        ("auto", {"x": "F32[batch,x_1]"}, {"output": "F32[batch,x_1]"}, {"x_1": None}),
        ("seq", {"x": "I64[batch,x_1]"}, {"output": "I64[batch,x_1]"}, {"x_1": 16}),
        (
            "named",
            {"tokens": "I64[batch,tokens_1]", "mask": "BOOL[batch,tokens_1]"},
            {"sum": "I64[batch]", "any": "BOOL[batch]"},
            {"tokens_1": 16},
        ),
        (
            "pair",
            {"a": "F32[batch,4]", "b": "F32[batch,4]"},
            {"output_0": "F32[batch,4]", "output_1": "F64[batch,4]"},
            {},
        ),
        ("bf16", {"x": "BF16[batch,4]"}, {"output": "BF16[batch,4]"}, {}),
        ("scalar", {"x": "F32[]"}, {"output": "F32[]"}, {}),
        (
            "shared",
            {"a": "F32[a_0,4]", "b": "F32[4]"},
            {"output_0": "F32[a_0,4]", "output_1": "F64[a_0,4]"},
            {"a_0": 512},
        ),
        ("picks", {"x": "F32[batch,4]"}, {"output_0": "F32[]", "output_1": "F32[batch,4]"}, {}),
    ],
)
def test_signature(program, name, inputs, outputs, dims):
    assert signature_of(program, name) == (inputs, outputs, dims)


@pytest.mark.parametrize(
    "name", ["static", "batch", "auto", "seq", "named", "pair", "bf16", "scalar", "shared", "picks"]
)
def test_what_is_loaded_passes_its_trial_and_runs(program, name):
    model = models.load(name, str(program(name)), max_batch=8, threads=1)
    assert model.max_batch == (1 if name in ("static", "scalar", "shared", "picks") else 8)
    assert model.plan.ledger.outputs_bytes == 0
    module, args, _ = PROGRAMS[name]
    inputs = [torch.ones_like(arg) for arg in args]
    results = module(*inputs)
    results = list(results.values()) if isinstance(results, dict) else results
    results = [results] if isinstance(results, torch.Tensor) else list(results)
    outputs = [torch.zeros_like(result) for result in results]
    with torch.inference_mode():
        model.plan.run(inputs, outputs)
    assert all(torch.equal(output, result) for output, result in zip(outputs, results, strict=True))
    assert model.plan.ledger.outputs_bytes == sum(result.nbytes for result in results)


@pytest.mark.parametrize(
    ("name", "asked", "max_batch"),
    [("at_most_8", 64, 8), ("at_most_8", 4, 4), ("any_batch", 64, 64), ("from_1", 64, 64), ("from_2", 64, 64)],
)
def test_the_bounds_of_the_batch(program, name, asked, max_batch):
    model = models.load("m", str(program(name)), max_batch=asked, threads=1)
    assert model.max_batch == max_batch
    for rows in (1, 2, max_batch):
        output = zeros(rows, 4)
        model.plan.run([zeros(rows, 4)], [output])
        assert bool((output == 1).all())


def test_the_lower_bound_of_another_dim(program):
    model = models.load("m", str(program("long")), max_batch=8, threads=1)
    assert model.signature.dims == {"x_1": 64}
    for size in (8, 64):
        model.plan.run([zeros(1, size)], [zeros(1, size)])
    with pytest.raises(AssertionError, match="Guard failed"):
        model.plan.run([zeros(1, 7)], [zeros(1, 7)])


def test_a_batch_that_cannot_be_one_row(program):
    with pytest.raises(RingbrokerError, match="at least 4 rows") as caught:
        exported.prepare(program("from_4"))
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, "batch")


@pytest.mark.parametrize(("name", "path"), [("doubled", "output"), ("number", "output_1"), ("complex", "x")])
def test_what_cannot_be_served(program, name, path):
    with pytest.raises(RingbrokerError) as caught:
        exported.prepare(program(name))
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, path)


def load_bytes(tmp_path, data, name="model.pt2"):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RingbrokerError) as caught:
        models.load("m", str(path), max_batch=8, threads=1)
    assert caught.value.path == str(path)
    return caught.value.code


@pytest.mark.parametrize("part", [0, 1, 100, 0.3, 0.9, -1])
def test_a_truncated_file(program, tmp_path, part):
    data = program("batch").read_bytes()
    end = int(part * len(data)) if isinstance(part, float) else part
    assert load_bytes(tmp_path, data[:end]) == Code.MODEL_INVALID


def test_a_damaged_file(program, tmp_path):
    """The zip is whole, and what is in it is not."""
    data = program("batch").read_bytes()
    at = data.index(b'{"graph_module"') if b'{"graph_module"' in data else len(data) // 3
    assert load_bytes(tmp_path, data[:at] + b"\xff" * 64 + data[at + 64 :]) == Code.MODEL_INVALID


def test_other_files(tmp_path):
    assert load_bytes(tmp_path, b"hello", "model.bin") == Code.MODEL_FORMAT_UNKNOWN
    assert load_bytes(tmp_path, b"hello") == Code.MODEL_INVALID
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    data = (tmp_path / "weights.pt").read_bytes()
    assert load_bytes(tmp_path, data, "weights.pt") == Code.MODEL_FORMAT_UNKNOWN
    assert load_bytes(tmp_path, data) == Code.MODEL_INVALID


def test_an_exported_program_is_known_by_its_content(program, tmp_path):
    path = tmp_path / "renamed.bin"
    path.write_bytes(program("batch").read_bytes())
    assert models.load("m", str(path), max_batch=8, threads=1).max_batch == 8
