"""The loop on real socket pairs: partial sends, clients that do not read, peers that change, and spinning or not."""

import contextlib
import os
import resource
import select
import socket

import pytest

from broker import loop as loops
from broker.loop import MAX_UNSENT_BYTES, SEND_TIMEOUT_NS, TICK_NS, Loop
from tests.unit.broker.parts import Clock


class Echo:
    """Sends back what it receives, `factor` times; ends at a byte `!`."""

    receive_bytes = 65536
    has_more = False
    patience_ns = None
    descriptors = ()

    def __init__(self, factor=1):
        self.out = bytearray()
        self.ended = False
        self.factor = factor
        self.received = bytearray()
        self.is_closed = False

    def receive(self, data, now_ns):
        self.received += data
        self.out += data * self.factor
        self.ended = b"!" in data

    def closed(self):
        assert not self.is_closed, "told twice"
        self.is_closed = True


class Ticking(Clock):
    """A clock that moves at every look at it, so that a spin comes to its end."""

    def __call__(self):
        self.ns += 1000
        return self.ns


@pytest.fixture(params=[0, 100_000], ids=["no-spin", "spin"])
def spin_ns(request):
    return request.param


@pytest.fixture
def clock():
    return Ticking()


@pytest.fixture
def loop(spin_ns, clock):
    loop = Loop(spin_ns, clock)
    yield loop
    loop.close_all()


@pytest.fixture
def join(loop):
    """A function that gives a peer to the loop; returns the client's socket and the connection."""
    with contextlib.ExitStack() as stack:

        def join(peer, sndbuf=None):
            near, far = socket.socketpair()
            stack.enter_context(near)
            near.settimeout(30)
            if sndbuf:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
            return near, loop.add(far, peer)

        yield join


def poll_until(loop, condition):
    """Poll as the worker does; generous, and no clock."""
    for _ in range(100_000):
        if condition():
            return
        loop.poll(None)
    raise AssertionError("it never came")


def read_all(sock, count):
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, "closed too early"
        data += piece
    return bytes(data)


def test_echo_again_and_again(loop, join):
    """The first answer comes through epoll; with spinning, the others through the hot connection."""
    peer = Echo()
    near, _ = join(peer)
    for number in range(20):
        near.sendall(b"%02d" % number)
        poll_until(loop, lambda: bytes(peer.received).endswith(b"%02d" % number))  # noqa: B023
        assert near.recv(10) == b"%02d" % number


def test_two_clients_take_turns(loop, join):
    """A spin on one connection looks at the others too."""
    peers = [Echo(), Echo()]
    socks = [join(peer)[0] for peer in peers]
    for number in range(20):
        sock, peer = socks[number % 2], peers[number % 2]
        sock.sendall(b"x")
        count = number // 2 + 1
        poll_until(loop, lambda: len(peer.received) == count)  # noqa: B023
        assert sock.recv(10) == b"x"


def test_a_spin_without_traffic_ends(loop, join, clock, spin_ns):
    peer = Echo()
    near, _ = join(peer)
    near.sendall(b"x")
    poll_until(loop, lambda: peer.received)
    other = Echo()
    near_other, _ = join(other)
    near_other.sendall(b"y")
    poll_until(loop, lambda: other.received)  # its turn comes though the first was hot
    assert near_other.recv(1) == b"y"


def test_a_wait_ends_at_its_time_or_when_something_comes(loop, join, clock):
    """Were it not so, the first two would take a second each, and the last for ever."""
    peer = Echo()
    near, _ = join(peer)
    loop.poll(clock() + 1000)
    loop.poll(clock() - 1000)
    assert not peer.received
    near.sendall(b"x")
    loop.poll(clock() + 10**18)
    assert peer.received == b"x"


def test_a_large_answer_is_sent_in_pieces(loop, join):
    peer = Echo(factor=300)
    near, connection = join(peer, sndbuf=8192)
    near.sendall(b"abcd" * 250)
    poll_until(loop, lambda: peer.received)
    assert peer.out, "the socket took all of it at once"
    assert connection.events & select.EPOLLOUT
    got = bytearray()
    near.setblocking(False)
    while len(got) < 300_000:
        with contextlib.suppress(BlockingIOError):
            got += near.recv(65536)
        loop.poll(0)
    assert bytes(got) == b"abcd" * 250 * 300
    assert not peer.out
    assert connection.events == select.EPOLLIN
    assert connection.stalled_ns is None


def test_unread_answers_stop_the_reading_which_resumes_later(loop, join):
    peer = Echo(factor=4000)
    near, connection = join(peer, sndbuf=8192)
    near.sendall(b"a" * 400)
    poll_until(loop, lambda: peer.received)
    assert len(peer.out) > MAX_UNSENT_BYTES
    near.sendall(b"b")
    for _ in range(50):
        loop.poll(0)
    assert peer.received == b"a" * 400, "it read on though nothing was read of its answers"
    near.setblocking(False)
    count = 0
    while b"b" not in peer.received:
        with contextlib.suppress(BlockingIOError):
            count += len(near.recv(65536))
        loop.poll(0)
    assert count > 400 * 4000 - MAX_UNSENT_BYTES - 65536
    assert connection.events & select.EPOLLIN


def test_a_client_that_never_reads_is_closed_and_others_are_not(loop, join, clock):
    peer, other = Echo(factor=4000), Echo()
    near, connection = join(peer, sndbuf=8192)
    join(other)
    near.sendall(b"a" * 400)
    poll_until(loop, lambda: connection.stalled_ns is not None)
    loop.poll(0)
    assert not peer.is_closed
    clock.ns += SEND_TIMEOUT_NS + TICK_NS
    loop.poll(0)
    assert peer.is_closed
    assert not other.is_closed
    assert list(loop.connections.values()) == [other.connection]


def test_a_client_that_reads_slowly_is_kept(loop, join, clock):
    """Ten seconds without a byte taken is the limit, not ten seconds in all."""
    peer = Echo(factor=4000)
    near, connection = join(peer, sndbuf=8192)
    near.sendall(b"a" * 400)
    poll_until(loop, lambda: connection.stalled_ns is not None)
    for _ in range(5):
        clock.ns += SEND_TIMEOUT_NS - TICK_NS
        before = len(peer.out)
        while len(peer.out) == before:
            near.recv(65536)
            loop.poll(0)
    assert not peer.is_closed


def test_a_client_that_leaves_while_it_is_not_read_is_noticed(loop, join):
    peer = Echo(factor=4000)
    near, connection = join(peer, sndbuf=8192)
    near.sendall(b"a" * 400)
    poll_until(loop, lambda: connection.stalled_ns is not None)
    near.close()
    poll_until(loop, lambda: peer.is_closed)
    assert not loop.connections


def test_end_of_stream_closes(loop, join):
    peer = Echo()
    near, _ = join(peer)
    near.sendall(b"x")
    near.shutdown(socket.SHUT_WR)
    poll_until(loop, lambda: peer.is_closed)
    assert peer.received == b"x"
    assert near.recv(10) == b"x"
    assert near.recv(10) == b""


def test_end_of_stream_after_traffic_closes(loop, join):
    """With spinning, it is the spin that sees it."""
    peer = Echo()
    near, _ = join(peer)
    near.sendall(b"x")
    poll_until(loop, lambda: peer.received)
    near.close()
    poll_until(loop, lambda: peer.is_closed)


def test_an_ended_peer_is_closed_after_its_last_byte(loop, join):
    peer = Echo(factor=300_000)
    near, _ = join(peer, sndbuf=8192)
    near.sendall(b"!")
    poll_until(loop, lambda: peer.ended)
    assert not peer.is_closed
    near.sendall(b"not read any more")
    near.setblocking(False)
    count = 0
    while not peer.is_closed or count < 300_000:
        with contextlib.suppress(BlockingIOError):
            count += len(near.recv(65536))
        if loop.connections:
            loop.poll(0)
    assert count == 300_000
    assert peer.received == b"!"


class Changes(Echo):
    """Takes two bytes, then another peer takes the socket over."""

    def __init__(self, successor):
        super().__init__()
        self.successor = successor

    @property
    def receive_bytes(self):
        return 2 - len(self.received)

    def receive(self, data, now_ns):
        self.received += data
        if len(self.received) == 2:
            self.successor.out += b"welcome "
            self.connection.become(self.successor)


def test_what_is_right_behind_the_first_peers_bytes_is_the_seconds(loop, join):
    second = Echo()
    first = Changes(second)
    near, connection = join(first)
    near.sendall(b"hibehind")
    poll_until(loop, lambda: second.received)
    assert (bytes(first.received), bytes(second.received)) == (b"hi", b"behind")
    assert read_all(near, 14) == b"welcome behind"
    near.close()
    poll_until(loop, lambda: second.is_closed)
    assert not first.is_closed
    assert connection.peer is second


def test_the_first_peers_bytes_one_by_one(loop, join):
    second = Echo()
    first = Changes(second)
    near, _ = join(first)
    near.sendall(b"h")
    poll_until(loop, lambda: first.received)
    near.sendall(b"ibehind")
    poll_until(loop, lambda: second.received)
    assert read_all(near, 14) == b"welcome behind"


def test_flush_to_a_client_that_is_gone_closes(loop, join):
    peer = Echo()
    near, connection = join(peer)
    near.close()
    peer.out += b"x"
    loop.flush(connection)
    assert peer.is_closed
    loop.flush(connection)  # again, harmless
    loop.close(connection)


def test_flush_to_a_client_that_is_gone_takes_what_it_said_before(loop, join):
    peer = Echo()
    near, connection = join(peer)
    near.sendall(b"last words")
    near.close()
    peer.out += b"x"
    loop.flush(connection)
    assert peer.received == b"last words"
    assert peer.is_closed


def test_flush_to_a_client_that_talks_on_without_listening_closes(loop, join):
    """Or it would keep the loop for itself."""

    class TalkedTo(Echo):
        def receive(self, data, now_ns):
            super().receive(data, now_ns)
            assert len(self.received) < 100, "this has no end"
            near.sendall(b"more")

    peer = TalkedTo()
    near, connection = join(peer)
    near.shutdown(socket.SHUT_RD)
    near.sendall(b"some")
    peer.out += b"x"
    loop.flush(connection)
    assert peer.is_closed


def test_flush_to_a_client_that_was_refused_hears_no_more_of_it(loop, join):
    peer = Echo()
    near, connection = join(peer)
    near.sendall(b"let me in")
    near.shutdown(socket.SHUT_RD)
    peer.out += b"no"
    peer.ended = True
    loop.flush(connection)
    assert peer.is_closed
    assert not peer.received


def test_a_tick_comes_about_once_a_second(loop, clock):
    ticks = []
    loop.on_tick.append(ticks.append)
    loop.poll(0)
    loop.poll(0)
    assert len(ticks) == 1
    clock.ns += TICK_NS
    loop.poll(0)
    assert len(ticks) == 2


def test_watched_descriptors(loop):
    near, far = socket.socketpair()
    with near, far:
        seen = []
        loop.watch(far.fileno(), lambda: seen.append(far.recv(10)))
        near.send(b"x")
        loop.poll(0)
        assert seen == [b"x"]


def test_accept_takes_everything_that_waits(loop, tmp_path):
    path = str(tmp_path / "sock")
    taken = []
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        loop.accept(listener, taken.append)
        for _ in range(3):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        loop.poll(0)
        assert len(taken) == 3
        for sock in taken:
            sock.close()


def test_accept_without_a_descriptor_left_pauses_until_the_next_tick(loop, clock, tmp_path, caplog):
    path = str(tmp_path / "sock")
    taken = []
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as near:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        loop.accept(listener, taken.append)
        near.connect(path)
        loop.poll(0)  # the first tick, and the connection
        taken.pop().close()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                loop.poll(0)
                loop.poll(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert taken == []
            assert [record.name for record in caplog.records] == [loops.log.name]  # once: it is not looked at again
            clock.ns += TICK_NS
            loop.poll(0)
            loop.poll(0)
            assert len(taken) == 1
            taken.pop().close()
