"""Python factories: `package.module:factory`, called without arguments, returns the model.

The model is any callable, most often an `nn.Module`, with its signature in two attributes, and the maxima of its
dynamic dims in a third:

    inputs = {"tokens": "I64[batch,seq]"}
    outputs = {"embedding": "F32[batch,384]"}
    maxima = {"seq": 256}

It is called with the inputs in that order, and returns a tensor, a tuple in the order of the outputs, or a dict by
their names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from broker.engine import signature as signatures
from broker.engine.plan import CopyingPlan, Plan
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature


@dataclass(frozen=True, slots=True)
class PreparedFactory:
    """What a factory returned."""

    signature: Signature
    model: Callable[..., Any]
    max_batch: int | None = None  # a factory declares neither
    minima: Mapping[str, int] = field(default_factory=dict)

    def bind(self, threads: int, device: str) -> Plan:
        """See `plan.Prepared.bind`."""
        torch.set_num_threads(threads)
        return CopyingPlan(_direct(self.model), self.signature)


def _direct(model: Callable[..., Any]) -> Callable[..., Any]:
    """The module's `forward` where nothing hooks into its call: looking for hooks costs 0.7 us at every request."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if not isinstance(model, torch.nn.Module) or any(getattr(model, name) for name in hooks):
        return model
    is_plain = type(model).__call__ is torch.nn.Module.__call__ and model._compiled_call_impl is None
    return model.forward if is_plain else model


def prepare(source: str) -> PreparedFactory:
    """Import the module and call the factory.

    Raises `RingbrokerError` MODEL_NOT_FOUND, FACTORY_FAILED or SIGNATURE_INVALID.
    """
    model = _call(_find(source), source)
    if isinstance(model, torch.nn.Module):
        model.eval()
    return PreparedFactory(_signature(model), model)


def _find(source: str) -> Callable[[], Any]:
    module_name, _, name = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise RingbrokerError(Code.MODEL_NOT_FOUND, f"there is no module {module_name!r}", source) from error
        raise RingbrokerError(Code.FACTORY_FAILED, f"importing {module_name!r}: {error}", source) from error
    except (Exception, SystemExit) as error:
        raise RingbrokerError(Code.FACTORY_FAILED, f"importing {module_name!r}: {_told(error)}", source) from error
    factory = getattr(module, name, None)
    if factory is None:
        raise RingbrokerError(Code.MODEL_NOT_FOUND, f"{module_name!r} has no {name!r}", source)
    if not callable(factory):
        raise RingbrokerError(Code.FACTORY_FAILED, f"{name!r} is not callable", source)
    return factory  # type: ignore[no-any-return]


def _call(factory: Callable[[], Any], source: str) -> Callable[..., Any]:
    try:
        model = factory()
    except (Exception, SystemExit) as error:
        raise RingbrokerError(Code.FACTORY_FAILED, f"the factory raised {_told(error)}", source) from error
    if not callable(model):
        raise RingbrokerError(
            Code.FACTORY_FAILED, f"the factory returned a {type(model).__name__}, which is not callable", source
        )
    return model  # type: ignore[no-any-return]


def _signature(model: Callable[..., Any]) -> Signature:
    return signatures.declare(_declared(model, "inputs"), _declared(model, "outputs"), _maxima(model))


def _declared(model: Callable[..., Any], name: str) -> dict[str, str]:
    tensors = getattr(model, name, None)
    if not isinstance(tensors, dict):
        text = f"the model has no attribute `{name}`, a dict such as {{'image': 'F32[batch,8,8]'}}"
        raise signatures.invalid(text, name)
    for tensor, text in tensors.items():
        if not isinstance(tensor, str) or not isinstance(text, str):
            raise signatures.invalid(
                f"`{name}` has {tensor!r}: {text!r}, and not 'image': 'F32[batch,8,8]'", str(tensor)
            )
    return tensors


def _maxima(model: Callable[..., Any]) -> dict[str, int]:
    maxima = getattr(model, "maxima", None) or {}
    if not isinstance(maxima, dict):
        raise signatures.invalid("`maxima` is a dict such as {'seq': 256}", "maxima")
    for dim, maximum in maxima.items():
        if maximum is not None and (not isinstance(maximum, int) or maximum >= 2**53):
            raise signatures.invalid(f"the maximum {maximum!r} is no whole number below 2^53", str(dim))
    return maxima


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
