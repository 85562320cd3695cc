"""What the command line says about models: `NAME=SOURCE` arguments and the options that describe them.

An option is about the model whose name stands before it, as in `--input encoder/ids:I64[batch,seq]`; without one it is
about the only model, or, where it is a limit such as `--max-batch`, about all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import click

from broker.engine.config import Canary, ModelConfig, check
from broker.engine.repository import read_model
from broker.engine.signature import parse_tensor
from ringbuf.errors import Code, RingbrokerError

Taker: TypeAlias = Callable[[ModelConfig, str], ModelConfig]

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
_VERSIONS = [
    ("--version", "VERSION", "The version that answers who names none.  [default: the newest]"),
    ("--versions", "VERSION,...", "Further versions to load, for requests that name them."),
    ("--canary", "VERSION=PERCENT", "A version that answers a share of the requests that name none."),
    ("--canary-seed", "N", "Of the draws between the two.  [default: another at every start]"),
]
_FLAGS = [
    ("--private-inputs", "Give this model a counted copy of its inputs: it writes into them."),
    ("--allow-pickle", "Load this model though it is a pickled module, and can run any code."),
]


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe models to a command."""
    for flag, text in reversed(_FLAGS):
        command = click.option(flag, multiple=True, metavar="MODEL", help=text)(command)
    command = _repeated(command, _REPEATED)
    return click.option("--require-zero-copy", is_flag=True, help="Refuse models whose results must be copied.")(
        command
    )


def version_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which versions are served to a command."""
    return _repeated(command, _VERSIONS)


def _repeated(command: Callable[..., None], options: list[tuple[str, str, str]]) -> Callable[..., None]:
    for flag, form, text in reversed(options):
        command = click.option(flag, multiple=True, metavar=f"[MODEL/]{form}", help=text)(command)
    return command


def apply_options(models: Iterable[ModelConfig], options: Mapping[str, Any]) -> tuple[ModelConfig, ...]:
    """The models as the options describe them; `options` are what `model_options` and `version_options`
    collected.

    Raises `RingbrokerError` CONFIG_INVALID, or SIGNATURE_INVALID for a tensor that is written wrongly.
    """
    changed = {model.name: model for model in models}
    for model in changed.values():
        check(model)  # so that what is wrong from here on is an option's fault
    for key, take in _TAKERS.items():
        for text in options.get(key, ()):
            path = f"{_flag(key)} {text}"
            for name, value in _about(text, changed, key, path):
                changed[name] = _take(take, changed[name], value, path)
    for key in ("private_inputs", "allow_pickle"):
        for name in options[key]:
            if name not in changed:
                raise _unknown(name, changed, f"{_flag(key)} {name}")
            changed[name] = _with(changed[name], key, True)
    if options["require_zero_copy"]:
        changed = {name: replace(model, require_zero_copy=True) for name, model in changed.items()}
    return tuple(changed.values())


def parse_model(argument: str) -> ModelConfig:
    """Read `NAME=SOURCE`; raises `RingbrokerError` CONFIG_INVALID."""
    name, _, source = argument.partition("=")
    if not name or not source:
        hint = ": for a configuration say --config" if argument.endswith(".toml") else ""
        raise _invalid(f"a model is given as NAME=SOURCE, such as digits=digits.pt2{hint}", argument)
    return ModelConfig(name=name, source=source)


def parse_source(argument: str) -> ModelConfig:
    """Read `[NAME=]SOURCE`: a model without a name is called as its file, folder or factory.

    Raises `RingbrokerError` CONFIG_INVALID, and MODEL_NOT_FOUND for a folder without a model.
    """
    if not argument or re.match(r"[\w.-]+=", argument):
        return parse_model(argument)
    path = Path(argument)
    name = read_model(path).name if path.is_dir() else Path(argument.rpartition(":")[2]).stem
    allowed = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")[:128]
    return ModelConfig(name=allowed or "model", source=argument)


def _about(text: str, models: Mapping[str, ModelConfig], key: str, path: str) -> list[tuple[str, str]]:
    """The models that an option is about, and its value for each."""
    name, found, value = text.partition("/")
    if found and name in models:
        return [(name, value)]
    if found and key != "weights" and not set(name) & set(":="):  # else the slash is the value's own
        raise _unknown(name, models, path)
    if len(models) == 1 or key in _LIMITS:
        return [(name, text) for name in models]
    raise _invalid(f"say which model is meant, as MODEL/...; there are {', '.join(models)}", path)


def _take(take: Taker, model: ModelConfig, value: str, path: str) -> ModelConfig:
    """The model with one option's value; what is wrong with the value is told of the option."""
    try:
        taken = take(model, value)
        check(taken)
    except ValueError as error:
        raise _invalid(str(error), path) from error
    except RingbrokerError as error:
        raise RingbrokerError(error.code, error.text, path) from error
    return taken


def _unknown(name: str, models: Mapping[str, ModelConfig], path: str) -> RingbrokerError:
    return _invalid(f"no model {name!r}; there are {', '.join(models)}", path)


def _invalid(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.CONFIG_INVALID, text, path)


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _with(model: ModelConfig, key: str, value: object) -> ModelConfig:
    change: dict[str, Any] = {key: value}
    return replace(model, **change)


# --- one option's value: these raise ValueError, and say what is expected ---


def _one(key: str, read: Callable[[str], object] = str) -> Taker:
    """An option that sets a field."""
    return lambda model, value: _with(model, key, read(value))


def _canary(model: ModelConfig, value: str) -> ModelConfig:
    version, _, percent = value.partition("=")
    if not version or not percent:
        raise ValueError("it is written as VERSION=PERCENT")
    return replace(model, canary=Canary(version, _number(percent), model.canary.seed if model.canary else None))


def _canary_seed(model: ModelConfig, value: str) -> ModelConfig:
    if model.canary is None:
        raise ValueError("the model has no canary: say --canary VERSION=PERCENT")
    return replace(model, canary=replace(model.canary, seed=_whole(value)))


def _entry(key: str, separator: str, form: str, read: Callable[[str], object]) -> Taker:
    """An option that adds an entry to a field."""

    def take(model: ModelConfig, value: str) -> ModelConfig:
        name, _, rest = value.partition(separator)
        if not name or not rest:
            raise ValueError(f"it is written as {form}")
        return _with(model, key, {**getattr(model, key), name: read(rest)})

    return take


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _range(text: str) -> tuple[float, float]:
    low, found, high = text.partition("..")
    try:
        return float(low), float(high if found else low)
    except ValueError:
        raise ValueError(f"{text!r} is not a range such as 0..9, or a number") from None


def _tensor(text: str) -> str:
    parse_tensor("", text)
    return text


def _versions(text: str) -> tuple[str, ...]:
    versions = tuple(text.split(","))
    if not all(versions):
        raise ValueError(f"{text!r} is not a list of versions such as 1,2")
    return versions


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


_TAKERS: dict[str, Taker] = {
    "input": _entry("inputs", ":", "NAME:DTYPE[DIMS]", _tensor),
    "output": _entry("outputs", ":", "NAME:DTYPE[DIMS]", _tensor),
    "maximum": _entry("maxima", "=", "DIM=N", _whole),
    "range": _entry("ranges", "=", "INPUT=LOW..HIGH", _range),
    "uniform": lambda model, value: replace(model, uniform=model.uniform | {value}),
    "argument": _entry("arguments", "=", "KEY=VALUE", _json),
    "weights": _one("weights"),
    "version": _one("version"),
    "versions": _one("versions", _versions),
    "canary": _canary,
    "canary_seed": _canary_seed,
    "max_batch": _one("max_batch", _whole),
    "max_queue_delay_us": _one("max_queue_delay_us", _whole),
    "gather": _one("gather"),
    "batch_tolerance": _one("batch_tolerance", _number),
}
_LIMITS = frozenset({"max_batch", "max_queue_delay_us", "gather", "batch_tolerance"})
