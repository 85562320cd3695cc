"""TorchScript: what `torch.jit.save` writes (`.pt`, `.jit`).

The file knows the names and kinds of its arguments, but no shapes: the signature is the operator's. Inputs declared
under the names of `forward`'s arguments are matched by name, others by position. An argument with a default may be left
out at the end. A number (`int`, `float`, `bool`) is declared as a scalar such as `I64[]`.

The first two calls at a shape are slow: the executor watches the first, and compiles at the second. The trial runs at
load are more than that. The module is neither frozen nor rewritten for inference, since it may keep state.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from broker.engine import signature as signatures
from broker.engine.config import ModelConfig
from broker.engine.failure import told
from broker.engine.formats.order import in_file_order
from broker.engine.formats.python import PreparedCallable
from ringbuf.errors import Code, RingbrokerError

_NUMBERS = frozenset({"IntType", "FloatType", "BoolType", "NumberType"})


def prepare(path: Path, config: ModelConfig) -> PreparedCallable:
    """Load the module; raises `RingbrokerError` MODEL_INVALID, SIGNATURE_INVALID or CONFIG_INVALID."""
    module = _load(path)
    arguments = _arguments(module)
    if not config.inputs or not config.outputs:
        text = f"its file has no shapes: declare inputs and outputs; forward takes {_written(arguments)}"
        raise signatures.invalid(text, config.name)
    _check_count(arguments, config)
    inputs = in_file_order(
        config.inputs, [argument.name for argument in arguments[: len(config.inputs)]], "inputs", config.name
    )
    for (name, text), argument in zip(inputs.items(), arguments, strict=False):
        _check_kind(name, text, argument, config)
    signature = signatures.declare(inputs, config.outputs, config.maxima)
    return PreparedCallable(signature, module)


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # torch would rather have exported programs; that is for whoever makes the files.
            warnings.filterwarnings("ignore", message=".*torch.jit.load", category=DeprecationWarning)
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        if "forward" not in dir(module):
            raise ValueError("the module has no forward")
        return module.eval()
    except Exception as error:  # wrong bytes bring about nearly any
        text = f"not a TorchScript module that this torch can load: {told(error)}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error


def _arguments(module: Any) -> list[Any]:
    """The arguments of forward, `self` left out."""
    return list(module.forward.schema.arguments)[1:]


def _check_count(arguments: list[Any], config: ModelConfig) -> None:
    needed = [argument for argument in arguments if not argument.has_default_value()]
    if not len(needed) <= len(config.inputs) <= len(arguments):
        text = f"{len(config.inputs)} inputs are declared, and forward takes {_written(arguments)}"
        raise RingbrokerError(Code.CONFIG_INVALID, text, config.name)


def _check_kind(name: str, text: str, argument: Any, config: ModelConfig) -> None:
    kind = argument.type
    if kind.kind() == "OptionalType":
        kind = kind.getElementType()
    if kind.kind() in _NUMBERS:
        if signatures.parse_tensor(name, text).shape:
            text = f"forward's {argument.name} is a number ({kind}): declare a scalar such as I64[]"
            raise RingbrokerError(Code.CONFIG_INVALID, text, f"{config.name}.{name}")
    elif kind.kind() != "TensorType":
        text = f"forward's {argument.name} is a {kind}, and only tensors and numbers can be served"
        raise signatures.invalid(text, f"{config.name}.{name}")


def _written(arguments: list[Any]) -> str:
    return ", ".join(f"{argument.name}: {argument.type}" for argument in arguments)
