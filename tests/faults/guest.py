"""A client process to be stopped: `python -m tests.faults.guest SOCKET KIND`; see the functions for the kinds."""

import sys

import numpy as np
import ringbroker

from tests.faults.wire import Peer


def holding(path):
    """Holds a lease with inputs; for every line that it reads it infers, and prints the outputs."""
    with (
        ringbroker.connect(path, timeout=60) as client,
        client.open("twice", slots=4) as model,
        model.acquire(rows=2) as lease,
    ):
        lease.inputs["x"][:] = np.arange(8, dtype=np.float32).reshape(2, 4)
        print(lease.infer(timeout=60)["y"].tolist(), flush=True)
        for _ in sys.stdin:
            print(lease.infer(timeout=60)["y"].tolist(), flush=True)


def flooding(path):
    """Infers without reading until nothing more is taken, says so, and reads all after the line that it then reads."""
    with Peer(path).hello() as peer:
        ring = peer.open("twice")
        ring.write(0, 21.0)
        asked = peer.fill(ring)
        print(asked, flush=True)
        sys.stdin.readline()
        answers = [peer.receive() for _ in range(asked)]
        assert {answer[0] for answer in answers} <= {64, 69}
        print(len({answer[1] for answer in answers}), ring.read(0, 1)[0], flush=True)


if __name__ == "__main__":
    {"holding": holding, "flooding": flooding}[sys.argv[2]](sys.argv[1])
