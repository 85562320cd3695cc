"""The examples' models, for the benchmarks: made once per run, served as an operator would serve them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness import ROOT

REAL = ("score", "classify", "embed")
_MAXIMA = {"embed": {"seq": 32}}


def make(folder: Path, models: Sequence[str] = REAL) -> None:
    """Make their files in `folder`."""
    subprocess.run([sys.executable, "-m", "examples.models", *models, "--out", folder], cwd=ROOT, check=True)


def serve_arguments(folder: Path, model: str) -> list[str]:
    """What `broker serve` is told."""
    return [f"{model}={folder / 'models' / model}"]


def maxima_of(model: str) -> dict[str, int]:
    """The dims of a ring whose every row is a full one."""
    return _MAXIMA.get(model, {})
