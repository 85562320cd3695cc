"""The models that the benchmarks serve, and run in process for comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

KB4, KB602, MB16, MB64 = 1024, 150_528, 4 * 2**20, 16 * 2**20  # floats: 4 KB, an image of 3x224x224, 16 MB, 64 MB


class Tiny(nn.Module):
    """One small op on 64 bytes: what is left of a round trip is the broker's."""

    inputs: ClassVar = {"x": "F32[batch,16]"}
    outputs: ClassVar = {"y": "F32[batch,16]"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.neg(x)


class Reading(nn.Module):
    """Reads every float of its input."""

    outputs: ClassVar = {"y": "F32[batch,1]"}

    def __init__(self, floats: int) -> None:
        super().__init__()
        self.inputs = {"x": f"F32[batch,{floats}]"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True)


class ReadingElsewhere(Reading):
    """Reads its small input, and 16 MB of its own: the caches are as cold afterwards as after a large input."""

    def __init__(self, floats: int) -> None:
        super().__init__(floats)
        self.own = torch.ones(1, MB16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True) + self.own.sum(1, keepdim=True)


class Doubling(nn.Module):
    """Reads its whole input and writes as much, into the plane itself."""

    def __init__(self, floats: int) -> None:
        super().__init__()
        self.inputs = {"x": f"F32[batch,{floats}]"}
        self.outputs = {"y": f"F32[batch,{floats}]"}

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        return torch.add(x, x, out=out)


class DoublingElsewhere(nn.Module):
    """Doubles its small input, and 64 MB of its own: the caches are as cold afterwards as after a large one."""

    inputs: ClassVar = {"x": f"F32[batch,{KB4}]"}
    outputs: ClassVar = {"y": f"F32[batch,{KB4}]"}

    def __init__(self) -> None:
        super().__init__()
        self.own, self.result = torch.ones(MB64), torch.ones(MB64)

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        torch.add(self.own, self.own, out=self.result)
        return torch.add(x, x, out=out)


class DoublingNew(nn.Module):
    """The same into a tensor of its own, which the broker then copies."""

    def __init__(self, floats: int) -> None:
        super().__init__()
        self.inputs = {"x": f"F32[batch,{floats}]"}
        self.outputs = {"y": f"F32[batch,{floats}]"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, x)


class Trivial(Reading):
    """Reads one float of its input: what is left is transport."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


class Mlp(nn.Sequential):
    """The small scorer of the fraud or ranking kind: 64 floats to one score."""

    inputs: ClassVar = {"x": "F32[batch,64]"}
    outputs: ClassVar = {"y": "F32[batch,1]"}

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


class Slow(nn.Module):
    """Computes for about 100 ms with one thread, whatever it is asked; how often is found out when it is made."""

    inputs: ClassVar = {"x": "F32[batch,16]"}
    outputs: ClassVar = {"y": "F32[batch,16]"}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.state = torch.randn(1024, 1024) / 32, torch.randn(64, 1024)
        self.steps = 20
        took_s = min(self._time_s() for _ in range(5))
        self.steps = max(1, round(self.steps * 0.1 / took_s))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.state
        for _ in range(self.steps):
            state = torch.tanh(state @ self.weight)
        return x + state.mean()

    def _time_s(self) -> float:
        began = time.perf_counter()
        self.forward(torch.zeros(1, 16))
        return time.perf_counter() - began


def _of(kind: Callable[[int], nn.Module], floats: int) -> Callable[[], nn.Module]:
    return lambda: kind(floats)


tiny, mlp = Tiny, Mlp
reading_4kb, reading_16mb = _of(Reading, KB4), _of(Reading, MB16)
reading_elsewhere = _of(ReadingElsewhere, KB4)
doubling_elsewhere = DoublingElsewhere
trivial_4kb, trivial_602kb, trivial_16mb = _of(Trivial, KB4), _of(Trivial, KB602), _of(Trivial, MB16)


def export(model: nn.Module, folder: Path, name: str) -> Path:
    """The model as the file that most people bring, with a dynamic batch."""
    ((_, written),) = model.inputs.items()
    shape = [int(dim) for dim in written.partition("[")[2].rstrip("]").split(",")[1:]]
    program = torch.export.export(
        model.eval(), (torch.zeros(2, *shape),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    path = folder / f"{name}.pt2"
    torch.export.save(program, path)
    return path


def doubling(floats: int) -> nn.Module:
    """In place."""
    return Doubling(floats)


def doubling_new(floats: int) -> nn.Module:
    """Copied."""
    return DoublingNew(floats)
