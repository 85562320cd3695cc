"""Weights: a state dict in a file, put into the module that a factory returned. No code of the file is run.

A file is `safetensors`, or what `torch.save` wrote: a state dict, or a checkpoint that holds one as `state_dict` or
`model`. Every parameter and buffer must be there, with its shape, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from broker.engine.failure import told
from ringbuf.errors import Code, RingbrokerError

_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_NAMED = 3  # how many names an error tells: enough to see a prefix too many


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Put the file's tensors into `module`; raises `RingbrokerError` MODEL_NOT_FOUND or MODEL_INVALID."""
    try:
        if not path.is_file():
            raise RingbrokerError(Code.MODEL_NOT_FOUND, "there is no such file of weights", str(path))
        has_header = is_safetensors(path)
    except OSError as error:
        raise RingbrokerError(Code.MODEL_NOT_FOUND, f"the weights cannot be read: {error}", str(path)) from error
    state = _read_safetensors(path) if has_header else _read_torch(path)
    wrong = _differences(module.state_dict(), state)
    if wrong:
        raise _invalid("the weights are not this module's: " + "; ".join(wrong), path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise _invalid(f"the module refused the weights: {told(error)}", path) from error


def is_safetensors(path: Path) -> bool:
    """Whether the file begins with the length of a JSON header that fits into it, and that header."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    return len(head) == 9 and head[8:] == b"{" and 8 + length <= path.stat().st_size


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _invalid(f"not a safetensors file that can be read: {told(error)}", path) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # wrong bytes bring about nearly any
        text = f"neither safetensors nor a state dict that torch can read: {told(error)}"
        raise _invalid(text, path) from error
    if isinstance(found, Mapping):
        held = [found[key] for key in _CHECKPOINT_KEYS if isinstance(found.get(key), Mapping)]
        found = held[0] if len(held) == 1 else found
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise _invalid(f"it holds a {type(found).__name__}, and no state dict", path)
    return found


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    both = [name for name in expected if name in found]
    misshapen = [
        f"{name} {_shape(found[name])} instead of {_shape(expected[name])}"
        for name in both
        if isinstance(expected[name], torch.Tensor) and _shape(found[name]) != _shape(expected[name])
    ]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": misshapen,
    }
    return [f"{len(names)} {kind}, as {_some(names)}" for kind, names in kinds.items() if names]


def _shape(value: object) -> object:
    return list(value.shape) if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _invalid(text: str, path: Path) -> RingbrokerError:
    return RingbrokerError(Code.MODEL_INVALID, text, str(path))
