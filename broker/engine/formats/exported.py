"""Exported programs: what `torch.export.save` writes (`.pt2`).

The signature is read from the file, and reconciled with what the operator says (`broker.engine.reconcile`): a program
that was saved keeps sizes, but not the names of its dims. A dim that was fixed at export stays fixed; a model exported
for one sample has no batch axis and runs row by row.

The bounds of its dims count too. The batch's upper bound limits the rows of a forward call; a batch that cannot be one
row is refused. The upper bound of another dim is its maximum in the signature. A lower bound is not in the signature:
the trial run heeds it, and a request below it is refused before the program runs (`MODEL_FAILED`).

An output's dim that is computed from dims of inputs is open, with a maximum computed from theirs. Where the batch goes
into it, that output has no rows, so that the model runs row by row: the batch is 1 there.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule

from broker.engine import signature as signatures
from broker.engine.config import ModelConfig
from broker.engine.failure import told
from broker.engine.formats import guards
from broker.engine.formats.interface import inputs_of, outputs_of, ranges_of
from broker.engine.formats.symbols import PLAIN_LOWER_BOUND, Symbols
from broker.engine.inplace import plan as inplace
from broker.engine.inplace.mutation import is_for_training, outside_written
from broker.engine.inplace.outvariants import name_of
from broker.engine.inplace.rehearsal import Check, Program
from broker.engine.plan import Plan
from broker.engine.probe import Probe
from broker.engine.reconcile import reconcile
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature

_ANY_MAXIMUM = 2**31 - 1
_SIZES_LATER = "the size of a result is known only when the model has run"


@dataclass(frozen=True, slots=True)
class PreparedProgram:
    """An exported program and the signature read from it."""

    signature: Signature
    program: Program
    max_batch: int | None
    minima: Mapping[str, int]
    ranges: Mapping[str, tuple[float, float]]
    computed_dims: frozenset[str]
    state: str | None
    copied_because: str | None
    """Why nothing is tried in place; None where it is."""

    survives_fork: ClassVar[bool] = True

    def bind(self, threads: int, device: str, probe: Probe) -> Plan:
        """See `plan.Prepared.bind`; raises `RingbrokerError` SIGNATURE_INVALID where sizes are bound to one another in
        a way that a signature cannot say.
        """
        torch.set_num_threads(threads)
        if self.program.check is not None:
            for sizes in probe.sizes():
                _refuse_relations(self.program.check, probe.inputs(1, sizes))
        if self.copied_because is not None:
            return inplace.copying(self.program, self.copied_because)
        return inplace.bind(self.program, probe)


def is_exported(path: Path) -> bool:
    """Whether the file's content is an exported program: a zip archive that calls itself pt2 and holds models."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # all of which wrong bytes can bring about
        return False
    return any("/models/" in name or name.endswith("serialized_exported_program.json") for name in names)


def prepare(path: Path, config: ModelConfig) -> PreparedProgram:
    """Read the program; raises `RingbrokerError` MODEL_INVALID, SIGNATURE_INVALID or CONFIG_INVALID."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about the file's opset, which torch itself checks
            program = torch.export.load(path)
            module = program.module(check_guards=False)
    except Exception as error:
        text = f"not a program that this torch can load: {told(error)}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error
    return _read(program, module, config)


def _read(program: ExportedProgram, module: GraphModule, config: ModelConfig) -> PreparedProgram:
    inputs, outputs = inputs_of(program), outputs_of(program)
    symbols = Symbols(program, inputs.values())
    for name, value in inputs.items():
        symbols.narrow(name, value, config)
    _refuse_bound_dims(inputs, symbols)
    signature, names = _reconciled(inputs, outputs, symbols, config)
    bounds = {name: symbols.bounds(key) for key, name in names.items() if symbols.is_of_inputs(key)}
    least_rows, max_batch = bounds.pop(signatures.BATCH, (1, None))
    if least_rows > PLAIN_LOWER_BOUND:
        text = f"it was exported for batches of at least {least_rows} rows, and a request may have a single one"
        raise signatures.invalid(text, signatures.BATCH)
    minima = {str(name): least for name, (least, _) in bounds.items()}
    for name, least in minima.items():
        if least > PLAIN_LOWER_BOUND and least > (signature.dims[name] or least):
            raise RingbrokerError(Code.CONFIG_INVALID, f"the model takes {least} or more", name)
    graph = _flat_graph(module)
    open_dims = {name: key for key, name in names.items() if not symbols.is_of_inputs(key)}
    written = next(iter(outside_written(graph)), None)
    check = _check(program, module, inputs, symbols, names)
    return PreparedProgram(
        signature=signature,
        program=Program(config.name, graph, module, signature, max_batch, check),
        max_batch=max_batch,
        minima=minima,
        ranges=ranges_of(program, inputs),
        computed_dims=frozenset(str(name) for name, key in open_dims.items() if symbols.is_computed(key)),
        state=_state_of(graph),
        copied_because=f"the model writes into {written.target}" if written else _SIZES_LATER if open_dims else None,
    )


def _refuse_bound_dims(inputs: Mapping[str, torch.Tensor], symbols: Symbols) -> None:
    for name, value in inputs.items():
        for axis, dim in enumerate(value.shape):
            found = symbols.expression(dim)
            if not found.is_Integer and not found.is_Symbol:
                text = f"its dim {axis} is always {found}, which a signature cannot say; declare it as a number"
                raise signatures.invalid(text, name)


def _reconciled(
    inputs: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor], symbols: Symbols, config: ModelConfig
) -> tuple[Signature, dict[str, str | int]]:
    """Reconcile twice: what dims are called, and which is the batch, says how large the computed ones can get."""
    ins = [symbols.tensor(name, value) for name, value in inputs.items()]
    outs = [symbols.tensor(name, value) for name, value in outputs.items()]
    maxima = {key: symbols.bounds(key)[1] for key in symbols.keys_of(ins)}
    unknown = {key: _ANY_MAXIMUM for key in symbols.keys_of(outs) if key not in maxima}
    _, names = reconcile(ins, outs, config, maxima | unknown)
    batch = next((key for key, name in names.items() if name == signatures.BATCH), None)
    outs = [symbols.tensor(name, value, batch) for name, value in outputs.items()]
    asked = {key: config.maxima.get(str(names[key])) or most for key, most in maxima.items()}
    known = {key: symbols.maximum(key, asked) for key in symbols.keys_of(outs) if key not in maxima}
    signature, names = reconcile(ins, outs, config, maxima | known)
    return signature, {key: name for key, name in names.items() if isinstance(name, str)}


def _flat_graph(module: GraphModule) -> Graph:
    """The module's graph with flat tensors in and out, without the code around it that packs and unpacks them."""
    graph = Graph()
    values: Any = graph.graph_copy(module.graph, {})
    graph.output(tuple(value for value in values if value is not None))
    return graph


def _state_of(graph: Graph) -> str | None:
    """See `plan.Prepared.state`."""
    for node in graph.nodes:
        if is_for_training(node):
            return f"it was exported in training mode ({name_of(node)}): call .eval() before torch.export.export"
    buffers = [str(node.target) for node in outside_written(graph) if node.op == "get_attr"]
    return f"it writes into its buffer {buffers[0]} at every call" if buffers else None


def _check(
    program: ExportedProgram,
    module: GraphModule,
    inputs: Mapping[str, torch.Tensor],
    symbols: Symbols,
    names: Mapping[str, str | int],
) -> Check | None:
    """What must be checked before every run; None in most programs."""
    rules: dict[str, tuple[int, int, int, str]] = {}
    for index, value in enumerate(inputs.values()):
        for axis, dim in enumerate(value.shape):
            key = str(symbols.expression(dim))
            if key in names and symbols.bounds(key)[0] > PLAIN_LOWER_BOUND:
                rules.setdefault(key, (index, axis, symbols.bounds(key)[0], str(names[key])))
    shapes = guards.shapes_of(program, module, list(inputs.values()))
    verdicts = {guard: guards.judge(guard, shapes, symbols) for guard in program._guards_code}
    for guard, verdict in verdicts.items():
        if verdict is False:
            raise signatures.invalid(f"the program demands {guards.told(guard)}, which is never so", "inputs")
    rest = guards.all_guards(program) if None in verdicts.values() else None
    return guards.both(guards.minimum_check(tuple(rules.values())), rest)


def _refuse_relations(check: Check, inputs: Sequence[torch.Tensor]) -> None:
    try:
        check(*inputs)
    except AssertionError as error:
        text = f"the program refuses some sizes ({error}), which a signature cannot say; declare the dims as numbers"
        raise signatures.invalid(text, "inputs") from error
