"""Factories: what they may return, and the code of each way to fail."""

import sys

import pytest
import torch

from broker.engine.formats import python
from broker.engine.signature import declare
from ringbuf.errors import Code, RingbrokerError

MODULE = """
import torch

class Model:
    inputs = {"x": "F32[batch,4]"}
    outputs = {"y": "F32[batch,4]"}
    def __call__(self, x):
        return 2 * x

def good(): return Model()
def raises(): raise OSError("no weights")
def gives_none(): return None
not_callable = 3

def with_attributes(**attributes):
    model = Model()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model

def no_inputs(): return with_attributes(inputs=None)
def no_outputs(): return lambda x: x
def inputs_list(): return with_attributes(inputs=["F32[4]"])
def bad_text(): return with_attributes(inputs={"x": "F33[4]"})
def text_is_a_number(): return with_attributes(inputs={"x": 4})
def name_is_a_number(): return with_attributes(inputs={4: "F32[4]"})
def maxima_is_a_list(): return with_attributes(maxima=[4])
def maximum_is_a_text(): return with_attributes(inputs={"x": "F32[batch,seq]"}, maxima={"seq": "4"})
def maximum_is_open(): return with_attributes(inputs={"x": "F32[batch,seq]"}, maxima={"seq": None})

class Net(torch.nn.Linear):
    inputs = Model.inputs
    outputs = Model.outputs
    maxima = {}
    def __init__(self): super().__init__(4, 4)

def net(): return Net()
def hooked():
    net = Net()
    net.register_forward_hook(lambda module, args, result: result + 1000)
    return net
def compiled_call():
    net = Net()
    net._compiled_call_impl = lambda x: x + 7
    return net
"""


@pytest.fixture(autouse=True, scope="module")
def factories(tmp_path_factory):
    """A module of factories, and some that cannot be imported."""
    folder = tmp_path_factory.mktemp("factories")
    sources = {
        "rb_factories": MODULE,
        "rb_broken": "1 +",
        "rb_raising": "raise RuntimeError('at import')",
        "rb_needs": "import rb_not_installed",
    }
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for name in sources:
        sys.modules.pop(name, None)


def prepare(name):
    return python.prepare(f"rb_factories:{name}")


def result_of(name):
    prepared = prepare(name)
    plan = prepared.bind(torch.get_num_threads(), "cpu")
    output = torch.zeros(2, 4)
    with torch.inference_mode():
        plan.run([torch.ones(2, 4)], [output])
    return prepared.model, output


def test_any_callable_with_a_signature():
    assert prepare("good").signature == declare({"x": "F32[batch,4]"}, {"y": "F32[batch,4]"})
    assert result_of("good")[1].tolist() == [[2.0] * 4] * 2


def test_an_open_maximum_may_be_said():
    assert prepare("maximum_is_open").signature.dims == {"seq": None}


def test_a_module_is_for_inference():
    model, output = result_of("net")
    assert not model.training
    with torch.inference_mode():
        assert torch.equal(output, model.forward(torch.ones(2, 4)))


def test_hooks_of_a_module_are_called():
    model, output = result_of("hooked")
    with torch.inference_mode():
        assert torch.equal(output, model.forward(torch.ones(2, 4)) + 1000)


def test_a_compiled_module_runs_what_was_compiled():
    assert result_of("compiled_call")[1].tolist() == [[8.0] * 4] * 2


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("rb_absent:factory", Code.MODEL_NOT_FOUND),
        ("rb_absent.deeper:factory", Code.MODEL_NOT_FOUND),
        ("rb_factories.deeper:factory", Code.MODEL_NOT_FOUND),
        ("rb_factories:absent", Code.MODEL_NOT_FOUND),
        ("rb_broken:factory", Code.FACTORY_FAILED),
        ("rb_raising:factory", Code.FACTORY_FAILED),
        ("rb_needs:factory", Code.FACTORY_FAILED),
        ("rb_factories:not_callable", Code.FACTORY_FAILED),
        ("rb_factories:raises", Code.FACTORY_FAILED),
        ("rb_factories:with_attributes.x", Code.MODEL_NOT_FOUND),
        ("rb_factories:gives_none", Code.FACTORY_FAILED),
    ],
)
def test_codes(source, code):
    with pytest.raises(RingbrokerError) as caught:
        python.prepare(source)
    assert (caught.value.code, caught.value.path) == (code, source)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("no_inputs", "inputs"),
        ("no_outputs", "inputs"),
        ("inputs_list", "inputs"),
        ("bad_text", "x"),
        ("text_is_a_number", "x"),
        ("name_is_a_number", "4"),
        ("maxima_is_a_list", "maxima"),
        ("maximum_is_a_text", "seq"),
    ],
)
def test_signatures_that_are_refused(name, path):
    with pytest.raises(RingbrokerError) as caught:
        prepare(name)
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, path)


def test_what_a_factory_raised_is_told():
    with pytest.raises(RingbrokerError, match="the factory raised OSError: no weights"):
        prepare("raises")
    with pytest.raises(RingbrokerError, match="'rb_needs': No module named 'rb_not_installed'"):
        python.prepare("rb_needs:factory")
