"""What a try to connect can say."""

import socket
import time

import pytest
import ringbroker
from ringbroker.call import deadline_after
from ringbroker.dial import FIRST_PAUSE_S, LAST_PAUSE_S, STARTING, Tries, dial
from ringbroker.errors import error_of
from ringbroker.session import Session
from ringbroker.settings import Settings

from ringbuf.errors import Code


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


def tries(is_patient=True, timeout_s=60.0):
    settings = Settings("nowhere", 1.0, "tests", "path", 1, False, 0)
    return Tries("nowhere", Session(settings, None), deadline_after(timeout_s), is_patient)


def test_tries_end_at_the_deadline():
    waited = tries(timeout_s=0.005)
    pauses = 0
    with pytest.raises(ringbroker.BrokerLost, match="nowhere"):
        while True:
            time.sleep(waited.pause_after(FileNotFoundError()))
            pauses += 1
    assert pauses >= 1


def test_pauses_grow_to_a_limit():
    """Each is half of its span, or up to all of it."""
    waited, span = tries(), FIRST_PAUSE_S
    for _ in range(12):
        assert span / 2 <= waited.pause_after(ConnectionRefusedError()) <= span
        span = min(2 * span, LAST_PAUSE_S)


def test_who_is_not_patient_waits_for_a_broker_that_is_there_alone():
    hasty = tries(is_patient=False)
    assert hasty.pause_after(BlockingIOError()) > 0
    with pytest.raises(ringbroker.BrokerLost):
        hasty.pause_after(FileNotFoundError())


@pytest.mark.parametrize("error", [PermissionError("no"), error_of(Code.UNKNOWN_POOL, "no")])
def test_what_no_other_try_mends_is_raised(error):
    with pytest.raises(ringbroker.Error, match="no"):
        tries().pause_after(error)
