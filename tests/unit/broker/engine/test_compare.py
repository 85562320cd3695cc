"""Equal up to rounding, and not further."""

import math

import pytest
import torch

from broker.engine.compare import disagreement

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.00001]),
        ([0.0, 100.0], [0.001, 100.0]),
        ([NAN, INF, -INF, 1.0], [NAN, INF, -INF, 1.0]),
        ([NAN, NAN], [NAN, NAN]),
        ([], []),
        ([0.0], [0.0]),
    ],
)
def test_equal(found, expected):
    assert disagreement(torch.tensor(found), torch.tensor(expected)) is None


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        ([1.0, 2.0], [1.0, 2.001], "off by 5.0e-04"),
        ([0.0], [1e-20], "off by"),
        ([NAN, 1.0], [1.0, 1.0], "NaN"),
        ([INF, 1.0], [-INF, 1.0], "infinities"),
        ([INF], [NAN], "infinities"),
        ([1.0], [1.0, 1.0], "[1] torch.float32 instead of [2]"),
    ],
)
def test_different(found, expected, said):
    assert said in disagreement(torch.tensor(found), torch.tensor(expected))


def test_a_half_rounds_more_than_a_double():
    for dtype, off in ((torch.float16, 1e-2), (torch.bfloat16, 3e-2), (torch.float64, 1e-10)):
        one = torch.ones(3, dtype=dtype)
        assert disagreement(one * (1 + off), one) is None
        assert disagreement(one * (1 + 10 * off), one) is not None


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.uint16, torch.bool])
def test_integers_and_bools_must_be_equal(dtype):
    some = torch.tensor([1, 0, 1]).to(dtype)
    assert disagreement(some, some.clone()) is None
    assert disagreement(some, torch.tensor([1, 1, 1]).to(dtype)) == "1 of 3 values differ"


def test_a_tolerance_of_the_operators():
    assert disagreement(torch.tensor([1.0]), torch.tensor([1.05]), 0.1) is None
    assert disagreement(torch.tensor([1.0]), torch.tensor([1.05]), 0.0) is not None
