"""`python -m bench [QUESTION ...]`: answer all questions, or those named."""

from __future__ import annotations

import importlib
import sys

from bench.harness import machine

QUESTIONS = {
    "roundtrip": "roundtrip",
    "overhead": "overhead",
    "sizes": "sizes",
    "in_place": "in_place",
    "batching": "batching",
    "grpc": "against_grpc",
    "pipelined": "pipelined",
    "pools": "pools",
    "processes": "processes",
}


def main(names: list[str]) -> None:
    """Run the questions in turn."""
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown:
        sys.exit(f"unknown question {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    for name in names or QUESTIONS:
        importlib.import_module(f"bench.{QUESTIONS[name]}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
