"""What the service manager hears, on a socket of the test's own."""

import socket

import pytest

from broker.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """The manager's socket, and its address as the environment has it."""
    name = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind(name if request.param == "path" else f"\0{name}")
        yield sock, name if request.param == "path" else f"@{name}"


def test_states(manager):
    sock, address = manager
    notifier = Notifier(address, "serving on /a")
    notifier.ready()
    notifier.reloading("loading", 12_345_678)
    notifier.ready("the last reload failed")
    notifier.stopping("two\nlines")
    notifier.ready()
    heard = [sock.recv(4096).decode().split("\n") for _ in range(4)]
    assert heard == [
        ["READY=1", "STATUS=serving on /a"],
        ["RELOADING=1", "MONOTONIC_USEC=12345", "STATUS=loading"],
        ["READY=1", "STATUS=serving on /a; the last reload failed"],
        ["STOPPING=1", "STATUS=two lines"],
    ]
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):  # a broker that stops is never ready again
        sock.recv(4096)


def test_the_environment_is_taken_once(manager, monkeypatch):
    sock, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    first, second = Notifier.from_environment("heard"), Notifier.from_environment("nobody hears it")
    second.ready()
    first.ready()
    assert sock.recv(4096) == b"READY=1\nSTATUS=heard"
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(4096)


@pytest.mark.parametrize("address", ["", None])
def test_without_a_manager_nothing_happens(address, caplog):
    Notifier(address, "serving").ready()
    assert not caplog.records


def test_a_manager_that_is_gone_is_told_of_in_the_log(tmp_path, caplog):
    Notifier(str(tmp_path / "gone.sock"), "serving").ready()
    assert caplog.messages == ["the service manager was not told"]
