"""The admin socket: one line asks, one document answers."""

import json
import socket
import threading

import pytest

from broker import admin
from broker.admin import AdminPeer
from broker.loop import Loop
from ringbuf.errors import Code, RingbrokerError
from tests.unit.broker.parts import Clock


def answer_to(*pieces):
    peer = AdminPeer({"status": lambda _: {"pid": 7}, "other": dict})
    for piece in pieces:
        assert not peer.ended
        peer.receive(piece, 1)
    assert peer.ended
    peer.closed()
    return json.loads(peer.out)


def test_a_line_is_answered_once_it_is_whole():
    assert answer_to(b"status\n") == {"pid": 7}
    assert answer_to(b"sta", b"tus", b"\n") == {"pid": 7}
    assert answer_to(b"status\nstatus\n") == {"pid": 7}


@pytest.mark.parametrize("line", [b"\n", b"STATUS\n", b"status \n", b"\xff\xfe\n", b"stop\n"])
def test_an_unknown_command_is_told_the_known_ones(line):
    assert answer_to(line) == {"error": "unknown command", "commands": ["other", "status"]}


def test_a_line_without_an_end_is_not_collected_for_ever():
    assert answer_to(b"x" * 1000, b"x" * 24)["error"] == "unknown command"


def test_an_unfinished_line_waits():
    peer = AdminPeer({})
    peer.receive(b"x" * 1023, 1)
    assert (peer.ended, bytes(peer.out)) == (False, b"")


@pytest.fixture
def listening(tmp_path):
    path = str(tmp_path / "broker.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + admin.SUFFIX)
        listener.listen()
        yield path, listener


def in_the_background(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_ask_and_peer_understand_each_other(listening):
    path, listener = listening
    large = {"models": ["m" * 100] * 20_000}

    def serve():
        loop = Loop(0, Clock())
        sock, _ = listener.accept()
        loop.add(sock, AdminPeer({"status": lambda _: large}))
        while loop.connections:
            loop.poll(None)
        loop.close_all()

    thread = in_the_background(serve)
    assert admin.ask(path, "status", timeout_s=60) == large
    thread.join()


def test_nobody_there(tmp_path):
    with pytest.raises(RingbrokerError) as caught:
        admin.ask(str(tmp_path / "broker.sock"), "status")
    assert caught.value.code == Code.BROKER_LOST


@pytest.mark.parametrize("said", [b"", b'{"pid": '])
def test_a_broker_that_goes_while_it_is_asked(listening, said):
    path, listener = listening

    def serve():
        sock, _ = listener.accept()
        with sock:
            sock.recv(100)
            sock.sendall(said)

    thread = in_the_background(serve)
    with pytest.raises(RingbrokerError) as caught:
        admin.ask(path, "status", timeout_s=60)
    assert caught.value.code == Code.BROKER_LOST
    thread.join()
