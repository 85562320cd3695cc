"""In-place plans: little programs, each ending in another way, against the module itself; and what the ledger says."""

import logging

import pytest
import torch
from torch.export import Dim
from torch.nn import functional as F

from broker.engine.compare import disagreement
from broker.engine.config import ModelConfig
from broker.engine.formats import exported
from broker.engine.inplace import honesty, rehearsal
from broker.engine.inplace import plan as inplace
from broker.engine.plan import CopyingPlan
from broker.engine.probe import Probe
from broker.engine.signature import may_lie_apart
from broker.engine.tensors import spread

BATCH = Dim("batch", max=64)
SEQ = Dim("seq", max=32)


class Ends(torch.nn.Module):
    """Some weights, and a function of them and of the inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(6, 8, generator=generator))
        self.bias = torch.nn.Parameter(torch.randn(6, generator=generator))
        self.filters = torch.nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
        self.table = torch.nn.Parameter(torch.randn(10, 5, generator=generator))
        self.register_buffer("count", torch.zeros(1))

    def forward(self, *inputs):
        return self.function(self, *inputs)


def table(*shape, dtype=torch.float32):
    return torch.rand(shape).to(dtype) if dtype.is_floating_point else torch.randint(0, 10, shape, dtype=dtype)


def counts_up(m, x):
    m.count.add_(1)
    return x + m.count


def relu_in_place(m, x):
    return F.linear(x, m.weight, m.bias).relu_()


def used_again(m, x):
    hidden = torch.tanh(F.linear(x, m.weight, m.bias))
    return hidden, hidden.unsqueeze(1), (hidden * 2).sum(1)


ROWS = (table(3, 8),)
PAIR = (table(3, 5, 8), table(3, 8, 4))
IMAGE = (table(3, 3, 6, 6),)
TOKENS = (table(3, 4, dtype=torch.int64),)
SEQUENCE = (table(3, 5, 8),)
OF_BATCH = {0: BATCH}
OF_SEQ = {0: BATCH, 1: SEQ}

# By name: the function, example inputs, their dynamic dims, which outputs are in place, and, where rows lie apart (the
# table says so for dynamic dims), which are then
ENDINGS = {
    "linear": (lambda m, x: F.linear(x, m.weight, m.bias), ROWS, OF_BATCH, [True], None),
    "addmm": (lambda m, x: torch.addmm(m.bias, x, m.weight.t()), ROWS, OF_BATCH, [True], None),
    "mm": (lambda m, x: torch.mm(x, m.weight.t()), ROWS, OF_BATCH, [True], None),
    "bmm": (lambda m, x, y: torch.bmm(x, y), PAIR, OF_BATCH, [True], None),
    "softmax": (lambda m, x: F.softmax(F.linear(x, m.weight), -1), ROWS, OF_BATCH, [True], None),
    "log_softmax": (lambda m, x: F.log_softmax(x, 1), ROWS, OF_BATCH, [True], None),
    "sigmoid": (lambda m, x: torch.sigmoid(x), ROWS, OF_BATCH, [True], None),
    "cat": (lambda m, x: torch.cat([x, x * 2], 1), ROWS, OF_BATCH, [True], None),
    "mean": (lambda m, x: x.mean(1), SEQUENCE, OF_BATCH, [True], None),
    "topk": (lambda m, x: tuple(torch.topk(x, 3)), ROWS, OF_BATCH, [True, True], None),
    "topk_values": (lambda m, x: torch.topk(x, 3)[0], ROWS, OF_BATCH, [True], None),
    "largest": (lambda m, x: x.max(1)[1], SEQUENCE, OF_BATCH, [True], None),
    "view": (lambda m, x: F.linear(x, m.weight).view(-1, 2, 3), ROWS, OF_BATCH, [True], None),
    "permute": (lambda m, x, y: torch.bmm(x, y).permute(0, 2, 1), PAIR, OF_BATCH, [True], None),
    "permute_view": (lambda m, x, y: torch.bmm(x, y).transpose(1, 2).reshape(-1, 20), PAIR, OF_BATCH, [True], None),
    "squeeze": (lambda m, x: F.linear(x, m.weight[:1]).squeeze(-1), ROWS, OF_BATCH, [True], None),
    "clone": (lambda m, x: torch.tanh(x).clone(), ROWS, OF_BATCH, [True], None),
    "relu": (lambda m, x: torch.relu(F.linear(x, m.weight)), ROWS, OF_BATCH, [True], None),
    "relu_in_place": (relu_in_place, ROWS, OF_BATCH, [True], None),
    "embedding": (lambda m, x: F.embedding(x, m.table), TOKENS, OF_BATCH, [True], None),
    "converted": (lambda m, x: F.linear(x, m.weight).to(torch.float64), ROWS, OF_BATCH, [True], None),
    "half": (lambda m, x: torch.tanh(x.to(torch.bfloat16)), ROWS, OF_BATCH, [True], None),
    "average_pool": (lambda m, x: F.adaptive_avg_pool2d(x, 1).flatten(1), IMAGE, OF_BATCH, [True], None),
    "max_pool": (lambda m, x: F.max_pool2d(x, 2), IMAGE, OF_BATCH, [True], None),
    "conv": (lambda m, x: F.conv2d(x, m.filters), IMAGE, OF_BATCH, [False], None),
    "layer_norm": (lambda m, x: F.layer_norm(x, (8,)), ROWS, OF_BATCH, [False], None),
    "part": (lambda m, x: torch.tanh(x)[:, 0], SEQUENCE, OF_BATCH, [False], None),
    "identity": (lambda m, x: x, ROWS, OF_BATCH, [False], None),
    "constant": (lambda m, x: (torch.tanh(x), m.bias), ROWS, OF_BATCH, [True, False], None),
    "twice": (lambda m, x: (y := torch.tanh(x), y), ROWS, OF_BATCH, [True, False], None),
    "used_again": (used_again, ROWS, OF_BATCH, [True, False, True], None),
    "by_name": (lambda m, x: {"b": x * 2, "a": F.layer_norm(x, (8,))}, ROWS, OF_BATCH, [True, False], None),
    "linear_seq": (lambda m, x: F.linear(x, m.weight, m.bias), SEQUENCE, OF_SEQ, [True], [False]),
    "gelu_seq": (lambda m, x: F.gelu(x), SEQUENCE, OF_SEQ, [True], [False]),
    "tanh_seq": (lambda m, x: torch.tanh(x), SEQUENCE, OF_SEQ, [True], [True]),
    "softmax_seq": (lambda m, x: F.softmax(x * 2, -1), SEQUENCE, OF_SEQ, [True], [False]),
    "bmm_seq": (lambda m, x: torch.bmm(x, x.transpose(1, 2)), SEQUENCE, OF_SEQ, [True], [True]),
    "flat_seq": (lambda m, x: torch.tanh(x.flatten(0, 1)).view(x.shape), SEQUENCE, OF_SEQ, [True], [False]),
    "embedding_seq": (lambda m, x: F.embedding(x, m.table), TOKENS, OF_SEQ, [True], [False]),
    "topk_seq": (lambda m, x: torch.topk(x, 3)[0], SEQUENCE, OF_SEQ, [True], [True]),
    "softmax_of_seq": (lambda m, x: F.softmax(x.sum(1), -1), SEQUENCE, OF_SEQ, [True], [True]),
    "second_batch": (lambda m, x: torch.tanh(x).transpose(0, 1), SEQUENCE, OF_BATCH, [True], [True]),
}


@pytest.fixture(scope="session")
def bound(tmp_path_factory):
    """A function from an ending's name to (module, plan, probe, signature); each is exported and bound once."""
    folder = tmp_path_factory.mktemp("endings")
    made = {}

    def bound(name):
        if name not in made:
            function, inputs, dims, *_ = ENDINGS[name]
            module = Ends(function).eval()
            program = torch.export.export(module, inputs, dynamic_shapes=(tuple(dims for _ in inputs),))
            torch.export.save(program, folder / f"{name}.pt2")
            config = ModelConfig(name=name, source="")
            prepared = exported.prepare(folder / f"{name}.pt2", config)
            probe = Probe(prepared.signature, config, prepared.minima, prepared.ranges)
            made[name] = module, prepared.bind(1, "cpu", probe), probe, prepared.signature
        return made[name]

    return bound


def flat(results):
    if isinstance(results, torch.Tensor):
        return [results]
    return list(results.values()) if isinstance(results, dict) else list(results)


def run_and_compare(bound, name, rows, layout):
    """Run on every size; return the bytes that should have been copied had each output been copied."""
    module, plan, probe, signature = bound(name)
    sizes_bytes = []
    for sizes in probe.sizes():
        inputs = [layout(v, t.batch_axis) for v, t in zip(probe.inputs(rows, sizes), signature.inputs, strict=True)]
        outputs = [
            layout(v, t.batch_axis) if may_lie_apart(t) else v
            for v, t in zip(probe.outputs(rows, sizes), signature.outputs, strict=True)
        ]
        before = [tensor.clone() for tensor in inputs]
        addresses = [tensor.data_ptr() for tensor in outputs]
        with torch.inference_mode():
            expected = flat(module(*(tensor.contiguous() for tensor in inputs)))
            plan.ledger.reset()
            assert plan.run(inputs, outputs) is None
        for output, result in zip(outputs, expected, strict=True):
            assert disagreement(output, result) is None
        assert addresses == [tensor.data_ptr() for tensor in outputs]
        assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))
        sizes_bytes.append(([result.nbytes for result in expected], plan.ledger.outputs_bytes))
    return sizes_bytes


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("name", ENDINGS)
def test_adjacent_rows(bound, name, rows):
    in_place = ENDINGS[name][3]
    assert [route.in_place for route in bound(name)[1].routes] == in_place
    is_apart = rows > 1 and any(tensor.batch_axis not in (0, None) for tensor in bound(name)[3].outputs)
    if is_apart:
        return  # there is no such thing as adjacent rows then
    for sizes_bytes, counted in run_and_compare(bound, name, rows, lambda value, axis: value.contiguous()):
        assert counted == sum(0 if is_in else size for size, is_in in zip(sizes_bytes, in_place, strict=True))


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if ending[4] is not None])
def test_rows_that_lie_apart(bound, name):
    in_place = ENDINGS[name][4]
    assert bound(name)[1].accepts_strides
    for sizes_bytes, counted in run_and_compare(bound, name, 3, spread):
        assert counted == sum(0 if is_in else size for size, is_in in zip(sizes_bytes, in_place, strict=True))


@pytest.mark.parametrize("name", ["sigmoid", "mm", "log_softmax", "bmm", "mean", "topk", "embedding"])
def test_a_program_of_one_op_in_place_allocates_nothing_of_its_results_size(bound, name):
    _, plan, probe, _ = bound(name)
    inputs, outputs = probe.inputs(16, {}), probe.outputs(16, {})
    with torch.inference_mode():
        found_bytes = honesty.largest_allocation_bytes(lambda: plan.run(inputs, outputs))
    assert found_bytes < min(output.nbytes for output in outputs)


@pytest.mark.parametrize(
    ("name", "index", "why"),
    [
        ("linear", 0, "written by aten.linear.out"),
        ("relu", 0, "written by aten.clamp_min.out"),
        ("softmax", 0, "written by aten._softmax.out"),
        ("topk", 1, "written by aten.topk.values"),
        ("conv", 0, "aten.conv2d.default has no variant that writes into a given tensor"),
        ("layer_norm", 0, "aten.layer_norm.default has no variant that writes into a given tensor"),
        ("identity", 0, "an input returned as it is"),
        ("constant", 1, "a constant returned as it is"),
        ("twice", 1, "the same tensor as output 0"),
        ("part", 0, "aten.select.int gives a part of another tensor"),
        ("gelu_seq", 0, "written by aten.gelu.out; copied where rows lie apart"),
    ],
)
def test_routes(bound, name, index, why):
    assert bound(name)[1].routes[index].why == why


LARGE = torch.rand(50, 40)
ROOM = torch.empty(50, 40)
aten = torch.ops.aten


@pytest.mark.parametrize(
    ("is_honest", "call"),
    [
        (True, lambda: aten.sigmoid.out(LARGE, out=ROOM)),
        (True, lambda: aten.addmm.out(LARGE[0], LARGE, LARGE[:40], out=ROOM)),
        (True, lambda: aten._softmax.out(LARGE, 1, False, out=ROOM)),
        (True, lambda: aten.clamp_min.out(LARGE, 0, out=ROOM)),
        (False, lambda: aten.relu.out(LARGE, out=ROOM)),
        (False, lambda: aten.clone.out(LARGE, out=ROOM)),
        (False, lambda: aten.flip.out(LARGE, [1], out=ROOM)),
        (False, lambda: aten.embedding.out(LARGE, torch.arange(50), out=ROOM)),
        (False, lambda: ROOM.copy_(LARGE * 2)),
    ],
)
def test_the_profiler_tells_honest_ops_from_others(is_honest, call):
    with torch.inference_mode():
        assert (honesty.largest_allocation_bytes(call) < ROOM.nbytes) is is_honest


def test_the_profiler_is_off_after_an_error():
    with pytest.raises(ZeroDivisionError):
        honesty.largest_allocation_bytes(lambda: 1 // 0)
    assert honesty.largest_allocation_bytes(lambda: torch.empty(100, dtype=torch.uint8)) == 100


def warnings_of(caplog):
    return [record for record in caplog.records if record.name == "broker.engine" and record.levelname == "WARNING"]


def prepared(tmp_path, function, inputs, dims):
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Ends(function).eval(), inputs, dynamic_shapes=(dims,)), path)
    return exported.prepare(path, ModelConfig(name="m", source=""))


def bind(made):
    return made.bind(1, "cpu", Probe(made.signature, ModelConfig(name="m", source=""), made.minima, made.ranges))


def test_a_program_with_state_is_run_as_it_is(tmp_path):
    plan = bind(prepared(tmp_path, counts_up, ROWS, (OF_BATCH,)))
    assert isinstance(plan, CopyingPlan)
    assert plan.routes[0] == (False, "the model writes into count")
    output = torch.zeros(1, 8)
    for expected in (1, 2, 3):
        with torch.inference_mode():
            plan.run([torch.zeros(1, 8)], [output])
        assert output.tolist() == [[expected] * 8]


def test_a_program_that_writes_into_its_input_is_run_as_it_is(tmp_path):
    plan = bind(prepared(tmp_path, lambda m, x: x.add_(1) * 2, ROWS, (OF_BATCH,)))
    assert plan.routes[0] == (False, "the model writes into inputs_0")


def test_random_numbers_do_not_look_like_a_wrong_result(tmp_path, caplog):
    plan = bind(prepared(tmp_path, lambda m, x: F.linear(x, m.weight) + torch.rand(6), ROWS, (OF_BATCH,)))
    assert plan.routes[0].in_place
    assert not warnings_of(caplog)


def test_a_stand_in_that_computes_something_else_is_not_used(tmp_path, monkeypatch, caplog):
    def wrong(graph, op, place):
        return graph.call_function(aten.exp.out, op.args, {"out": place})

    monkeypatch.setitem(rehearsal.redirect.__globals__["STAND_INS"], aten.relu.default, wrong)
    made = prepared(tmp_path, lambda m, x: (torch.relu(x), torch.tanh(x)), ROWS, (OF_BATCH,))
    with caplog.at_level(logging.WARNING, "broker.engine"):
        plan = bind(made)
    assert [route.in_place for route in plan.routes] == [False, True]
    assert plan.routes[0].why == "aten.exp.out in place gave other results"
    assert "aten.exp.out" in warnings_of(caplog)[0].because
    outputs = [torch.zeros(2, 8), torch.zeros(2, 8)]
    with torch.inference_mode():
        plan.run([-torch.ones(2, 8)], outputs)
    assert not outputs[0].any()
    assert plan.ledger.outputs_bytes == outputs[0].nbytes


def test_a_listing_that_computes_something_else_is_not_used(tmp_path, monkeypatch, caplog):
    made = prepared(tmp_path, lambda m, x: F.layer_norm(x, (8,)), ROWS, (OF_BATCH,))
    monkeypatch.setattr(rehearsal, "compile_graph", lambda graph, root, wrap=None: lambda x, y: (x * 0,))
    with caplog.at_level(logging.WARNING, "broker.engine"):
        plan = bind(made)
    assert isinstance(plan, CopyingPlan)
    assert warnings_of(caplog)[0].message == "run as torch runs it"
    output = torch.zeros(2, 8)
    with torch.inference_mode():
        plan.run([ROWS[0][:2]], [output])
    assert disagreement(output, F.layer_norm(ROWS[0][:2], (8,))) is None


def test_probe_inputs_that_the_model_refuses_are_left_to_its_trial(tmp_path):
    made = prepared(tmp_path, lambda m, x: F.embedding(x, m.table), TOKENS, (OF_BATCH,))
    config = ModelConfig(name="m", source="", ranges={"inputs_0": (50, 60)})
    plan = made.bind(1, "cpu", Probe(made.signature, config, made.minima, made.ranges))
    assert plan.routes[0] == (False, "the model's trial run failed")
    with pytest.raises(IndexError):
        plan.run([torch.full((1, 4), 50)], [torch.zeros(1, 4, 5)])


def test_a_plan_runs_with_autograd_on_too(bound):
    _, plan, probe, _ = bound("linear")
    outputs = probe.outputs(2, {})
    plan.run(probe.inputs(2, {}), outputs)
    assert not outputs[0].requires_grad


def test_without_outputs_in_place_every_byte_is_counted(bound):
    plan = bound("layer_norm")[1]
    assert isinstance(plan, inplace.InPlacePlan)
    plan.ledger.reset()
    with torch.inference_mode():
        for _ in range(3):
            plan.run([torch.rand(2, 8)], [torch.zeros(2, 8)])
    assert plan.ledger.outputs_bytes == 3 * 2 * 8 * 4
