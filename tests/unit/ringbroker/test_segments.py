"""Segments that come as descriptors: which are taken, which are closed, and what is said where none came."""

import gc
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import ringbroker
from ringbroker.protocol import Protocol

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, Session, wait_until

THEIRS = 2  # descriptors that the peer holds of each ring: the memory's, and that of Python's mmap
OURS = 1  # our mmap's


@pytest.fixture
def client(peer):
    with ringbroker.connect(peer.path, timeout=WAIT_S, segments="fd") as client:
        yield client


def open_descriptors():
    gc.collect()  # the connections of other tests
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped_memfds():
    return Path("/proc/self/maps").read_text().count("memfd:ringbroker")


def test_ring_by_descriptor(peer, client):
    with client.open("double") as model:
        assert model(np.ones((1, 4))).tolist() == [[2] * 4]
    assert peer.sessions[0].got(messages.Hello)[0].options.segments == ("fd",)
    assert peer.segments[0].path is None


def test_only_the_mapping_is_kept(peer, client):
    before = open_descriptors()
    model = client.open("double")
    assert open_descriptors() == before + THEIRS + OURS
    mapped = mapped_memfds()
    model.close()
    del model
    assert open_descriptors() == before + THEIRS
    assert mapped_memfds() == mapped - 1


def test_descriptor_that_comes_before_its_ring(peer, client):
    """With the first byte of another answer."""

    def answer(session, ask):
        info = session.ring_of(ask, peer.models["double"])
        session.send_with(
            messages.Error(None, Code.SHM_FULL, "", None, None, messages.NO_ERROR_EXTRA), [memory(session)]
        )
        session.send(info)

    def memory(session):
        return session.rings[1][2].fd

    peer.on[messages.Open] = answer
    with client.open("double") as model:
        assert model(np.ones((1, 4))).tolist() == [[2] * 4]


def test_rings_of_many_threads_get_their_own_memory(peer, client):
    """Descriptors come in the order of the RINGs, several with one byte."""
    held = peer.hold(messages.Open)
    opening = [Background(client.open, "double", slots=slots) for slots in (1, 2, 3, 4, 5)]
    asked = [held.get(timeout=WAIT_S) for _ in opening]
    session = asked[0][0]
    rings = [session.ring_of(ask, peer.models["double"]) for _, ask in asked]
    frames = b"".join(messages.encode_frame(ring) for ring in rings)
    socket.send_fds(session.socket, [frames[:1]], [session.rings[ring.ring][2].fd for ring in rings])
    session.socket.sendall(frames[1:])
    peer.on[messages.Open] = Session.open_ring
    models = [one.result() for one in opening]
    for number, model in enumerate(models):
        assert model(np.full((1, 4), number)).tolist() == [[2 * number] * 4]
    for model in models:
        model.close()


@pytest.mark.parametrize("extra", [1, 3])
def test_descriptors_that_nobody_asked_for_are_closed(peer, client, extra):
    def answer(session, ask):
        info = session.ring_of(ask, peer.models["double"])
        session.send_with(info, [session.rings[info.ring][2].fd] * (1 + extra))

    before = open_descriptors()
    peer.on[messages.Open] = answer
    with client.open("double") as model:
        assert model(np.ones((1, 4))).tolist() == [[2] * 4]
        assert open_descriptors() == before + THEIRS + OURS


def test_descriptors_beside_other_answers_are_not_taken(peer, client):
    before = open_descriptors()
    peer.on[messages.Ping] = lambda session, ping: session.send_with(
        messages.Pong(ping.token), [session.socket.fileno()] * 3
    )
    client.ping()
    assert open_descriptors() == before


def test_no_descriptor(peer, client):
    peer.on[messages.Open] = lambda session, ask: session.send(session.ring_of(ask, peer.models["double"]))
    peer.on[messages.Attached] = lambda session, told: None
    with pytest.raises(ringbroker.AttachFailed):
        client.open("double")
    wait_until(lambda: peer.sessions[0].got(messages.Attached))
    assert peer.sessions[0].got(messages.Attached) == [messages.Attached(1, Code.ATTACH_FAILED)]
    assert client.models()


@pytest.mark.parametrize("size_bytes", [0, 4096, 2**20])
def test_descriptor_of_something_else(peer, client, size_bytes):
    fd = os.memfd_create("something")
    os.ftruncate(fd, size_bytes)
    peer.on[messages.Attached] = lambda session, told: None
    peer.on[messages.Open] = lambda session, ask: session.send_with(session.ring_of(ask, peer.models["double"]), [fd])
    before = open_descriptors()
    with pytest.raises(ringbroker.AttachFailed):
        client.open("double")
    assert open_descriptors() == before + THEIRS
    os.close(fd)


@pytest.mark.parametrize("kind", ["path", "fd", "cloth"])
def test_kind_that_was_not_offered(peer, kind):
    def answer(session, ask):
        info = session.ring_of(ask, peer.models["double"])
        info.segment = messages.SegmentInfo(kind, None if kind == "path" else "/dev/null", info.segment.bytes)
        session.send(info)

    peer.on[messages.Open] = answer
    with ringbroker.connect(peer.path) as client, pytest.raises(ringbroker.BadAnswer) as caught:
        client.open("double")
    assert caught.value.path == "segment.kind"


def test_ring_that_comes_too_late_is_given_back(peer, client):
    held = peer.hold(messages.Open)
    peer.on[messages.Attached] = lambda session, told: None
    with pytest.raises(ringbroker.Timeout):
        client.open("double", timeout=0.01)
    session, ask = held.get(timeout=WAIT_S)
    before = open_descriptors()
    session.open_ring(ask)
    wait_until(lambda: client.models() and session.got(messages.Attached))
    assert session.got(messages.Attached) == [messages.Attached(1, Code.ATTACH_FAILED)]
    assert open_descriptors() == before + THEIRS


def test_resume_keeps_the_memory(peer, client):
    with client.open("double") as model, model.acquire() as lease:
        lease.inputs["x"][:] = 3
        peer.sessions[0].hang_up()
        assert lease.infer()["y"].tolist() == [[6] * 4]


def test_setting():
    with pytest.raises(ValueError, match="segments"):
        ringbroker.connect(segments="cloth")


def test_descriptors_end_with_the_connection():
    """Those that arrived, and those of rings that nobody has mapped."""
    protocol = Protocol(lambda: 0)
    protocol.hello("hello", "tests", messages.HelloOptions(("fd",)))
    protocol.calls |= {1: "one", 2: "two"}
    protocol.opening |= {1, 2}
    before = open_descriptors()
    protocol.take_descriptors([os.dup(0), os.dup(0)])
    info = messages.SegmentInfo("fd", None, 4096)
    protocol.feed(messages.encode_frame(messages.Ring(1, 1, info, 1, 1, "1", (), messages.NO_RING_OPTIONS)))
    assert (protocol.room, list(protocol.memory)) == (0, [1])
    protocol.close_descriptors()
    assert open_descriptors() == before
