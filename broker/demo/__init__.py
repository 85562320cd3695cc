"""The demo: a small classifier of handwritten digits, whose weights ship with the package.

`broker serve --demo` serves it as `digits`: image F32[batch,8,8], pixels from 0 to 1, to logits F32[batch,10]. `train`
made the weights, and the held-out images beside them, on which it is right 98 times of 100 (docs/demo-model.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

_HERE = Path(__file__).parent
WEIGHTS = _HERE / "weights.npz"
IMAGES = _HERE / "test-images-idx3-ubyte"
LABELS = _HERE / "test-labels-idx1-ubyte"


class Digits(nn.Sequential):
    """A perceptron with one hidden layer of 128: 9 610 parameters."""

    inputs: ClassVar = {"image": "F32[batch,8,8]"}
    outputs: ClassVar = {"logits": "F32[batch,10]"}

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def digits() -> Digits:
    """The factory that `broker serve --demo` calls. The weights are plain arrays: nothing is unpickled."""
    model = Digits()
    with np.load(WEIGHTS, allow_pickle=False) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return model
