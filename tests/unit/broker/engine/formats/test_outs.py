"""Models with a parameter `out`: in place where they heed it, counted where they do not, never wrong."""

import pytest
import torch

from broker.engine.config import ModelConfig
from broker.engine.formats import outs
from broker.engine.plan import CopyingPlan, OutputError
from broker.engine.probe import Probe
from broker.engine.signature import declare
from ringbuf.errors import Code

ROW = "F32[batch,4]"
ONE = declare({"x": ROW}, {"y": ROW})
TWO = declare({"x": ROW}, {"y": ROW, "z": ROW})


def bind(function, signature=ONE):
    return outs.bind(function, frozenset({"x", "out"}), signature, Probe(signature, ModelConfig(name="m", source="m")))


def run(plan, rows=3, outputs=1):
    x = torch.arange(4.0 * rows).view(rows, 4)
    made = [torch.full((rows, 4), 77.0) for _ in range(outputs)]
    plan.run([x], made)
    return x, *made


def doubles(x, out=None):
    return torch.mul(x, 2, out=out)


def returns_nothing(x, out=None):
    if out is None:
        return 2 * x
    torch.mul(x, 2, out=out)
    return None


def returns_a_view_of_out(x, out=None):
    return torch.mul(x, 2, out=out)[:]


@pytest.mark.parametrize("function", [doubles, returns_nothing, returns_a_view_of_out])
def test_one_output_in_place(function):
    plan = bind(function)
    x, y = run(plan)
    assert torch.equal(y, 2 * x)
    assert [route.in_place for route in plan.routes] == [True]
    assert plan.ledger.outputs_bytes == 0


def test_several_outputs_come_as_a_tuple_and_each_has_its_route():
    def both(x, out=None):
        if out is None:
            return 2 * x, x + 1
        assert isinstance(out, tuple)
        torch.mul(x, 2, out=out[0])
        return None, x + 1

    plan = bind(both, TWO)
    x, y, z = run(plan, outputs=2)
    assert torch.equal(y, 2 * x)
    assert torch.equal(z, x + 1)
    assert [route.in_place for route in plan.routes] == [True, False]
    assert plan.ledger.outputs_bytes == z.nbytes


def test_outputs_by_name():
    def named(x, out=None):
        y, z = (None, None) if out is None else out
        return {"z": torch.add(x, 1, out=z), "y": torch.mul(x, 2, out=y)}

    plan = bind(named, TWO)
    x, y, z = run(plan, outputs=2)
    assert torch.equal(y, 2 * x)
    assert torch.equal(z, x + 1)
    assert plan.ledger.outputs_bytes == 0


def test_out_that_is_ignored_is_copied_and_counted():
    plan = bind(lambda x, out=None: 2 * x)
    x, y = run(plan)
    assert torch.equal(y, 2 * x)
    assert [route.in_place for route in plan.routes] == [False]
    assert plan.ledger.outputs_bytes == y.nbytes


def test_out_that_is_heeded_only_at_times():
    plan = bind(lambda x, out=None: torch.mul(x, 2, out=out if len(x) < 3 else None))
    assert plan.ledger.outputs_bytes == 0  # the trial runs had 1 and 2 rows
    assert torch.equal(run(plan, rows=2)[1], 2 * run(plan, rows=2)[0])
    assert plan.ledger.outputs_bytes == 0
    x, y = run(plan, rows=3)
    assert torch.equal(y, 2 * x)
    assert plan.ledger.outputs_bytes == y.nbytes


def test_a_view_of_out_in_another_order():
    """A view of the plane in another order is read before the plane is overwritten."""
    signature = declare({"x": "F32[batch,2,2]"}, {"y": "F32[batch,2,2]"})

    def transposed(x, out=None):
        return torch.mul(x, 2, out=out).transpose(1, 2)

    plan = bind(transposed, signature)
    assert isinstance(plan, outs.OutPlan)
    x, y = torch.arange(12.0).view(3, 2, 2), torch.zeros(3, 2, 2)
    plan.run([x], [y])
    assert torch.equal(y, 2 * x.transpose(1, 2))
    assert plan.ledger.outputs_bytes == y.nbytes


def leaves_out_empty(x, out=None):
    return 2 * x if out is None else out


def only_the_first_row(x, out=None):
    if out is None:
        return 2 * x
    torch.mul(x[:1], 2, out=out[:1])
    return None


def raises_with_out(x, out=None):
    if out is not None:
        raise OSError("no")
    return 2 * x


def needs_out(x, out):
    return torch.mul(x, 2, out=out)


def gives_other_types(x, out=None):
    return ("text",) if out is None else out


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (leaves_out_empty, "the output y of 1 rows is another"),
        (only_the_first_row, "the output y of 2 rows is another"),
        (raises_with_out, "with it, it failed: OSError: no"),
        (needs_out, "without it, it failed: TypeError"),
        (lambda x, out=None: 3, "without it, it failed: OutputError"),
        (gives_other_types, "without it, the model gave a str"),
    ],
)
def test_out_is_not_used_where_it_is_not_right(function, why, caplog):
    plan = bind(function)
    assert isinstance(plan, CopyingPlan)
    assert why in plan.routes[0].why
    assert caplog.messages == ["its parameter `out` is not used"]
    assert why in caplog.records[0].because


def test_a_model_that_takes_single_rows_only_is_tried_with_those():
    def single(x, out=None):
        if len(x) > 1:
            raise ValueError("one at a time")
        return torch.mul(x, 2, out=out)

    assert bind(single).routes[0].in_place


def test_open_dims_are_copied():
    signature = declare({"x": ROW}, {"y": "F32[batch,found]"}, {"found": 9})
    assert isinstance(bind(doubles, signature), CopyingPlan)


def test_without_the_parameter_nothing_is_tried():
    def counts(x):
        raise AssertionError

    assert isinstance(outs.bind(counts, frozenset({"x"}), ONE, None), CopyingPlan)


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_an_output_that_an_op_resized_is_an_error_and_the_view_is_mended(rows):
    """A failed resize leaves a view larger than its memory; the next request would read what is behind it."""
    memory = bytearray(4 * 4 * 4)
    view = torch.frombuffer(memoryview(memory), dtype=torch.float32).view(4, 4)[:3]
    plan = outs.OutPlan(lambda x, out=None: torch.ones(rows, 4).mul(2) if out is None else resize(out), ONE)

    def resize(out):
        return torch.add(torch.ones(rows, 4), 1, out=out)

    with pytest.raises((OutputError, RuntimeError)) as caught:
        plan.run([torch.ones(3, 4)], [view])
    assert (view.shape, view.stride()) == ((3, 4), (4, 1))
    if rows == 1:
        assert caught.value.code == Code.OUTPUT_MISMATCH


@pytest.mark.parametrize("result", [torch.zeros(3, 5), torch.zeros(3, 4, dtype=torch.float64), "text", (1, 2)])
def test_a_result_that_does_not_fit(result):
    plan = outs.OutPlan(lambda x, out=None: result, ONE)
    with pytest.raises(OutputError) as caught:
        run(plan)
    assert caught.value.code == Code.OUTPUT_MISMATCH


def test_strided_outputs_are_written_in_place():
    plan = bind(doubles)
    room = torch.full((3, 9), 77.0)
    x = torch.arange(12.0).view(3, 4)
    plan.run([x], [room[:, :4]])
    assert torch.equal(room[:, :4], 2 * x)
    assert (room[:, 4:] == 77).all()
    assert plan.ledger.outputs_bytes == 0
