"""Where the socket is when nothing else is said."""

import os

from ringbuf.address import default_socket_path


def test_default_socket_path(monkeypatch):
    monkeypatch.setenv("RINGBROKER_SOCKET", "/a/b.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/5")
    assert default_socket_path() == "/a/b.sock"
    monkeypatch.setenv("RINGBROKER_SOCKET", "")
    assert default_socket_path() == "/run/user/5/ringbroker/broker.sock"
    monkeypatch.delenv("RINGBROKER_SOCKET")
    assert default_socket_path() == "/run/user/5/ringbroker/broker.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_socket_path() == f"/tmp/ringbroker-{os.geteuid()}/broker.sock"
