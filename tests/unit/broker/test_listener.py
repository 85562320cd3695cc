"""The listening socket: its lock, its mode, what may lie in its place, and the door behind it."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker import listener
from broker.handshake import TIMEOUT_NS
from broker.listener import Acceptor
from broker.loop import Loop
from broker.stats import Stats
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from ringbuf.wire.messages import encode_frame
from tests.unit.broker.parts import HELLO, Clock, decode_all


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "made" / "broker.sock")


def refusal(call, *arguments):
    with pytest.raises(RingbrokerError) as caught:
        call(*arguments)
    return caught.value


def mode_of(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_modes(path):
    with listener.lock(path), listener.listen(path):
        assert mode_of(path) == 0o600
        assert mode_of(Path(path).parent) == 0o700


def test_a_directory_that_was_there_keeps_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    with listener.lock(str(tmp_path / "broker.sock")):
        assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_in(tmp_path, mode):
    path = tmp_path / "broker.sock"
    tmp_path.chmod(mode)
    error = refusal(listener.lock, str(path))
    assert (error.code, error.path) == (Code.SOCKET_INVALID, str(tmp_path))
    assert "chmod go-w" in error.text
    assert not list(tmp_path.iterdir())
    tmp_path.chmod(mode | stat.S_ISVTX)
    listener.lock(str(path)).close()


def test_a_directory_of_another_user(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 12346)
    error = refusal(listener.lock, str(tmp_path / "broker.sock"))
    assert (error.code, error.path) == (Code.SOCKET_INVALID, str(tmp_path))
    assert f"user {tmp_path.stat().st_uid}'s" in error.text


def test_the_default_directory_is_ours(tmp_path, monkeypatch):
    """Neither root's nor a link to one of ours will do: /tmp/ringbroker-UID can be foretold."""
    euid = os.geteuid()
    nobody = 4_000_000_000 + os.getpid()
    default = Path(f"/tmp/ringbroker-{nobody}")
    path = str(default / "broker.sock")
    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    try:
        default.mkdir(mode=0o700)
        assert f"user {euid}'s" in refusal(listener.lock, path).text
        assert not list(default.iterdir())
        default.rmdir()
        default.symlink_to(tmp_path)
        assert "is a link" in refusal(listener.lock, path).text
        assert not list(tmp_path.iterdir())
    finally:
        default.unlink() if default.is_symlink() else shutil.rmtree(default)


def test_the_umask_is_as_it_was(path, tmp_path):
    (tmp_path / "before").touch()
    with listener.lock(path), listener.listen(path):
        (tmp_path / "after").touch()
    assert mode_of(tmp_path / "after") == mode_of(tmp_path / "before")


def test_one_broker_holds_a_path(path):
    with listener.lock(path):
        assert refusal(listener.lock, path).code == Code.SOCKET_IN_USE
        code = "import sys\nfrom broker import listener\nlistener.lock(sys.argv[1])"
        other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert "SOCKET_IN_USE" in other.stderr
    listener.lock(path).close()  # free again with the holder's end


def test_the_socket_of_a_dead_broker_is_replaced(path):
    with listener.lock(path):
        listener.listen(path).close()
        assert Path(path).is_socket()
        with listener.listen(path), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


@pytest.mark.parametrize("make", [lambda path: path.write_text("precious"), lambda path: path.mkdir()])
def test_what_is_no_socket_is_left_alone(tmp_path, make):
    path = tmp_path / "broker.admin"  # a socket's path, and that of `broker`'s admin socket
    make(path)
    for call, socket_path in ((listener.listen, path), (listener.lock, path), (listener.lock, tmp_path / "broker")):
        error = refusal(call, str(socket_path))
        assert (error.code, error.path) == (Code.SOCKET_INVALID, str(path))
    assert [left.name for left in tmp_path.iterdir()] == [path.name], "no lock file either"
    assert path.is_dir() or path.read_text() == "precious"


def test_a_link_is_no_socket(path, tmp_path):
    with listener.lock(path), listener.listen(path):
        link = tmp_path / "link"
        link.symlink_to(path)
        assert refusal(listener.listen, str(link)).code == Code.SOCKET_INVALID
        assert Path(path).is_socket()


def test_the_longest_path(tmp_path):
    room = 107 - len(str(tmp_path)) - 1
    longest = str(tmp_path / ("s" * room))
    listener.listen(longest).close()
    assert refusal(listener.lock, longest).path == longest + ".admin"
    assert refusal(listener.listen, longest + "s").code == Code.SOCKET_INVALID
    assert refusal(listener.listen, str(tmp_path / ("é" * (room // 2 + 1)))).code == Code.SOCKET_INVALID


def test_paths_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(listener.lock, str(tmp_path / "file" / "broker.sock")).code == Code.SOCKET_INVALID
    assert refusal(listener.lock, str(tmp_path / ("s" * 300))).code == Code.SOCKET_INVALID
    assert refusal(listener.listen, str(tmp_path / "absent" / "broker.sock")).code == Code.SOCKET_INVALID


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def loop(clock):
    loop = Loop(0, clock)
    yield loop
    loop.close_all()


@pytest.fixture
def arrived():
    return []


def is_full(acceptor):
    return "2 connections are the most" if acceptor.waiting >= 2 else None


@pytest.fixture
def door(path, loop, arrived):
    with listener.lock(path), listener.listen(path) as sock:
        acceptor = Acceptor(sock, loop, Stats(), lambda: is_full(acceptor), lambda _, hello: arrived.append(hello))
        yield acceptor


@pytest.fixture
def dial(path, door):
    dialled = []

    def dial():
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        dialled.append(client)
        client.connect(path)
        return client

    yield dial
    for client in dialled:
        client.close()


def answer_of(client):
    data = bytearray()
    while piece := client.recv(4096):
        data += piece
    (message,) = decode_all(data)
    return message


def test_the_door_reads_hello(dial, loop, arrived):
    client = dial()
    loop.poll(None)
    client.sendall(encode_frame(HELLO) + encode_frame(messages.Ping(1)))
    while not arrived:
        loop.poll(None)
    assert arrived == [HELLO]


def test_one_too_many_is_told_so_and_closed(dial, loop):
    for _ in range(3):
        client = dial()
    loop.poll(None)
    error = answer_of(client)
    assert (error.id, error.code, error.retry_after_ms) == (None, Code.TOO_MANY_CONNECTIONS, 1000)
    assert len(loop.connections) == 2


def test_who_says_nothing_is_closed_after_the_timeout(dial, loop, clock):
    client = dial()
    client.sendall(b"\x10")
    loop.poll(None)
    clock.ns += TIMEOUT_NS
    loop.poll(0)
    assert len(loop.connections) == 1
    clock.ns += 10**9
    loop.poll(0)
    assert answer_of(client).code == Code.HANDSHAKE_TIMEOUT
    assert not loop.connections


def test_a_client_that_is_gone_before_it_was_accepted(dial, loop):
    dial().close()
    loop.poll(None)
    loop.poll(0)
    assert not loop.connections


# --- sockets of the service manager ---


@pytest.fixture
def passed(tmp_path, monkeypatch):
    """A function that passes a socket as the service manager does, and returns its path."""
    with contextlib.ExitStack() as stack:

        def give(sock, path, pid=None):
            stack.callback(sock.close)
            if path:
                sock.bind(path)
            fd = os.dup(sock.fileno())
            monkeypatch.setattr(listener, "_FIRST_INHERITED", fd)
            monkeypatch.setenv("LISTEN_FDS", "1")
            monkeypatch.setenv("LISTEN_PID", str(pid or os.getpid()))
            monkeypatch.setenv("LISTEN_FDNAMES", "any")
            return path

        yield give


def test_an_inherited_socket_is_known_by_its_path(tmp_path, passed, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    sock = socket.socket(socket.AF_UNIX)
    path = passed(sock, str(tmp_path / "broker.sock"))
    sock.listen()
    asked = str(tmp_path / "link" / "broker.sock")
    found = listener.inherited((asked, asked + ".admin"))
    assert list(found) == [asked]
    with found[asked] as taken:
        assert taken.getsockname() == path
        assert not taken.getblocking()
        assert not taken.get_inheritable()
    assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & set(os.environ)
    assert listener.inherited((asked,)) == {}


def test_sockets_of_another_process(tmp_path, passed):
    path = passed(socket.socket(socket.AF_UNIX), str(tmp_path / "broker.sock"), pid=1)
    assert listener.inherited((path,)) == {}
    os.close(listener._FIRST_INHERITED)


def test_an_inherited_socket_of_another_path(tmp_path, passed):
    sock = socket.socket(socket.AF_UNIX)
    path = passed(sock, str(tmp_path / "other.sock"))
    sock.listen()
    error = refusal(listener.inherited, (str(tmp_path / "broker.sock"),))
    assert (error.code, error.path) == (Code.SOCKET_INVALID, path)
    assert "--socket" in error.text


@pytest.mark.parametrize("kind", ["not listening", "datagram", "tcp", "pipe"])
def test_what_is_inherited_is_no_listening_socket(kind, tmp_path, passed, monkeypatch):
    path = str(tmp_path / "broker.sock")
    if kind == "tcp":
        passed(socket.create_server(("127.0.0.1", 0)), "")
    else:
        passed(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM), path)
    if kind == "pipe":
        os.close(listener._FIRST_INHERITED)
        reading, writing = os.pipe()
        os.close(writing)
        monkeypatch.setattr(listener, "_FIRST_INHERITED", reading)
    assert refusal(listener.inherited, (path,)).code == Code.SOCKET_INVALID
    if kind == "pipe":
        os.close(reading)


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refusal(listener.listen_loopback, port)
    assert (error.code, error.path) == (Code.SOCKET_INVALID, f"127.0.0.1:{port}")
    with listener.listen_loopback(port) as free:
        assert free.getsockname() == ("127.0.0.1", port)
