"""The broker's parts without a process: real models, segments and sockets, and a clock that the test turns."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NamedTuple

from broker.batcher import Batcher
from broker.engine import models
from broker.engine.config import ModelConfig
from broker.loop import Loop
from broker.session import Session, SessionContext
from broker.stats import ModelStats, Stats
from broker.worker import Worker
from ringbuf.errors import RingbrokerError
from ringbuf.segment import Segment
from ringbuf.wire import messages
from ringbuf.wire.framing import MAX_PAYLOAD_BYTES, FrameReader
from ringbuf.wire.messages import NO_INFER_EXTRA, NOTHING, decode_broker, encode_frame
from tests.conformance import reference_models

__all__ = ["RingbrokerError"]

HELLO = messages.Hello(1, 0, messages.ClientInfo("test", "1"), messages.HelloOptions())


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self):
        self.ns = 1

    def __call__(self):
        return self.ns


def load_models(max_batch=reference_models.MAX_BATCH):
    """The reference models, bound."""
    return [load_model(source, name, max_batch=max_batch) for name, source in reference_models.SOURCES.items()]


def load_model(source, name="model", **said):
    """A model, as an operator would have it with these settings."""
    return models.load(ModelConfig(name=name, source=source, **said), threads=1)


def build_context(catalog, store, *, rings=4, slots=64, segment_bytes=2**24):
    """What sessions share, around real segments."""
    stats = Stats(models={name: ModelStats() for name in catalog.models})
    limits = messages.Limits(MAX_PAYLOAD_BYTES, segment_bytes, slots, rings)
    return SessionContext(catalog, Batcher(), stats, limits, 8, store.create)


def decode_all(data):
    """The messages in a stream of whole frames."""
    return [decode_broker(payload) for payload in FrameReader().feed(bytes(data))]


def infer(ring, request_id, slot=0, rows=1, *, samples=None, deadline_ns=None, trace=None):
    """The INFER of rows of a ring that RING told of."""
    planes = [plane for plane in ring.planes if plane.direction == "in"]
    shapes = samples or [plane.sample for plane in planes]
    inputs = tuple(
        (plane.offset + slot * plane.stride, (rows, *shape), plane.dtype)
        for plane, shape in zip(planes, shapes, strict=True)
    )
    extra = messages.InferExtra(trace) if trace else NO_INFER_EXTRA
    return messages.Infer(request_id, ring.ring, slot, rows, inputs, None, deadline_ns, None, extra)


def open_message(request_id, model="twice", slots=8, maxima=None, version=None):
    """An OPEN."""
    return messages.Open(request_id, model, version, slots, maxima or {}, NOTHING)


class Talk:
    """One session, spoken to without a socket."""

    def __init__(self, context, number=1):
        self.session = Session(number, HELLO, context, 1)
        (self.welcome,) = self.take()

    def say(self, *spoken, now_ns=1):
        """Send messages; return what came back at once."""
        self.session.receive(b"".join(map(encode_frame, spoken)), now_ns)
        while self.session.has_more:
            self.session.receive(b"", now_ns)
        return self.take()

    def take(self):
        answers = decode_all(self.session.out)
        self.session.out.clear()
        return answers

    def open_ring(self, model="twice", request_id=900, **options):
        """OPEN and ATTACHED; returns the RING."""
        (ring,) = self.say(open_message(request_id, model, **options))
        assert isinstance(ring, messages.Ring), ring
        assert self.say(messages.Attached(ring.ring, 0)) == []
        return ring


class Works:
    """A worker with its loop, and sessions on socket pairs."""

    def __init__(self, catalog, store, spin_ns=0, clock=None):
        self.clock = clock or Clock()
        self.loop = Loop(spin_ns, self.clock)
        self.context = build_context(catalog, store)
        self.worker = Worker(self.loop, self.context.batcher, self.context.stats, self.clock)
        self.near = []

    def connect(self):
        """A client's socket, whose session has said WELCOME."""
        near, far = socket.socketpair()
        near.settimeout(30)
        self.near.append(near)
        session = Session(len(self.near), HELLO, self.context, self.clock())
        self.loop.flush(self.loop.add(far, session))
        return near, session

    def close(self):
        """Close both ends of everything."""
        self.loop.close_all()
        for sock in self.near:
            sock.close()


class Store(NamedTuple):
    """What a context needs of a segment store."""

    create: Callable[[int], Segment]
