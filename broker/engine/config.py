"""What an operator says about one model; everything has a default but its name and where it is. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


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
