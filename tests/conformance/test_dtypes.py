"""Sizes on every dtype and shape of `spec/vectors/dtypes.json`."""

import pytest

from ringbuf.dtypes import DTYPES
from ringbuf.layout import MAX_BYTES, tensor_bytes
from tests.conformance.vectors import load

VECTORS = load("vectors/dtypes.json")


@pytest.mark.parametrize("dtype", [row["name"] for row in load("dtypes.json")["dtypes"]])
def test_sizes(dtype):
    vectors = [vector for vector in VECTORS["sizes"] if vector["dtype"] == dtype]
    assert vectors
    for vector in vectors:
        size_bytes = tensor_bytes(dtype, map(int, vector["shape"]))
        assert str(size_bytes) == vector["bytes"]
        assert (size_bytes <= MAX_BYTES) is vector["fits"]


@pytest.mark.parametrize("vector", VECTORS["unknown"], ids=lambda vector: repr(vector["dtype"]))
def test_unknown_dtypes(vector):
    assert vector["dtype"] not in DTYPES
    with pytest.raises(KeyError):
        tensor_bytes(vector["dtype"], ())
