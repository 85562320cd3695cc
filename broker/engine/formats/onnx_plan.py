"""Runs ONNX models in ONNX Runtime, on the planes' own memory: both sides are bound by address.

A binding is an address and a shape and nothing else: it holds no memory. So bindings are kept for the next run on the
same rows, and one stays right when a ring has gone and another lies where it lay.

Measured on one core with a Gemm of 4x3 and 64 rows in turn, in one interleaved run, p50: 4.3 us with bindings that are
kept, 12.3 us with a new one for each run, 8.9 us with numpy arrays and a copy of the result.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import dlpack

from broker.engine import signature as signatures
from broker.engine.compare import disagreement
from broker.engine.formats.onnx_file import ELEMENT_TYPES, Graph
from broker.engine.formats.onnx_session import in_one_line
from broker.engine.plan import CopyingPlan, CopyLedger, Plan, Tensors, mismatch
from broker.engine.probe import Probe
from broker.engine.signature import Shape
from broker.engine.tensors import TORCH_DTYPES
from ringbuf.wire.messages import Signature

Function = Callable[..., list[torch.Tensor]]

log = logging.getLogger("broker.engine")

_KEPT_BINDINGS = 1024  # the rows of 16 slots make 136 batches; a binding takes 2.4 KiB
_WRONG_SHAPE = re.compile(
    r"output OrtValue provided for output '(?P<name>[^']*)'.* has shape \{(?P<given>[^}]*)\} "
    r"but the computed output shape for this run is \{(?P<made>[^}]*)\}"
    r"|Got invalid dimensions for output: (?P<declared>\S*)"
    r"|(?:OrtValue shape verification failed|Invalid rank for output)",
    re.DOTALL,
)


def bind(session: Any, graph: Graph, signature: Signature, probe: Probe, name: str) -> Plan:
    """Make the plan: bound on both sides, where results have the sizes of their planes and trial runs agree."""
    call = unbound(session, graph, signature)
    if signatures.open_dims(signature):
        return _copying(call, signature, "the size of a result is known only when the model has run")
    plan = OnnxPlan(session, graph, signature)
    wrong = _difference(plan, call, signature, probe)
    if wrong is None:
        plan.ledger.reset()
        return plan
    log.warning("run without binding its outputs", extra={"model": name, "because": wrong})
    return _copying(call, signature, "results in the planes were not those that ONNX Runtime returns")


class OnnxPlan:
    """Runs a session on bound memory. An output that is an input is copied here, a constant one by ONNX Runtime."""

    accepts_strides = False

    def __init__(self, session: Any, graph: Graph, signature: Signature) -> None:
        self.ledger = CopyLedger()
        self.routes = graph.routes
        self._session = session
        self._ports = _Ports(graph, signature)
        self._bindings: dict[tuple[Any, ...], Any] = {}
        self._copied = [index for index, route in enumerate(graph.routes) if not route.in_place]
        self._passed = [(index, source) for index, source in enumerate(graph.passed) if source is not None]

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """See `Plan.run`. Raises ValueError for tensors that are not contiguous."""
        tensors = (*inputs, *outputs)
        key = tuple([(tensor.data_ptr(), tensor.shape) for tensor in tensors])  # 0.3 us a tensor
        for tensor in tensors:
            if not tensor.is_contiguous():  # never in the key, so asked every time: 0.06 us
                raise ValueError("ONNX Runtime needs contiguous tensors")
        binding = self._bindings.get(key) or self._bind(key, inputs, outputs)
        try:
            self._session.run_with_iobinding(binding)
        except RuntimeError as error:
            raise self._ports.told(error) from error
        if self._copied:
            for index, source in self._passed:
                self._pass(inputs[source], outputs[index], index)
            self.ledger.outputs_bytes += sum([outputs[index].nbytes for index in self._copied])
        return None

    def _bind(self, key: tuple[Any, ...], inputs: Tensors, outputs: Tensors) -> Any:
        binding = self._session.io_binding()
        self._ports.bind_inputs(binding, inputs)
        self._ports.bind_outputs(binding, outputs)
        if len(self._bindings) >= _KEPT_BINDINGS:
            del self._bindings[next(iter(self._bindings))]
        self._bindings[key] = binding
        return binding

    def _pass(self, source: torch.Tensor, output: torch.Tensor, index: int) -> None:
        if source.shape != output.shape:
            raise mismatch(
                f"the model gave {list(source.shape)}, its signature says {list(output.shape)}", f"outputs[{index}]"
            )
        output.copy_(source)


def unbound(session: Any, graph: Graph, signature: Signature) -> Function:
    """The model as a function of contiguous tensors. Its results are in ONNX Runtime's memory, and free it."""
    ports = _Ports(graph, signature)
    dtypes = [TORCH_DTYPES[tensor.dtype] for tensor in signature.outputs]

    def call(*inputs: torch.Tensor) -> list[torch.Tensor]:
        if not all(tensor.is_contiguous() for tensor in inputs):
            raise ValueError("ONNX Runtime needs contiguous tensors")
        # A new binding every time: one that is used again insists on the sizes of its last results.
        binding = session.io_binding()
        ports.bind_inputs(binding, inputs)
        ports.bind_outputs(binding, [None] * len(dtypes))
        session.run_with_iobinding(binding)
        values = [dlpack.from_dlpack(value) for value in binding.get_outputs()]  # not through numpy, which has no BF16
        return [value.view(dtype) for value, dtype in zip(values, dtypes, strict=True)]  # bools come as bytes

    return call


class _Ports:
    """Binds tensors under the names that the file has for them."""

    def __init__(self, graph: Graph, signature: Signature) -> None:
        self._inputs = [
            (name, ELEMENT_TYPES[tensor.dtype])
            for name, tensor in zip(graph.input_names, signature.inputs, strict=True)
        ]
        self._outputs = [
            (name, ELEMENT_TYPES[tensor.dtype])
            for name, tensor in zip(graph.output_names, signature.outputs, strict=True)
        ]
        self._passed = graph.passed

    def bind_inputs(self, binding: Any, tensors: Tensors) -> None:
        """Bind the memory of contiguous tensors."""
        for (name, element), tensor in zip(self._inputs, tensors, strict=True):
            binding.bind_input(name, "cpu", 0, element, tuple(tensor.shape), tensor.data_ptr())

    def bind_outputs(self, binding: Any, tensors: Sequence[torch.Tensor | None]) -> None:
        """Bind the memory of contiguous tensors; None, and an output that is an input, is for ONNX Runtime to place."""
        for (name, element), tensor, source in zip(self._outputs, tensors, self._passed, strict=True):
            if tensor is None or source is not None:
                binding.bind_output(name, "cpu")
            else:
                binding.bind_output(name, "cpu", 0, element, tuple(tensor.shape), tensor.data_ptr())

    def told(self, error: RuntimeError) -> Exception:
        """OUTPUT_MISMATCH for a result of another shape than its plane; every other error as it is."""
        found = _WRONG_SHAPE.search(str(error))
        if found is None:
            return error
        names = [name for name, _ in self._outputs]
        name = found["name"] or found["declared"]
        path = f"outputs[{names.index(name)}]" if name in names else "outputs"
        if found["made"] is None:
            return mismatch(in_one_line(error), path)
        made, given = (found[key].replace(",", ", ") for key in ("made", "given"))
        text = f"the model gave [{made}], its signature says [{given}]"
        return mismatch(text, path)


def _copying(call: Function, signature: Signature, why: str) -> CopyingPlan:
    plan = CopyingPlan(call, signature, why)
    plan.accepts_strides = False
    return plan


def _difference(plan: OnnxPlan, call: Function, signature: Signature, probe: Probe) -> str | None:
    """Say how results in bound memory differ from those that ONNX Runtime places itself; None where they do not."""
    has_batch = any(tensor.batch_axis is not None for tensor in signature.inputs)
    for sizes in probe.sizes():
        for rows in (1, 2) if has_batch else (1,):
            inputs, outputs = probe.inputs(rows, sizes), probe.outputs(rows, sizes)
            try:
                expected, again = call(*inputs), call(*inputs)
            except Exception:
                return None  # the trial of the model says what it raises
            if any(a.shape != b.shape for a, b in zip(expected, outputs, strict=True)):
                return None  # and that it does not keep to its signature
            if any(disagreement(b, a) is not None for a, b in zip(expected, again, strict=True)):
                return None  # and that it gives random numbers
            try:
                plan.run(inputs, outputs)
            except Exception as error:
                return in_one_line(error)
            for tensor, found, wanted in zip(signature.outputs, outputs, expected, strict=True):
                if (wrong := disagreement(found, wanted)) is not None:
                    return f"{tensor.name}: {wrong}"
    return None
