"""What a file says and what the operator says, made into one signature."""

import pytest

from broker.engine.config import ModelConfig
from broker.engine.reconcile import FileTensor, Symbol, reconcile
from broker.engine.signature import written
from ringbuf.errors import Code, RingbrokerError

S0, S1, UNKNOWN = Symbol("s0"), Symbol("s1"), Symbol("")


def tensors(**shapes):
    return [FileTensor(name, "F32", tuple(shape)) for name, shape in shapes.items()]


def signature_of(found_inputs, found_outputs, file_maxima=None, **said):
    signature, names = reconcile(found_inputs, found_outputs, ModelConfig(name="m", source="f", **said), file_maxima)
    return [f"{t.name}:{written(t)}" for t in (*signature.inputs, *signature.outputs)], signature.dims, names


def refusal(*arguments, **said):
    with pytest.raises(RingbrokerError) as caught:
        signature_of(*arguments, **said)
    return caught.value.code, caught.value.path


def test_the_first_dim_of_every_input_is_the_batch_axis():
    told, dims, names = signature_of(tensors(x=[S0, 3], mask=[S0, S1]), tensors(y=[S0, S1]))
    assert told == ["x:F32[batch,3]", "mask:F32[batch,mask_1]", "y:F32[batch,mask_1]"]
    assert dims == {"mask_1": None}
    assert names == {"s0": "batch", "s1": "mask_1"}


def test_a_first_dim_of_some_inputs_is_not():
    told, _, _ = signature_of(tensors(x=[S0, 3], w=[3]), tensors(y=[S0]))
    assert told == ["x:F32[x_0,3]", "w:F32[3]", "y:F32[x_0]"]


@pytest.mark.parametrize("name", ["batch", "batch_size", "N"])
def test_a_dim_that_the_file_calls_so_is_the_batch_axis(name):
    batch, seq = Symbol(name, name), Symbol("seq", "seq")
    told, _, _ = signature_of(tensors(state=[2, batch, 128], x=[batch, seq]), tensors(y=[batch, seq]))
    assert told == ["state:F32[2,batch,128]", "x:F32[batch,seq]", "y:F32[batch,seq]"]


def test_the_operator_names_dims():
    inputs, outputs = tensors(ids=[S0, S1], mask=[S0, S1]), tensors(y=[S0, 8], z=[S1])
    told, dims, _ = signature_of(inputs, outputs, inputs={"ids": "F32[batch,seq]"}, maxima={"seq": 128})
    assert told == ["ids:F32[batch,seq]", "mask:F32[batch,seq]", "y:F32[batch,8]", "z:F32[seq]"]
    assert dims == {"seq": 128}


def test_the_operator_narrows_a_dim_to_a_number():
    told, dims, names = signature_of(tensors(x=[S0, S1]), tensors(y=[S0, S1]), inputs={"x": "F32[batch,224]"})
    assert (told, dims) == (["x:F32[batch,224]", "y:F32[batch,224]"], {})
    assert names["s1"] == 224


def test_dims_without_a_name_are_whatever_the_operator_says():
    inputs, outputs = tensors(x=[UNKNOWN, UNKNOWN]), tensors(y=[UNKNOWN, 1])
    declared = {"inputs": {"x": "F32[batch,512]"}, "outputs": {"y": "F32[batch,1]"}}
    assert signature_of(inputs, outputs, **declared)[0] == ["x:F32[batch,512]", "y:F32[batch,1]"]
    assert signature_of(inputs, outputs, maxima={"y_0": 9})[0] == ["x:F32[x_0,x_1]", "y:F32[y_0,1]"]


def test_open_dims_need_a_maximum_from_the_file_or_the_operator():
    inputs, outputs = tensors(x=[S0, S1]), tensors(y=[S0, Symbol("2*s1")], z=[S0, Symbol("u0", "n")])
    assert refusal(inputs, outputs) == (Code.SIGNATURE_INVALID, "y")
    told, dims, names = signature_of(inputs, outputs, {"2*s1": 10}, maxima={"n": 4})
    assert told == ["x:F32[batch,x_1]", "y:F32[batch,y_1]", "z:F32[batch,n]"]
    assert dims == {"x_1": None, "y_1": 10, "n": 4}
    assert names["2*s1"] == "y_1"


def test_a_maximum_of_a_dim_that_the_file_calls_otherwise():
    with pytest.raises(RingbrokerError, match=r"there are: x_1, y_1. --input NAME:DTYPE\[DIMS\] names them") as caught:
        signature_of(tensors(x=[S0, S1]), tensors(y=[S0, Symbol("u0")]), {"u0": 4}, maxima={"seq": 64})
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "seq")


def test_maxima_of_the_file_and_the_operator():
    inputs, outputs = tensors(x=[S0, S1]), tensors(y=[S0])
    named = {"inputs": {"x": "F32[batch,seq]"}}
    assert signature_of(inputs, outputs, {"s1": 512}, **named)[1] == {"seq": 512}
    assert signature_of(inputs, outputs, {"s1": 512}, maxima={"seq": 64}, **named)[1] == {"seq": 64}
    assert refusal(inputs, outputs, {"s1": 512}, maxima={"seq": 513}, **named) == (Code.CONFIG_INVALID, "seq")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"inputs": {"z": "F32[batch,3]"}}, "z"),
        ({"outputs": {"x": "F32[batch,3]"}}, "x"),
        ({"inputs": {"x": "I64[batch,3]"}}, "x"),
        ({"inputs": {"x": "F32[batch]"}}, "x"),
        ({"inputs": {"x": "F32[batch,4]"}}, "x"),
        ({"inputs": {"x": "F32[batch,n]"}}, "x"),
        ({"inputs": {"x": "F32[batch,3]"}, "outputs": {"y": "F32[rows]"}}, "y"),
    ],
)
def test_the_operator_cannot_contradict_the_file(said, path):
    assert refusal(tensors(x=[S0, 3]), tensors(y=[S0]), **said) == (Code.CONFIG_INVALID, path)


def test_names_of_the_file_that_are_no_names_of_ours():
    odd = Symbol("k", "past length + 1")
    told, _, _ = signature_of([FileTensor("0.x", "F32", (S0, odd))], tensors(y=[S0]))
    assert told == ["0.x:F32[batch,_0_x_1]", "y:F32[batch]"]
