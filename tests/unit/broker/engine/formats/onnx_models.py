"""Small ONNX models for the tests, and what ONNX Runtime makes of them by itself."""

from pathlib import Path

import numpy as np
import pytest

from broker.engine.config import ModelConfig
from broker.engine.formats import onnx as formats
from broker.engine.probe import Probe

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

TYPES = {
    "BOOL": "BOOL", "U8": "UINT8", "I8": "INT8", "U16": "UINT16", "I16": "INT16", "U32": "UINT32", "I32": "INT32",
    "U64": "UINT64", "I64": "INT64", "F16": "FLOAT16", "BF16": "BFLOAT16", "F32": "FLOAT", "F64": "DOUBLE",
}  # fmt: skip
GRAPH_TYPES = {dtype: getattr(onnx.TensorProto, name) for dtype, name in TYPES.items()}


def value(name, shape, dtype="F32"):
    """A graph input or output; None in the shape is an unknown dim, None as the shape an unknown rank."""
    return onnx.helper.make_tensor_value_info(name, GRAPH_TYPES[dtype], shape)


def node(op, inputs, outputs, **attributes):
    return onnx.helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def graph(nodes, inputs, outputs, **constants):
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return onnx.helper.make_graph(nodes, "g", inputs, outputs, tensors)


def model(nodes, inputs, outputs, opset=18, **constants):
    made = graph(nodes, inputs, outputs, **constants)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=9)


def save(path: Path, made) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def weights(*shape):
    return (np.random.default_rng(7).standard_normal(shape) * 0.3).astype(np.float32)


def linear():
    """`x [batch, 4]` -> `y [batch, 3]`."""
    return model(
        [node("Gemm", "x w c", "y")], [value("x", ["N", 4])], [value("y", ["N", 3])], w=weights(4, 3), c=weights(3)
    )


def mlp():
    """`x [batch, 32]` -> `y [batch, 8]`, for quantisation."""
    return model(
        [node("MatMul", "x u", "a"), node("Relu", "a", "b"), node("MatMul", "b v", "y")],
        [value("x", ["batch", 32])],
        [value("y", ["batch", 8])],
        u=weights(32, 64),
        v=weights(64, 8),
    )


def prepare(path, **said):
    return formats.prepare(path, ModelConfig(name="m", source=str(path), **said))


def bind(path, threads=1, **said):
    """The signature and the plan."""
    config = ModelConfig(name="m", source=str(path), **said)
    prepared = formats.prepare(path, config)
    return prepared.signature, prepared.bind(threads, "cpu", Probe(prepared.signature, config))


def plain(path, *inputs):
    """ONNX Runtime's own results, from numpy arrays in the model's order."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {put.name: array for put, array in zip(session.get_inputs(), inputs, strict=True)})
