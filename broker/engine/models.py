"""Models: from what the operator named to something that runs (DESIGN section 6).

`prepare` reads it, `bind` makes it ready and gives it a trial run on zeros, so that a model whose outputs are not
what its signature says is refused at load and not at the first request. The trial is made on 1 row, on 2, and on as
many as a batch may have.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from broker.engine import signature as signatures
from broker.engine.formats import exported, python
from broker.engine.plan import Plan, Prepared
from broker.engine.tensors import TORCH_DTYPES
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

# Every tensor that lives in this thread is made for inference: no autograd bookkeeping on any request.
inference_mode = torch.inference_mode


@dataclass(frozen=True, slots=True)
class Model:
    """One served model, bound to this process."""

    name: str
    version: str
    source: str
    signature: Signature
    plan: Plan
    max_batch: int
    """The most rows of one forward call; 1 for a model that has an input or output without a batch axis."""


def load(name: str, source: str, *, max_batch: int, threads: int) -> Model:
    """Load the model that `source` names: a file, or a factory `package.module:factory`.

    Raises `RingbrokerError`: MODEL_NOT_FOUND, MODEL_FORMAT_UNKNOWN, MODEL_INVALID, FACTORY_FAILED, SIGNATURE_INVALID or
    SIGNATURE_MISMATCH.
    """
    if not _MODEL_NAME.fullmatch(name):
        raise RingbrokerError(Code.SIGNATURE_INVALID, "a model's name is 1 to 128 letters, digits, '_', '.', '-'", name)
    prepared = prepare(source)
    batch = min(max_batch, prepared.max_batch or max_batch) if signatures.is_batchable(prepared.signature) else 1
    plan = prepared.bind(threads, "cpu")
    with torch.inference_mode():
        for rows in sorted({1, min(2, batch), batch}):
            _try(plan, prepared, rows, name)
    return Model(name, "1", source, prepared.signature, plan, batch)


def prepare(source: str) -> Prepared:
    """Read a model of whatever kind `source` names; see `load` for what is raised."""
    path = Path(source)
    if not path.exists() and _FACTORY.fullmatch(source):
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # a factory beside the operator is found, as with other servers
        return python.prepare(source)
    if not path.is_file():
        raise RingbrokerError(Code.MODEL_NOT_FOUND, "there is no such file", source)
    if exported.is_exported(path):
        return exported.prepare(path)
    if path.suffix == ".pt2":
        raise RingbrokerError(Code.MODEL_INVALID, "the file is empty, truncated or not an exported program", source)
    raise RingbrokerError(
        Code.MODEL_FORMAT_UNKNOWN, "neither an exported program (.pt2) nor a factory package.module:factory", source
    )


def _try(plan: Plan, prepared: Prepared, rows: int, name: str) -> None:
    """Run the plan once on zeros, into private outputs."""
    sizes = _trial_sizes(prepared) | {signatures.BATCH: rows}
    inputs = [_zeros(tensor, sizes) for tensor in prepared.signature.inputs]
    outputs = [_zeros(tensor, sizes) for tensor in prepared.signature.outputs]
    try:
        plan.run(inputs, outputs)
    except RingbrokerError as error:
        raise RingbrokerError(Code.SIGNATURE_MISMATCH, error.text, f"{name}.{error.path}") from error
    except (Exception, SystemExit) as error:
        text = f"a trial run on {rows} rows of zeros raised {type(error).__name__}: {error}"
        raise RingbrokerError(Code.SIGNATURE_MISMATCH, text, name) from error
    plan.ledger.outputs_bytes = 0


def _trial_sizes(prepared: Prepared) -> dict[str, int]:
    """A dynamic dim is tried at 2, or as near to it as its bounds allow."""
    sizes = {dim: max(2, prepared.minima.get(dim, 2)) for dim in prepared.signature.dims}
    return {dim: min(size, prepared.signature.dims[dim] or size) for dim, size in sizes.items()}


def _zeros(tensor: Tensor, sizes: dict[str, int]) -> torch.Tensor:
    shape = [sizes[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
    return torch.zeros(shape, dtype=TORCH_DTYPES[tensor.dtype])
