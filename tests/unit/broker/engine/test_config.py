"""What an operator may say of a model: every way of saying it is checked by the same rules."""

import math

import pytest

from broker.engine.config import ModelConfig, check
from ringbuf.errors import Code, RingbrokerError


def configured(**said):
    return ModelConfig(name="m", source="f.pt2", **said)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"max_batch": 4096, "max_queue_delay_us": 1_000_000, "batch_tolerance": 0, "gather": "always"},
        {"max_batch": 1, "batch_tolerance": 2.5, "maxima": {"seq": 1, "n": 2**31 - 1}},
        {"ranges": {"ids": (0, 0), "x": (-1e300, 1e300), "y": (0, 10**400)}},
    ],
)
def test_right(said):
    check(configured(**said))


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"max_batch": 0}, "m.max_batch"),
        ({"max_batch": 4097}, "m.max_batch"),
        ({"max_batch": 10**12}, "m.max_batch"),
        ({"max_batch": 2.5}, "m.max_batch"),
        ({"max_batch": True}, "m.max_batch"),
        ({"max_queue_delay_us": -1}, "m.max_queue_delay_us"),
        ({"max_queue_delay_us": 1_000_001}, "m.max_queue_delay_us"),
        ({"gather": "sometimes"}, "m.gather"),
        ({"batch_tolerance": -0.1}, "m.batch_tolerance"),
        ({"batch_tolerance": math.nan}, "m.batch_tolerance"),
        ({"batch_tolerance": math.inf}, "m.batch_tolerance"),
        ({"maxima": {"seq": 4, "n": 0}}, "m.maxima.n"),
        ({"maxima": {"seq": 2**31}}, "m.maxima.seq"),
        ({"maxima": {"seq": "4"}}, "m.maxima.seq"),
        ({"ranges": {"x": (2, 1)}}, "m.ranges.x"),
        ({"ranges": {"x": (0, math.inf)}}, "m.ranges.x"),
        ({"ranges": {"x": (math.nan, 1)}}, "m.ranges.x"),
        ({"ranges": {"x": (0, True)}}, "m.ranges.x"),
        ({"ranges": {"x": (0, 1, 2)}}, "m.ranges.x"),
        ({"ranges": {"x": None}}, "m.ranges.x"),
    ],
)
def test_wrong(said, path):
    with pytest.raises(RingbrokerError) as caught:
        check(configured(**said))
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, path)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 129, "\u00e9"])
def test_names(name):
    with pytest.raises(RingbrokerError) as caught:
        check(ModelConfig(name=name, source="f.pt2"))
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, name)
