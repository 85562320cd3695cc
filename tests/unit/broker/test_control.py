"""Channels between our own processes: what does not fit, what is too long, and what cannot be read."""

import os
import resource
import socket
from pathlib import Path

import pytest

from broker.control import Channel, Failed, Loading, Ready, channel_pair, socket_of
from ringbuf.errors import RingbrokerError


@pytest.fixture
def ends():
    near, far = channel_pair()
    ends = near, Channel(socket_of(far))
    yield ends
    for end in ends:
        end.close()


def packets(channel):
    return [packet for packet, _ in channel.receive()]


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_error_of_any_length_is_told(ends):
    near, far = ends
    near.send(Failed.of(RingbrokerError(3104, "x" * 2**20, "m")))
    assert packets(far) == [Failed(3104, "x" * 4096, "m")]
    assert far.is_open


def test_a_packet_that_cannot_be_read_ends_its_channel(caplog):
    """Such as one that is longer than what is received; what came before it is good, its descriptors are closed."""
    near, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far = Channel(end)
    with near:
        near.send(b"\x81\xa4type\xa5Ready")
        before = open_descriptors()
        socket.send_fds(near, [b"\xdb\x00\x02\x00\x00" + b"x" * 2**17], [near.fileno()])
        assert packets(far) == [Ready()]
        assert open_descriptors() == before
    assert not far.is_open
    assert "cannot be read" in caplog.text
    far.close()


def test_what_does_not_fit_waits_and_stays_in_order(ends):
    near, far = ends
    sent = [Loading(str(number)) for number in range(10_000)]
    for packet in sent:
        near.send(packet)
    assert near.has_unsent
    received = packets(far)
    while len(received) < len(sent):
        near.flush()
        received += packets(far)
    assert received == sent


def test_a_packet_waits_while_the_system_has_no_room(ends):
    """Too many descriptors under way (ETOOMANYREFS), which binds who has no privileges; the channel stays open."""
    near, far = ends
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
            for number in range(60):
                near.send(Loading(str(number)), [near.fileno()])
            if near.has_unsent and near.is_open:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    received = []
    for packet, descriptors in far.receive():
        received.append(packet)
        for fd in descriptors:
            os.close(fd)
    assert received == [Loading(str(number)) for number in range(len(received))]


def test_a_packet_to_nobody_is_dropped(ends):
    near, far = ends
    far.close()
    near.send(Ready())
    assert not near.is_open
    assert not near.has_unsent
