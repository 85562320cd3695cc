"""A whole client in one file, written from `spec/PROTOCOL.md` alone: it imports nothing of ringbroker.

It classifies handwritten digits with the model "digits" (`image` F32[batch,8,8], each pixel / 16; `logits`
F32[batch,10]) and prints how many were right. The images go straight into shared memory, and the logits are read where
the broker left them. Needs `pip install msgpack`.

    python client.py --socket PATH --images test-images-idx3-ubyte --labels test-labels-idx1-ubyte
"""

import argparse
import mmap
import os
import socket
import struct
from array import array
from pathlib import Path
from typing import Any

import msgpack

# The numbers of the messages used here (spec/messages.json); an answer's is its request's + 64.
HELLO, LIST, OPEN, ATTACHED, INFER, CLOSE = 1, 2, 3, 4, 5, 7
ERROR = 64
ATTACH_FAILED = 2011


class Connection:
    """One session: sends a message, waits for its answer."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def send(self, number: int, *fields: Any) -> None:
        payload = msgpack.packb([number, *fields])
        self.socket.sendall(struct.pack("<I", len(payload)) + payload)

    def receive(self) -> list[Any]:
        head = self.stream.read(4)
        if len(head) < 4:
            raise ConnectionError("the broker closed the connection")
        message: list[Any] = msgpack.unpackb(self.stream.read(struct.unpack("<I", head)[0]))
        if message[0] == ERROR:
            _, _, code, text, path, *_ = message
            raise RuntimeError(f"error {code}: {text} (at {path})")
        return message

    def ask(self, number: int, *fields: Any) -> list[Any]:
        """Send a request and return its answer's fields; with one request at a time, nothing else can come between."""
        self.send(number, *fields)
        answer, *rest = self.receive()
        assert answer == number + 64, f"message {answer} answers {number}"
        return rest


class Ring:
    """A ring of one model: its planes are views of the shared memory."""

    def __init__(self, connection: Connection, model: str, slots: int) -> None:
        self.connection = connection
        _, self.number, segment, self.slots, self.max_rows, self.version, planes, _ = connection.ask(
            OPEN, 1, model, None, slots, {}, {}
        )
        self.memory = self.map_segment(segment)
        names = ("name", "direction", "dtype", "sample", "offset", "stride", "batch_axis", "device")
        self.planes = {plane[0]: dict(zip(names, plane, strict=True)) for plane in planes}

    def map_segment(self, segment: dict[str, Any]) -> memoryview:
        try:
            descriptor = os.open(segment["path"], os.O_RDWR | os.O_CLOEXEC)
            try:
                memory = memoryview(mmap.mmap(descriptor, segment["bytes"], mmap.MAP_SHARED))
            finally:
                os.close(descriptor)
        except OSError:
            self.connection.send(ATTACHED, self.number, ATTACH_FAILED)
            raise
        self.connection.send(ATTACHED, self.number, 0)
        return memory

    def rows(self, name: str, slot: int, rows: int) -> "memoryview[float]":
        """The floats of rows `[slot, slot+rows)` of an F32 plane, one after the other."""
        plane = self.planes[name]
        start = plane["offset"] + slot * plane["stride"]
        return self.memory[start : start + rows * plane["stride"]].cast("f")

    def infer(self, request_id: int, slot: int, rows: int) -> None:
        """Run the model on rows `[slot, slot+rows)`, which are the broker's until this returns."""
        inputs = [
            [plane["offset"] + slot * plane["stride"], [rows, *plane["sample"]], plane["dtype"]]
            for plane in self.planes.values()
            if plane["direction"] == "in"
        ]
        self.connection.ask(INFER, request_id, self.number, slot, rows, inputs, None, None, None, {})

    def close(self) -> None:
        self.connection.ask(CLOSE, 2, self.number)


def list_models(connection: Connection) -> list[str]:
    names, page = [], 0
    while page is not None:
        _, models, page = connection.ask(LIST, 1, page)
        names += [name for name, *_ in models]
    return names


def read_idx(path: Path, magic: int, dims: int) -> tuple[tuple[int, ...], bytes]:
    """Read an IDX file: a magic number and its dims, all big-endian, and then one byte for each element."""
    data = path.read_bytes()
    found, *shape = struct.unpack_from(f">{1 + dims}I", data)
    assert found == magic, f"{path} is no IDX file of that kind"
    return tuple(shape), data[4 + 4 * dims :]


def count_right(ring: Ring, pixels: bytes, labels: bytes) -> int:
    """Classify every image, as many at a time as the broker takes in one request."""
    image_bytes, classes, right = len(pixels) // len(labels), ring.planes["logits"]["sample"][0], 0
    for request_id, first in enumerate(range(0, len(labels), ring.max_rows)):
        wanted = labels[first : first + ring.max_rows]
        batch = pixels[first * image_bytes : (first + len(wanted)) * image_bytes]
        ring.rows("image", 0, len(wanted))[:] = array("f", (pixel / 16 for pixel in batch))
        ring.infer(request_id, 0, len(wanted))
        logits = ring.rows("logits", 0, len(wanted)).tolist()
        for row, label in enumerate(wanted):
            scores = logits[row * classes : (row + 1) * classes]
            right += scores.index(max(scores)) == label
    return right


def default_socket() -> str:
    if "RINGBROKER_SOCKET" in os.environ:
        return os.environ["RINGBROKER_SOCKET"]
    if "XDG_RUNTIME_DIR" in os.environ:
        return os.environ["XDG_RUNTIME_DIR"] + "/ringbroker/broker.sock"
    return f"/tmp/ringbroker-{os.geteuid()}/broker.sock"


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify digits through shared memory.")
    parser.add_argument("--socket", default=default_socket(), help="the broker's socket")
    parser.add_argument("--images", type=Path, required=True, help="IDX file of 8x8 images, pixels 0 to 16")
    parser.add_argument("--labels", type=Path, required=True, help="IDX file of their labels")
    options = parser.parse_args()
    (count, _, _), pixels = read_idx(options.images, 0x803, 3)
    _, labels = read_idx(options.labels, 0x801, 1)
    assert len(labels) == count, "not one label for each image"

    connection = Connection(options.socket)
    client = {"name": "from_spec", "version": "1"}
    major, minor, *_ = connection.ask(HELLO, 1, 0, client, {})
    print(f"protocol {major}.{minor}, models: {', '.join(list_models(connection))}")
    ring = Ring(connection, "digits", slots=64)
    right = count_right(ring, pixels, labels)
    print(f"digits version {ring.version}: {right} of {count} right, accuracy {right / count:.4f}")
    ring.close()


if __name__ == "__main__":
    main()
