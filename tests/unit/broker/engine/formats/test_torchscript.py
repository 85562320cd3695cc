"""TorchScript: arguments by name or position, numbers, state, and files that are none."""

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch

from broker.engine.config import ModelConfig
from broker.engine.formats import torchscript
from broker.engine.plan import OutputError
from broker.engine.probe import Probe
from ringbuf.errors import Code, RingbrokerError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.s.* is deprecated:DeprecationWarning")

ROW = "F32[batch,4]"


class Weighted(torch.nn.Module):
    """Arguments that cannot be mistaken for one another; dropout shows whether it is for inference."""

    def forward(self, x, shift, by: int = 2):
        return torch.nn.functional.dropout(x * by + shift, 0.5, self.training)


class Named(torch.nn.Module):
    def forward(self, x) -> dict[str, torch.Tensor]:
        return {"double": 2 * x, "next": x + 1}


class Listed(torch.nn.Module):
    def forward(self, x: list[torch.Tensor]):
        return x[0]


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x * 0 + self.calls


@pytest.fixture
def save(tmp_path):
    def save(module, change=lambda module: module):
        path = tmp_path / "model.pt"
        with warnings.catch_warnings(action="ignore"):
            change(torch.jit.script(module)).save(str(path))
        return path

    return save


def prepare(path, inputs, outputs=None, **said):
    config = ModelConfig(name="m", source=str(path), inputs=inputs, outputs=outputs or {"y": ROW}, **said)
    return torchscript.prepare(path, config)


def run(prepared, *inputs, outputs=1):
    plan = prepared.bind(torch.get_num_threads(), "cpu", Probe(prepared.signature, ModelConfig(name="m", source="m")))
    made = [torch.full((len(inputs[0]), 4), 77.0) for _ in range(outputs)]
    with torch.inference_mode():
        plan.run(inputs, made)
    return made


X, SHIFT = torch.arange(12.0).view(3, 4), torch.full((3, 4), 100.0)


def test_by_position(save):
    prepared = prepare(save(Weighted()), {"a": ROW, "b": ROW})
    assert [tensor.name for tensor in prepared.signature.inputs] == ["a", "b"]
    assert torch.equal(run(prepared, X, SHIFT)[0], 2 * X + 100)


def test_by_name_whatever_the_order(save):
    prepared = prepare(save(Weighted().train()), {"shift": ROW, "x": ROW})
    assert [tensor.name for tensor in prepared.signature.inputs] == ["x", "shift"]
    assert torch.equal(run(prepared, X, SHIFT)[0], 2 * X + 100)  # and without the dropout of training


def test_some_names_at_other_places_are_refused(save):
    with pytest.raises(RingbrokerError, match="x, shift") as caught:
        prepare(save(Weighted()), {"shift": ROW, "rows": ROW})
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.shift")


def test_a_number_is_a_scalar(save):
    prepared = prepare(save(Weighted()), {"x": ROW, "shift": ROW, "by": "I64[]"})
    assert torch.equal(run(prepared, X, SHIFT, torch.tensor(5))[0], 5 * X + 100)


@pytest.mark.parametrize("inputs", [{"x": ROW}, {"x": ROW, "shift": ROW, "by": "I64[]", "more": ROW}])
def test_the_number_of_inputs(save, inputs):
    with pytest.raises(RingbrokerError, match=r"forward takes x: Tensor, shift: Tensor, by: int") as caught:
        prepare(save(Weighted()), inputs)
    assert caught.value.code == Code.CONFIG_INVALID


def test_a_number_with_dims_is_refused(save):
    with pytest.raises(RingbrokerError) as caught:
        prepare(save(Weighted()), {"x": ROW, "shift": ROW, "by": "I64[batch]"})
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.by")


def test_an_argument_that_no_client_can_give(save):
    with pytest.raises(RingbrokerError, match=r"List\[Tensor\]") as caught:
        prepare(save(Listed()), {"x": ROW})
    assert caught.value.code == Code.SIGNATURE_INVALID


def test_the_signature_must_be_declared(save):
    path = save(Weighted())
    for inputs, outputs in (({}, {"y": ROW}), ({"x": ROW, "shift": ROW}, {})):
        with pytest.raises(RingbrokerError, match="declare inputs and outputs; forward takes x: Tensor") as caught:
            torchscript.prepare(path, ModelConfig(name="m", source="m", inputs=inputs, outputs=outputs))
        assert caught.value.code == Code.SIGNATURE_INVALID


def test_outputs_by_name(save):
    double, following = run(prepare(save(Named()), {"x": ROW}, {"double": ROW, "next": ROW}), X, outputs=2)
    assert torch.equal(double, 2 * X)
    assert torch.equal(following, X + 1)


def test_a_frozen_module(save):
    prepared = prepare(save(torch.nn.Linear(4, 4).eval(), torch.jit.freeze), {"x": ROW})
    assert run(prepared, X)[0].shape == (3, 4)


def test_state_is_kept(save):
    prepared = prepare(save(Counting()), {"x": ROW})
    assert run(prepared, X)[0][0, 0] == 1
    assert run(prepared, X)[0][0, 0] == 2


def test_another_shape_than_declared(save):
    with pytest.raises(OutputError) as caught:
        run(prepare(save(torch.nn.Linear(4, 5)), {"x": ROW}), X)
    assert caught.value.code == Code.OUTPUT_MISMATCH


@pytest.mark.parametrize("damage", ["half", "end", "none", "text"])
def test_files_that_are_none(save, damage):
    path = save(Weighted())
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "end": whole[:-9], "none": b"", "text": b"hello"}[damage])
    with pytest.raises(RingbrokerError) as caught:
        prepare(path, {"x": ROW, "shift": ROW})
    assert (caught.value.code, caught.value.path) == (Code.MODEL_INVALID, str(path))


def test_a_real_model_with_state():
    """A voice detector: its second argument is a number, and it remembers the sound before."""
    found = importlib.util.find_spec("silero_vad")
    if found is None:
        pytest.skip("needs silero-vad, of requirements-models.txt")
    path = Path(found.origin).parent / "data" / "silero_vad.jit"
    prepared = prepare(
        path, {"x": "F32[batch,512]", "sr": "I64[]"}, {"voice": "F32[batch,1]"}, ranges={"sr": (16000, 16000)}
    )
    plan = prepared.bind(torch.get_num_threads(), "cpu", None)
    sound, rate = torch.rand(1, 512, generator=torch.Generator().manual_seed(1)), torch.tensor(16000)
    voices = [torch.full((1, 1), 77.0) for _ in range(3)]
    with torch.inference_mode():
        for voice in voices:
            plan.run([sound, rate], [voice])
    assert all(0 <= voice.item() <= 1 for voice in voices)
    assert len({voice.item() for voice in voices}) == 3
