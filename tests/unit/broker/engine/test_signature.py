"""Signatures: as they are written, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.signature import (
    checked,
    declare,
    dynamic_dims,
    open_axes,
    open_dims,
    parse_tensor,
    sample_of,
    without_batch_axis,
    written,
)
from ringbuf.dtypes import DTYPES
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Tensor

DIMS = st.integers(1, 2**31 - 1) | st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


def refusal(call, *arguments):
    with pytest.raises(RingbrokerError) as caught:
        call(*arguments)
    assert caught.value.code == Code.SIGNATURE_INVALID
    return caught.value.path


@pytest.mark.parametrize(
    ("text", "shape", "axis"),
    [
        ("F32[batch,8,8]", ("batch", 8, 8), 0),
        ("F32[ batch , 8 ]", ("batch", 8), 0),
        ("I64[seq,batch]", ("seq", "batch"), 1),
        ("BOOL[]", (), None),
        ("BF16[3]", (3,), None),
    ],
)
def test_parse(text, shape, axis):
    tensor = parse_tensor("x", text)
    assert tensor == Tensor("x", text.partition("[")[0], shape, axis)
    assert written(tensor) == text.replace(" ", "")


@given(st.sampled_from(sorted(DTYPES)), st.lists(DIMS, max_size=8))
def test_what_is_written_reads_back(dtype, shape):
    text = f"{dtype}[{','.join(map(str, shape))}]"
    tensor = parse_tensor("x", text)
    assert tensor.shape == tuple(shape)
    assert written(tensor) == text


@pytest.mark.parametrize(
    "text",
    [
        "F32",
        "[4]",
        "F33[4]",
        "f32[4]",
        "F32[4",
        "F32[4]]",
        "F32[4][4]",
        "F32[-1]",
        "F32[4,]",
        "F32[,]",
        "F32[4.0]",
        "F32[a-b]",
        "F32[1seq]",
        "F32[\u0661]",
        "F32[[4]]",
        "F32(4)",
        "F32[4]x",
        "F32[*]",
    ],
)
def test_parse_refuses(text):
    assert refusal(parse_tensor, "x", text) == "x"


def test_parse_refuses_nothing_at_all():
    assert refusal(parse_tensor, "x", "") == "x"


@pytest.mark.parametrize(
    ("inputs", "outputs", "maxima", "path"),
    [
        ({}, {"y": "F32[4]"}, {}, "inputs"),
        ({"x": "F32[4]"}, {}, {}, "outputs"),
        ({f"x{i}": "F32[4]" for i in range(33)}, {"y": "F32[4]"}, {}, "inputs"),
        ({"x": "F32[0]"}, {"y": "F32[4]"}, {}, "x"),
        ({"x": "F32[2147483648]"}, {"y": "F32[4]"}, {}, "x"),
        ({"x": "F32[1,1,1,1,1,1,1,1,1]"}, {"y": "F32[4]"}, {}, "x"),
        ({"x": "F32[batch,batch]"}, {"y": "F32[4]"}, {}, "x"),
        ({"": "F32[4]"}, {"y": "F32[4]"}, {}, ""),
        ({"a b": "F32[4]"}, {"y": "F32[4]"}, {}, "a b"),
        ({".x": "F32[4]"}, {"y": "F32[4]"}, {}, ".x"),
        ({"x" * 129: "F32[4]"}, {"y": "F32[4]"}, {}, "x" * 129),
        ({"x": "F32[batch,4]"}, {"y": "F32[batch,seq]"}, {}, "y"),  # open, and its maximum is not declared
        ({"x": "F32[batch,4]"}, {"y": "F32[batch,seq]"}, {"seq": 2**31}, "seq"),
        ({"x": "F32[seq]"}, {"y": "F32[4]"}, {"seq": 0}, "seq"),
    ],
)
def test_declare_refuses(inputs, outputs, maxima, path):
    assert refusal(declare, inputs, outputs, maxima) == path


@pytest.mark.parametrize(
    ("shape", "dim", "names"),
    [("batch,seq,n", "other", "seq, n"), ("batch,seq", "batch", "seq"), ("batch", "seq", "none")],
)
def test_a_maximum_of_no_dim_is_told_with_the_dims_there_are(shape, dim, names):
    with pytest.raises(RingbrokerError) as caught:
        declare({"x": f"F32[{shape}]"}, {"y": "F32[4]"}, {dim: 3})
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, dim)
    assert caught.value.text == f"it is no dynamic dim; there are: {names}. --input NAME:DTYPE[DIMS] names them"


def test_an_open_dim_is_told_with_the_option_for_its_maximum():
    with pytest.raises(RingbrokerError, match="declare its maximum, --maximum n=N") as caught:
        declare({"x": "F32[batch,4]"}, {"y": "F32[batch,n]"})
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, "y")


def test_two_tensors_of_one_name():
    tensor = parse_tensor("x", "F32[4]")
    assert refusal(checked, (tensor, tensor), (tensor,), {}) == "inputs"
    assert checked((tensor,), (tensor,), {})  # an input and an output may share one


def test_declare():
    signature = declare(
        {"tokens": "I64[batch,seq]", "mask": "BOOL[batch,seq,heads]"}, {"out": "F32[batch,heads]"}, {"seq": 256}
    )
    assert signature.dims == {"seq": 256, "heads": None}
    assert dynamic_dims(signature.inputs) == ["seq", "heads"]
    assert [sample_of(tensor) for tensor in signature.inputs] == [("seq",), ("seq", "heads")]
    assert without_batch_axis(signature) == []
    scaled = declare({"x": "F32[batch]", "scale": "F32[]"}, {"y": "F32[batch]"})
    assert without_batch_axis(scaled) == ["scale"]
    assert without_batch_axis(scaled, {"scale"}) == []
    assert without_batch_axis(declare({"x": "F32[batch]"}, {"y": "F32[]"}), {"y"}) == ["y"]


def test_a_dim_of_an_output_that_is_no_inputs_is_open():
    signature = declare({"x": "F32[batch,seq]"}, {"y": "F32[batch,n,seq,m]", "z": "F32[batch]"}, {"n": 5, "m": 1})
    assert open_dims(signature) == {"n", "m"}
    assert [open_axes(tensor, signature) for tensor in signature.outputs] == [{1, 3}, frozenset()]
    assert signature.dims == {"seq": None, "n": 5, "m": 1}


def test_the_limits_themselves_are_allowed():
    assert declare({f"x{i}": "F32[1,1,1,1,1,1,1,2147483647]" for i in range(32)}, {"y" * 128: "F32[4]"})
