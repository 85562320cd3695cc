"""Make models: `python -m examples.models embed`."""

import argparse
import importlib
import time
from pathlib import Path

NAMES = ("embed", "classify", "score", "listen")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.models", description="Make the examples' models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; by default all")
    parser.add_argument("--out", type=Path, default=Path("build/examples"), help="where to (default: %(default)s)")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such example: {', '.join(sorted(unknown))}")
    for name in options.names or NAMES:
        start = time.monotonic()
        importlib.import_module(f"examples.models.{name}").make(options.out)
        print(f"{name}: made in {options.out} in {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
