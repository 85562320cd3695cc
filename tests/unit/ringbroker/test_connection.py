"""A connection on one end of a socket pair, the test on the other: sending, and how it ends."""

import socket
from functools import partial
from pathlib import Path

import pytest
import ringbroker
from ringbroker.call import Call, deadline_after
from ringbroker.connection import Connection

from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import NOTHING, encode_frame
from tests.unit.ringbroker.peer import LIMITS, WAIT_S, Background

WELCOME = messages.Welcome(1, 0, 7, None, 0, LIMITS, 0, 1, NOTHING)
LIST = partial(messages.List, page=0)


class Wire:
    """The broker's end of a connection: reads and writes by hand."""

    def __init__(self, end):
        self.end = end
        end.settimeout(WAIT_S)
        self.stream = end.makefile("rb")

    def read(self):
        payload = self.stream.read(int.from_bytes(self.stream.read(4), "little"))
        return messages.decode_client(payload)

    def write(self, *answers):
        self.end.sendall(b"".join(messages.encode_frame(answer) for answer in answers))

    def close(self):
        self.stream.close()
        self.end.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    connection, wire = Connection(ours, 0), Wire(theirs)
    yield connection, wire
    connection.lose("the test is over")
    wire.close()
    assert ours.fileno() == -1


def greet(connection, timeout=WAIT_S):
    connection.greet("tests", messages.HelloOptions(("path",)))
    return connection.welcome(deadline_after(timeout))


@pytest.fixture
def session(pair):
    """The pair after its handshake."""
    connection, wire = pair
    wire.write(WELCOME)
    assert greet(connection).session == 7
    assert isinstance(wire.read(), messages.Hello)
    return pair


def models(number):
    return messages.Models(number, (), None)


def error(number, code):
    return messages.Error(number, code, "text", "a.path", 5, NOTHING)


def ask(connection, timeout=WAIT_S, late=None):
    return connection.ask(LIST, messages.Models, deadline_after(timeout), late)


def test_ask(session):
    connection, wire = session
    asking = Background(ask, connection)
    number = wire.read().id
    wire.write(models(number))
    assert asking.result().id == number


def test_error_is_raised(session):
    connection, wire = session
    asking = Background(ask, connection)
    wire.write(error(wire.read().id, Code.SHM_FULL))
    with pytest.raises(ringbroker.ShmFull) as caught:
        asking.result()
    assert (caught.value.text, caught.value.path, caught.value.retry_after_ms) == ("text", "a.path", 5)


def test_greeting_refused(pair):
    connection, wire = pair
    wire.write(error(None, Code.TOO_MANY_CONNECTIONS))
    with pytest.raises(ringbroker.CapacityError):
        greet(connection)
    assert connection.error is not None


def test_greeting_unanswered(pair):
    connection, wire = pair
    with pytest.raises(ringbroker.Timeout):
        greet(connection, 0)
    assert connection.error is None  # it may still come
    wire.write(WELCOME)
    assert connection.welcome(deadline_after(WAIT_S)).session == 7


def test_late_answer_goes_to_late(session):
    connection, wire = session
    told = []
    with pytest.raises(ringbroker.Timeout):
        ask(connection, 0, told.append)
    wire.write(models(wire.read().id))
    connection.look()
    assert isinstance(told[0], messages.Models)
    assert connection.protocol.calls == {}


def test_late_is_told_of_the_end(session):
    connection, _ = session
    told = []
    with pytest.raises(ringbroker.Timeout):
        ask(connection, 0, told.append)
    connection.lose()
    assert isinstance(told[0], ringbroker.BrokerLost)


def test_wrong_kind_of_answer_closes(session):
    connection, wire = session
    asking = Background(ask, connection)
    wire.write(messages.Closed(wire.read().id, 1))
    with pytest.raises(ringbroker.BadAnswer):
        asking.result()
    assert wire.stream.read() == b""


@pytest.mark.parametrize("cut", range(1, len(encode_frame(models(2**32)))))
def test_end_in_the_middle_of_an_answer(cut):
    ours, theirs = socket.socketpair()
    connection, wire = Connection(ours, 0), Wire(theirs)
    wire.write(WELCOME)
    greet(connection)
    wire.read()
    asking = Background(ask, connection)
    frame = encode_frame(models(wire.read().id))
    wire.end.sendall(frame[:cut])
    wire.close()
    with pytest.raises(ringbroker.BrokerLost):
        asking.result()
    assert ours.fileno() == -1


def test_answer_in_pieces(session):
    connection, wire = session
    asking = Background(ask, connection)
    number = wire.read().id
    for byte in encode_frame(models(number)):
        wire.end.sendall(bytes([byte]))
    assert asking.result().id == number


def test_protocol_error_tells_everybody(session):
    connection, wire = session
    asking = [Background(ask, connection) for _ in range(3)]
    for _ in asking:
        wire.read()
    wire.write(error(None, Code.INVALID_FIELD))
    for waiting in asking:
        with pytest.raises(ringbroker.ProtocolError) as caught:
            waiting.result()
        assert caught.value.code == Code.INVALID_FIELD
    with pytest.raises(ringbroker.BrokerLost):  # who comes later did nothing wrong
        ask(connection)


def test_failed_send_reads_what_was_said(session):
    connection, wire = session
    wire.write(error(None, Code.HANDSHAKE_TIMEOUT))
    wire.close()
    with pytest.raises(ringbroker.ProtocolError) as caught:
        ask(connection)
    assert caught.value.code == Code.HANDSHAKE_TIMEOUT


def test_failed_send_on_a_stream_that_stays_open(session):
    connection, wire = session
    wire.end.shutdown(socket.SHUT_RD)
    with pytest.raises(ringbroker.BrokerLost):
        ask(connection)


def test_broker_that_reads_only_when_it_is_read(session):
    """Both directions are full: the client must read while it cannot send."""
    connection, wire = session
    wire.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    pings = [Call() for _ in range(20_000)]

    def answer_one_by_one():
        for _ in pings:
            token = wire.read().token
            wire.write(messages.Pong(token))

    for number, call in enumerate(pings, start=2**40):
        connection.protocol.calls[number] = call
        connection.send(encode_frame(messages.Ping(number)))
    assert connection.unsent
    answering = Background(answer_one_by_one)
    for call in pings:
        if call.answer is None:
            assert connection.wait(call, deadline_after(WAIT_S)) is not None
    answering.result()
    assert not connection.unsent


def test_sender_rouses_a_reader_that_sleeps(session):
    """A follower's bytes did not fit: the sleeping reader must send them."""
    connection, wire = session
    reading = Background(ask, connection)
    first = wire.read().id
    junk = encode_frame(messages.Open(1, "x" * 128, None, 1, {}, NOTHING))
    while not connection.unsent:
        connection.send(junk)
    following = Background(ask, connection)
    message = wire.read()
    while not isinstance(message, messages.List):
        message = wire.read()
    wire.write(models(message.id), models(first))
    assert following.result().id == message.id
    assert reading.result().id == first


def test_end_is_told_once_and_closes(session):
    connection, wire = session
    asking = Background(ask, connection)
    wire.read()
    connection.end(ringbroker.errors.error_of(Code.CLIENT_CLOSED, "closed"))
    connection.lose()
    with pytest.raises(ringbroker.ClientClosed):
        asking.result()
    assert wire.stream.read() == b""
    with pytest.raises(ringbroker.ClientClosed):
        ask(connection)


def test_no_descriptor_is_left():
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(20):
        ours, theirs = socket.socketpair()
        connection, wire = Connection(ours, 0), Wire(theirs)
        asking = Background(ask, connection)
        wire.read()
        wire.close()
        with pytest.raises(ringbroker.BrokerLost):
            asking.result()
    assert count() == before
