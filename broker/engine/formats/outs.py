"""Models that write their results where they belong: those that are called with `out=`.

    def forward(self, x, out=None): ...

`out` is the output, or a tuple of them in order where there are several: views of the output planes, of the right dtype
and shape, to be written and never resized. What is returned is None, or the same tensors, or others: those are copied,
and counted, so a model may honour `out` for some outputs only, or only at times.

The way is used where trial runs give what the model gives without `out`. With a size that is known only when the model
has run there is nothing to write into; those outputs are copied.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from broker.engine import signature as signatures
from broker.engine.compare import disagreement
from broker.engine.failure import told
from broker.engine.plan import CopyingPlan, CopyLedger, Plan, Route, Tensors, as_tuple, describe, mismatch
from broker.engine.probe import Probe
from broker.engine.signature import Shape
from ringbuf.wire.messages import Signature

log = logging.getLogger("broker.engine")

_IN_PLACE = Route(True, "the model writes into `out`")
_COPIED = Route(False, "the model takes `out`, and returned another tensor")


def bind(function: Callable[..., Any], parameters: frozenset[str], signature: Signature, probe: Probe) -> Plan:
    """The plan for a function with these parameters: its results in place where it takes `out` and heeds it."""
    if "out" not in parameters:
        return CopyingPlan(function, signature)
    if signatures.open_dims(signature):
        return CopyingPlan(function, signature, "an output with an open dim is copied, whether the model takes `out`")
    plan = OutPlan(function, signature)
    with torch.inference_mode():
        wrong = next((why for sizes in probe.sizes() if (why := _refute(plan, probe, sizes)) is not None), None)
    if wrong is not None:
        log.warning("its parameter `out` is not used", extra={"because": wrong})
        return CopyingPlan(function, signature, f"its parameter `out` is not used: {wrong}")
    plan.settle()
    return plan


class OutPlan:
    """Calls a function with `out=`, and copies what it returned elsewhere."""

    accepts_strides = True

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.ledger = CopyLedger()
        self.routes: tuple[Route, ...] = (_IN_PLACE,) * len(signature.outputs)
        self.function = function
        self.names = tuple(tensor.name for tensor in signature.outputs)
        self._has_one = len(signature.outputs) == 1
        self._copied = [False] * len(signature.outputs)

    def settle(self) -> None:
        """Take what was copied so far for how each output gets into its plane, and count from zero."""
        self.routes = tuple(_COPIED if copied else _IN_PLACE for copied in self._copied)
        self.ledger.outputs_bytes = 0

    def run(self, inputs: Tensors, outputs: Tensors) -> tuple[Shape, ...] | None:
        """See `Plan.run`."""
        laid = [(output.shape, output.stride()) for output in outputs]
        try:
            result = self.function(*inputs, out=outputs[0] if self._has_one else tuple(outputs))
        finally:
            # An op whose result has another shape resizes `out`, and a failed resize leaves it larger than its memory
            # (measured, torch 2.13). These views serve later requests too.
            resized = _restore(outputs, laid)
        if resized is not None:
            raise mismatch("the model resized it to the shape of another result", f"outputs[{resized}]")
        if result is None or (self._has_one and result is outputs[0]):
            return None
        results = as_tuple(result, self.names)
        if not self._has_one:
            results = _apart_from(results, outputs)
        for index, (found, output) in enumerate(zip(results, outputs, strict=True)):
            if found is not None and found is not output:
                self._take(index, found, output)
        return None

    def _take(self, index: int, found: Any, output: torch.Tensor) -> None:
        """Copy a result that is not in `output` yet."""
        if not isinstance(found, torch.Tensor) or found.shape != output.shape or found.dtype != output.dtype:
            text = f"the model gave {describe(found)}, its signature says {describe(output)}"
            raise mismatch(text, f"outputs[{index}]")
        if found.data_ptr() == output.data_ptr() and found.stride() == output.stride():
            return
        # A view of the plane in another order must be read before it is overwritten.
        shares = found.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
        output.copy_(found.clone() if shares else found)
        self.ledger.outputs_bytes += found.nbytes
        self._copied[index] = True


def _apart_from(results: Sequence[Any], outputs: Tensors) -> list[Any]:
    """The results, those in the memory of another output copied out of it, before anything is written there."""
    places = [output.untyped_storage().data_ptr() for output in outputs]
    return [
        found.clone()
        if isinstance(found, torch.Tensor)
        and found is not output
        and found.untyped_storage().data_ptr() in places
        and found.data_ptr() != output.data_ptr()
        else found
        for found, output in zip(results, outputs, strict=True)
    ]


def _restore(outputs: Tensors, laid: list[tuple[torch.Size, tuple[int, ...]]]) -> int | None:
    """Undo what an op did to the shape of an output; the index of one where it did."""
    resized = None
    for index, (output, (shape, strides)) in enumerate(zip(outputs, laid, strict=True)):
        if output.shape != shape or output.stride() != strides:
            output.as_strided_(shape, strides)
            resized = index
    return resized


def _refute(plan: OutPlan, probe: Probe, sizes: Mapping[str, int]) -> str | None:
    """Say how a run with `out` differs from one without; None where it does not."""
    for rows in (1, 2):
        try:
            expected = as_tuple(plan.function(*probe.inputs(rows, sizes)), plan.names)
        except (Exception, SystemExit) as error:
            if rows > 1:
                continue  # it takes single rows only, as the trial of its batches will find
            return f"without it, it failed: {told(error)}"
        outputs = probe.outputs(rows, sizes)
        try:
            plan.run(probe.inputs(rows, sizes), outputs)
        except (Exception, SystemExit) as error:
            return f"with it, it failed: {told(error)}"
        for name, found, other in zip(plan.names, outputs, expected, strict=True):
            if (wrong := _difference(found, other)) is not None:
                return f"with it, the output {name} of {rows} rows is another: {wrong}"
    return None


def _difference(found: torch.Tensor, expected: object) -> str | None:
    if not isinstance(expected, torch.Tensor):
        return f"without it, the model gave {describe(expected)}"
    return disagreement(found, expected)
