"""A client in plain sockets and msgpack, for faults: it can send any bytes, and stop anywhere."""

import mmap
import os
import socket
import struct
import threading
import time
from contextlib import suppress

import msgpack

WAIT_S = 60.0  # for what the broker owes; a limit for broken ones, not an expectation
HELLO = [1, 1, 0, {"name": "fault", "version": "1"}, {}]


def framed(*messages):
    payloads = [msgpack.packb(message) for message in messages]
    return b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)


class Ring:
    """An open ring of a model with one input and one output of F32[batch,n]."""

    def __init__(self, answer, root=""):
        assert answer[0] == 67, answer
        _, _, self.number, segment, self.slots, self.max_rows, _, (self.input, self.output), _ = answer
        self.path = root + segment["path"]
        self.bytes = segment["bytes"]
        self.memory = None

    def map(self):
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.memory = mmap.mmap(descriptor, self.bytes, mmap.MAP_SHARED)
        finally:
            os.close(descriptor)

    def write(self, slot, *values):
        struct.pack_into(f"<{len(values)}f", self.memory, self.input[4] + slot * self.input[5], *values)

    def read(self, slot, count=4):
        return struct.unpack_from(f"<{count}f", self.memory, self.output[4] + slot * self.output[5])

    def infer(self, request_id, slot=0, rows=1, deadline_ns=None, trace=None):
        """The INFER for these rows."""
        descriptor = [self.input[4] + slot * self.input[5], [rows, *self.input[3]], self.input[2]]
        extra = {} if trace is None else {"trace": trace}
        return [5, request_id, self.number, slot, rows, [descriptor], None, deadline_ns, None, extra]


class Peer:
    """One connection."""

    def __init__(self, path, root=""):
        self.root = root
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *messages):
        self.socket.sendall(framed(*messages))

    def receive(self):
        """The next message; EOFError where the connection ended."""
        length = struct.unpack("<I", self._receive_bytes(4))[0]
        return msgpack.unpackb(self._receive_bytes(length))

    def ask(self, *message):
        self.send(list(message))
        return self.receive()

    def hello(self):
        answer = self.ask(*HELLO)
        assert answer[0] == 65, answer
        return self

    def open(self, model, slots=4):
        """A ring, mapped and attached."""
        ring = Ring(self.ask(3, 1, model, None, slots, {}, {}), self.root)
        ring.map()
        self.send([4, ring.number, 0])
        return ring

    def fill(self, ring):
        """Infer without reading until nothing more is taken, for want of room for the answers; returns how often."""
        asked = 0
        self.socket.settimeout(0.5)
        with suppress(TimeoutError):
            while True:
                self.socket.sendall(framed(ring.infer(asked, asked % ring.slots)))
                asked += 1
        self.socket.settimeout(WAIT_S)
        return asked

    def error(self):
        """The code of the ERROR that comes next."""
        answer = self.receive()
        assert answer[0] == 64, answer
        return answer[2]

    def is_at_end(self):
        try:
            return self.unread == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:  # what Linux tells where the broker left bytes unread
            return True

    def _receive_bytes(self, count):
        while len(self.unread) < count:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.unread += data
        data, self.unread = self.unread[:count], self.unread[count:]
        return data


class Client:
    """A session that goes on after its worker: it keeps its token and its rings."""

    def __init__(self, path):
        self.path = path
        self.peer = Peer(path)
        self.welcome = self.peer.ask(*HELLO)
        assert self.welcome[0] == 65, self.welcome

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.socket.close()

    @property
    def token(self):
        return self.welcome[4]

    def resume(self):
        """Connect again, and go on; returns the options of WELCOME."""
        token = self.token
        while True:
            self.peer.socket.close()
            self.peer = Peer(self.path)
            with suppress(EOFError, ConnectionResetError):  # the worker that it was given to may be dying, too
                self.welcome = self.peer.ask(*HELLO[:4], {"resume": token})
                assert self.welcome[0] == 65, self.welcome
                return self.welcome[9]

    def is_lost(self):
        """Whether the connection ended; waits for it."""
        return self.peer.is_at_end()


class Bystander:
    """A client on a thread of its own that infers and checks all the time; leaving it fails if anything was wrong."""

    def __init__(self, path, model="twice", root=""):
        self.count = 0
        self._failure = None
        self._is_stopping = threading.Event()
        self._peer = Peer(path, root).hello()
        self._ring = self._peer.open(model)
        self._infer()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.wait_for_more()
        self._is_stopping.set()
        self._thread.join()
        self._peer.socket.close()
        if self._failure is not None:
            raise AssertionError(f"the bystander was disturbed after {self.count} inferences") from self._failure

    def wait_for_more(self, count=10):
        """Wait until so many more inferences were right."""
        wanted = self.count + count
        until(lambda: self.count >= wanted or self._failure is not None)

    def _run(self):
        try:
            while not self._is_stopping.is_set():
                self._infer()
        except (AssertionError, OSError, EOFError) as error:
            self._failure = error

    def _infer(self):
        slot = self.count % self._ring.slots
        values = (float(self.count % 2**20), 1.5, -2.0, 0.25)
        self._ring.write(slot, *values)
        answer = self._peer.ask(*self._ring.infer(self.count, slot))
        assert answer[:3] == [69, self.count, True], answer
        assert self._ring.read(slot) == tuple(2 * value for value in values)
        self.count += 1


def until(is_true, limit_s=WAIT_S):
    """Poll until it holds."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
