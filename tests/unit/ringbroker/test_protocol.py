"""The session without I/O: which bytes answer which call, and what ends it."""

from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbroker import ProtocolError
from ringbroker.protocol import FIRST_ID, Protocol, next_id, own_version

from ringbuf.errors import Code
from ringbuf.wire import messages
from ringbuf.wire.messages import NO_ERROR_EXTRA, NOTHING, encode_frame

OPTIONS = messages.HelloOptions(("path",))
LIMITS = messages.Limits(65536, 2**30, 4096, 64)


class Clock:
    """A clock that a test moves."""

    def __init__(self, now_ns):
        self.now_ns = now_ns

    def __call__(self):
        return self.now_ns


def welcome(clock_ns=1000, major=1, minor=0):
    return encode_frame(messages.Welcome(major, minor, 7, None, clock_ns, LIMITS, 0, 1, NOTHING))


def result(number, last=True):
    return encode_frame(messages.Result(number, last, (), "1", (0, 0), 1, NOTHING))


def error(number, code):
    return encode_frame(messages.Error(number, code, "text", None, None, NO_ERROR_EXTRA))


@pytest.fixture
def protocol():
    protocol = Protocol(Clock(1000))
    protocol.hello("hello", "tests", OPTIONS)
    assert [call for call, _ in protocol.feed(welcome())] == ["hello"]
    return protocol


def test_hello_offers_what_this_client_can():
    payload = Protocol(Clock(0)).hello("hello", "tests", OPTIONS)[4:]
    hello = messages.decode_client(payload)
    assert (hello.major, hello.minor, hello.client.name, hello.options.segments) == (1, 0, "tests", ("path",))


def test_hello_tells_the_version_that_is_installed(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    own_version.cache_clear()
    assert messages.decode_client(
        Protocol(Clock(0)).hello("hello", "tests", OPTIONS)[4:]
    ).client.version == metadata.version("ringbroker")
    own_version.cache_clear()
    monkeypatch.setattr(metadata, "version", missing)
    assert own_version() == "unknown"
    own_version.cache_clear()


def test_clock_of_the_same_machine_is_taken_as_it_is():
    clock = Clock(1000)
    protocol = Protocol(clock)
    protocol.hello("hello", "tests", OPTIONS)
    clock.now_ns = 5000
    protocol.feed(welcome(clock_ns=3000))
    assert protocol.clock_offset_ns == 0


@pytest.mark.parametrize("clock_ns", [10, 10**15])
def test_another_clock_is_compared_at_receipt(clock_ns):
    clock = Clock(1000)
    protocol = Protocol(clock)
    protocol.hello("hello", "tests", OPTIONS)
    clock.now_ns = 5000
    protocol.feed(welcome(clock_ns=clock_ns))
    assert protocol.clock_offset_ns == clock_ns - 5000


@pytest.mark.parametrize(("major", "minor"), [(2, 0), (0, 0), (1, 1)])
def test_a_version_that_was_not_offered(major, minor):
    protocol = Protocol(Clock(0))
    protocol.hello("hello", "tests", OPTIONS)
    protocol.feed(welcome(major=major, minor=minor))
    assert protocol.error.code == Code.BAD_ANSWER


def test_refused_hello_is_an_answer():
    protocol = Protocol(Clock(0))
    protocol.hello("hello", "tests", OPTIONS)
    ((call, answer),) = protocol.feed(error(None, Code.TOO_MANY_CONNECTIONS))
    assert (call, answer.code) == ("hello", Code.TOO_MANY_CONNECTIONS)


@given(st.data())
def test_any_split_gives_the_same_answers(data):
    protocol = Protocol(Clock(0))
    protocol.hello("hello", "tests", OPTIONS)
    stream = welcome() + result(1) + error(2, 5001) + encode_frame(messages.GoAway("bye", 1)) + result(3) + result(99)
    protocol.calls |= {1: "one", 2: "two", 3: "three", 4: "four"}
    answered, rest = [], stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        answered += [call for call, _ in protocol.feed(rest[:size])]
        rest = rest[size:]
    assert answered == ["hello", "one", "two", "three"]
    assert protocol.error.code == Code.BAD_ANSWER  # nobody asked 99
    assert protocol.calls == {4: "four"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x00\x00\x00\xc1",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        encode_frame(messages.Ping(1)),
        result(1, last=False),
        welcome(),
        error(77, Code.MODEL_FAILED),
        encode_frame(messages.Pong(77)),
    ],
)
def test_what_the_broker_must_not_send(protocol, data):
    protocol.calls |= {1: "one", 2: "two"}
    assert [call for call, _ in protocol.feed(result(2) + data + result(1))] == ["two"]
    assert protocol.error.code == Code.BAD_ANSWER
    assert protocol.feed(result(1)) == []


def test_answer_that_comes_twice(protocol):
    protocol.calls[1] = "one"
    assert len(protocol.feed(result(1) + result(1))) == 1
    assert protocol.error.code == Code.BAD_ANSWER


@pytest.mark.parametrize("number", [None, 1])
def test_protocol_error_of_the_broker_ends_the_session(protocol, number):
    protocol.calls[1] = "one"
    assert protocol.feed(error(number, Code.INVALID_FIELD)) == []
    assert isinstance(protocol.error, ProtocolError)
    assert protocol.error.code == Code.INVALID_FIELD


def test_other_error_without_id_belongs_to_nobody(protocol):
    protocol.calls[1] = "one"
    assert protocol.feed(error(None, Code.SHM_FULL)) == []
    assert protocol.error is None


def test_ids_are_never_used_twice_and_always_nine_bytes():
    numbers = [next_id() for _ in range(100)]
    assert len(set(numbers)) == 100
    assert all(FIRST_ID <= number < 2**53 for number in numbers)
