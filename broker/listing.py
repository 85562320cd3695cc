"""What the command says of served models: `broker models`, and the lines of a start. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from broker.engine.signature import written
from ringbuf.wire.messages import Model, Tensor

if TYPE_CHECKING:
    from broker.catalog import Catalog


def as_dict(model: Model) -> dict[str, Any]:
    """A listed model, as JSON."""
    signature = model.signature
    return {
        "name": model.name,
        "versions": list(model.versions),
        "pool": model.pool,
        "inputs": {tensor.name: written(tensor) for tensor in signature.inputs},
        "outputs": {tensor.name: written(tensor) for tensor in signature.outputs},
        "dims": signature.dims,
    }


def as_lines(model: Model) -> list[str]:
    """The same for people."""
    signature = model.signature
    return [
        f"{model.name}  versions {', '.join(model.versions)}  pool {model.pool}",
        *(f"  in  {_described(tensor)}" for tensor in signature.inputs),
        *(f"  out {_described(tensor)}" for tensor in signature.outputs),
        *(f"  dim {dim}: {'any size' if most is None else f'1 to {most}'}" for dim, most in signature.dims.items()),
    ]


def start_lines(catalog: Catalog, socket_path: str) -> list[str]:
    """What is served, and how to call the first model."""
    lines = [f"serving on {socket_path}"]
    for model in catalog.models.values():
        ins, outs = _in_a_row(model.signature.inputs), _in_a_row(model.signature.outputs)
        lines.append(f"  {model.name}  ({ins}) -> ({outs})  from {model.config.source}")
    first = next(iter(catalog.models.values()))
    names = [tensor.name for tensor in first.signature.inputs]
    files = "input.npy" if len(names) == 1 else " ".join(f"{name}={name}.npy" for name in names)
    return [
        *lines,
        f"call it:  broker infer {first.name} {files} --socket {socket_path}",
        f"     or:  ringbroker.connect({socket_path!r}).open({first.name!r})",
    ]


def _in_a_row(tensors: Iterable[Tensor]) -> str:
    return ", ".join(map(_described, tensors))


def _described(tensor: Tensor) -> str:
    return f"{tensor.name}: {written(tensor)}"
