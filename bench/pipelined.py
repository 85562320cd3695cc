"""pipelined: how many requests of a small MLP (64 floats) does one worker answer in a second?

The client is pre-encoded: it sends whole windows of frames and only counts the answers, so it is the broker that is
measured. The broker against a bare loop without any check, in turns.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import models
from bench.bare_loop import SLOTS, infer_frame
from bench.encoded import EncodedClient, count_frames
from bench.harness import Contender, Row, Sample, broker, interleave, process, report, scratch_folder
from ringbuf.segment import Segment, attach

QUESTION = "pipelined: requests of a small MLP in a second, one worker"
GOAL_PER_S, GOAL_RATIO = 300_000, 0.55
WINDOW = SLOTS // 2  # two windows in flight: one is answered while the other waits
ROUNDS, TURN = 15, 60_000


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        arguments = ("--max-batch", str(SLOTS), "--slots", str(SLOTS), "--threads", "1")
        path = stack.enter_context(broker(folder, f"mlp={models.export(models.mlp(), folder, 'mlp')}", *arguments))
        stack.enter_context(process([sys.executable, "-m", "bench.bare_loop", folder / "bare.sock"], "listening"))
        contenders: list[Contender] = [_broker(stack, path), _bare(str(folder / "bare.sock"))]
        seen = interleave(contenders, ROUNDS, TURN)
    ours, bare = seen["broker"].per_s, seen["bare loop"].per_s
    is_met = ours >= GOAL_PER_S or ours / bare >= GOAL_RATIO
    detail = f"{ours:,.0f}/s; the bare loop {bare:,.0f}/s"
    report(
        QUESTION,
        [Row("broker over a bare loop", ours / bare, f">= {GOAL_RATIO}x or {GOAL_PER_S:,}/s", is_met, detail)],
        seen,
    )


@dataclass
class Pipeline:
    """Two windows of encoded requests, sent again and again; one is in flight while the other is answered."""

    name: str
    sock: socket.socket
    windows: tuple[bytes, bytes]
    segment: Segment
    _rest: bytes = field(default=b"")

    def run(self, n: int) -> Sample:
        """Send about `n` requests and count their answers."""
        begin = time.perf_counter()
        sent = answered = 0
        for turn in range(n // WINDOW):
            self.sock.sendall(self.windows[turn % 2])
            sent += WINDOW
            while sent - answered > WINDOW:
                answered += self._receive()
        while answered < sent:
            answered += self._receive()
        took = time.perf_counter() - begin
        return Sample(took / sent * 1e9, 0.0, sent / took)

    def _receive(self) -> int:
        count, self._rest = count_frames(self.sock.recv(1 << 18), self._rest)
        return count


def _windows(frames: list[bytes]) -> tuple[bytes, bytes]:
    return b"".join(frames[:WINDOW]), b"".join(frames[WINDOW:])


def _broker(stack: ExitStack, path: str) -> Pipeline:
    client = EncodedClient(stack, path, "mlp", SLOTS)
    return Pipeline("broker", client.sock, _windows(client.frames(range(SLOTS))), client.segment)


def _bare(path: str) -> Pipeline:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    segment = attach(sock.recv(4096).decode(), 4096)
    sock.send(b"!")
    return Pipeline("bare loop", sock, _windows([infer_frame(slot) for slot in range(SLOTS)]), segment)


if __name__ == "__main__":
    main()
