"""What a try to connect can say."""

import socket
import time

import pytest
from ringbroker.dial import STARTING, Backoff, dial


def test_no_socket_yet(tmp_path):
    with pytest.raises(STARTING):
        dial(str(tmp_path / "none.sock"))


def test_socket_of_a_dead_broker(tmp_path):
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
    with pytest.raises(STARTING):
        dial(path)


def test_full_backlog(tmp_path):
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(0)
        with dial(path), pytest.raises(STARTING):
            dial(path)


def test_backoff_ends_at_the_deadline():
    backoff = Backoff(time.monotonic_ns() + 5_000_000)
    pauses = 0
    while (pause_s := backoff.next_s()) is not None:
        time.sleep(pause_s)
        pauses += 1
    assert pauses >= 1
    assert backoff.next_s() is None
