"""The models that the interop tests of every client run, as factories for the broker."""

import time

import torch


class Affine(torch.nn.Module):
    """y = 3 * x + 1: an answer tells which request it belongs to."""

    inputs = {"x": "F32[batch,4]"}
    outputs = {"y": "F32[batch,4]"}

    def forward(self, x):
        return 3 * x + 1


class Sequence(torch.nn.Module):
    """Two inputs with a dynamic dim, two outputs, by name: masked values, and how many there are."""

    inputs = {"values": "I64[batch,seq]", "mask": "BOOL[batch,seq]"}
    outputs = {"masked": "I64[batch,seq]", "count": "I64[batch]"}
    maxima = {"seq": 16}

    def forward(self, values, mask):
        return {"masked": values * mask, "count": mask.sum(1)}


class Slow(Affine):
    """As `Affine`, after 50 ms."""

    def forward(self, x):
        time.sleep(0.05)
        return super().forward(x)


class Picky(Affine):
    """As `Affine`, but raises for -1 and less, which no trial run at load has."""

    def forward(self, x):
        if (x <= -1).any():
            raise ValueError("secret values are too small")
        return super().forward(x)


class Single(torch.nn.Module):
    """Inputs and outputs without a batch axis, of the dtypes that numpy and Go lack."""

    inputs = {"half": "F16[3]", "brain": "BF16[3]"}
    outputs = {"sum": "F32[]"}

    def forward(self, half, brain):
        return half.float().sum() + brain.float().sum()


affine, sequence, slow, picky, single = Affine, Sequence, Slow, Picky, Single

SOURCES = {name: f"{__name__}:{name}" for name in ("affine", "sequence", "slow", "picky", "single")}
