"""A broker small enough to be steered by a test: real sockets, real segments, the models are numpy functions.

A `Peer` listens on a Unix socket and serves every connection in a thread of its own. What it does with a message may be
replaced: `peer.on[messages.Infer] = lambda session, infer: ...`; `session.answer(infer)` is the ordinary way.
"""

import contextlib
import socket
import threading
import time
from collections import defaultdict
from itertools import count
from queue import SimpleQueue

import numpy as np
from ringbroker.planes import sample_of, view_rows

from ringbuf.errors import Code
from ringbuf.layout import PlaneGeometry, lay_out
from ringbuf.segment import Segment, SegmentStore
from ringbuf.wire import messages
from ringbuf.wire.framing import FrameReader

WAIT_S = 30.0  # for what must happen; a limit for broken code, not an expectation
LIMITS = messages.Limits(65536, 2**30, 4096, 64)


def wait_until(is_so):
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


class Background:
    """Runs a function in a thread; `result` waits for it, and raises what it raised."""

    def __init__(self, function, *arguments, **named):
        self._outcome = SimpleQueue()

        def run():
            try:
                self._outcome.put((function(*arguments, **named), None))
            except BaseException as error:  # handed on
                self._outcome.put((None, error))

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self):
        value, error = self._outcome.get(timeout=WAIT_S)
        self.thread.join(WAIT_S)
        if error is not None:
            raise error
        return value


class Model:
    """A served model: tensors are (name, dtype, shape, batch_axis); `run` maps rows to rows, `[rows, *sample]`."""

    def __init__(self, inputs, outputs, run, dims=None, max_rows=64):
        self.signature = messages.Signature(
            tuple(messages.Tensor(*tensor) for tensor in inputs),
            tuple(messages.Tensor(*tensor) for tensor in outputs),
            dims or {},
        )
        self.run = run
        self.max_rows = max_rows


DOUBLE = Model([("x", "F32", ("batch", 4), 0)], [("y", "F32", ("batch", 4), 0)], lambda x: [x * 2])
TOKENS = Model(
    [("tokens", "I64", ("batch", "seq"), 0), ("mask", "BOOL", ("batch", "seq"), 0)],
    [("score", "F32", ("batch",), 0), ("echo", "I64", ("batch", "seq"), 0)],
    lambda tokens, mask: [(tokens * mask).sum(axis=1), tokens * mask],
    {"seq": 16},
)


class Memory:
    """A ring's memory, mapped on the broker's side."""

    def __init__(self, store, size_bytes, kind):
        self._memory = store.create(size_bytes, kind)
        self.fd, self.path, self.size_bytes = self._memory
        self.buffer = Segment(self.fd, size_bytes).buffer

    def unlink(self):
        self._memory.unlink()

    def free(self):
        self._memory.free()


class Session:
    """One connection; after a resume, `rings` are those of the one before."""

    def __init__(self, peer, connected):
        self.peer = peer
        self.socket = connected
        self.received = []
        self.rings = {}
        self.kind = "path"
        self.token = None
        self.is_resumable = False
        self.is_over = threading.Event()
        self.sending = threading.Lock()

    def serve(self):
        frames = FrameReader()
        with contextlib.suppress(OSError), self.socket:
            while data := self.socket.recv(65536):
                for payload in frames.feed(data):
                    message = messages.decode_client(payload)
                    self.received.append(message)
                    self.peer.on[type(message)](self, message)
        if not self.is_resumable:
            self.peer.tokens.pop(self.token, None)
        self.is_over.set()

    def send(self, *answers):
        self.send_bytes(b"".join(messages.encode_frame(answer) for answer in answers))

    def send_bytes(self, data):
        with contextlib.suppress(OSError), self.sending:
            self.socket.sendall(data)

    def send_with(self, answer, descriptors):
        """Send an answer, and descriptors with its first byte."""
        frame = messages.encode_frame(answer)
        with contextlib.suppress(OSError), self.sending:
            socket.send_fds(self.socket, [frame[:1]], descriptors)
            self.socket.sendall(frame[1:])

    def go_away(self):
        """Ask the client to go on elsewhere."""
        self.is_resumable = True
        self.send(messages.GoAway("reload", 10_000))

    def fail(self, number, code, path=None, extra=messages.NO_ERROR_EXTRA):
        self.send(messages.Error(number, code, "because the test says so", path, None, extra))

    def hang_up(self):
        """End as a worker does that is lost."""
        self.is_resumable = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def got(self, kind):
        return [message for message in self.received if isinstance(message, kind)]

    def welcome(self, hello):
        """Begin, or take up the session that the token names."""
        self.kind = (hello.options.segments or ("path",))[0]
        states = None
        if hello.options.resume is not None:
            former = self.peer.tokens.get(hello.options.resume)
            if former is not None:
                former.is_over.wait(WAIT_S)
            former = self.peer.tokens.pop(hello.options.resume, None)
            if former is None:
                self.fail(None, Code.RESUME_REFUSED, "options.resume")
                self.hang_up()
                return
            self.rings = former.rings
            states = tuple((number, self.peer.changed.get(number, 0)) for number in self.rings)
        self.token = f"token-{next(self.peer.counter)}"
        self.peer.tokens[self.token] = self
        options = messages.WelcomeOptions(hello.options.pool or "default", states, self.peer.lost)
        self.send(messages.Welcome(1, 0, 7, self.token, time.monotonic_ns(), LIMITS, 0, 1, options))

    def list_models(self, ask):
        """One model to a page."""
        name, model = list(self.peer.models.items())[ask.page]
        following = ask.page + 1 if ask.page + 1 < len(self.peer.models) else None
        listed = messages.Model(name, ("1",), self.peer.pools.get(name, "default"), model.signature)
        self.send(messages.Models(ask.id, (listed,), following))

    def open_ring(self, ask):
        model = self.peer.models.get(ask.model)
        if model is None:
            self.fail(ask.id, Code.UNKNOWN_MODEL, "model")
            return
        ring = self.ring_of(ask, model)
        if ring.segment.kind == "fd":
            self.send_with(ring, [self.rings[ring.ring][2].fd])
        else:
            self.send(ring)

    def ring_of(self, ask, model):
        slots = ask.slots or 8
        maxima = {**model.signature.dims, **ask.maxima}
        tensors = [(tensor, "in") for tensor in model.signature.inputs]
        tensors += [(tensor, "out") for tensor in model.signature.outputs]
        samples = [tuple(maxima.get(dim, dim) for dim in sample_of(tensor)) for tensor, _ in tensors]
        layout = lay_out(
            slots, [PlaneGeometry(t.dtype, sample) for (t, _), sample in zip(tensors, samples, strict=True)]
        )
        segment = Memory(self.peer.store, layout.segment_bytes, self.kind)
        self.peer.segments.append(segment)
        planes = tuple(
            messages.Plane(t.name, direction, t.dtype, sample, at.offset, at.stride, t.batch_axis, "cpu")
            for (t, direction), sample, at in zip(tensors, samples, layout.planes, strict=True)
        )
        number = len(self.rings) + 1
        self.rings[number] = (model, planes, segment)
        info = messages.SegmentInfo(self.kind, segment.path, segment.size_bytes)
        rows = min(slots, model.max_rows)
        return messages.Ring(ask.id, number, info, slots, rows, "1", planes, self.peer.ring_options)

    def attached(self, told):
        self.rings[told.ring][2].unlink()

    def answer(self, infer):
        """Run the model, and send the RESULT; none for what came behind the ring's end."""
        if infer.ring in self.rings:
            self.send(self.result_of(infer))

    def result_of(self, infer):
        model, planes, segment = self.rings[infer.ring]
        ins = [plane for plane in planes if plane.direction == "in"]
        outs = [plane for plane in planes if plane.direction == "out"]
        given = [
            view_rows(plane, segment.buffer, infer.slot, infer.rows, shape[1:])
            for plane, (_, shape, _) in zip(ins, infer.inputs, strict=True)
        ]
        descriptors = []
        for plane, values in zip(outs, model.run(*given), strict=True):
            rows = np.asarray(values)
            view_rows(plane, segment.buffer, infer.slot, infer.rows, rows.shape[1:])[...] = rows
            descriptors.append((plane.offset + infer.slot * plane.stride, rows.shape, plane.dtype))
        version = infer.version or "1"
        return messages.Result(infer.id, True, tuple(descriptors), version, (11, 22), infer.rows, messages.NOTHING)

    def close_ring(self, ask):
        self.rings.pop(ask.ring)
        self.send(messages.Closed(ask.id, ask.ring))

    def pong(self, ping):
        self.send(messages.Pong(ping.token))

    def cancel(self, ask):
        """Nothing: a request that has begun runs to its end."""


class Peer:
    """Listens on `path` from the start; `sessions` in order of their coming. Use it as a context manager."""

    def __init__(self, path, models=None):
        self.path = str(path)
        self.models = models or {"double": DOUBLE, "tokens": TOKENS}
        self.pools = {}
        """The pool of each model that is not in `default`."""
        self.store = SegmentStore(self.path)
        self.segments = []
        self.sessions = []
        self.tokens = {}
        """By resume token: the session that it takes up."""
        self.changed = {}
        """By ring: the code that a resume tells of it."""
        self.lost = None
        """The code of lost requests that a resume tells."""
        self.ring_options = messages.NO_RING_OPTIONS
        self.counter = count(1)
        self.on = defaultdict(
            lambda: lambda session, message: None,
            {
                messages.Hello: Session.welcome,
                messages.List: Session.list_models,
                messages.Open: Session.open_ring,
                messages.Attached: Session.attached,
                messages.Infer: Session.answer,
                messages.Close: Session.close_ring,
                messages.Cancel: Session.cancel,
                messages.Ping: Session.pong,
            },
        )
        self._threads = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                session = Session(self, self._listener.accept()[0])
                self.sessions.append(session)
                thread = threading.Thread(target=session.serve, daemon=True)
                self._threads.append(thread)
                thread.start()

    def hold(self, kind=messages.Infer):
        """Answer no message of this kind any more; returns the queue that they come out of, as (session, message)."""
        held = SimpleQueue()
        self.on[kind] = lambda session, message: held.put((session, message))
        return held

    def restart(self):
        """End every session, as a broker does that dies and is up again at once, knowing nothing of them."""
        self.tokens.clear()
        for session in self.sessions:
            session.hang_up()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.restart()
        for thread in [self._accepting, *self._threads]:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        for segment in self.segments:
            segment.free()
