"""What an operator says about one model; everything has a default but its name and where it is. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from broker.tables import invalid, is_number, is_whole
from ringbuf.errors import Code, RingbrokerError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_MOST_ROWS = 4096  # of a batch: as many as a ring has slots, and every power of two below is tried at load
_LONGEST_DELAY_US = 1_000_000  # what is longer was meant as something else
_LARGEST_DIM = 2**31 - 1  # of a signature


@dataclass(frozen=True, slots=True)
class Canary:
    """A candidate: a version that answers some of the requests that name none."""

    version: str
    percent: float
    seed: int | None = None
    """Of the draws; None: another at every start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model to serve."""

    name: str
    source: str
    """A file, a folder `NAME/VERSION` of a repository, or a factory `package.module:factory`."""
    version: str = ""
    """What answers a request that names no version, and what RESULT says; empty: the newest of a repository, or 1."""
    versions: tuple[str, ...] = ()
    """Of a repository: further versions to load, for requests that name them."""
    canary: Canary | None = None
    """Of a repository: a version that is tried on a share of the requests."""
    is_candidate: bool = False
    """Whether this is the canary's version."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """By name, as `F32[batch,3,224,224]`. Where the file says what its inputs are, this names their dims, or narrows
    them; where it does not, this is the signature."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    maxima: Mapping[str, int] = field(default_factory=dict)
    """By dim: its largest size. An output's dim that is no input's needs one."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By input: the least and the largest value that the model is tried with at load; both may be used."""
    uniform: frozenset[str] = frozenset()
    """Inputs without a batch axis whose value is the same for every row of a batch."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The factory's keyword arguments."""
    weights: str | None = None
    """A state dict (`.safetensors`, or what `torch.save` wrote) for the module that the factory returns."""
    max_batch: int = 64
    """The most rows of one forward call: larger ones rarely gain throughput on a CPU, and always cost latency."""
    max_queue_delay_us: int = 0
    """How long a request may wait for others. 0: a batch forms while the last one runs, and nothing else waits."""
    gather: Literal["never", "always"] = "never"
    """Whether rows that are not neighbours are copied together, to run as one batch."""
    batch_tolerance: float | None = None
    """How far a row's results in a batch may be from those alone, relative to the largest; None: what rounding in the
    output's dtype explains."""
    private_inputs: bool = False
    """Give the model a copy of its inputs: for one that writes into them."""
    allow_pickle: bool = False
    """Load a pickled module, which runs whatever code its file holds."""
    require_zero_copy: bool = False
    """Refuse the model if any of its results must be copied."""


def check(config: ModelConfig) -> None:
    """Refuse what no model can be served with, whoever said it; what contradicts a model is found when it is read.

    Raises `RingbrokerError` CONFIG_INVALID with the path of what is wrong, and SIGNATURE_INVALID for the name.
    """
    if not is_name(config.name):
        text = "a model's name is 1 to 128 letters, digits, '_', '.', '-'"
        raise RingbrokerError(Code.SIGNATURE_INVALID, text, config.name)
    _check_whole(config.max_batch, 1, _MOST_ROWS, f"{config.name}.max_batch")
    _check_whole(config.max_queue_delay_us, 0, _LONGEST_DELAY_US, f"{config.name}.max_queue_delay_us")
    for dim, most in config.maxima.items():
        _check_whole(most, 1, _LARGEST_DIM, f"{config.name}.maxima.{dim}")
    for name, bounds in config.ranges.items():
        if not is_range(bounds):
            raise invalid(f"{bounds!r} is not two numbers, the smaller one first", f"{config.name}.ranges.{name}")
    if config.gather not in ("never", "always"):
        raise invalid(f"{config.gather!r} is neither 'never' nor 'always'", f"{config.name}.gather")
    tolerance = config.batch_tolerance
    if tolerance is not None and not (is_number(tolerance) and tolerance >= 0):
        raise invalid(f"{tolerance!r} is not a number from 0", f"{config.name}.batch_tolerance")
    if config.canary is not None and not 0 <= config.canary.percent <= 100:
        raise invalid(f"{config.canary.percent!r} is not a number from 0 to 100", f"{config.name}.canary.percent")


def is_name(value: object) -> bool:
    """Whether it may be the name of a model or a pool."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_factory(source: str) -> bool:
    """Whether it is written as `package.module:factory`, and is no file."""
    if _FACTORY.fullmatch(source) is None:
        return False
    try:
        return not Path(source).exists()
    except OSError:  # a name that is too long for a file
        return True


def is_range(value: object) -> bool:
    """Whether it is two numbers, the smaller one first."""
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value)) and value[0] <= value[1]


def _check_whole(value: object, least: int, most: int, path: str) -> None:
    if not is_whole(value, least, most):
        raise invalid(f"{value!r} is not a whole number from {least} to {most}", path)
