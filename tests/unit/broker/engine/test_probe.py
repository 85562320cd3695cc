"""Probe inputs: the same every time, different from row to row, within their ranges."""

import pytest
import torch

from broker.engine.config import ModelConfig
from broker.engine.probe import Probe
from broker.engine.signature import declare
from broker.engine.tensors import TORCH_DTYPES
from ringbuf.dtypes import DTYPES
from ringbuf.errors import Code, RingbrokerError


def probe(inputs, outputs=None, maxima=None, minima=None, known=None, **said):
    signature = declare(inputs, outputs or {"y": "F32[batch]"}, maxima or {})
    return Probe(signature, ModelConfig(name="m", source="f", **said), minima, known)


def test_rows_are_the_same_in_every_batch_and_differ_from_each_other():
    made = probe({"x": "F32[batch,50]", "state": "F32[2,batch,50]"})
    (two, state_two), (five, state_five) = made.inputs(2, {}), made.inputs(5, {})
    assert torch.equal(two, five[:2])
    assert torch.equal(state_two, state_five[:, :2])
    assert not torch.equal(five[0], five[1])
    assert not torch.equal(five[0], state_five[0, 0])
    assert torch.equal(made.inputs(5, {})[0], five)


def test_an_input_without_a_batch_axis_has_one_value():
    x, rate = probe({"x": "F32[batch]", "rate": "I64[]"}, ranges={"rate": (16000, 16000)}).inputs(3, {})
    assert (x.shape, rate.shape, rate.item()) == ((3,), (), 16000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    made = probe({"x": f"{dtype}[batch,200]"}, {"y": f"{dtype}[batch,2]"})
    (x,) = made.inputs(2, {})
    (y,) = made.outputs(2, {})
    assert x.dtype == y.dtype == TORCH_DTYPES[dtype]
    values = set(x.double().flatten().tolist())
    if x.dtype.is_floating_point:
        assert -1 <= min(values) < -0.9
        assert 0.9 < max(values) <= 1
    else:
        assert values == {0, 1}


def test_ranges_are_the_operators_then_the_models():
    known = {"ids": (3, 9), "x": (0.25, 0.5)}
    shapes = {"ids": "I64[batch,300]", "x": "F32[batch,300]"}
    ids, x = probe(shapes, known=known).inputs(1, {})
    assert set(ids.flatten().tolist()) == set(range(3, 10))
    assert 0.25 <= x.min() < 0.3 < 0.45 < x.max() <= 0.5
    ids, x = probe(shapes, known=known, ranges={"ids": (5, 5)}).inputs(1, {})
    assert set(ids.flatten().tolist()) == {5}
    assert x.max() <= 0.5


@pytest.mark.parametrize("dtype", ["BOOL", "U8", "I64"])
@pytest.mark.parametrize("sample", ["", ",1", ",2,3"])
def test_rows_of_a_few_integers_do_not_repeat_by_chance(dtype, sample):
    a, b = probe({"a": f"{dtype}[batch{sample}]", "b": f"{dtype}[batch{sample}]"}).inputs(64, {})
    assert all((a[row] != a[row + 1]).all() for row in range(63))
    assert set(a.double().flatten().tolist()) == {0, 1}
    assert (a != b).all(), "nor are two inputs the same"
    (wide,) = probe({"x": f"I64[batch{sample}]"}, ranges={"x": (-5, 94)}).inputs(64, {})
    assert len(set(wide.flatten().tolist())) > 50
    assert -5 <= wide.min() < wide.max() <= 94


@pytest.mark.parametrize(
    ("tensor", "low", "high", "values"),
    [
        ("U8[batch,300]", -1000, 2.5, {0, 1, 2}),
        ("I8[batch,3]", 127, 10**400, {127}),
        ("I64[batch,3]", 2**63 - 2, 1e300, {2**63 - 2}),
        ("U64[batch,300]", 2**62, 2**62, {2**62}),
        ("I32[batch,300]", 0.5, 1.5, {1}),
        ("BOOL[batch,3]", 1, 1, {True}),
        ("F16[batch,3]", 65504, 10**400, {65504.0}),
    ],
)
def test_ranges_are_cut_to_what_the_dtype_holds(tensor, low, high, values):
    (x,) = probe({"x": tensor}, ranges={"x": (low, high)}).inputs(2, {})
    assert set(x.flatten().tolist()) == values


def test_the_widest_ranges():
    for dtype in DTYPES:
        (x,) = probe({"x": f"{dtype}[batch,50]"}, ranges={"x": (-1.7e308, 1.7e308)}).inputs(2, {})
        assert torch.isfinite(x.double()).all()
        assert len(set(x.flatten().tolist())) > 1


@pytest.mark.parametrize(
    ("tensor", "low", "high"), [("U8[batch]", 256, 999), ("I64[batch]", 0.2, 0.8), ("F16[batch]", 1e5, 1e6)]
)
def test_ranges_without_a_value_of_the_dtype(tensor, low, high):
    with pytest.raises(RingbrokerError, match="no value of") as caught:
        probe({"x": tensor}, ranges={"x": (low, high)})
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.x")


@pytest.mark.parametrize(
    ("ranges", "is_so"),
    [
        ({}, True),
        ({"x": (3, 3)}, True),
        ({"x": (3, 3), "mask": (1, 1)}, False),
        ({"x": (1000.0, 1001.0), "mask": (1, 1)}, False),
        ({"x": (1000.0, 1100.0), "mask": (1, 1)}, True),
    ],
)
def test_whether_rows_can_be_told_apart(ranges, is_so):
    made = probe({"x": "F32[batch,seq]", "mask": "BOOL[2,batch]", "rate": "F32[]"}, ranges=ranges)
    assert made.has_unlike_rows(2) is is_so


@pytest.mark.parametrize("said", [{"ranges": {"z": (0, 1)}}, {"uniform": frozenset({"z"})}])
def test_inputs_that_there_are_not(said):
    with pytest.raises(RingbrokerError) as caught:
        probe({"x": "F32[batch]"}, **said)
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.z")


@pytest.mark.parametrize(
    ("maxima", "minima", "sizes"),
    [
        ({}, {}, [{"h": 2, "w": 2}, {"h": 3, "w": 4}]),
        ({"h": 1}, {}, [{"h": 1, "w": 2}, {"h": 1, "w": 4}]),
        ({"h": 1, "w": 2}, {}, [{"h": 1, "w": 2}]),
        ({"h": 9}, {"h": 8, "w": 16}, [{"h": 8, "w": 16}, {"h": 9, "w": 18}]),
    ],
)
def test_sizes_to_try(maxima, minima, sizes):
    made = probe({"x": "F32[batch,h,w]"}, maxima=maxima, minima=minima)
    assert made.sizes() == sizes
    assert [made.inputs(2, size)[0].shape for size in sizes] == [(2, size["h"], size["w"]) for size in sizes]


def test_open_dims_of_outputs_are_at_their_maximum():
    made = probe({"x": "F32[batch,seq]"}, {"y": "F32[batch,n,seq]"}, {"n": 7, "seq": 9})
    assert made.outputs(2, {"seq": 3, "n": 2})[0].shape == (2, 7, 3)
