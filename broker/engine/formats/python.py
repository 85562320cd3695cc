"""Python factories: `package.module:factory`, called with the operator's arguments, returns the model.

The model is any callable, most often an `nn.Module`, with its signature in two attributes; the maxima of its dynamic
dims, and the values that its inputs may be tried with, are in two more:

    inputs = {"tokens": "I64[batch,seq]"}
    outputs = {"embedding": "F32[batch,384]"}
    maxima = {"seq": 256}
    ranges = {"tokens": (0, 30521)}

The operator may say the same, and wins. The model is called with the inputs in that order, and returns a tensor, a
tuple in the order of the outputs, or a dict by their names. With a parameter `out` it may leave them where they belong
(`broker.engine.formats.outs`).
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from broker.engine import signature as signatures
from broker.engine.config import ModelConfig, is_range
from broker.engine.failure import logged, told
from broker.engine.formats import outs
from broker.engine.formats.weights import load_weights
from broker.engine.plan import Plan
from broker.engine.probe import Probe
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature


@dataclass(frozen=True, slots=True)
class PreparedCallable:
    """A model that is called from Python, with its signature."""

    signature: Signature
    model: Callable[..., Any]
    max_batch: int | None = None  # nothing but a trial says how many rows it takes, or how small its dims may be
    minima: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    computed_dims: frozenset[str] = frozenset()
    state: str | None = None

    survives_fork: ClassVar[bool] = True

    def bind(self, threads: int, device: str, probe: Probe) -> Plan:
        """See `plan.Prepared.bind`."""
        torch.set_num_threads(threads)
        return outs.bind(direct(self.model), parameters_of(self.model), self.signature, probe)


def prepare(config: ModelConfig) -> PreparedCallable:
    """Import the module, call the factory, and load its weights.

    Raises `RingbrokerError` MODEL_NOT_FOUND, FACTORY_FAILED, MODEL_INVALID, SIGNATURE_INVALID or CONFIG_INVALID.
    """
    model = _call(_find(config.source), config)
    if config.weights is not None:
        if not isinstance(model, torch.nn.Module):
            text = f"weights are for an nn.Module, and the factory returned a {type(model).__name__}"
            raise RingbrokerError(Code.CONFIG_INVALID, text, f"{config.name}.weights")
        load_weights(model, Path(config.weights))
    return prepare_callable(model, config)


def prepare_callable(model: Callable[..., Any], config: ModelConfig) -> PreparedCallable:
    """A model that was made, with its signature from its attributes and the operator.

    Raises `RingbrokerError` SIGNATURE_INVALID or CONFIG_INVALID.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    signature = _signature(model, config)
    return PreparedCallable(signature, model, ranges=_ranges(model, signature))


def import_from_here() -> None:
    """Let modules beside the operator be imported, as other servers do."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def direct(model: Callable[..., Any]) -> Callable[..., Any]:
    """The module's `forward` where nothing hooks into its call: looking for hooks costs 0.7 us at every request."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if not isinstance(model, torch.nn.Module) or any(getattr(model, name) for name in hooks):
        return model
    is_plain = type(model).__call__ is torch.nn.Module.__call__ and model._compiled_call_impl is None
    return model.forward if is_plain else model


def parameters_of(model: Callable[..., Any]) -> frozenset[str]:
    """The names of the parameters that the model may be called with; none where Python cannot tell."""
    function = model.forward if isinstance(model, torch.nn.Module) else model
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return frozenset()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(parameter.name for parameter in parameters if parameter.kind in by_name)


def _find(source: str) -> Callable[..., Any]:
    module_name, _, name = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise RingbrokerError(Code.MODEL_NOT_FOUND, f"there is no module {module_name!r}", source) from error
        raise RingbrokerError(Code.FACTORY_FAILED, f"importing {module_name!r}: {error}", source) from error
    except (Exception, SystemExit) as error:
        text = f"importing {module_name!r}: {logged(error, source)}"
        raise RingbrokerError(Code.FACTORY_FAILED, text, source) from error
    factory = getattr(module, name, None)
    if factory is None:
        raise RingbrokerError(Code.MODEL_NOT_FOUND, f"{module_name!r} has no {name!r}", source)
    if not callable(factory):
        raise RingbrokerError(Code.FACTORY_FAILED, f"{name!r} is not callable", source)
    return factory  # type: ignore[no-any-return]


def _call(factory: Callable[..., Any], config: ModelConfig) -> Callable[..., Any]:
    _check_arguments(factory, config)
    try:
        model = factory(**config.arguments)
    except (Exception, SystemExit) as error:
        text = f"the factory raised {logged(error, config.name)}"
        raise RingbrokerError(Code.FACTORY_FAILED, text, config.source) from error
    if not callable(model):
        text = f"the factory returned a {type(model).__name__}, which is not callable"
        raise RingbrokerError(Code.FACTORY_FAILED, text, config.source)
    return model  # type: ignore[no-any-return]


def _check_arguments(factory: Callable[..., Any], config: ModelConfig) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # a callable that Python cannot look into says it when it is called
        return
    try:
        signature.bind(**config.arguments)
    except TypeError as error:
        text = f"the factory takes {signature}, and was to be given {dict(config.arguments)}: {error}"
        raise RingbrokerError(Code.FACTORY_FAILED, text, config.source) from error


def _signature(model: Callable[..., Any], config: ModelConfig) -> Signature:
    inputs = _merged(_declared(model, "inputs"), config.inputs, "inputs")
    outputs = _merged(_declared(model, "outputs"), config.outputs, "outputs")
    maxima = _maxima(model)
    dims = signatures.dynamic_dims(
        tuple(signatures.parse_tensor(*item) for item in (*inputs.items(), *outputs.items()))
    )
    for dim in [dim for dim in maxima if dim not in dims]:
        if not config.inputs and not config.outputs:
            raise signatures.invalid("the model's `maxima` has it, and none of its tensors", dim)
        del maxima[dim]  # the operator narrowed it to a number, or calls it otherwise
    for dim, asked in config.maxima.items():
        own = maxima.get(dim)
        if own is not None and asked > own:
            raise RingbrokerError(Code.CONFIG_INVALID, f"the maximum {asked} is over the model's own, {own}", dim)
        maxima[dim] = asked
    return signatures.declare(inputs, outputs, maxima)


def _merged(of_model: Mapping[str, str] | None, of_operator: Mapping[str, str], side: str) -> dict[str, str]:
    """The model's tensors as the operator describes them, or all of the operator's where the model has none."""
    if of_model is None:
        if of_operator:
            return dict(of_operator)
        text = (
            f"the model has no attribute `{side}`, a dict such as {{'image': 'F32[batch,8,8]'}}, and its configuration "
            f"declares no {side} either"
        )
        raise signatures.invalid(text, side)
    for name in of_operator:
        if name not in of_model:
            raise RingbrokerError(Code.CONFIG_INVALID, f"the model's {side} are {', '.join(of_model)}", name)
    return {**of_model, **of_operator}


def _attribute(model: Callable[..., Any], name: str) -> Any:
    """The model's own word; None where it has none."""
    try:
        return getattr(model, name, None)
    except (Exception, SystemExit) as error:  # of a property
        raise signatures.invalid(f"the model's `{name}` raised {told(error)}", name) from error


def _declared(model: Callable[..., Any], name: str) -> dict[str, str] | None:
    tensors = _attribute(model, name)
    if tensors is None:
        return None
    if not isinstance(tensors, dict):
        raise signatures.invalid(f"`{name}` is a dict such as {{'image': 'F32[batch,8,8]'}}", name)
    for tensor, text in tensors.items():
        if not isinstance(tensor, str) or not isinstance(text, str):
            raise signatures.invalid(
                f"`{name}` has {tensor!r}: {text!r}, and not 'image': 'F32[batch,8,8]'", str(tensor)
            )
    return tensors


def _maxima(model: Callable[..., Any]) -> dict[str, int]:
    maxima = _attribute(model, "maxima")
    if maxima is None:
        return {}
    if not isinstance(maxima, dict):
        raise signatures.invalid("`maxima` is a dict such as {'seq': 256}", "maxima")
    for dim, maximum in maxima.items():
        is_whole = isinstance(maximum, int) and not isinstance(maximum, bool)
        if not isinstance(dim, str) or not (is_whole or maximum is None):
            raise signatures.invalid(f"`maxima` has {dim!r}: {maximum!r}, and not 'seq': 256", str(dim))
    return dict(maxima)


def _ranges(model: Callable[..., Any], signature: Signature) -> dict[str, tuple[float, float]]:
    """The attribute `ranges`, such as `{"ids": (0, 30521)}`."""
    ranges = _attribute(model, "ranges")
    if ranges is None:
        return {}
    if not isinstance(ranges, dict):
        raise signatures.invalid("`ranges` is a dict such as {'ids': (0, 30521)}", "ranges")
    names = [tensor.name for tensor in signature.inputs]
    for name, bounds in ranges.items():
        if name not in names or not is_range(bounds):
            text = f"`ranges` has {name!r}: {bounds!r}, and not an input's name with two numbers, the smaller one first"
            raise signatures.invalid(text, str(name))
    return {name: (low, high) for name, (low, high) in ranges.items()}
