"""ONNX: results where they belong, in every dtype; signatures; and files that are none, or cannot be loaded."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.formats import onnx as formats
from broker.engine.formats import onnx_plan
from broker.engine.plan import CopyingPlan, OutputError
from broker.engine.tensors import TORCH_DTYPES
from ringbuf.errors import Code, RingbrokerError

from . import onnx_models as models
from .onnx_models import bind, graph, model, node, plain, save, value

ROW = [value("x", ["N", 4])]
OUT = [value("y", ["N", 4])]


@pytest.fixture
def put(tmp_path):
    return lambda made, name="model.onnx": save(tmp_path / name, made)


def refusal(path, **said):
    with pytest.raises(RingbrokerError) as caught:
        bind(path, **said)
    assert "\n" not in caught.value.text
    return caught.value


def ran(plan, inputs, *outputs):
    plan.ledger.reset()
    plan.run(inputs, outputs)
    return outputs[0] if len(outputs) == 1 else outputs


# -- results in place ---------------------------------------------------------------------------------------------


def test_results_are_written_where_they_lie(put):
    path = put(models.linear())
    signature, plan = bind(path)
    assert [tensor.shape for tensor in (*signature.inputs, *signature.outputs)] == [("batch", 4), ("batch", 3)]
    assert plan.routes == ((True, "Gemm writes into the plane"),)
    room = torch.full((9, 3), 77.0)
    x = torch.randn(5, 4)
    y = ran(plan, [x], room[2:7])
    np.testing.assert_array_equal(y.numpy(), plain(path, x.numpy())[0])
    assert (room[:2] == 77).all() and (room[7:] == 77).all()
    x.neg_()  # the same memory: what is read is what lies there now
    y = ran(plan, [x], room[2:7])
    np.testing.assert_array_equal(room[2:7].numpy(), plain(path, x.numpy())[0])
    assert plan.ledger.inputs_bytes == plan.ledger.outputs_bytes == 0


@pytest.mark.parametrize("dtype", models.TYPES)
def test_every_dtype(dtype, put):
    made = model(
        [node("Transpose", "x", "y", perm=[0, 2, 1])],
        [value("x", ["N", 2, 3], dtype)],
        [value("y", ["N", 3, 2], dtype)],
    )
    signature, plan = bind(put(made))
    assert signature.inputs[0].dtype == dtype
    x = torch.arange(-5, 7).reshape(2, 2, 3).to(TORCH_DTYPES[dtype])
    y = ran(plan, [x], torch.full((2, 3, 2), 1).to(x.dtype))
    assert torch.equal(y, x.transpose(1, 2))
    assert plan.routes[0].in_place and plan.ledger.outputs_bytes == 0


@pytest.mark.parametrize("dtype", models.TYPES)
def test_every_dtype_of_a_size_that_depends_on_values(dtype, put):
    made = model(
        [node("Compress", "all keep", "some"), node("Gather", "x some", "y")],
        [value("x", [6], dtype), value("keep", [6], "BOOL")],
        [value("y", ["kept"], dtype)],
        all=np.arange(6),
    )
    _, plan = bind(put(made), maxima={"kept": 5})
    assert not plan.accepts_strides and not plan.routes[0].in_place
    x = torch.arange(-3, 3).to(TORCH_DTYPES[dtype])
    for keep in (torch.tensor([1, 0, 0, 1, 0, 1]).bool(), torch.tensor([0, 1, 1, 1, 1, 0]).bool()):
        y = torch.zeros(5, dtype=x.dtype)
        plan.ledger.reset()
        assert plan.run([x, keep], [y]) == ((int(keep.sum()),),)
        assert torch.equal(y[: keep.sum()], x[keep])
        assert plan.ledger.outputs_bytes == x[keep].nbytes
    with pytest.raises(OutputError) as caught:
        plan.run([x, torch.ones(6, dtype=torch.bool)], [y])
    assert caught.value.code == Code.OUTPUT_TOO_LARGE


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_axis_that_is_not_first(rows, put):
    made = model([node("Neg", "x", "y")], [value("x", [2, "N", 3])], [value("y", [2, "N", 3])])
    signature, plan = bind(put(made), inputs={"x": "F32[2,batch,3]"})
    assert signature.outputs[0].batch_axis == 1 and not plan.accepts_strides
    planes = torch.randn(rows, 2, 3), torch.zeros(rows, 2, 3)
    x, y = (plane.movedim(0, 1) for plane in planes)
    if rows == 1:  # lies in one piece, whatever its strides say
        assert torch.equal(ran(plan, [x], y), -x)
        return
    with pytest.raises(ValueError, match="contiguous"):
        plan.run([x], [y])
    with pytest.raises(ValueError, match="contiguous"):
        plan.run([x.contiguous()], [y])
    assert (planes[1] == 0).all()


def test_strides_are_refused_where_a_binding_is_kept_for_the_address(put):
    _, plan = bind(put(model([node("Neg", "x", "y")], ROW, OUT)))
    room, y = torch.arange(16.0).reshape(2, 8), torch.zeros(2, 4)
    plan.run([room.view(-1)[:8].view(2, 4)], [y])
    with pytest.raises(ValueError, match="contiguous"):
        plan.run([room[:, :4]], [y])


def test_scalars(put):
    _, plan = bind(put(model([node("Neg", "x", "y")], [value("x", [])], [value("y", [])])))
    assert ran(plan, [torch.tensor(3.0)], torch.tensor(0.0)) == -3


def test_bindings_are_kept_up_to_a_bound(put, monkeypatch):
    monkeypatch.setattr(onnx_plan, "_KEPT_BINDINGS", 3)
    _, plan = bind(put(models.linear()))
    x, y = torch.randn(8, 4), torch.zeros(8, 3)
    for start in (*range(8), *range(8)):
        plan.run([x[start : start + 1]], [y[start : start + 1]])
        assert len(plan._bindings) <= 3
    kept = dict(plan._bindings)
    assert torch.equal(ran(plan, [x[7:]], torch.zeros(1, 3)), y[7:])
    plan.run([x[7:]], [y[7:]])
    assert plan._bindings[list(kept)[-1]] is kept[list(kept)[-1]]


def test_another_ring_at_the_same_address(put):
    """A kept binding is an address and a shape: what lies there now is what is read and written."""
    _, plan = bind(put(models.linear()))
    memory = bytearray(4096)
    for _ in range(2):
        x = torch.frombuffer(memoryview(memory)[0:32], dtype=torch.float32).view(2, 4)
        y = torch.frombuffer(memoryview(memory)[64:88], dtype=torch.float32).view(2, 3)
        x.copy_(torch.randn(2, 4))
        plan.run([x], [y])
        torch.testing.assert_close(y, ran(plan, [x.clone()], torch.zeros(2, 3)))
        other = torch.frombuffer(memoryview(memory)[0:32], dtype=torch.float32).view(1, 8)[:, :4]  # another shape there
        assert torch.equal(ran(plan, [other], torch.zeros(1, 3)), ran(plan, [other.clone()], torch.zeros(1, 3)))


PEAK = """
import sys, torch
from pathlib import Path
from tests.unit.broker.engine.formats.onnx_models import bind
from broker.engine.formats import onnx_plan
from broker.engine.formats import onnx
def read(key):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if key in line)
_, plan = bind(Path(sys.argv[1]))
x, y = torch.ones(16, 1 << 20), torch.full((16, 1 << 20), 7.0)
def peak(run):
    Path("/proc/self/clear_refs").write_text("5")
    before = read("VmRSS")
    run()
    return (read("VmHWM") - before) // 1024
bound = peak(lambda: plan.run([x], [y]))
assert (y == 3).all() and plan.ledger.outputs_bytes == 0
print(bound, peak(lambda: plan._session.run(None, {"x": x.numpy()})))
"""


def test_64_megabytes_in_and_out_with_no_room_beside_them(put):
    wide = ["N", 1 << 20]
    path = put(model([node("Add", "x c", "y")], [value("x", wide)], [value("y", wide)], c=np.float32([2])))
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-W", "error", "-c", PEAK, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bound_mib, plain_mib = map(int, done.stdout.split())
    assert bound_mib < 8
    assert plain_mib > 56  # what a result elsewhere looks like


# -- what ONNX Runtime copies ------------------------------------------------------------------------------------

THREE = np.arange(12, dtype=np.float32).reshape(3, 4)
BRANCHES = {
    "then_branch": graph([node("Relu", "x", "p")], [], [value("p", ["N", 4])]),
    "else_branch": graph([node("Neg", "x", "q")], [], [value("q", ["N", 4])]),
}
MOVED = {
    "then_branch": graph([node("Relu", "x", "p")], [], [value("p", ["N", 4])]),
    "else_branch": graph([node("Identity", "x", "q")], [], [value("q", ["N", 4])]),
}
ENDS = {
    "Relu": ([node("Relu", "x", "y")], {}, True),
    "Identity of an op's": ([node("Relu", "x", "a"), node("Identity", "a", "y")], {}, True),
    "Identity of the input": ([node("Identity", "x", "y")], {}, False),
    "Identity of what is read twice": (
        [node("Relu", "x", "a"), node("Identity", "a", "y"), node("Neg", "a", "unused")],
        {},
        False,
    ),
    "Reshape": ([node("Relu", "x", "a"), node("Reshape", "a s", "y")], {"s": np.array([-1, 4])}, False),
    "Flatten": ([node("Relu", "x", "a"), node("Flatten", "a", "y")], {}, False),
    "If": ([node("If", "yes", "y", **BRANCHES)], {"yes": np.array(True)}, True),
    "If that moves": ([node("If", "yes", "y", **MOVED)], {"yes": np.array(False)}, False),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_route_of_an_output(case, put):
    nodes, constants, in_place = ENDS[case]
    path = put(model(nodes, ROW, OUT, **constants))
    _, plan = bind(path)
    x = torch.randn(2, 4)
    y = ran(plan, [x], torch.full((2, 4), 77.0))
    np.testing.assert_array_equal(y.numpy(), plain(path, x.numpy())[0])
    assert plan.routes[0].in_place is in_place, plan.routes
    assert plan.ledger.outputs_bytes == (0 if in_place else 32)


@pytest.mark.parametrize("nodes", [[], [node("Constant", "", "y", value=models.onnx.numpy_helper.from_array(THREE))]])
def test_a_constant_is_copied_and_counted(nodes, put):
    made = model(
        [*nodes, node("Relu", "x", "z")],
        ROW,
        [value("y", [3, 4]), value("z", ["N", 4])],
        **({} if nodes else {"y": THREE}),
    )
    _, plan = bind(put(made))
    assert [route.in_place for route in plan.routes] == [False, True]
    y, z = ran(plan, [torch.ones(2, 4)], torch.zeros(3, 4), torch.zeros(2, 4))
    np.testing.assert_array_equal(y.numpy(), THREE)
    assert (z == 1).all() and plan.ledger.outputs_bytes == 48
    y.zero_()
    np.testing.assert_array_equal(ran(plan, [torch.ones(2, 4)], y, z)[0].numpy(), THREE)


@pytest.mark.parametrize("nodes", [[], [node("Relu", "x", "z")]])
def test_an_input_under_its_own_name_is_copied_and_counted(nodes, put):
    made = model(nodes, ROW, [value("x", ["N", 4]), *([value("z", ["N", 4])] if nodes else [])])
    _, plan = bind(put(made))
    assert plan.routes[0] == (False, "an input, returned as it is")
    for x in (torch.randn(2, 4), torch.randn(3, 4)):
        for _ in range(2):
            x.add_(1)
            outputs = [torch.zeros(x.shape) for _ in plan.routes]
            ran(plan, [x], *outputs)
            assert torch.equal(outputs[0], x)
            assert plan.ledger.outputs_bytes == x.nbytes
    with pytest.raises(OutputError) as caught:
        plan.run([x], [torch.zeros(1, 4) for _ in plan.routes])
    assert caught.value.code == Code.OUTPUT_MISMATCH


def test_an_output_that_other_ops_read(put):
    made = model([node("Relu", "x", "y"), node("Neg", "y", "z")], ROW, [*OUT, value("z", ["N", 4])])
    _, plan = bind(put(made))
    y, z = ran(plan, [torch.ones(2, 4)], torch.zeros(2, 4), torch.zeros(2, 4))
    assert (y == 1).all() and (z == -1).all()
    assert all(route.in_place for route in plan.routes)


def test_a_plan_that_disagrees_is_not_used(put, monkeypatch, caplog):
    run = onnx_plan.OnnxPlan.run

    def wrong(self, inputs, outputs):
        run(self, inputs, outputs)
        if inputs[0].shape[0] == 2:
            outputs[0][1] += 1

    monkeypatch.setattr(onnx_plan.OnnxPlan, "run", wrong)
    with caplog.at_level(logging.WARNING, "broker.engine"):
        _, plan = bind(put(models.linear()))
    assert isinstance(plan, CopyingPlan) and not plan.accepts_strides
    assert "y: off by" in caplog.records[0].because
    monkeypatch.undo()
    _, right = bind(put(models.linear()))
    x = torch.randn(2, 4)
    assert torch.equal(ran(plan, [x], torch.zeros(2, 3)), ran(right, [x], torch.zeros(2, 3)))
    assert plan.ledger.outputs_bytes == 24


# -- what goes wrong in a run ----------------------------------------------------------------------------------


def test_a_result_of_another_shape(put):
    nodes = [node("NonZero", "x", "a"), node("Transpose", "a", "b", perm=[1, 0]), node("Cast", "b", "y", to=1)]
    path = put(model(nodes, [value("x", ["c", 2])], [value("y", ["c", 2])]))
    _, plan = bind(path)
    assert isinstance(plan, onnx_plan.OnnxPlan)
    x, y = torch.tensor([[1.0, 0], [0, 1]]), torch.full((2, 2), 77.0)
    assert torch.equal(ran(plan, [x], y), torch.tensor([[0.0, 0], [1, 1]]))
    y.fill_(77)
    with pytest.raises(OutputError) as caught:
        plan.run([x.copy_(torch.ones(2, 2))], [y])
    assert (caught.value.code, caught.value.path) == (Code.OUTPUT_MISMATCH, "outputs[0]")
    assert caught.value.text == "the model gave [4, 2], its signature says [2, 2]"
    assert (y == 77).all()
    x.copy_(torch.eye(2))
    assert torch.equal(ran(plan, [x], y), torch.tensor([[0.0, 0], [1, 1]]))


def test_a_constant_of_another_size_than_the_plane(put):
    _, plan = bind(put(model([node("Relu", "x", "z")], ROW, [value("y", ["N", 4]), value("z", ["N", 4])], y=THREE)))
    room = torch.full((8, 4), 77.0)
    with pytest.raises(OutputError) as caught:
        plan.run([torch.ones(2, 4)], [room[2:4], torch.zeros(2, 4)])
    assert (caught.value.code, caught.value.path) == (Code.OUTPUT_MISMATCH, "outputs[0]")
    assert (room == 77).all()


def test_an_index_out_of_range_is_the_models_own_exception(put):
    made = model([node("Gather", "w i", "y")], [value("i", ["N"], "I64")], [value("y", ["N", 4])], w=THREE)
    _, plan = bind(put(made))
    y = torch.zeros(1, 4)
    with pytest.raises(RuntimeError, match="out of data bounds"):
        plan.run([torch.tensor([3])], [y])
    np.testing.assert_array_equal(ran(plan, [torch.tensor([2])], y)[0].numpy(), THREE[2])


# -- signatures -----------------------------------------------------------------------------------------------


def test_initializers_are_no_inputs(put):
    made = model([node("Add", "x c", "y")], [*ROW, value("c", [4])], OUT, c=np.ones(4, np.float32))
    signature, plan = bind(put(made))
    assert [tensor.name for tensor in signature.inputs] == ["x"]
    assert (ran(plan, [torch.ones(1, 4)], torch.zeros(1, 4)) == 2).all()


def test_dims_get_names(put):
    made = model(
        [node("Add", "x z", "y")],
        [value("x", ["n", "seq", None]), value("z", ["n", 1, 1])],
        [value("y", ["n", "seq", None])],
    )
    path = put(made)
    assert "y_2" in refusal(path).text  # open: nothing says that it is the input's
    signature, plan = bind(path, inputs={"x": "F32[batch,len,width]"}, outputs={"y": "F32[batch,len,width]"})
    assert [tensor.shape for tensor in signature.outputs] == [("batch", "len", "width")]
    assert signature.inputs[1].shape == ("batch", 1, 1)
    x = torch.randn(2, 3, 5)
    assert torch.equal(ran(plan, [x, torch.zeros(2, 1, 1)], torch.zeros(2, 3, 5)), x)
    error = refusal(path, inputs={"x": "F64[batch,len,width]"})
    assert (error.code, error.path) == (Code.CONFIG_INVALID, "x")


def test_a_shape_that_is_not_in_the_file(put):
    path = put(model([node("Neg", "x", "y")], [value("x", None)], [value("y", None)]))
    error = refusal(path)
    assert (error.code, error.path) == (Code.SIGNATURE_INVALID, "x")
    _, plan = bind(path, inputs={"x": "F32[batch,3]"}, outputs={"y": "F32[batch,3]"})
    x = torch.randn(4, 3)
    assert torch.equal(ran(plan, [x], torch.zeros(4, 3)), -x)


def test_names_that_a_signature_may_not_have(put):
    made = model([node("Neg", "in:0", "/out/y")], [value("in:0", ["N"])], [value("/out/y", ["N"])])
    signature, plan = bind(put(made))
    assert [tensor.name for tensor in (*signature.inputs, *signature.outputs)] == ["in_0", "_out_y"]
    assert ran(plan, [torch.ones(1)], torch.zeros(1)) == -1


def test_what_is_no_tensor_that_can_be_served(put):
    helper, proto = models.onnx.helper, models.onnx.TensorProto
    text = helper.make_tensor_value_info("x", proto.STRING, [1])
    sequence = helper.make_tensor_sequence_value_info("x", proto.FLOAT, [1])
    small = helper.make_tensor_value_info("x", proto.FLOAT8E4M3FN, [1])
    maybe = helper.make_value_info("x", helper.make_optional_type_proto(text.type))
    for wrong, told in ((text, "STRING"), (sequence, "sequence"), (small, "FLOAT8E4M3FN"), (maybe, "optional")):
        error = refusal(put(model([node("Identity", "x", "y")], [wrong], [value("y", [1])])))
        assert (error.code, error.path) == (Code.SIGNATURE_INVALID, "x")
        assert told in error.text


def test_an_open_dim_needs_a_maximum(put):
    path = put(model([node("NonZero", "x", "y")], ROW, [value("y", [2, "found"], "I64")]))
    assert refusal(path).code == Code.SIGNATURE_INVALID
    signature, _ = bind(path, maxima={"found": 9})
    assert signature.dims == {"found": 9}


# -- files -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=64))
def test_bytes_are_recognised_or_not(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    if formats.is_onnx(path):
        with pytest.raises(RingbrokerError):
            bind(path)


def test_what_is_recognised(put, tmp_path):
    assert formats.is_onnx(put(models.linear(), "model"))
    assert not formats.is_onnx(tmp_path / "absent")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    for other in (tmp_path / "model.pt", Path(sys.executable), Path(__file__)):
        assert not formats.is_onnx(other)


def test_files_that_were_cut_off(put, tmp_path):
    whole = models.linear()
    whole.producer_name = "tests"
    content = whole.SerializeToString()
    path = tmp_path / "cut.onnx"
    codes = set()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if length > 12:
            assert formats.is_onnx(path)
        codes.add(refusal(path).code)
    assert codes <= {Code.MODEL_INVALID, Code.SIGNATURE_INVALID}


@pytest.mark.parametrize("name", [b"input", b"width"])
def test_a_name_that_is_no_text(name, tmp_path):
    made = model([node("Neg", "input", "y")], [value("input", ["width"])], [value("y", [4])])
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString().replace(name, b"\xff" * 5))
    error = refusal(path)
    assert error.code == Code.MODEL_INVALID and "no text" in error.text


def test_bytes_that_changed(tmp_path, capfd):
    """Whatever they are now, it is a model or none: nothing else is raised, and nothing printed."""
    path, whole = tmp_path / "model.onnx", models.linear().SerializeToString()
    for at in range(len(whole)):
        for byte in (0, 0xFF, whole[at] ^ 1):
            path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            try:
                bind(path)
            except RingbrokerError as error:
                assert error.code in {Code.MODEL_INVALID, Code.SIGNATURE_INVALID}
    assert capfd.readouterr() == ("", "")


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "model.onnx"
    torch.save(torch.nn.Linear(2, 2), path)
    assert not formats.is_onnx(path)
    assert refusal(path).code == Code.MODEL_INVALID


UNLOADABLE = {
    "unknown op": (model([node("Nope", "x", "y")], ROW, OUT), "Nope"),
    "opset": (model([node("Relu", "x", "y")], ROW, OUT, opset=99), "Opset 99"),
    "types": (model([node("Add", "x i", "y")], [*ROW, value("i", [4], "I64")], OUT), "Type"),
    "no input": (model([node("Relu", "z", "y")], ROW, OUT), "z"),
    "two writers": (model([node("Relu", "x", "y"), node("Neg", "x", "y")], ROW, OUT), "y"),
}


@pytest.mark.parametrize("case", UNLOADABLE)
def test_a_model_that_the_runtime_refuses(case, put):
    made, told = UNLOADABLE[case]
    error = refusal(put(made))
    assert error.code == Code.MODEL_INVALID
    assert "this ONNX Runtime" in error.text and told in error.text
    assert "/onnxruntime_src" not in error.text and error.text.count("model.onnx") == 0


@pytest.fixture
def beside(tmp_path):
    """A model with its weights in another file."""
    path, made = tmp_path / "model.onnx", model([node("MatMul", "x w", "y")], ROW, OUT, w=models.weights(4, 4))
    options = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
    models.onnx.save_model(made, path, **options)
    return path, path.with_name("model.onnx.data")


def test_weights_in_a_file_beside_it(beside):
    path, _ = beside
    assert formats.is_onnx(path)
    x = torch.randn(2, 4)
    y = ran(bind(path)[1], [x], torch.zeros(2, 4))
    np.testing.assert_allclose(y.numpy(), x.numpy() @ models.weights(4, 4), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [None, 0, 63])
def test_weights_that_are_missing(beside, length):
    path, data = beside
    if length is None:
        data.unlink()
    else:
        os.truncate(data, length)
    error = refusal(path)
    assert error.code == Code.MODEL_INVALID and ("model.onnx.data" if length is None else "out of bounds") in error.text


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_packages_that_are_missing(package, put, monkeypatch):
    path = put(models.linear())
    monkeypatch.setitem(sys.modules, package, None)
    error = refusal(path)
    assert (error.code, error.path) == (Code.RUNTIME_MISSING, str(path))
    assert "pip install 'ringbroker[onnx]'" in error.text


def test_preparing_starts_no_thread(put):
    source = f"""
import os, sys, torch, onnx
from broker.engine.config import ModelConfig
from broker.engine.formats import onnx as formats
from pathlib import Path
before = len(os.listdir("/proc/self/task"))
formats.prepare(Path({str(put(models.linear()))!r}), ModelConfig(name="m", source="m"))
assert len(os.listdir("/proc/self/task")) == before
assert "onnxruntime" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- whole models ------------------------------------------------------------------------------------------------


class Calibration:
    """What static quantisation reads its ranges from."""

    def __init__(self):
        self._rows = iter([{"x": models.weights(16, 32)}])

    def get_next(self):
        return next(self._rows, None)


@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_an_int8_model(way, put, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    logging.disable(logging.WARNING)  # it would rather that shapes had been inferred
    try:
        if way == "dynamic":
            quantization.quantize_dynamic(put(models.mlp()), tmp_path / "int8.onnx")
        else:
            quantization.quantize_static(put(models.mlp()), tmp_path / "int8.onnx", Calibration())
    finally:
        logging.disable(logging.NOTSET)
    path = tmp_path / "int8.onnx"
    ops = {made.op_type for made in models.onnx.load(path).graph.node}
    assert ops & {"DynamicQuantizeLinear", "QuantizeLinear"}
    signature, plan = bind(path)
    assert signature.inputs[0].shape == ("batch", 32)
    for rows in (1, 2, 7):
        x = models.weights(rows, 32)
        y = ran(plan, [torch.from_numpy(x)], torch.zeros(rows, 8))
        np.testing.assert_array_equal(y.numpy(), plain(path, x)[0])
        assert not np.array_equal(y.numpy(), plain(tmp_path / "model.onnx", x)[0])


SPEECH = {
    "inputs": {"input": "F32[batch,576]", "state": "F32[2,batch,128]"},
    "outputs": {"output": "F32[batch,1]", "stateN": "F32[2,batch,128]"},
    "ranges": {"sr": (16000, 16000)},
}


def test_a_voice_detector_with_its_state_fed_back():
    spec = importlib.util.find_spec("silero_vad")
    if spec is None:
        pytest.skip("the package silero_vad, whose file this is, is not installed")
    path = Path(spec.origin).parent / "data" / "silero_vad.onnx"
    signature, plan = bind(path, **SPEECH)
    assert [tensor.shape for tensor in signature.inputs] == [("batch", 576), (2, "batch", 128), ()]
    session = models.onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted_state, rate = np.zeros((2, 1, 128), np.float32), torch.tensor(16000)
    state, output, next_state = torch.zeros(1, 2, 128), torch.zeros(1, 1), torch.zeros(1, 2, 128)
    for frame in range(20):
        window = models.weights(20, 576)[frame : frame + 1]
        wanted, wanted_state = session.run(None, {"input": window, "state": wanted_state, "sr": rate.numpy()})
        inputs = [torch.from_numpy(window), state.movedim(0, 1), rate]
        ran(plan, inputs, output, next_state.movedim(0, 1))
        np.testing.assert_allclose(output.numpy(), wanted, atol=1e-6)
        np.testing.assert_allclose(next_state.movedim(0, 1).numpy(), wanted_state, atol=1e-6)
        state.copy_(next_state)
