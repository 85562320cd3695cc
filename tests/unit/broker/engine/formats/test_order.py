"""Declared tensors in a file's order: by name or by position, and nothing between."""

import pytest

from broker.engine.formats.order import in_file_order
from ringbuf.errors import Code, RingbrokerError


def test_all_names_are_matched_by_name():
    found = in_file_order({"b": "2", "a": "1"}, ["a", "b"], "inputs", "m")
    assert list(found.items()) == [("a", "1"), ("b", "2")]


def test_other_names_are_matched_by_position():
    assert list(in_file_order({"y": "1", "x": "2"}, ["a", "b"], "inputs", "m")) == ["y", "x"]


@pytest.mark.parametrize("declared", [{"b": "", "x": ""}, {"a": "", "x": ""}, {"x": "", "b": ""}])
def test_some_names_are_refused(declared):
    with pytest.raises(RingbrokerError) as caught:
        in_file_order(declared, ["a", "b"], "inputs", "m")
    assert caught.value.code == Code.CONFIG_INVALID


@pytest.mark.parametrize("declared", [{}, {"a": ""}, {"a": "", "b": "", "c": ""}])
def test_another_number_is_refused(declared):
    with pytest.raises(RingbrokerError) as caught:
        in_file_order(declared, ["a", "b"], "inputs", "m")
    assert caught.value.code == Code.CONFIG_INVALID
