"""What there is to know about a loaded model before it is served: `broker inspect`.

Bytes are for the maxima that the model has; a dim that is left open by the model counts as 1, and is said so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.config import PoolConfig, ServeConfig
from broker.engine.models import Model
from broker.engine.signature import Shape, dynamic_dims, may_lie_apart, sample_of, written
from broker.ring import slots_for
from ringbuf.layout import tensor_bytes
from ringbuf.wire.messages import Tensor


def inspect(model: Model, config: ServeConfig, pool: PoolConfig | None = None) -> dict[str, Any]:
    """Everything about a model, as JSON; with the pool that would serve it, where that is known."""
    signature, proof, plan = model.signature, model.proof, model.plan
    tensors = (*signature.inputs, *signature.outputs)
    slot_bytes = sum(_row_bytes(tensor, signature.dims) for tensor in tensors)
    return {
        "name": model.name,
        "version": model.version,
        "source": model.config.source,
        "inputs": [
            _tensor(tensor, signature.dims) | {"uniform": index in model.uniform}
            for index, tensor in enumerate(signature.inputs)
        ],
        "outputs": [
            _tensor(tensor, signature.dims) | {"in_place": route.in_place, "why": route.why}
            for tensor, route in zip(signature.outputs, plan.routes, strict=True)
        ],
        "max_batch": proof.max_batch,
        "batch": proof.batch,
        "is_repeatable": proof.is_repeatable,
        "state": proof.state,
        "rows_apart": _rows_apart(model) if model.max_batch > 1 and any(map(may_lie_apart, tensors)) else None,
        "private_inputs": model.config.private_inputs,
        "slot_bytes": slot_bytes,
        "unbounded_dims": [dim for dim, most in signature.dims.items() if most is None],
        "default_slots": slots_for(slot_bytes, config.default_slots),
        **({"pool": pool.name, "workers": pool.workers, "threads": pool.threads} if pool else {}),
    }


def as_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [f"{found['name']}  version {found['version']}  from {found['source']}"]
    for tensor in found["inputs"]:
        uniform = "; uniform: one value for all rows of a batch" if tensor["uniform"] else ""
        lines.append(
            f"  in   {tensor['name']}: {tensor['tensor']}{_dims(tensor)}; stride {tensor['stride']} bytes"
            f"{_with_ones(dim for dim, most in tensor['dims'].items() if most is None)}{uniform}"
        )
    for tensor in found["outputs"]:
        how = "in place" if tensor["in_place"] else "copied"
        lines.append(f"  out  {tensor['name']}: {tensor['tensor']}{_dims(tensor)}; {how}: {tensor['why']}")
    rows = "1 row at a time" if found["max_batch"] == 1 else f"up to {found['max_batch']} rows"
    lines.append(f"  batch      {rows} ({found['batch']})")
    if found["state"] is not None:
        lines.append(f"  state      {found['state']}")
    if found["rows_apart"] is not None:
        lines.append(f"  rows that lie apart or are permuted: {found['rows_apart']}")
    if found["private_inputs"]:
        lines.append("  inputs     copied to private memory, because the operator said so")
    unbounded = found["unbounded_dims"]
    if unbounded:
        lines.append(
            f"  dims       no maximum for {', '.join(unbounded)}: a client says one when it opens a ring, or you: "
            f"--maximum {unbounded[0]}=N"
        )
    slots = "1 slot" if found["default_slots"] == 1 else f"{found['default_slots']} slots"
    lines.append(f"  ring       {found['slot_bytes']} bytes a slot{_with_ones(unbounded)}; {slots} by default")
    if "pool" in found:
        workers = "1 worker" if found["workers"] == 1 else f"{found['workers']} workers"
        threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
        lines.append(f"  pool       {found['pool']}: {workers}, {threads} each")
    return lines


def _rows_apart(model: Model) -> str:
    if model.proof.accepts_strides:
        return "one call, as they are"
    return "one call, copied together" if model.gathers else "one by one"


def _tensor(tensor: Tensor, dims: dict[str, int | None]) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "tensor": written(tensor),
        "dims": {dim: dims[dim] for dim in dynamic_dims((tensor,))},
        "stride": _row_bytes(tensor, dims),
    }


def _row_bytes(tensor: Tensor, dims: dict[str, int | None]) -> int:
    sample: Shape = tuple((dims[dim] or 1) if isinstance(dim, str) else dim for dim in sample_of(tensor))
    return tensor_bytes(tensor.dtype, sample)


def _with_ones(unbounded: Iterable[str]) -> str:
    """What a number of bytes takes for granted about dims without a maximum."""
    assumed = ", ".join(f"{dim} = 1" for dim in unbounded)
    return f" with {assumed}" if assumed else ""


def _dims(tensor: dict[str, Any]) -> str:
    return "".join(
        f", {dim} {'of any size' if most is None else f'up to {most}'}" for dim, most in tensor["dims"].items()
    )
