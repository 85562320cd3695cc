"""What the command line says about models: `NAME=SOURCE` arguments and the options that describe them.

An option is about the model whose name stands before it, as in `--input encoder/ids:I64[batch,seq]`; without one it is
about the only model, or, where it is a limit such as `--max-batch`, about all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import click

from broker.engine.config import ModelConfig
from ringbuf.errors import Code, RingbrokerError

_REPEATED = [
    ("--input", "NAME:DTYPE[DIMS]", "An input, as ids:I64[batch,seq]; `batch` is the batch axis."),
    ("--output", "NAME:DTYPE[DIMS]", "An output, likewise."),
    ("--maximum", "DIM=N", "The largest size of a dynamic dim."),
    ("--range", "INPUT=LOW..HIGH", "The values that an input is tried with at load."),
    ("--uniform", "INPUT", "An input without a batch axis whose value all rows of a batch share."),
    ("--argument", "KEY=VALUE", "An argument for the factory; JSON, or a text."),
    ("--weights", "FILE", "A state dict (.safetensors or .pt) for the factory's module."),
    ("--max-batch", "N", "The most rows of one forward call.  [default: 64]"),
    ("--max-queue-delay-us", "US", "How long a request may wait for others to run with.  [default: 0]"),
    ("--gather", "never|always", "Whether rows that are no neighbours are copied together.  [default: never]"),
    (
        "--batch-tolerance",
        "RATIO",
        "How far rows in a batch may differ from rows alone, relative to the largest value.",
    ),
]
_FLAGS = [
    ("--private-inputs", "Give this model a counted copy of its inputs: it writes into them."),
    ("--allow-pickle", "Load this model though it is a pickled module, and can run any code."),
]


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe models to a command."""
    for flag, text in reversed(_FLAGS):
        command = click.option(flag, multiple=True, metavar="MODEL", help=text)(command)
    for flag, form, text in reversed(_REPEATED):
        command = click.option(flag, multiple=True, metavar=f"[MODEL/]{form}", help=text)(command)
    return click.option("--require-zero-copy", is_flag=True, help="Refuse models whose results must be copied.")(
        command
    )


def apply_options(models: Iterable[ModelConfig], options: Mapping[str, Any]) -> tuple[ModelConfig, ...]:
    """The models as the options describe them; `options` are what `model_options` collected.

    Raises `RingbrokerError` CONFIG_INVALID.
    """
    changed = {model.name: model for model in models}
    for key, take in _TAKERS.items():
        for text in options[key]:
            for name, value in _about(text, changed, is_limit=key in _LIMITS, flag=_flag(key)):
                try:
                    changed[name] = take(changed[name], value)
                except ValueError as error:
                    raise RingbrokerError(Code.CONFIG_INVALID, str(error), f"{_flag(key)} {text}") from error
    for key in ("private_inputs", "allow_pickle"):
        for name in options[key]:
            if name not in changed:
                raise _unknown(name, changed, _flag(key))
            change: dict[str, Any] = {key: True}
            changed[name] = replace(changed[name], **change)
    if options["require_zero_copy"]:
        changed = {name: replace(model, require_zero_copy=True) for name, model in changed.items()}
    return tuple(changed.values())


def parse_model(argument: str) -> ModelConfig:
    """Read `NAME=SOURCE`; raises `RingbrokerError` CONFIG_INVALID."""
    name, found, source = argument.partition("=")
    if not found or not name or not source:
        raise RingbrokerError(Code.CONFIG_INVALID, "a model is given as NAME=SOURCE", argument)
    return ModelConfig(name=name, source=source)


def _about(text: str, models: Mapping[str, ModelConfig], *, is_limit: bool, flag: str) -> list[tuple[str, str]]:
    """The models that an option is about, and its value."""
    name, found, value = text.partition("/")
    if found and name in models:
        return [(name, value)]
    if is_limit and not found:
        return [(name, text) for name in models]
    if len(models) == 1:
        return [(name, text) for name in models]
    raise _unknown(text, models, flag)


def _unknown(text: str, models: Mapping[str, ModelConfig], flag: str) -> RingbrokerError:
    served = ", ".join(models)
    return RingbrokerError(
        Code.CONFIG_INVALID, f"say which model is meant, as MODEL/...; there are {served}", f"{flag} {text}"
    )


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _pair(value: str, separator: str, form: str) -> tuple[str, str]:
    name, found, rest = value.partition(separator)
    if not found or not name or not rest:
        raise ValueError(f"it is written as {form}")
    return name, rest


def _take_input(model: ModelConfig, value: str) -> ModelConfig:
    name, tensor = _pair(value, ":", "NAME:DTYPE[DIMS]")
    return replace(model, inputs={**model.inputs, name: tensor})


def _take_output(model: ModelConfig, value: str) -> ModelConfig:
    name, tensor = _pair(value, ":", "NAME:DTYPE[DIMS]")
    return replace(model, outputs={**model.outputs, name: tensor})


def _take_maximum(model: ModelConfig, value: str) -> ModelConfig:
    dim, most = _pair(value, "=", "DIM=N")
    return replace(model, maxima={**model.maxima, dim: int(most)})


def _take_range(model: ModelConfig, value: str) -> ModelConfig:
    name, bounds = _pair(value, "=", "INPUT=LOW..HIGH")
    low, found, high = bounds.partition("..")
    return replace(model, ranges={**model.ranges, name: (float(low), float(high if found else low))})


def _take_argument(model: ModelConfig, value: str) -> ModelConfig:
    key, text = _pair(value, "=", "KEY=VALUE")
    try:
        argument = json.loads(text)
    except ValueError:
        argument = text
    return replace(model, arguments={**model.arguments, key: argument})


def _take_gather(model: ModelConfig, value: str) -> ModelConfig:
    if value not in ("never", "always"):
        raise ValueError("never or always")
    return replace(model, gather="always" if value == "always" else "never")


def _take_whole(key: str, least: int) -> Callable[[ModelConfig, str], ModelConfig]:
    def take(model: ModelConfig, value: str) -> ModelConfig:
        if int(value) < least:
            raise ValueError(f"at least {least}")
        change: dict[str, Any] = {key: int(value)}
        return replace(model, **change)

    return take


_TAKERS: dict[str, Callable[[ModelConfig, str], ModelConfig]] = {
    "input": _take_input,
    "output": _take_output,
    "maximum": _take_maximum,
    "range": _take_range,
    "uniform": lambda model, value: replace(model, uniform=model.uniform | {value}),
    "argument": _take_argument,
    "weights": lambda model, value: replace(model, weights=value),
    "max_batch": _take_whole("max_batch", 1),
    "max_queue_delay_us": _take_whole("max_queue_delay_us", 0),
    "gather": _take_gather,
    "batch_tolerance": lambda model, value: replace(model, batch_tolerance=float(value)),
}
_LIMITS = frozenset({"max_batch", "max_queue_delay_us", "gather", "batch_tolerance"})
