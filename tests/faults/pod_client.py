"""A container's process: a client that opens a ring, infers, and prints its result, or the error's code."""

import sys

import numpy as np
import ringbroker


def main(path, kind):
    """Ask `twice` through a ring of this kind."""
    try:
        with (
            ringbroker.connect(path, segments=kind, timeout=30) as client,
            client.open("twice", slots=4) as model,
            model.acquire(rows=2) as lease,
        ):
            lease.inputs["x"][:] = np.arange(8, dtype=np.float32).reshape(2, 4)
            print(lease.infer(timeout=30)["y"].tolist())
    except ringbroker.Error as error:
        print(error.code.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
