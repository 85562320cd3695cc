"""Keep a model busy: `python -m bench.asking SOCKET MODEL` asks it again as soon as it has answered, until ended."""

from __future__ import annotations

import sys

import ringbroker


def ask(path: str, model: str) -> None:
    """Ask for ever, on a held lease."""
    with ringbroker.connect(path) as client, client.open(model, slots=1) as ring, ring.acquire(rows=1) as lease:
        for view in lease.inputs.values():
            view[:] = 1
        lease.infer(timeout=60)
        print("asking", flush=True)
        while True:
            lease.infer(timeout=60)


if __name__ == "__main__":
    ask(*sys.argv[1:])
