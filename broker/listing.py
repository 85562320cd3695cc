"""What the command says of served models: `broker models`, and the lines of a start. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from broker.engine.signature import written
from ringbuf.wire.messages import Model, Tensor

if TYPE_CHECKING:
    from broker.control import Loaded
    from broker.generation import Generation

_UNNAMED = "1"  # the version of a model for which nobody said any (`broker.engine.repository.resolve`)


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


def start_lines(generation: Generation) -> list[str]:
    """What is served, and how to call the first model."""
    socket_path = generation.config.socket_path
    lines = [f"serving on {socket_path}"]
    for model in generation.loaded:
        ins, outs = _in_a_row(model.inputs), _in_a_row(model.outputs)
        version = _version(model, [each for each in generation.loaded if each.model == model.model])
        lines.append(f"  {model.model}{version}  ({ins}) -> ({outs})  from {model.source}")
    first = generation.loaded[0]
    files = "input.npy" if len(first.inputs) == 1 else " ".join(f"{name}={name}.npy" for name in first.inputs)
    return [
        *lines,
        f"call it:  broker infer {first.model} {files} --socket {socket_path}",
        f"     or:  ringbroker.connect({socket_path!r}).open({first.model!r})",
    ]


def _version(model: Loaded, versions: Sequence[Loaded]) -> str:
    """Which of the model's versions it is; nothing where there is one, and nobody gave it a name."""
    if len(versions) == 1 and model.version == _UNNAMED:
        return ""
    canary = "" if model.canary_percent is None else f", canary of {model.canary_percent:g} %"
    return f" version {model.version}{canary}"


def _in_a_row(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name}: {tensor}" for name, tensor in tensors.items())


def _described(tensor: Tensor) -> str:
    return f"{tensor.name}: {written(tensor)}"
