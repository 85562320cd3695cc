"""Exported programs: what `torch.export.save` writes (`.pt2`).

The signature is read from the file. An exported program keeps sizes but not the names of its dims, so they are named
here: a symbol that is the first dim of every input is the batch axis; any other is `INPUT_AXIS`, after the first
input that has it (`tokens_1`). A dim that was fixed at export stays fixed; a model exported for one sample has no
batch axis and runs row by row.

The bounds of its dims count too. The batch's upper bound limits the rows of a forward call; a batch that cannot be one
row is refused. The upper bound of another dim is its maximum in the signature. A lower bound is not in the signature:
the trial run heeds it, and a request below it is refused by the program itself (`MODEL_FAILED`).
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from broker.engine import signature as signatures
from broker.engine.plan import CopyingPlan, Plan
from broker.engine.tensors import DTYPE_NAMES
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

_PLAIN_LOWER_BOUND = 2  # what torch may write for a dim without a lower bound, and does not enforce: 1 runs


@dataclass(frozen=True, slots=True)
class PreparedProgram:
    """An exported program and the signature read from it."""

    signature: Signature
    program: ExportedProgram
    max_batch: int | None
    minima: Mapping[str, int]

    def bind(self, threads: int, device: str) -> Plan:
        """See `plan.Prepared.bind`."""
        torch.set_num_threads(threads)
        return CopyingPlan(self.program.module(), self.signature)


def is_exported(path: Path) -> bool:
    """Whether the file's content is an exported program: a zip archive that calls itself pt2 and holds models."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # all of which wrong bytes can bring about
        return False
    return any("/models/" in name or name.endswith("serialized_exported_program.json") for name in names)


def prepare(path: Path) -> PreparedProgram:
    """Read the program; raises `RingbrokerError` MODEL_INVALID or SIGNATURE_INVALID."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about the file's opset, which torch itself checks
            program = torch.export.load(path)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        text = f"not a program that this torch can load: {reason}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error
    return _read(program)


def _read(program: ExportedProgram) -> PreparedProgram:
    """Read the program's signature and bounds; raises `RingbrokerError` SIGNATURE_INVALID for what cannot be served."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    input_names = [str(name) for name in program.graph_signature.user_inputs]
    inputs = [_fake_tensor(name, values.get(name)) for name in input_names]
    names = _dim_names(input_names, inputs)
    output_values = [values.get(str(name)) for name in program.graph_signature.user_outputs]
    output_names = _output_names(program, len(output_values))
    outputs = [_fake_tensor(name, value) for name, value in zip(output_names, output_values, strict=True)]
    bounds = _bounds(program, names)
    least_rows, max_batch = bounds.pop(signatures.BATCH, (1, None))
    signature = signatures.checked(
        tuple(_tensor(name, value, names) for name, value in zip(input_names, inputs, strict=True)),
        tuple(_tensor(name, value, names) for name, value in zip(output_names, outputs, strict=True)),
        {name: upper for name, (_, upper) in bounds.items()},
    )
    if least_rows > _PLAIN_LOWER_BOUND:
        text = f"it was exported for batches of at least {least_rows} rows, and a request may have a single one"
        raise signatures.invalid(text, signatures.BATCH)
    return PreparedProgram(signature, program, max_batch, {name: lower for name, (lower, _) in bounds.items()})


def _dim_names(input_names: list[str], inputs: list[torch.Tensor]) -> dict[str, str]:
    """Name every symbol that is a dim of an input."""
    first_dims = {str(value.shape[0]) if value.dim() else "" for value in inputs}
    names: dict[str, str] = {}
    for name, value in zip(input_names, inputs, strict=True):
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, torch.SymInt):
                is_batch = axis == 0 and first_dims == {str(dim)}
                names.setdefault(str(dim), signatures.BATCH if is_batch else f"{name}_{axis}")
    return names


def _output_names(program: ExportedProgram, count: int) -> list[str]:
    """A dict's keys; else `output`, or `output_0` and so on."""
    spec = program.call_spec.out_spec
    if spec is not None and spec.type is dict and len(spec.context) == count:
        return [str(key) for key in spec.context]
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _fake_tensor(name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise signatures.invalid(f"it is a {type(value).__name__}, and only tensors can be served", name)
    return value


def _tensor(name: str, value: torch.Tensor, names: dict[str, str]) -> Tensor:
    dtype = DTYPE_NAMES.get(value.dtype)
    if dtype is None:
        raise signatures.invalid(f"its dtype {value.dtype} is not one that can be served", name)
    shape = tuple(_dim(name, dim, names) for dim in value.shape)
    return Tensor(name, dtype, shape, shape.index(signatures.BATCH) if signatures.BATCH in shape else None)


def _dim(name: str, dim: Any, names: dict[str, str]) -> int | str:
    if not isinstance(dim, torch.SymInt):
        return int(dim)
    if str(dim) not in names:
        raise signatures.invalid(f"its dim {dim} is computed from dims of the inputs, which cannot be served yet", name)
    return names[str(dim)]


def _bounds(program: ExportedProgram, names: dict[str, str]) -> dict[str, tuple[int, int | None]]:
    """The lower and upper bounds that the program was exported with, by the dim's name; None: no upper one."""
    return {
        names[str(symbol)]: (int(allowed.lower), int(allowed.upper) if allowed.upper.is_Integer else None)
        for symbol, allowed in program.range_constraints.items()
        if str(symbol) in names
    }
