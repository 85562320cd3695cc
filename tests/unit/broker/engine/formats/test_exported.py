"""Exported programs: their signature read from the file, run on real views, and the files that are refused."""

import pytest
import torch
from torch.export import Dim

from broker.engine.compare import disagreement
from broker.engine.config import ModelConfig
from broker.engine.formats import exported, guards
from broker.engine.formats.symbols import Symbols
from broker.engine.plan import rows_first
from broker.engine.probe import Probe
from broker.engine.signature import written
from broker.engine.tensors import pack
from ringbuf.errors import Code, RingbrokerError


class Function(torch.nn.Module):
    """A function of one to three tensors as a module, as `torch.export` wants it."""

    def __init__(self, function):
        super().__init__()
        self.function = function


class OfX(Function):
    def forward(self, x):
        return self.function(x)


class OfXY(Function):
    def forward(self, x, y):
        return self.function(x, y)


class OfXWithMask(Function):
    def forward(self, x, *, mask):
        return self.function(x, mask)


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), 2.0))

    def forward(self, x):
        return x * self.weight


class Named(torch.nn.Module):
    def forward(self, tokens, mask):
        return {"sum": (tokens * mask).sum(1), "any": mask.any(1)}


class Nested(torch.nn.Module):
    def forward(self, features):
        x, y = features["x"], features["pair"][1]
        return {"a": {"b c": x + y, "none": None}, "d": [x * 2, features["pair"][0]]}


class TakesNumber(torch.nn.Module):
    def forward(self, x, k, flag=None):
        return x * k


BATCH = Dim("batch", max=512)
SEQ = Dim("seq", max=16)
HALF = Dim("half", min=2, max=32)
F32 = torch.float32


def zeros(*shape, dtype=F32):
    return torch.zeros(shape, dtype=dtype)


def one(x):
    return x + 1


def pair(x, y):
    return x + y, (x - y).to(torch.float64)


def rows_of_8(x):
    return x.reshape(x.shape[0], -1, 8).sum(2)


def long_enough(x):
    return x + 1 if x.shape[1] > 5 else x - 1


def positive(x):
    return x[x[:, 0] > 0]


IDS = zeros(3, 5, dtype=torch.int64)
WIDE = {0: BATCH, 1: SEQ}

# By name: the module, its example inputs, their dynamic dims, and example keyword inputs
PROGRAMS = {
    "static": (Scale(), (zeros(2, 4),), None),
    "batch": (Scale(), (zeros(2, 4),), ({0: BATCH},)),
    "auto": (OfX(one), (zeros(3, 4),), ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)),
    "seq": (OfX(one), (IDS,), (WIDE,)),
    "at_most_8": (OfX(one), (zeros(3, 4),), ({0: Dim("few", max=8)},)),
    "any_batch": (OfX(one), (zeros(3, 4),), ({0: Dim("rows")},)),
    "from_1": (OfX(one), (zeros(3, 4),), ({0: Dim("rows", min=1, max=512)},)),
    "from_2": (OfX(one), (zeros(3, 4),), ({0: Dim("rows", min=2)},)),
    "from_4": (OfX(one), (zeros(5, 4),), ({0: Dim("rows", min=4)},)),
    "long": (OfX(one), (zeros(3, 9),), ({0: BATCH, 1: Dim("seq", min=8, max=64)},)),
    "long_by_guard": (OfX(long_enough), (zeros(3, 9),), ({0: BATCH, 1: Dim.DYNAMIC},)),
    "named": (Named(), (IDS, zeros(3, 5, dtype=torch.bool)), (WIDE, WIDE)),
    "nested": (
        Nested(),
        ({"x": zeros(3, 4), "pair": (zeros(3, 4), zeros(3, 4))},),
        ({"x": {0: BATCH}, "pair": ({0: BATCH}, {0: BATCH})},),
    ),
    "keyword": (
        OfXWithMask(lambda x, mask: x * mask),
        (zeros(3, 4),),
        {"x": {0: BATCH}, "mask": {0: BATCH}},
        {"mask": zeros(3, 4, dtype=torch.bool)},
    ),
    "pair": (OfXY(pair), (zeros(3, 4), zeros(3, 4)), ({0: BATCH}, {0: BATCH})),
    "shared": (OfXY(pair), (zeros(3, 4), zeros(4)), ({0: BATCH}, None)),
    "bf16": (OfX(one), (zeros(3, 4, dtype=torch.bfloat16),), ({0: BATCH},)),
    "f16": (OfX(torch.tanh), (zeros(3, 4, dtype=torch.float16),), ({0: BATCH},)),
    "u8": (OfX(lambda x: x.to(F32) / 255), (zeros(3, 4, dtype=torch.uint8),), ({0: BATCH},)),
    "scalar": (OfX(one), (torch.zeros(()),), None),
    "doubled": (OfX(lambda x: torch.cat([x, x], 1)), (zeros(3, 5),), (WIDE,)),
    "unbounded": (OfX(lambda x: torch.cat([x, x], 1)), (zeros(3, 5),), ({0: BATCH, 1: Dim.DYNAMIC},)),
    "every_second": (OfX(lambda x: x[:, 1::2] * 2), (zeros(3, 9),), ({0: BATCH, 1: Dim("w", min=4, max=15)},)),
    "flattened": (OfX(lambda x: x.flatten(0, 1) * 2), (zeros(3, 5, 2),), (WIDE,)),
    "stacked": (OfX(lambda x: torch.cat([x, x])), (zeros(3, 5),), (WIDE,)),
    "picks": (OfX(lambda x: (x[0].sum(), x)), (zeros(3, 4),), ({0: BATCH},)),
    "positive": (OfX(positive), (torch.ones(3, 4),), ({0: BATCH},)),
    "matrix": (OfXY(torch.mm), (zeros(3, 5), zeros(5, 7)), ({0: BATCH, 1: SEQ}, {0: SEQ, 1: Dim("n", max=9)})),
    "twice_as_long": (
        OfXY(lambda x, y: x.repeat(1, 2) + y),
        (zeros(3, 4), zeros(3, 8)),
        ({0: BATCH, 1: HALF}, {0: BATCH, 1: 2 * HALF}),
    ),
    "by_8": (OfX(rows_of_8), (zeros(3, 16),), ({0: BATCH, 1: Dim.DYNAMIC},)),
    "not_13": (OfX(lambda x: x + 1 if x.shape[1] != 13 else x - 1), (zeros(3, 5),), ({0: BATCH, 1: Dim.DYNAMIC},)),
    "number": (OfX(lambda x: (x, 3)), (zeros(3, 4),), ({0: BATCH},)),
    "takes_number": (TakesNumber(), (zeros(3, 4), 3), ({0: BATCH}, None)),
    "takes_none": (TakesNumber(), (zeros(3, 4), zeros(3, 4), None), ({0: BATCH}, {0: BATCH}, None)),
    "complex": (OfX(one), (zeros(3, 4, dtype=torch.complex64),), ({0: BATCH},)),
}


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """A function from the name of a program to its file; each is exported once."""
    folder = tmp_path_factory.mktemp("programs")

    def program(name):
        path = folder / f"{name}.pt2"
        if not path.exists():
            module, args, dynamic, *kwargs = PROGRAMS[name]
            torch.export.save(torch.export.export(module.eval(), args, *kwargs, dynamic_shapes=dynamic), path)
        return path

    return program


def configured(**options):
    return ModelConfig(name="m", source="", **options)


def sides(prepared):
    signature = prepared.signature
    return *({t.name: written(t) for t in tensors} for tensors in (signature.inputs, signature.outputs)), signature.dims


def bind(program, name, **options):
    config = configured(**options)
    prepared = exported.prepare(program(name), config)
    probe = Probe(prepared.signature, config, prepared.minima, prepared.ranges)
    return prepared, prepared.bind(1, "cpu", probe), probe


def refusal(program, name, **options):
    with pytest.raises(RingbrokerError) as caught:
        exported.prepare(program(name), configured(**options))
    return caught.value


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
            "nested",
            {"features_x": "F32[batch,4]", "features_pair_0": "F32[batch,4]", "features_pair_1": "F32[batch,4]"},
            {"a.b_c": "F32[batch,4]", "d.0": "F32[batch,4]", "d.1": "F32[batch,4]"},
            {},
        ),
        ("keyword", {"x": "F32[batch,4]", "mask": "BOOL[batch,4]"}, {"output": "F32[batch,4]"}, {}),
        (
            "pair",
            {"x": "F32[batch,4]", "y": "F32[batch,4]"},
            {"output_0": "F32[batch,4]", "output_1": "F64[batch,4]"},
            {},
        ),
        ("bf16", {"x": "BF16[batch,4]"}, {"output": "BF16[batch,4]"}, {}),
        ("f16", {"x": "F16[batch,4]"}, {"output": "F16[batch,4]"}, {}),
        ("u8", {"x": "U8[batch,4]"}, {"output": "F32[batch,4]"}, {}),
        ("scalar", {"x": "F32[]"}, {"output": "F32[]"}, {}),
        (
            "shared",
            {"x": "F32[x_0,4]", "y": "F32[4]"},
            {"output_0": "F32[x_0,4]", "output_1": "F64[x_0,4]"},
            {"x_0": 512},
        ),
        ("picks", {"x": "F32[batch,4]"}, {"output_0": "F32[]", "output_1": "F32[batch,4]"}, {}),
        (
            "matrix",
            {"x": "F32[x_0,x_1]", "y": "F32[x_1,y_1]"},
            {"output": "F32[x_0,y_1]"},
            {"x_0": 512, "x_1": 16, "y_1": 9},
        ),
        ("doubled", {"x": "F32[batch,x_1]"}, {"output": "F32[batch,output_1]"}, {"x_1": 16, "output_1": 32}),
        ("every_second", {"x": "F32[batch,x_1]"}, {"output": "F32[batch,output_1]"}, {"x_1": 15, "output_1": 7}),
        ("flattened", {"x": "F32[batch,x_1,2]"}, {"output": "F32[x_1,2]"}, {"x_1": 16}),
        ("stacked", {"x": "F32[batch,x_1]"}, {"output": "F32[2,x_1]"}, {"x_1": 16}),
        ("positive", {"x": "F32[batch,4]"}, {"output": "F32[output_0,4]"}, {"output_0": 512}),
        ("long_by_guard", {"x": "F32[batch,x_1]"}, {"output": "F32[batch,x_1]"}, {"x_1": None}),
    ],
)
def test_signature(program, name, inputs, outputs, dims):
    assert sides(exported.prepare(program(name), configured())) == (inputs, outputs, dims)


@pytest.mark.parametrize(
    ("name", "options", "inputs", "outputs", "dims"),
    [
        (
            "named",
            {"inputs": {"tokens": "I64[batch,seq]"}},
            ["I64[batch,seq]", "BOOL[batch,seq]"],
            ["I64[batch]", "BOOL[batch]"],
            {"seq": 16},
        ),
        (
            "seq",
            {"inputs": {"x": "I64[batch,seq]"}, "maxima": {"seq": 9}},
            ["I64[batch,seq]"],
            ["I64[batch,seq]"],
            {"seq": 9},
        ),
        ("seq", {"inputs": {"x": "I64[batch,7]"}}, ["I64[batch,7]"], ["I64[batch,7]"], {}),
        ("seq", {"inputs": {"x": "I64[2,seq]"}}, ["I64[2,seq]"], ["I64[2,seq]"], {"seq": 16}),
        ("doubled", {"inputs": {"x": "F32[batch,7]"}}, ["F32[batch,7]"], ["F32[batch,14]"], {}),
        (
            "doubled",
            {"outputs": {"output": "F32[batch,both]"}, "maxima": {"x_1": 5}},
            ["F32[batch,x_1]"],
            ["F32[batch,both]"],
            {"x_1": 5, "both": 10},
        ),
        ("unbounded", {"maxima": {"x_1": 6}}, ["F32[batch,x_1]"], ["F32[batch,output_1]"], {"x_1": 6, "output_1": 12}),
        (
            "unbounded",
            {"maxima": {"output_1": 6}},
            ["F32[batch,x_1]"],
            ["F32[batch,output_1]"],
            {"x_1": None, "output_1": 6},
        ),
        ("positive", {"maxima": {"output_0": 3}}, ["F32[batch,4]"], ["F32[output_0,4]"], {"output_0": 3}),
        ("twice_as_long", {"inputs": {"x": "F32[batch,5]"}}, ["F32[batch,5]", "F32[batch,10]"], ["F32[batch,10]"], {}),
        ("twice_as_long", {"inputs": {"y": "F32[batch,10]"}}, ["F32[batch,5]", "F32[batch,10]"], ["F32[batch,10]"], {}),
        ("by_8", {"inputs": {"x": "F32[batch,24]"}}, ["F32[batch,24]"], ["F32[batch,3]"], {}),
        (
            "matrix",
            {"inputs": {"x": "F32[batch,d]"}},
            ["F32[batch,d]", "F32[d,y_1]"],
            ["F32[batch,y_1]"],
            {"d": 16, "y_1": 9},
        ),
    ],
)
def test_what_the_operator_adds(program, name, options, inputs, outputs, dims):
    prepared = exported.prepare(program(name), configured(**options))
    assert sides(prepared)[2] == dims
    assert [written(tensor) for tensor in prepared.signature.inputs] == inputs
    assert [written(tensor) for tensor in prepared.signature.outputs] == outputs


@pytest.mark.parametrize(
    ("name", "options", "code", "path"),
    [
        ("from_4", {}, Code.SIGNATURE_INVALID, "batch"),
        ("number", {}, Code.SIGNATURE_INVALID, "output_1"),
        ("takes_number", {}, Code.SIGNATURE_INVALID, "k"),
        ("takes_none", {}, Code.SIGNATURE_INVALID, "flag"),
        ("complex", {}, Code.SIGNATURE_INVALID, "x"),
        ("unbounded", {}, Code.SIGNATURE_INVALID, "output"),
        ("twice_as_long", {}, Code.SIGNATURE_INVALID, "y"),
        ("twice_as_long", {"inputs": {"x": "F32[batch,4]", "y": "F32[batch,9]"}}, Code.CONFIG_INVALID, "y"),
        ("twice_as_long", {"inputs": {"y": "F32[batch,9]"}}, Code.CONFIG_INVALID, "y"),
        ("twice_as_long", {"inputs": {"x": "F32[batch,33]"}}, Code.CONFIG_INVALID, "x"),
        ("by_8", {"inputs": {"x": "F32[batch,12]"}}, Code.SIGNATURE_INVALID, "inputs"),
        ("seq", {"inputs": {"x": "I64[batch,17]"}}, Code.CONFIG_INVALID, "x"),
        ("long", {"inputs": {"x": "F32[batch,7]"}}, Code.CONFIG_INVALID, "x"),
        ("long", {"maxima": {"x_1": 7}}, Code.CONFIG_INVALID, "x_1"),
        ("seq", {"maxima": {"x_1": 17}}, Code.CONFIG_INVALID, "x_1"),
        ("doubled", {"maxima": {"output_1": 33}}, Code.CONFIG_INVALID, "output_1"),
        ("seq", {"inputs": {"y": "I64[batch,7]"}}, Code.CONFIG_INVALID, "y"),
    ],
)
def test_what_is_refused(program, name, options, code, path):
    error = refusal(program, name, **options)
    assert (error.code, error.path) == (code, path)


def test_sizes_that_a_signature_cannot_describe_are_refused_at_load(program):
    with pytest.raises(RingbrokerError, match="Guard failed") as caught:
        bind(program, "by_8", maxima={"x_1": 64, "output_1": 8})
    assert caught.value.code == Code.SIGNATURE_INVALID


REFUSED = {"from_4", "number", "takes_number", "takes_none", "complex", "unbounded", "twice_as_long", "by_8"}
SERVED = [name for name in PROGRAMS if name not in REFUSED]


def flat(results):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(results) if leaf is not None]


@pytest.mark.parametrize("name", SERVED)
def test_it_gives_what_the_module_gives(program, name):
    """Every size that the probe tries, at one row and, where there is a batch axis, at three."""
    prepared, plan, probe = bind(program, name)
    module, args, _, *kwargs = PROGRAMS[name]
    spec = torch.utils._pytree.tree_structure((args, *kwargs))
    signature = prepared.signature
    for sizes in probe.sizes():
        for rows in (1, 3) if all(t.batch_axis == 0 for t in (*signature.inputs, *signature.outputs)) else (1,):
            inputs, outputs = probe.inputs(rows, sizes), probe.outputs(rows, sizes)
            positional, *named = torch.utils._pytree.tree_unflatten(inputs, spec)
            expected = flat(module(*positional, **(named[0] if named else {})))
            with torch.inference_mode():
                shapes = plan.run(inputs, outputs)
            for index, (output, result) in enumerate(zip(outputs, expected, strict=True)):
                if shapes is not None:
                    axis = signature.outputs[index].batch_axis
                    output = pack(rows_first(output, axis), shapes[index]).reshape(result.shape)
                assert disagreement(output, result) is None


@pytest.mark.parametrize("name", SERVED)
def test_what_is_written_in_place_is_not_counted(program, name):
    _, plan, probe = bind(program, name)
    plan.ledger.reset()
    outputs = probe.outputs(1, probe.sizes()[0])
    with torch.inference_mode():
        shapes = plan.run(probe.inputs(1, probe.sizes()[0]), outputs)
    copied = [i for i, route in enumerate(plan.routes) if not route.in_place]
    sizes = [
        out.nbytes if shapes is None else torch.Size(shapes[i]).numel() * out.element_size()
        for i, out in enumerate(outputs)
    ]
    assert plan.ledger.outputs_bytes == sum(sizes[index] for index in copied)


@pytest.mark.parametrize(
    ("name", "computed", "why"),
    [
        ("doubled", {"output_1"}, "the size of a result is known only when the model has run"),
        ("every_second", {"output_1"}, "the size of a result is known only when the model has run"),
        ("positive", set(), "the size of a result is known only when the model has run"),
        ("seq", set(), "written by aten.add.out"),
        ("flattened", set(), "written by aten.mul.out"),
        ("stacked", set(), "written by aten.cat.out"),
    ],
)
def test_computed_dims(program, name, computed, why):
    prepared, plan, _ = bind(program, name)
    assert prepared.computed_dims == computed
    assert plan.routes[0].why == why


@pytest.mark.parametrize(
    ("name", "max_batch"),
    [("at_most_8", 8), ("any_batch", None), ("from_1", 512), ("from_2", None), ("static", None)],
)
def test_the_bounds_of_the_batch(program, name, max_batch):
    prepared, plan, _ = bind(program, name)
    assert prepared.max_batch == max_batch
    for rows in (1, 2, 8) if name != "static" else ():
        output = zeros(rows, 4)
        plan.run([zeros(rows, 4)], [output])
        assert bool((output == 1).all())


@pytest.mark.parametrize(("name", "least"), [("long", 8), ("long_by_guard", 6)])
def test_the_lower_bound_of_another_dim(program, name, least):
    prepared, plan, _ = bind(program, name)
    assert prepared.minima == {"x_1": least}
    for size in (least, 64):
        output = zeros(1, size)
        plan.run([zeros(1, size)], [output])
        assert bool((output == 1).all())
    with pytest.raises(ValueError, match=f"x_1 is {least - 1}; the model takes {least} or more"):
        plan.run([zeros(1, least - 1)], [zeros(1, least - 1)])


@pytest.mark.parametrize(
    ("example", "ranges"),
    [
        (torch.tensor([[3.0, float("nan"), -2.0]]), {"x": (-2, 3)}),
        (torch.tensor([[7, 9, 8]]), {"x": (7, 9)}),
        (torch.tensor(16000), {"x": (16000, 16000)}),
        (torch.full((2, 3), 5), {"x": (5, 5)}),
        (torch.zeros(2, 3), {}),
        (torch.ones(2, 3), {}),
        (torch.zeros(2, 3, dtype=torch.int64), {}),
    ],
)
def test_values_of_the_example_inputs_are_what_probes_are_made_from(example, ranges, tmp_path):
    class Plus(torch.nn.Module):
        def forward(self, x):
            return x + 1

    torch.export.save(torch.export.export(Plus(), (example,)), tmp_path / "plus.pt2")
    assert exported.prepare(tmp_path / "plus.pt2", ModelConfig(name="m", source="")).ranges == ranges


def test_the_guards_are_not_run(program, monkeypatch):
    """They take 40 us; for this program they say nothing that its signature does not."""
    prepared, plan, probe = bind(program, "named")
    assert prepared.program.check is None
    asserted = []
    monkeypatch.setattr(torch, "_assert", lambda *arguments: asserted.append(arguments))
    plan.run(probe.inputs(1, probe.sizes()[0]), probe.outputs(1, probe.sizes()[0]))
    assert not asserted


def test_guards_that_say_more_are_still_checked(program):
    prepared, plan, _ = bind(program, "not_13")
    assert prepared.program.check is not None
    for size in (1, 12, 14):
        output = zeros(2, size)
        plan.run([zeros(2, size)], [output])
        assert bool((output == 1).all())
    with pytest.raises(AssertionError, match="Guard failed"):
        plan.run([zeros(2, 13)], [zeros(2, 13)])


@pytest.mark.parametrize(
    ("guard", "verdict"),
    [
        ("L['x'].size()[0] == L['x'].size()[0]", True),
        ("L['x'].size()[1] == 1 or L['x'].size()[0] == L['x'].size()[0]", True),
        ("L['x'].size()[1] <= 16 and L['x'].size()[0] <= 512", True),
        ("L['x'].size()[1] <= 16 and L['x'].size()[0] <= 511", None),
        ("L['x'].size()[1] != 0", True),
        ("L['x'].size()[1] != 1", None),
        ("L['x'].size()[1] > 16", False),
        ("L['x'].size()[1] >= 16", None),
        ("L['x'].size()[1] == 17 or L['x'].size()[1] == 18", False),
        ("2*L['x'].size()[1] < 33", True),
        ("L['x'].size()[1] // 4 <= 4", True),
        ("L['x'].size()[1] % 4 == 0", None),
        ("L['x'].size()[1] == L['x'].size()[0]", None),
        ("L['x'].stride()[1] == 1", None),
        ("L['y'].size()[1] == 1", None),
        ("not a guard", None),
    ],
)
def test_what_guards_say(program, guard, verdict):
    loaded = torch.export.load(program("seq"))
    value = next(node.meta["val"] for node in loaded.graph.nodes if node.op == "placeholder")
    assert guards.judge(guard, {"L['x']": value.shape}, Symbols(loaded, [value])) is verdict


def test_a_number_settles_what_guards_ask(program):
    prepared, plan, _ = bind(program, "by_8", inputs={"x": "F32[batch,16]"})
    assert prepared.program.check is None
    output = zeros(2, 2)
    plan.run([torch.ones(2, 16)], [output])
    assert output.tolist() == [[8.0, 8.0]] * 2


def load_bytes(tmp_path, data):
    path = tmp_path / "model.pt2"
    path.write_bytes(data)
    with pytest.raises(RingbrokerError) as caught:
        exported.prepare(path, configured())
    assert caught.value.path == str(path)
    assert "not a program that this torch can load: " in caught.value.text
    return caught.value.code


@pytest.mark.parametrize("part", [0, 1, 100, *(n / 16 for n in range(1, 16)), -1, -22, -100])
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
    assert load_bytes(tmp_path, b"hello") == Code.MODEL_INVALID
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    assert load_bytes(tmp_path, (tmp_path / "weights.pt").read_bytes()) == Code.MODEL_INVALID
    assert not exported.is_exported(tmp_path / "weights.pt")


def test_an_exported_program_is_known_by_its_content(program, tmp_path):
    path = tmp_path / "renamed.bin"
    path.write_bytes(program("batch").read_bytes())
    assert exported.is_exported(path)
    assert not exported.is_exported(tmp_path / "missing")
