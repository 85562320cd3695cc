"""Factories: what they may return, what an operator says of them, and the code of each way to fail."""

import sys

import pytest
import torch

from broker.engine.config import ModelConfig
from broker.engine.formats import python
from broker.engine.probe import Probe
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
def scaled(by, *, offset=0.0): return with_attributes(by=by, offset=offset)
def undeclared(): return lambda x: 2 * x
def bounded():
    return with_attributes(inputs={"x": "F32[batch,seq]"}, outputs={"y": "F32[batch,seq]"}, maxima={"seq": 256})
def misspelt(): return sum(3)
def exits(): raise SystemExit(3)
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
def maximum_is_true(): return with_attributes(inputs={"x": "F32[batch,seq]"}, maxima={"seq": True})
def maximum_of_a_number(): return with_attributes(maxima={4: 4})
def maximum_is_huge(): return with_attributes(inputs={"x": "F32[batch,seq]"}, maxima={"seq": 2**31})
def maximum_of_no_dim(): return with_attributes(maxima={"seq": 4})
def maximum_is_open(): return with_attributes(inputs={"x": "F32[batch,seq]"}, maxima={"seq": None})

def ranged(ranges): return with_attributes(ranges=ranges)
def ranges_is_a_list(): return ranged([0, 1])
def ranges_of_nothing(): return ranged({"z": (0, 1)})
def range_of_bools(): return ranged({"x": (False, True)})
def range_of_texts(): return ranged({"x": ("0", "1")})
def range_is_none(): return ranged({"x": None})
def range_to_nan(): return ranged({"x": (0, float("nan"))})
def range_of_three(): return ranged({"x": (0, 1, 2)})
def range_of_tensors(): return ranged({"x": torch.zeros(2, 2)})
def ranges_is_a_tensor(): return ranged(torch.zeros(2, 2))
def no_ranges(): return ranged(None)

class Lazy(Model):
    @property
    def ranges(self): raise KeyError("vocabulary")
def ranges_raises(): return Lazy()
class LazyInputs(Model):
    @property
    def inputs(self): raise SystemExit(3)
def inputs_raises(): return LazyInputs()

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
        "rb_exiting": "raise SystemExit(3)",
    }
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for name in sources:
        sys.modules.pop(name, None)


def prepare(name, **said):
    return python.prepare(ModelConfig(name="m", source=f"rb_factories:{name}", **said))


def result_of(name):
    prepared = prepare(name)
    probe = Probe(prepared.signature, ModelConfig(name="m", source=name))
    plan = prepared.bind(torch.get_num_threads(), "cpu", probe)
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
        ("rb_factories:exits", Code.FACTORY_FAILED),
        ("rb_exiting:factory", Code.FACTORY_FAILED),
        ("rb_factories:scaled", Code.FACTORY_FAILED),
    ],
)
def test_codes(source, code):
    with pytest.raises(RingbrokerError) as caught:
        python.prepare(ModelConfig(name="m", source=source))
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
        ("maximum_is_true", "seq"),
        ("maximum_of_a_number", "4"),
        ("maximum_is_huge", "seq"),
        ("maximum_of_no_dim", "seq"),
        ("ranges_is_a_list", "ranges"),
        ("ranges_of_nothing", "z"),
        ("range_of_bools", "x"),
        ("range_of_texts", "x"),
        ("range_is_none", "x"),
        ("range_to_nan", "x"),
        ("range_of_three", "x"),
        ("range_of_tensors", "x"),
        ("ranges_is_a_tensor", "ranges"),
        ("ranges_raises", "ranges"),
        ("inputs_raises", "inputs"),
    ],
)
def test_signatures_that_are_refused(name, path):
    with pytest.raises(RingbrokerError) as caught:
        prepare(name)
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, path)


def test_ranges():
    assert prepare("no_ranges").ranges == {}
    with pytest.raises(RingbrokerError, match="`ranges` raised KeyError: 'vocabulary'"):
        prepare("ranges_raises")


def test_what_a_factory_raised_is_told():
    with pytest.raises(RingbrokerError, match="the factory raised OSError: no weights"):
        prepare("raises")
    with pytest.raises(RingbrokerError, match="'rb_needs': No module named 'rb_not_installed'"):
        python.prepare(ModelConfig(name="m", source="rb_needs:factory"))


def test_a_factory_is_given_its_arguments():
    model = prepare("scaled", arguments={"by": 3, "offset": 0.5}).model
    assert (model.by, model.offset) == (3, 0.5)


@pytest.mark.parametrize("arguments", [{}, {"by": 1, "of": 2}])
def test_wrong_arguments_are_told_with_those_that_it_takes(arguments):
    with pytest.raises(RingbrokerError, match=r"takes \(by, \*, offset=0.0\), and was to be given") as caught:
        prepare("scaled", arguments=arguments)
    assert caught.value.code == Code.FACTORY_FAILED


def test_a_type_error_inside_a_factory_is_its_own():
    with pytest.raises(RingbrokerError, match="the factory raised TypeError"):
        prepare("misspelt")


def test_the_operator_may_declare_what_the_model_does_not():
    said = {"inputs": {"x": "F32[batch,4]"}, "outputs": {"y": "F32[batch,4]"}}
    assert prepare("undeclared", **said).signature == declare(said["inputs"], said["outputs"])


def test_a_model_that_nobody_declared():
    with pytest.raises(RingbrokerError, match=r"no attribute `inputs`.*its configuration declares no inputs") as caught:
        prepare("undeclared")
    assert caught.value.code == Code.SIGNATURE_INVALID


def test_the_operator_goes_before_the_model():
    signature = prepare("bounded", inputs={"x": "F32[batch,seq]"}, maxima={"seq": 128}).signature
    assert signature.dims == {"seq": 128}


def test_a_narrowed_dim_has_no_maximum():
    said = {"inputs": {"x": "F32[batch,16]"}, "outputs": {"y": "F32[batch,16]"}}
    assert prepare("bounded", **said).signature == declare(said["inputs"], said["outputs"])


@pytest.mark.parametrize(
    ("said", "path"), [({"maxima": {"seq": 257}}, "seq"), ({"inputs": {"z": "F32[batch,seq]"}}, "z")]
)
def test_the_operator_may_not_contradict_the_model(said, path):
    with pytest.raises(RingbrokerError) as caught:
        prepare("bounded", **said)
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, path)


def test_weights_are_loaded_into_the_module(tmp_path):
    state = {"weight": torch.full((4, 4), 2.0), "bias": torch.ones(4)}
    torch.save(state, tmp_path / "w.pt")
    model = prepare("net", weights=str(tmp_path / "w.pt")).model
    assert model.weight.sum() == 32


def test_weights_for_something_without_any(tmp_path):
    with pytest.raises(RingbrokerError, match=r"an nn\.Module, and the factory returned a Model") as caught:
        prepare("good", weights=str(tmp_path / "w.pt"))
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.weights")
