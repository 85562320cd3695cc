"""Where the models and their cases go."""

import json
from pathlib import Path
from typing import Any


def version_folder(out: Path, model: str, settings: str) -> Path:
    """Make the repository's folder of a model's version 1, with its settings in `model.toml`."""
    folder = out / "models" / model / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(settings)
    return folder


def write_cases(out: Path, example: str, cases: dict[str, Any]) -> None:
    """Write what the example's programs ask, and what the plain model answers."""
    (out / f"{example}.json").write_text(json.dumps(cases))
