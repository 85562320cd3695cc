"""What the source of a package tells: as torch 2.13 writes it, and otherwise nothing."""

import pytest

from broker.engine.formats import compiled
from ringbuf.errors import Code, RingbrokerError

SPEC = (
    r'in_spec_ = R"([1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": "builtins.tuple", '
    r'"context": "null", "children_spec": []}, {"type": "builtins.dict", "context": "[\"a\", \"b\"]", '
    r'"children_spec": []}]}])";'
)


def source(shape="{s1, s2, 4L}", strides="{4L*s2, 4L, 1L}", dtype="float32", least=2, most=16):
    return f"""
    inputs_info_[0].name = "arg0_1";
    inputs_info_[1].name = "unused";
    int32_t arg0_1_expected_dtype = aoti_torch_dtype_{dtype}();
    if (arg0_1_size[0] < {least}) {{
        ss << "input_handles[0]: dim value is too small at 0, "
           << "expected it to be >= {least}, " << "but got: "
    }}
        ss << "input_handles[0]: dim value is too large at 0, "
           << "expected to be <= {most}, " << "but got: "
    if (_check_aoti_runtime_check_inputs_env()) {{ assert_size_stride(arg0_1, {shape}, {strides}, "input"); }}
    """


def compare(text, declared, maxima=None):
    return compiled.compare({"x": declared, "u": "I64[]"}, compiled.read(text), maxima or {}, "m")


def refusal(text, declared, maxima=None):
    with pytest.raises(RingbrokerError) as caught:
        compare(text, declared, maxima)
    assert caught.value.code == Code.CONFIG_INVALID
    return caught.value


def test_what_is_read():
    facts = compiled.read(source())
    assert facts.inputs == (compiled.Input("F32", ("s1", "s2", 4), ("4L*s2", 4, 1)), None)
    assert facts.bounds == {"s1": (2, 16)}


@pytest.mark.parametrize(
    "text", ["", "int main() {}", 'inputs_info_[1].name = "arg0_1";', source().replace("inputs_info_", "infos_")]
)
def test_another_source_tells_nothing(text):
    assert compiled.read(text) is None


def test_a_scalar_and_a_single_dim():
    assert compiled.read(source("{}", "{}")).inputs[0].shape == ()
    assert compiled.read(source("{3L, }", "{1L, }")).inputs[0].shape == (3,)


def test_bounds_of_the_batch_and_of_others():
    batch = compare(source(), "F32[batch,n,4]")
    assert (batch.max_batch, batch.least_rows, batch.maxima, batch.minima) == (16, 2, {}, {"n": 1})
    other = compare(source(), "F32[n,batch,4]", {"n": 8})
    assert (other.max_batch, other.least_rows, other.maxima, other.minima) == (None, 1, {"n": 8}, {"n": 2})


def test_no_bound_is_none():
    assert compare(source(most=2**63 - 1), "F32[batch,n,4]").max_batch is None


@pytest.mark.parametrize(
    ("shape", "strides"),
    [("{3L, 4L}", "{1L, 3L}"), ("{s1, 3L, 4L}", "{12L, 1L, 3L}"), ("{s1, 4L}", "{8L, 1L}"), ("{4L, s1}", "{1L, 4L}")],
)
def test_an_example_that_was_not_contiguous_is_refused(shape, strides):
    declared = "F32[" + shape.strip("{}").replace("L", "").replace("s1", "batch") + "]"
    assert "with the strides" in refusal(source(shape, strides), declared).text


def test_a_dim_of_one_has_any_stride():
    compare(source("{s1, 1L, 4L}", "{4L, 77L, 1L}"), "F32[batch,1,4]")


def test_one_symbol_is_one_dim():
    text = source("{s1, s1}", "{s1, 1L}")
    assert "always equal" in refusal(text, "F32[batch,n]").text
    assert "always equal" in refusal(text, "F32[n,2]").text
    compare(text, "F32[n,n]")


def test_inputs_that_were_given_by_name():
    facts = compiled.read(source() + SPEC)
    assert facts.keywords == ("a", "b")
    compiled.compare({"a": "F32[batch,n,4]", "b": "I64[]"}, facts, {}, "m")
    with pytest.raises(RingbrokerError, match="last inputs are a, b") as caught:
        compiled.compare({"b": "F32[batch,n,4]", "a": "I64[]"}, facts, {}, "m")
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.a")
