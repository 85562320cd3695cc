"""The inputs and outputs of an exported program, as its graph describes them: flat, with names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from broker.engine import signature as signatures
from broker.engine.tensors import DTYPE_NAMES


def inputs_of(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """The inputs in order; raises `RingbrokerError` SIGNATURE_INVALID for what is no tensor."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            value = values.get(spec.arg.name)
            inputs[spec.arg.name] = _tensor(spec.arg.name, value)
    return inputs


def outputs_of(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """The outputs in order, those that are always None left out; raises `RingbrokerError` SIGNATURE_INVALID."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    outputs: dict[str, torch.Tensor] = {}
    for name, spec in zip(_output_names(program, len(specs)), specs, strict=True):
        if isinstance(spec.arg, ConstantArgument) and spec.arg.value is None:
            continue
        value = values.get(spec.arg.name) if isinstance(spec.arg, TensorArgument) else spec.arg
        if name in outputs:
            raise signatures.invalid("two outputs have this name", name)
        outputs[name] = _tensor(name, value)
    return outputs


def _tensor(name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        kind = "constant" if isinstance(value, ConstantArgument) else type(value).__name__
        raise signatures.invalid(f"it is a {kind}, and only tensors can be served", name)
    if value.dtype not in DTYPE_NAMES:
        raise signatures.invalid(f"its dtype {value.dtype} is not one that can be served", name)
    return value


def _output_names(program: ExportedProgram, count: int) -> list[str]:
    """The keys of dicts and the fields of tuples on the way to it; else `output`, or `output_0` and so on."""
    spec = program.call_spec.out_spec
    if spec is None or spec.is_leaf() or spec.num_leaves != count:
        return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    paths = pytree.tree_leaves_with_path(pytree.tree_unflatten(list(range(count)), spec))
    names = [".".join(_word(key) for key in path) for path, _ in paths]
    names = [re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in names]
    if count == 1 and names[0].isdigit():
        return ["output"]
    return [f"output_{name}" if name[:1].isdigit() else name for name in names]


def _word(key: Any) -> str:
    """A dict's key, a field's name or a place in a tuple."""
    return next(str(getattr(key, name)) for name in ("key", "name", "idx") if hasattr(key, name))


def ranges_of(program: ExportedProgram, inputs: Mapping[str, torch.Tensor]) -> dict[str, tuple[float, float]]:
    """The least and the greatest finite value of each input that it was exported with, where the file has them.

    Many export with zeros or ones, which says nothing of the values, and would make every row of a trial the same.
    """
    leaves = [] if program.example_inputs is None else pytree.tree_leaves(program.example_inputs)
    if len(leaves) != len(inputs) or not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        return {}
    ranges = {}
    for name, example in zip(inputs, leaves, strict=True):
        finite = example.detach().to(torch.float64)
        finite = finite[torch.isfinite(finite)]
        if finite.numel():
            low, high = finite.min().item(), finite.max().item()
            says_nothing = low == high and example.dim() > 0 and (example.is_floating_point() or low in (0, 1))
            if not says_nothing:
                ranges[name] = (low, high)
    return ranges
