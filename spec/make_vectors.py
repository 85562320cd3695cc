"""Write `spec/vectors/*.json` from the tables in `spec/`; with `--check`, only say whether they are current.

The output depends on nothing but the tables and this program, so that a difference is always a change of the protocol.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generator.frames import build_frames
from generator.sessions import build_sessions
from generator.sizes import build_dtypes, build_layouts

VECTORS = Path(__file__).resolve().parent / "vectors"
BUILDERS: dict[str, Callable[[], dict[str, Any]]] = {
    "frames.json": build_frames,
    "layouts.json": build_layouts,
    "dtypes.json": build_dtypes,
    "sessions.json": build_sessions,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not current")
    check = parser.parse_args().check
    stale = [name for name, build in BUILDERS.items() if not refresh_file(VECTORS / name, format_table(build()), check)]
    for name in stale:
        print(f"{name} is not current: run `make vectors`", file=sys.stderr)
    return 1 if stale else 0


def refresh_file(path: Path, text: str, check: bool) -> bool:
    """Write a file unless it is current; with `check`, return whether it is."""
    if path.exists() and path.read_text() == text:
        return True
    if check:
        return False
    path.write_text(text)
    return True


def format_table(table: dict[str, Any]) -> str:
    """Return JSON with one vector to a line, so that a difference is readable."""
    sections = (f'"{key}": {format_section(value)}' for key, value in table.items())
    return "{\n" + ",\n".join(sections) + "\n}\n"


def format_section(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


if __name__ == "__main__":
    sys.exit(main())
