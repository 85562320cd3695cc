"""roundtrip: what does an answer cost beyond the model, in raw 64-byte echoes over a Unix socket?

Numerator: p50 of `lease.infer()` on a held lease, minus p50 of the same forward run in this process. Denominator: p50
of the echo (Python both ends, or Go to Python). Once with both sides spinning, once with both sleeping.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ringbroker
import torch

from bench import models
from bench.echo import receive
from bench.harness import (
    Contender,
    Row,
    Sample,
    at_most,
    broker,
    go_program,
    interleave,
    on_cpu,
    process,
    report,
    scratch_folder,
    timed,
    us,
)

QUESTION = "roundtrip: what an answer costs beyond the model, in raw echoes"
GOALS = {"spin": 2.5, "sleep": 1.6}
ROUNDS, TURN = 15, 2000


def main() -> None:
    """Measure and report."""
    rows: list[Row] = []
    samples = {}
    for mode in ("spin", "sleep"):
        with ExitStack() as stack:
            contenders = _contenders(stack, mode)
            stack.enter_context(on_cpu(1))
            seen = interleave(contenders, ROUNDS, TURN if mode == "spin" else TURN // 4)
        for language in ("python", "go"):
            ours, echo, forward = (seen[f"{language} client"], seen[f"{language} echo"], seen["forward in process"])
            ratio = (ours.p50_ns - forward.p50_ns) / echo.p50_ns
            detail = f"({us(ours.p50_ns)} - {us(forward.p50_ns)}) / {us(echo.p50_ns)}"
            rows.append(at_most(f"{language} client, {mode}", ratio, GOALS[mode], detail))
        samples |= {f"{name}, {mode}": sample for name, sample in seen.items()}
    report(QUESTION, rows, samples)


def _contenders(stack: ExitStack, mode: str) -> list[Contender]:
    folder = stack.enter_context(scratch_folder())
    tiny = models.export(models.tiny(), folder, "tiny")
    with on_cpu(0):
        spin = "100" if mode == "spin" else "off"
        path = stack.enter_context(broker(folder, f"tiny={tiny}", "--spin", spin, "--threads", "1"))
        echoes = [stack.enter_context(_echo_server(folder / f"{name}.sock", mode)) for name in ("python", "go")]
    with on_cpu(1):
        go_spin = "1ms" if mode == "spin" else "off"
        go_client = stack.enter_context(
            go_program("loadgen", "-socket", path, "-model", "tiny", "-output", "output", "-spin", go_spin)
        )
        go_echo = stack.enter_context(go_program("loadgen", "-mode", "echo", "-socket", echoes[1], "-spin", go_spin))
    go_client.name, go_echo.name = "go client", "go echo"
    return [_python_client(stack, path, mode), _python_echo(stack, echoes[0], mode), Forward(), go_client, go_echo]


class Forward:
    """The same forward in this process: what the model itself costs."""

    name = "forward in process"

    def run(self, n: int) -> Sample:
        """Do `n` of them."""
        torch.set_num_threads(1)
        model, x = models.tiny(), torch.ones(1, 16)

        def step() -> None:
            model(x)

        with torch.inference_mode():
            return timed(self.name, step).run(n)


@contextmanager
def _echo_server(path: Path, mode: str) -> Iterator[str]:
    with process([sys.executable, "-m", "bench.echo", path, mode], "listening"):
        yield str(path)


def _python_client(stack: ExitStack, socket_path: str, mode: str) -> Contender:
    client = stack.enter_context(ringbroker.connect(socket_path, spin=1000 if mode == "spin" else "off"))
    lease = stack.enter_context(stack.enter_context(client.open("tiny", slots=8)).acquire(rows=1))
    lease.inputs["x"][:] = 1.0
    return timed("python client", lambda: lease.infer(timeout=5).compute_ns)


def _python_echo(stack: ExitStack, path: str, mode: str) -> Contender:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.connect(path)
    message = bytes(64)

    def step() -> None:
        sock.send(message)
        receive(sock, spins=mode == "spin")

    return timed("python echo", step)


if __name__ == "__main__":
    main()
