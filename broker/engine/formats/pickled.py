"""Pickled modules: what `torch.save(module)` writes, or `pickle` itself.

Loading one runs whatever code its file holds, so it is refused unless the operator allows it for this very model
(`allow_pickle`). To refuse it, the file is looked at without running anything: a state dict, which is harmless, is told
apart, since it is no model. Its class must be importable, and its signature comes as a factory's does.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from broker.engine.config import ModelConfig
from broker.engine.failure import logged
from broker.engine.formats.python import PreparedCallable, import_from_here, prepare_callable
from ringbuf.errors import Code, RingbrokerError


def prepare(path: Path, config: ModelConfig) -> PreparedCallable:
    """Load the module if that is allowed.

    Raises `RingbrokerError` PICKLE_REFUSED, MODEL_FORMAT_UNKNOWN, MODEL_INVALID, SIGNATURE_INVALID or CONFIG_INVALID.
    """
    if _is_data(path):
        raise holds_weights(path)
    if not config.allow_pickle:
        text = (
            f"it is a pickle{_what(path)}, and loading one runs whatever code it holds; if you trust whoever made it, "
            f"allow it with --allow-pickle {config.name} (`allow_pickle = true`), and better, export it"
        )
        raise RingbrokerError(Code.PICKLE_REFUSED, text, str(path))
    model = _load(path)
    if not callable(model):
        text = f"it holds a {type(model).__name__}, and no module that can be called"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path))
    return prepare_callable(model, config)


def holds_weights(path: Path) -> RingbrokerError:
    """The error for a file of weights that is given as a model."""
    text = (
        "it holds weights and no model: name a factory package.module:factory that makes the module, and give this "
        "file as its weights (--weights)"
    )
    return RingbrokerError(Code.MODEL_FORMAT_UNKNOWN, text, str(path))


def _is_data(path: Path) -> bool:
    """Whether it holds tensors and plain data alone. Torch's restricted reader imports and calls nothing else."""
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # it holds other things, or is corrupt, as the load itself will find
        return False
    return True


def _what(path: Path) -> str:
    """The classes that it would import, as far as torch tells."""
    if not zipfile.is_zipfile(path):
        return ""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # torch cannot say: then the refusal names none
        return ""
    return f" of {', '.join(sorted(names)[:3])}" if names else ""


def _load(path: Path) -> Any:
    import_from_here()
    try:
        if zipfile.is_zipfile(path) or _has_torch_magic(path):
            return torch.load(path, map_location="cpu", weights_only=False)
        with path.open("rb") as file:
            return pickle.load(file)
    except (Exception, SystemExit) as error:  # it runs the file's own code
        text = f"the pickle cannot be loaded: {logged(error, str(path))}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error


def _has_torch_magic(path: Path) -> bool:
    with path.open("rb") as file:
        return LEGACY_MAGIC in file.read(32)


LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files that `torch.save` wrote before torch 1.6 begin, behind the pickle's protocol number."""
