"""Connections that wait for a worker: who is handed on, who is replaced, and who is forgotten."""

import socket

import pytest

from broker.config import PoolConfig
from broker.control import Channel, Take, channel_pair, socket_of
from broker.handshake import Handshake
from broker.loop import Loop
from broker.reception import Reception
from broker.roster import Roster
from broker.stats import Stats
from broker.worker_handle import WorkerHandle
from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import encode_frame
from tests.unit.broker.parts import HELLO, Clock, decode_all

GRACE_NS = 100


class Front:
    """A reception, and the far ends of the connections that come to it."""

    def __init__(self):
        self.loop = Loop(0, Clock())
        self.roster = Roster(GRACE_NS)
        self.worker = None
        self.pools = ["default"]
        self.to_close = []
        self.reception = Reception(self.roster, self.loop, Stats(), lambda: self.pools, lambda _: self.worker)

    def come(self, token=None):
        """A client that says HELLO, and waits."""
        near, far = socket.socketpair()
        options = messages.HelloOptions(resume=token)
        far.sendall(encode_frame(messages.Hello(1, 0, HELLO.client, options)))
        self.loop.add(near, Handshake(Stats(), self.reception.greet))
        self.turn()
        far.setblocking(False)
        return far

    def turn(self):
        """Read the HELLO: its length, and then what it has."""
        self.loop.poll(0)
        self.loop.poll(0)

    def start_worker(self):
        """A worker comes; return its end of the channel."""
        channel, far = channel_pair()
        self.worker = WorkerHandle(1, PoolConfig("default"), 0, channel, Stats(), 0)
        end = Channel(socket_of(far))
        self.to_close += [self.worker, end]
        return end


@pytest.fixture
def front():
    front = Front()
    yield front
    front.reception.close()
    front.loop.close_all()
    for each in front.to_close:
        each.close()


def taken(worker_end):
    """What the worker was given: `[(packet, its connection)]`."""
    return [(packet, socket_of(descriptors[0])) for packet, descriptors in worker_end.receive()]


def hear(far):
    """What a client that was refused hears."""
    (message,) = decode_all(far.recv(4096))
    return message


def lost_session(front):
    """A session that was served, and lost its worker."""
    end = front.start_worker()
    front.come().close()
    ((take, sock),) = taken(end)
    sock.close()
    session = front.roster.sessions[take.session]
    front.roster.ended(session.number, 0, is_resumable=True)
    front.worker = None
    return session


def test_who_waits_is_handed_on_when_a_worker_comes(front):
    far = front.come()
    assert front.reception.waiting == 1
    end = front.start_worker()
    front.reception.place()
    assert front.reception.waiting == 0
    ((take, sock),) = taken(end)
    assert isinstance(take, Take)
    assert not take.is_resumed
    with sock, far:
        sock.sendall(b"it is this one")
        assert far.recv(64) == b"it is this one"


def test_the_last_of_those_that_resume_one_session_counts(front):
    session = lost_session(front)
    first = front.come(session.token)
    second = front.come(session.token)
    assert first.recv(64) == b""  # closed
    assert front.reception.waiting == 1
    heir = front.start_worker()
    front.reception.place()
    ((take, sock),) = taken(heir)
    assert (take.session, take.is_resumed) == (session.number, True)
    sock.sendall(b"it is this one")
    assert second.recv(64) == b"it is this one"
    for each in (first, second, sock):
        each.close()


def test_a_session_is_kept_for_as_long_as_somebody_waits_for_it(front):
    session = lost_session(front)
    far = front.come(session.token)
    front.roster.expire(10 * GRACE_NS)
    assert session.number in front.roster.sessions
    far.close()
    front.reception.forget_gone(20 * GRACE_NS)
    assert front.reception.waiting == 0
    assert session.number not in front.roster.sessions  # it ends with its client


def test_a_new_session_goes_with_its_client(front):
    here, gone = front.come(), front.come()
    gone.close()
    front.reception.forget_gone(1)
    assert front.reception.waiting == 1
    assert len(front.roster.sessions) == 1
    here.close()


def test_who_takes_a_session_up_and_goes_ends_it(front):
    """Though the former connection's end is noticed later than that: the worker is told to take what has gone."""
    end = front.start_worker()
    front.come().close()
    ((take, former),) = taken(end)
    front.come(take.token).close()
    front.reception.forget_gone(1)
    assert front.reception.waiting == 1
    former.close()
    front.roster.ended(take.session, 1, is_resumable=True)
    front.reception.place()
    ((again, sock),) = taken(end)
    assert again.session == take.session
    assert sock.recv(64) == b""
    sock.close()


@pytest.mark.parametrize("is_resumed", [False, True])
def test_who_waits_for_a_pool_that_is_gone_is_told(front, is_resumed):
    far = front.come(lost_session(front).token if is_resumed else None)
    front.pools = ["another"]
    front.reception.place()
    assert hear(far).code == (Code.RESUME_REFUSED if is_resumed else Code.UNKNOWN_POOL)
    assert front.reception.waiting == 0
    assert front.roster.sessions == {}
    far.close()


def test_who_waits_for_a_session_that_is_closed_is_told(front):
    end = front.start_worker()
    front.come().close()
    ((take, sock),) = taken(end)
    far = front.come(take.token)
    assert front.reception.waiting == 1  # its worker serves it still
    front.roster.ended(take.session, 1, is_resumable=False)
    front.reception.place()
    assert hear(far).code == Code.RESUME_REFUSED
    sock.close()
    far.close()
