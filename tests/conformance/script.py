"""Play a script of `spec/vectors/sessions.json` against a broker (the format: `spec/vectors/README.md`).

Frames are packed and unpacked by the PyPI package `msgpack`, so that our codec is not its own judge.
"""

import contextlib
import mmap
import os
import socket
import struct
import time
from pathlib import Path

import msgpack

WAIT_S = 30.0  # for anything that the broker owes; a limit for broken ones, not an expectation

FORMATS = {"U8": "B", "I64": "q", "F32": "f"}


class Player:
    """One connection that follows a script. What does not go as written is an AssertionError."""

    def __init__(self, socket_path):
        self.names = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(socket_path))
        self.segment = None
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def play(self, steps):
        for step in steps:
            ((action, value),) = step.items()
            getattr(self, f"do_{action}")(value)

    def do_send(self, value):
        frames = [msgpack.packb(self.filled(frame)) for frame in value]
        self.send_bytes(b"".join(struct.pack("<I", len(frame)) + frame for frame in frames))

    def do_send_hex(self, value):
        self.send_bytes(bytes.fromhex(value))

    def send_bytes(self, data):
        # A broker that has said why it closes may do so before all was sent: the answer is still there to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def do_expect(self, value):
        for expected in value:
            received = self.receive_frame()
            assert self.matches(expected, received), f"expected {self.filled(expected)}, received {received}"

    def do_expect_any_order(self, value):
        missing = list(value)
        for _ in value:
            received = self.receive_frame()
            fitting = [expected for expected in missing if self.matches(expected, received)]
            assert fitting, f"expected one of {missing}, received {received}"
            missing.remove(fitting[0])

    def do_expect_eof(self, value):
        assert value is True
        with contextlib.suppress(ConnectionResetError):  # what Linux tells where the broker left bytes unread
            data = self.unread + self.socket.recv(4096)
            assert data == b"", f"expected the end, received {data!r}"

    def do_close(self, value):
        assert value is True
        self.socket.close()

    def do_map(self, value):
        descriptor = os.open(self.filled(value["path"]), os.O_RDWR | os.O_CLOEXEC)
        try:
            assert os.fstat(descriptor).st_size >= value["bytes"]
            self.segment = mmap.mmap(descriptor, value["bytes"], mmap.MAP_SHARED)
        finally:
            os.close(descriptor)

    def do_unlinked(self, value):
        path = Path(self.filled(value))
        deadline = time.monotonic() + WAIT_S
        while path.exists():
            assert time.monotonic() < deadline, "the segment still has its name"
            time.sleep(0.01)

    def do_write(self, value):
        packed = struct.pack(f"<{len(value['values'])}{FORMATS[value['dtype']]}", *value["values"])
        self.segment[value["offset"] : value["offset"] + len(packed)] = packed

    def do_read(self, value):
        layout = struct.Struct(f"<{len(value['values'])}{FORMATS[value['dtype']]}")
        assert list(layout.unpack_from(self.segment, value["offset"])) == value["values"]

    def do_repeat(self, value):
        before = dict(self.names)
        for _ in range(self.filled(value["times"])):
            self.names = dict(before)
            self.play(value["steps"])

    def receive_frame(self):
        length = struct.unpack("<I", self.receive_bytes(4))[0]
        assert 1 <= length <= 65536
        return msgpack.unpackb(self.receive_bytes(length), strict_map_key=False)

    def receive_bytes(self, count):
        while len(self.unread) < count:
            data = self.socket.recv(65536)
            assert data, "the connection ended where an answer is due"
            self.unread += data
        data, self.unread = self.unread[:count], self.unread[count:]
        return data

    def matches(self, expected, received):
        """Compare, and bind the names that are seen for the first time: but none where the whole does not match."""
        bound = dict(self.names)
        if matches(expected, received, bound):
            self.names = bound
            return True
        return False

    def filled(self, value):
        """A value with every known name replaced by what it stands for."""
        match value:
            case str():
                return self.names.get(value, value)
            case list():
                return [self.filled(item) for item in value]
            case dict():
                return {key: self.filled(item) for key, item in value.items()}
        return value


def matches(expected, received, names):
    """Whether a received value is what a script expects; `names` takes up what is seen for the first time."""
    if expected == "*":
        return True
    if isinstance(expected, str) and expected.startswith("$"):
        return names.setdefault(expected, received) == received
    if isinstance(expected, dict) and "$contains" in expected:
        return all(any(matches(item, other, names) for other in received) for item in expected["$contains"])
    if type(expected) is not type(received):
        return False
    if isinstance(expected, list):
        return len(expected) == len(received) and all(map(matches, expected, received, [names] * len(expected)))
    if isinstance(expected, dict):  # a map may have keys that this script knows nothing of
        return all(key in received and matches(item, received[key], names) for key, item in expected.items())
    return expected == received
