"""CopyingPlan: from whatever a model returns to its output planes, and how many bytes that copied."""

from collections import OrderedDict

import pytest
import torch

from broker.engine.plan import CopyingPlan
from broker.engine.signature import declare
from ringbuf.errors import Code, RingbrokerError

ONE = declare({"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})
TWO = declare({"x": "F32[batch,4]"}, {"y": "F32[batch,4]", "n": "I64[batch]"})
X = torch.arange(8, dtype=torch.float32).reshape(2, 4)
Y = 2 * X
N = torch.tensor([3, 4])


def run(signature, result, runs=1):
    plan = CopyingPlan(lambda x: result, signature)
    outputs = [torch.full((2, 4), -1.0)] + ([torch.full((2,), -1)] if signature is TWO else [])
    for _ in range(runs):
        plan.run([X], outputs)
    return plan.ledger.outputs_bytes, [output.tolist() for output in outputs]


def mismatch(signature, result):
    with pytest.raises(RingbrokerError) as caught:
        run(signature, result)
    assert caught.value.code == Code.OUTPUT_MISMATCH
    return caught.value


@pytest.mark.parametrize("result", [Y, (Y,), [Y], {"y": Y}, {"y": Y, "more": N}], ids=str)
def test_one_output(result):
    assert run(ONE, result) == (32, [Y.tolist()])


@pytest.mark.parametrize(
    "result", [(Y, N), [Y, N], {"y": Y, "n": N}, {"n": N, "y": Y}, OrderedDict(n=N, y=Y, more=None)]
)
def test_several_outputs(result):
    assert run(TWO, result) == (32 + 16, [Y.tolist(), N.tolist()])


def test_the_ledger_counts_every_run():
    assert run(TWO, (Y, N), runs=3)[0] == 3 * 48


def test_the_result_of_a_parameter_and_of_a_view():
    assert run(ONE, torch.nn.Parameter(Y, requires_grad=False)) == (32, [Y.tolist()])
    assert run(ONE, Y.T.contiguous().T) == (32, [Y.tolist()])
    assert run(ONE, torch.ones(1, 1).expand(2, 4)) == (32, [[[1.0] * 4] * 2])


@pytest.mark.parametrize(
    ("signature", "result", "path", "text"),
    [
        (ONE, Y[:1], "outputs[0]", "the model gave float32[1, 4], its signature says float32[2, 4]"),
        (ONE, Y.double(), "outputs[0]", "the model gave float64[2, 4], its signature says float32[2, 4]"),
        (ONE, None, "outputs", "the model gave a NoneType, its signature says 1"),
        (ONE, (Y, N), "outputs", "the model gave 2 outputs, its signature says 1"),
        (ONE, (), "outputs", "the model gave 0 outputs, its signature says 1"),
        (ONE, (3.0,), "outputs[0]", "the model gave a float, its signature says float32[2, 4]"),
        (ONE, {"z": Y}, "outputs", "the model gave no output 'y'"),
        (TWO, Y, "outputs", "the model gave 1 outputs, its signature says 2"),
        (TWO, {"y": Y}, "outputs", "the model gave no output 'n'"),
        (TWO, (Y, Y), "outputs[1]", "the model gave float32[2, 4], its signature says int64[2]"),
        (TWO, iter((Y, N)), "outputs", "the model gave a tuple_iterator, its signature says 2"),
    ],
)
def test_mismatches(signature, result, path, text):
    error = mismatch(signature, result)
    assert (error.path, error.text) == (path, text)


def test_what_the_model_raises_comes_through():
    def fail(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        CopyingPlan(fail, ONE).run([X], [X.clone()])


def test_inputs_come_in_the_signatures_order():
    signature = declare({"a": "F32[4]", "b": "F32[4]"}, {"y": "F32[4]"})
    output = torch.zeros(4)
    CopyingPlan(lambda a, b: a - b, signature).run([torch.full((4,), 5.0), torch.full((4,), 3.0)], [output])
    assert output.tolist() == [2.0] * 4


OPEN = declare({"x": "F32[4]"}, {"values": "F32[n]", "where": "I64[2,n]"}, {"n": 4})


@pytest.mark.parametrize("count", [0, 1, 4])
def test_open_dims_are_packed_at_the_front_of_their_row(count):
    values, where = torch.ones(count), torch.arange(2 * count).view(2, count)
    plan = CopyingPlan(lambda x: (values, where), OPEN)
    outputs = [torch.full((4,), -1.0), torch.full((2, 4), -1)]
    assert plan.run([torch.zeros(4)], outputs) == ((count,), (2, count))
    assert outputs[0].tolist() == [1.0] * count + [-1.0] * (4 - count)
    assert outputs[1].flatten().tolist() == [*range(2 * count), *[-1] * (8 - 2 * count)]
    assert plan.ledger.outputs_bytes == 20 * count


@pytest.mark.parametrize(
    ("values", "where", "code", "path"),
    [
        (torch.ones(5), torch.ones(2, 5).long(), Code.OUTPUT_TOO_LARGE, "outputs[0]"),
        (torch.ones(3), torch.ones(2, 2).long(), Code.OUTPUT_MISMATCH, "outputs[1]"),
        (torch.ones(3), torch.ones(3, 3).long(), Code.OUTPUT_MISMATCH, "outputs[1]"),
        (torch.ones(3, 1), torch.ones(2, 3).long(), Code.OUTPUT_MISMATCH, "outputs[0]"),
    ],
)
def test_open_dims_that_do_not_fit(values, where, code, path):
    plan = CopyingPlan(lambda x: (values, where), OPEN)
    with pytest.raises(RingbrokerError) as caught:
        plan.run([torch.zeros(4)], [torch.zeros(4), torch.zeros(2, 4, dtype=torch.int64)])
    assert (caught.value.code, caught.value.path) == (code, path)
    assert caught.value.needed_bytes == (20 if code == Code.OUTPUT_TOO_LARGE else None)
