"""The yardstick for `pipelined`: the smallest loop that still does the work, without a single check.

One client, one ring, frames that are taken as they come: receive, cut, decode, one forward over the slice, answer.
What the broker takes longer is the price of framing across reads, checks, batching, ownership, deadlines and
counters.
"""

from __future__ import annotations

import socket
import sys

import msgspec
import torch

from bench import models
from ringbuf import layout
from ringbuf.segment import Segment, SegmentStore

SLOTS = 512


def serve(path: str) -> None:
    """Serve one client after another."""
    torch.set_num_threads(1)
    model = models.mlp().eval()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("listening", flush=True)
    while True:
        sock, _ = listener.accept()
        with sock, torch.inference_mode():
            _serve_one(sock, model, SegmentStore(path))


def _serve_one(sock: socket.socket, model: torch.nn.Module, store: SegmentStore) -> None:
    planes = layout.lay_out(SLOTS, [layout.PlaneGeometry("F32", (64,)), layout.PlaneGeometry("F32", (1,))])
    memory = store.create(planes.segment_bytes)
    segment = Segment(memory.fd, planes.segment_bytes)
    sock.send(str(memory.path).encode())
    sock.recv(1)
    memory.free()
    x, y = (
        torch.frombuffer(segment.buffer[at.offset : at.offset + SLOTS * at.stride], dtype=torch.float32).view(SLOTS, -1)
        for at in planes.planes
    )
    decode = msgspec.msgpack.Decoder(tuple[int, int, int, int, int]).decode  # number, id, ring, slot, rows
    encode = msgspec.msgpack.Encoder().encode
    outputs = [((planes.planes[1].offset + slot * 4, (1, 1), "F32"),) for slot in range(SLOTS)]
    rest = b""
    while data := sock.recv(65536):
        data, slots, start = rest + data, [], 0
        while start + 4 <= len(data):
            stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
            if stop > len(data):
                break
            slots.append(decode(data[start + 4 : stop])[3])
            start = stop
        rest = data[start:]
        if slots:
            rows = slice(slots[0], slots[0] + len(slots))
            y[rows].copy_(model(x[rows]))
            out = bytearray()
            for slot in slots:
                payload = encode((69, slot, True, outputs[slot], "1", (0, 0), len(slots), {}))
                out += len(payload).to_bytes(4, "little") + payload
            sock.sendall(out)


def infer_frame(slot: int) -> bytes:
    """The request that this loop understands."""
    payload = msgspec.msgpack.encode((5, slot, 1, slot, 1))
    return len(payload).to_bytes(4, "little") + payload


if __name__ == "__main__":
    serve(sys.argv[1])
