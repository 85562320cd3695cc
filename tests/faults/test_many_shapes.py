"""A client whose images are never of the same size twice: the broker's memory finds its level.

oneDNN compiles a primitive for every shape and keeps 1024 of them; without the bound that `broker serve` sets, the last
half of this run adds a sixth to the broker's memory, and does not end there.
"""

from pathlib import Path

import numpy as np
import ringbroker
import torch

from tests.conftest import running_broker

SHAPES = 500
LEAST, STEPS = 20, 25


class Convolution(torch.nn.Sequential):
    """`F32[batch,3,h,w]` -> `F32[batch,2,h,w]`."""

    inputs = {"image": "F32[batch,3,h,w]"}
    outputs = {"mask": "F32[batch,2,h,w]"}
    maxima = {"h": LEAST + STEPS, "w": LEAST + STEPS}

    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(3, 64, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(64, 64, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(64, 2, 3, padding=1),
        )


def private_bytes(broker):
    """Anonymous memory of the worker: not files, not shared memory."""
    status = Path(f"/proc/{broker.worker_pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def test_memory_finds_its_level_over_500_shapes():
    sizes = [(LEAST + number % STEPS, LEAST + number // STEPS) for number in range(SHAPES)]
    np.random.default_rng(0).shuffle(sizes)
    arguments = (f"conv={__name__}:Convolution", "--threads", "1", "--max-batch", "1")
    with running_broker(*arguments) as broker, ringbroker.connect(broker.socket_path) as client:
        with client.open("conv", slots=1) as model:
            levels = []
            for _ in range(3):
                for height, width in sizes:
                    mask = model(np.ones((1, 3, height, width), np.float32))
                    assert mask.shape == (1, 2, height, width)
                levels.append(private_bytes(broker))
        assert broker.status()["models"]["conv"]["results"] == 3 * SHAPES
    assert levels[2] <= 1.05 * levels[0], levels
