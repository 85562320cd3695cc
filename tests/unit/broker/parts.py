"""The broker's parts without a process: real models, segments and sockets, and a clock that the test turns."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from broker.batcher import Batcher
from broker.catalog import Catalog
from broker.control import Take
from broker.engine import models
from broker.engine.config import ModelConfig
from broker.loop import Loop
from broker.ring import design_ring
from broker.roster import Roster
from broker.session import Session, SessionContext
from broker.stats import Stats
from broker.worker import Worker
from ringbuf.errors import RingbrokerError
from ringbuf.segment import Memory
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
    sources = reference_models.SOURCES.items()
    return [load_model(source, name, number, max_batch=max_batch) for number, (name, source) in enumerate(sources)]


def load_model(source, name="model", number=0, **said):
    """A model, as an operator would have it with these settings."""
    return models.load(ModelConfig(name=name, source=source, **said), threads=1, number=number)


def catalog_of(loaded):
    """A catalog with one pool."""
    loaded = list(loaded)
    return Catalog(loaded, {model.name: "default" for model in loaded})


class Keeper:
    """The supervisor's part, done at once: makes memory, and keeps it as long as a session may need it."""

    def __init__(self, create):
        self.roster = Roster(grace_ns=100)
        self.sessions = {}
        self._create = create

    def begin(self, context, hello=None, now_ns=1):
        """A new session, or the one that the HELLO resumes."""
        hello = hello or HELLO
        record = self.roster.greet(hello, [context.pool])
        is_resumed = record.token != ""
        self.roster.assign(record, context)
        rings = tuple(kept.record for kept in record.rings.values())
        memory = [os.dup(kept.memory.fd) for kept in record.rings.values()]
        take = Take(record.number, record.token, hello, is_resumed, rings, record.told)
        session = self.sessions[record.number] = Session(take, memory, context, now_ns)
        return session

    def want(self, session, kind, ring):
        try:
            memory = self._create(ring.size_bytes, kind)
        except RingbrokerError as error:
            self.sessions[session].refuse_memory(ring.number, error)
            return
        self.roster.keep(session, self.roster.sessions[session].worker, ring, memory)
        self.sessions[session].give_memory(ring.number, os.dup(memory.fd), memory.path)

    def attached(self, session, ring):
        self.roster.attached(session, ring)

    def freed(self, session, ring):
        self.roster.freed(session, ring)

    def ended(self, session, *, is_resumable):
        del self.sessions[session]
        self.roster.ended(session, 1, is_resumable=is_resumable)


def build_context(catalog, store, *, rings=4, slots=64, segment_bytes=2**24):
    """What sessions share, around real segments."""
    stats = Stats(models=len(list(catalog.models())))
    limits = messages.Limits(MAX_PAYLOAD_BYTES, segment_bytes, slots, rings)
    return SessionContext(catalog, Batcher(), stats, limits, 8, Keeper(store.create))


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

    def __init__(self, context, hello=None):
        self.session = context.keeper.begin(context, hello)
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
        session = self.context.keeper.begin(self.context, now_ns=self.clock())
        self.loop.flush(self.loop.add(far, session))
        return near, session

    def close(self):
        """Close both ends of everything."""
        self.loop.close_all()
        for sock in self.near:
            sock.close()


class Store(NamedTuple):
    """What a context needs of a segment store."""

    create: Callable[[int, str], Memory]


def open_ring(catalog, store, ask, limits, default_slots=8):
    """The attached ring that an OPEN asks for, around memory of its own."""
    ring = design_ring(1, catalog.find(ask.model, "default"), ask, limits, default_slots)
    memory = store.create(ring.size_bytes)
    ring.map(memory.fd)
    memory.free()
    ring.attached = True
    return ring


def told(ring):
    """The RING that tells of it."""
    return ring.message(1, "path", "")
