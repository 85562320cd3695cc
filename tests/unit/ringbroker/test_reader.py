"""One reader for many threads: nobody's answer is lost, whoever reads, and in whatever order they come."""

import contextlib
import random
import signal
import socket
import threading

import pytest
import ringbroker
from ringbroker.call import Call, deadline_after
from ringbroker.connection import Connection
from ringbroker.protocol import next_id

from ringbuf.wire import messages
from ringbuf.wire.framing import FrameReader
from ringbuf.wire.messages import NOTHING, encode_frame
from tests.unit.ringbroker.peer import LIMITS, WAIT_S, Background, wait_until

WELCOME = messages.Welcome(1, 0, 7, None, 0, LIMITS, 0, 1, NOTHING)


@pytest.fixture(params=[0, 100_000], ids=["sleeping", "spinning"])
def pair(request):
    ours, theirs = socket.socketpair()
    connection = Connection(ours, request.param)
    connection.protocol.welcome = WELCOME
    theirs.settimeout(WAIT_S)
    with theirs:
        yield connection, theirs
        connection.lose("the test is over")


def ping(connection, timeout=WAIT_S, late=None):
    """Send PING; returns (its token, what it was answered)."""
    call = Call()
    token = next_id()
    connection.protocol.calls[token] = call
    connection.send(encode_frame(messages.Ping(token)))
    answer = connection.wait(call, deadline_after(timeout))
    if answer is None:
        answer = connection.cancel(token, call, late)
    return token, answer


def is_being_read(connection):
    if not connection._reader._role.acquire(False):
        return True
    connection._reader._role.release()
    return False


def read_tokens(end, count):
    frames, tokens = FrameReader(), []
    while len(tokens) < count:
        for payload in frames.feed(end.recv(65536)):
            message = messages.decode_client(payload)
            if isinstance(message, messages.Ping):
                tokens.append(message.token)
    return tokens


def answer(end, tokens):
    end.sendall(b"".join(encode_frame(messages.Pong(token)) for token in tokens))


@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize("order", [sorted, lambda tokens: sorted(tokens, reverse=True)])
def test_answers_in_any_order(pair, order, in_one_piece):
    connection, end = pair
    waiting = [Background(ping, connection) for _ in range(8)]
    tokens = order(read_tokens(end, 8))
    for some in [tokens] if in_one_piece else [[token] for token in tokens]:
        answer(end, some)
    for one in waiting:
        token, got = one.result()
        assert got.token == token


def test_every_thread_gets_its_own_answer_many_times(pair):
    connection, end = pair
    rounds, threads = 200, 6

    def serve():
        shuffle = random.Random(1).shuffle
        for _ in range(rounds):
            tokens = read_tokens(end, threads)
            shuffle(tokens)
            answer(end, tokens)

    barrier = threading.Barrier(threads)  # so that every round has all of them in flight

    def ask_often():
        for _ in range(rounds):
            barrier.wait(WAIT_S)
            token, got = ping(connection)
            assert got.token == token

    serving = Background(serve)
    for one in [Background(ask_often) for _ in range(threads)]:
        one.result()
    serving.result()


def test_reader_whose_time_is_up_hands_the_role_on(pair):
    connection, end = pair
    reader = Background(ping, connection, 0.05)
    (first,) = read_tokens(end, 1)
    follower = Background(ping, connection)
    (second,) = read_tokens(end, 1)
    assert reader.result() == (first, None)
    answer(end, [second])
    assert follower.result()[1].token == second


def test_follower_whose_time_is_up_leaves_alone(pair):
    connection, end = pair
    reader = Background(ping, connection)
    (first,) = read_tokens(end, 1)
    wait_until(lambda: is_being_read(connection))
    assert ping(connection, 0.01)[1] is None
    answer(end, [first])
    assert reader.result()[1].token == first


def test_many_timeouts_and_answers_at_once(pair):
    """Deadlines fall together with answers: each call has one or the other, and nobody waits for ever."""
    connection, end = pair
    late = []
    lock = threading.Lock()

    def serve():
        frames = FrameReader()
        while data := end.recv(65536):
            decoded = [messages.decode_client(payload) for payload in frames.feed(data)]
            answer(end, [message.token for message in decoded if isinstance(message, messages.Ping)])

    def take_late(_):
        with lock:
            late.append(1)

    def ask_often(seed):
        chance, timeouts = random.Random(seed), 0
        for _ in range(300):
            token, got = ping(connection, chance.choice([0, 0.0001, 0.001, WAIT_S]), take_late)
            timeouts += got is None
            assert got is None or got.token == token
        return timeouts

    serving = Background(serve)
    timeouts = sum(one.result() for one in [Background(ask_often, seed) for seed in range(4)])
    assert ping(connection)[1] is not None  # the stream is in order, so everything before has been read
    assert len(late) == timeouts
    assert connection.protocol.calls == {}
    connection.lose()
    serving.result()


def test_watcher_is_roused_while_it_reads(pair):
    connection, _ = pair
    call = Call()
    watching = Background(connection.watch, call, deadline_after(WAIT_S))
    wait_until(lambda: connection._reader._sleeper is call)
    connection.deliver(call, 0)
    watching.result()
    assert call.answer == 0


def test_end_wakes_watchers_readers_and_followers(pair):
    connection, end = pair
    watching = Background(connection.watch, Call(), deadline_after(WAIT_S))
    waiting = [Background(ping, connection) for _ in range(3)]
    read_tokens(end, 3)
    end.close()
    for one in waiting:
        assert isinstance(one.result()[1], ringbroker.BrokerLost)
    watching.result()
    assert isinstance(connection.error, ringbroker.BrokerLost)


class Interrupted(Exception):  # noqa: N818 - a signal's, like KeyboardInterrupt
    pass


def test_signal_handler_that_raises_leaves_no_wrong_state(no_collector, pair):
    """Whatever it interrupts: the next call gets its own answer, or is told that the connection has ended."""

    def serve(end):
        frames = FrameReader()
        with end, contextlib.suppress(OSError):
            while data := end.recv(65536):
                decoded = [messages.decode_client(payload) for payload in frames.feed(data)]
                answer(end, [message.token for message in decoded if isinstance(message, messages.Ping)])

    def interrupt(*_):
        nonlocal is_interrupted
        is_interrupted = True
        raise Interrupted

    def ping_until_interrupted(connection, delay_us):
        nonlocal is_interrupted
        is_interrupted = False
        with contextlib.suppress(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, delay_us / 1e6)
            while not is_interrupted:  # an exception raised inside some finaliser goes no further
                ping(connection)

    is_interrupted = False
    connection, end = pair
    serving = [Background(serve, end)]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay_us in range(5, 605, 3):
            ping_until_interrupted(connection, delay_us)
            token, got = ping(connection)
            assert isinstance(got, ringbroker.BrokerLost) or got.token == token
            if connection.error is not None:
                connection.close_descriptors()  # which may have been interrupted too
                ours, theirs = socket.socketpair()
                connection = Connection(ours, 50_000)
                connection.protocol.welcome = WELCOME
                serving.append(Background(serve, theirs))
    finally:
        signal.signal(signal.SIGALRM, before)
    connection.lose()
    pair[0].lose()
    for one in serving:
        one.result()
