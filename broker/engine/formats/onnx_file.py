"""What an ONNX file says of its model: whether it is one, its inputs and outputs, and the op behind each output.

Nothing is run, and weights in files beside it are not read. A name that a signature may not have (`input:0`) is served
with its other characters replaced (`input_0`).

What ONNX Runtime does with an output that is bound to a plane was measured on 1.31, by the peak of resident memory, a
`malloc` that maps what is large, and outputs of 16 MB. The op that computes an output writes where it is bound: Gemm,
MatMul, Add, Softmax, LayerNormalization, Conv, Relu, Cast, Transpose, Gather, the branches of an If, and an output that
later ops read as well; so does what comes before an Identity that nothing else uses, which is optimised away. But a
Reshape, Flatten, Squeeze, Unsqueeze or Dropout at the end copies what another op left in memory of its own; an
initializer or a Constant is copied at every run; and an input that is an output under its own name is not written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from broker.engine import signature as signatures
from broker.engine.plan import Route
from broker.engine.reconcile import FileTensor, Symbol

ELEMENT_TYPES = {
    "F32": 1, "U8": 2, "I8": 3, "U16": 4, "I16": 5, "I32": 6, "I64": 7, "BOOL": 9, "F16": 10, "F64": 11, "U32": 12,
    "U64": 13, "BF16": 16,
}  # fmt: skip
"""By dtype: `onnx.TensorProto.DataType`."""
_DTYPES = {number: dtype for dtype, number in ELEMENT_TYPES.items()}

_IR_VERSION, _MODEL_VERSION, _GRAPH = 1, 5, 7
_NUMBERS = frozenset({_IR_VERSION, _MODEL_VERSION})
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_GRAPH_FIELDS = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})
_VARINT, _BYTES = 0, 2
_MOST_FIELDS = 10_000  # before the graph: in files as they are written, at most five come before it

_MOVERS = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "SequenceAt", "OptionalGetElement", "Loop"}
)
_CONSTANT = Route(False, "a constant of the file, which ONNX Runtime copies")


@dataclass(frozen=True, slots=True)
class Graph:
    """A model's inputs and outputs."""

    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    input_names: tuple[str, ...]
    """As the file has them."""
    output_names: tuple[str, ...]
    passed: tuple[int | None, ...]
    """For each output: the index of the input that it is, where it is one."""
    routes: tuple[Route, ...]


def is_model(file: BinaryIO) -> bool:
    """Whether these bytes begin as a ModelProto does: known fields, of which one is the version and one a graph.

    Steps over what the fields hold. A model that is cut off inside its graph is one.
    """
    has_version = has_graph = False
    for _ in range(_MOST_FIELDS):
        tag = _varint(file)
        if tag is None or tag >> 3 not in _MODEL_FIELDS:
            return False
        number, kind = tag >> 3, tag & 7
        value = _varint(file)
        if value is None or kind != (_VARINT if number in _NUMBERS else _BYTES):
            return False
        if number == _GRAPH:
            first = file.read(1)
            has_graph = not first or (first[0] >> 3 in _GRAPH_FIELDS and first[0] & 7 == _BYTES)
            if not has_graph:
                return False
            file.seek(value - len(first), 1)
        elif kind == _BYTES:
            file.seek(value, 1)
        elif number == _IR_VERSION:
            has_version = 0 < value < 1000
        if has_version and has_graph:
            return True
    return False


def read(model: Any, declared: Mapping[str, str]) -> Graph:
    """Read a ModelProto's graph; the shape of a tensor that has none is as long as the one `declared` for it.

    Raises `RingbrokerError` SIGNATURE_INVALID, and nearly anything for a graph that was changed by accident.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    names = [value.name for value in inputs]
    functions = {function.name for function in model.functions}
    return Graph(
        inputs=tuple(_tensor(value, declared) for value in inputs),
        outputs=tuple(_tensor(value, declared) for value in graph.output),
        input_names=tuple(names),
        output_names=tuple(value.name for value in graph.output),
        passed=tuple(names.index(value.name) if value.name in names else None for value in graph.output),
        routes=tuple(_route(graph, value.name, functions) for value in graph.output),
    )


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value if value < 2**63 else None
    return None


def _tensor(value: Any, declared: Mapping[str, str]) -> FileTensor:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", _text(value.name))
    name = f"_{name}" if name[:1] in "-." else name
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        text = "its type is not in the file" if kind is None else f"it is a {kind.removesuffix('_type')}"
        raise signatures.invalid(f"{text}, and only tensors can be served", name)
    tensor = value.type.tensor_type
    if tensor.elem_type not in _DTYPES:
        raise signatures.invalid(f"its dtype {_dtype_name(tensor.elem_type)} cannot be served", name)
    if not tensor.HasField("shape"):
        if name not in declared:
            raise signatures.invalid("its shape is not in the file: declare it", name)
        rank = len(signatures.parse_tensor(name, declared[name]).shape)
        return FileTensor(name, _DTYPES[tensor.elem_type], (Symbol(""),) * rank)
    return FileTensor(name, _DTYPES[tensor.elem_type], tuple(_dim(dim) for dim in tensor.shape.dim))


def _text(name: str | bytes) -> str:
    """The name; raises ValueError for bytes, which protobuf gives for what is no UTF-8."""
    if isinstance(name, bytes):
        raise ValueError(f"the name {name!r} is no text")  # noqa: TRY004
    return name


def _dtype_name(number: int) -> str:
    from onnx import TensorProto  # the extra's, imported by now

    return str(TensorProto.DataType.Name(number)) if number in TensorProto.DataType.values() else str(number)


def _dim(dim: Any) -> int | Symbol:
    kind = dim.WhichOneof("value")
    if kind == "dim_value" and dim.dim_value >= 0:  # some exporters write -1 for an unknown one
        return int(dim.dim_value)
    name = _text(dim.dim_param)
    return Symbol(name, name) if kind == "dim_param" and name else Symbol("")


def _route(graph: Any, name: str, functions: set[str]) -> Route:
    """How ONNX Runtime gets the value called `name` into the plane that it is bound to."""
    if any(name == value.name for value in graph.input):
        return Route(False, "an input, returned as it is")
    makers = {made: node for node in graph.node for made in node.output}
    uses = Counter(_uses(graph.node))
    outputs = {value.name for value in graph.output}
    node = makers.get(name)
    while node is not None and node.op_type == "Identity" and uses[node.input[0]] == 1:
        if node.input[0] in outputs or node.input[0] not in makers:
            break  # it stays in the graph, for what it reads must be somewhere else as well
        name = node.input[0]
        node = makers[name]
    if node is None or node.op_type == "Constant":
        return _CONSTANT
    if node.op_type == "If":
        index = list(node.output).index(name)
        found = [_route(branch, branch.output[index].name, functions) for branch in _graphs(node)]
        return next((route for route in found if not route.in_place), Route(True, "If writes into the plane"))
    if node.op_type in _MOVERS or node.op_type in functions:
        return Route(False, f"ONNX Runtime's {node.op_type} copies it")
    return Route(True, f"{node.op_type} writes into the plane")


def _uses(nodes: Sequence[Any]) -> Iterator[str]:
    """Every name that is read, in the graphs inside nodes as well."""
    for node in nodes:
        yield from node.input
        for graph in _graphs(node):
            yield from _uses(graph.node)


def _graphs(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]
