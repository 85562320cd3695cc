"""Health: what is ready, the command that asks it, and the HTTP peer that answers it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from broker import admin, entry, health
from broker.health import HttpPeer
from ringbuf.errors import Code, RingbrokerError

LIMIT = 8192


def supervisor(*served, is_draining=False, pools=("a", "b")):
    """One whose generation has these pools, and a worker for each of `served`, written `a`, or `-a` where it loads."""
    workers = [
        SimpleNamespace(pool=SimpleNamespace(name=name.strip("-")), is_serving=not name.startswith("-"))
        for name in served
    ]
    generation = SimpleNamespace(workers=workers, pools=[SimpleNamespace(name=name) for name in pools])
    return SimpleNamespace(current=generation, is_draining=is_draining)


def test_every_pool_needs_a_worker_that_serves():
    assert health.why_not_ready(supervisor("a", "b")) is None
    assert health.why_not_ready(supervisor("a", "-a", "b")) is None
    assert health.why_not_ready(supervisor("a", "-b")) == "no worker serves the pool b"
    assert health.why_not_ready(supervisor()) == "no worker serves the pool a, b"


def test_a_broker_that_loads_or_stops_is_not_ready():
    loading = SimpleNamespace(current=None, is_draining=False)
    assert health.why_not_ready(loading) == "the models are being loaded"
    assert health.why_not_ready(supervisor("a", "b", is_draining=True)) == "the broker is stopping"


# --- the command ---


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], ("/default", False)),
        (["--ready"], ("/default", True)),
        (["--socket", "/a"], ("/a", False)),
        (["--socket=/a=b", "--ready"], ("/a=b", True)),
        (["--socket"], None),
        (["--socket="], None),
        (["--socket", ""], None),
        (["--ready=yes"], None),
        (["--help"], None),
        (["/a"], None),
    ],
)
def test_arguments(arguments, asked, monkeypatch):
    monkeypatch.setenv("RINGBROKER_SOCKET", "/default")
    assert health.parse(arguments) == asked


@pytest.mark.parametrize(
    ("why_not", "needs_ready", "line", "code"),
    [
        (None, False, "live", 0),
        (None, True, "ready", 0),
        ("it loads", False, "live", 0),
        ("it loads", True, "not ready: it loads", 1),
    ],
)
def test_the_line_and_the_exit_code(why_not, needs_ready, line, code, monkeypatch, capsys):
    monkeypatch.setattr(
        admin, "ask", lambda path, command, _: {"/a health": {"why_not_ready": why_not}}[f"{path} {command}"]
    )
    assert health.probe("/a", needs_ready) == code
    assert capsys.readouterr().out == f"{line}\n"


def test_nobody_answers(monkeypatch, capsys):
    def ask(*_):
        raise RingbrokerError(Code.BROKER_LOST, "no broker answers on /a: timed out")

    monkeypatch.setattr(admin, "ask", ask)
    assert health.probe("/a", needs_ready=False) == 1
    assert capsys.readouterr().out == "not live: no broker answers on /a: timed out\n"


def run(*arguments):
    code = "import sys; from broker.entry import main\ntry: main()\nfinally: print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_the_command_imports_nothing_heavy(tmp_path):
    done = run("health", "--socket", str(tmp_path / "nobody.sock"))
    line, modules = done.stdout.splitlines()
    assert done.returncode == 1, done
    assert line.startswith("not live: no broker answers on ")
    assert not {"click", "numpy", "msgspec", "broker.cli", "broker.loop", "ringbuf.wire.messages"} & set(
        modules.split()
    )


def test_what_the_command_does_not_know_is_answered_by_the_command_line():
    done = run("health", "--readdy")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "broker.cli" in done.stdout


def test_other_commands_are_the_command_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["broker", "--help"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 0
    assert "health" in capsys.readouterr().out


# --- HTTP ---


def answer_to(*pieces, why_not=None):
    """The status, the headers and the body."""
    peer = HttpPeer(lambda: why_not)
    for piece in pieces:
        assert not peer.ended
        peer.receive(piece, 1)
    assert peer.ended
    peer.closed()
    head, _, body = bytes(peer.out).partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return status, dict(header.split(": ") for header in headers), body.decode()


def test_live_and_ready():
    status, headers, body = answer_to(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (status, body) == ("HTTP/1.1 200 OK", "ready\n")
    assert headers["Content-Length"] == "6"
    assert headers["Connection"] == "close"
    assert answer_to(b"GET /livez HTTP/1.0\r\n\r\n", why_not="it loads")[::2] == ("HTTP/1.1 200 OK", "live\n")
    told = answer_to(b"GET /readyz?verbose HTTP/1.1\r\n\r\n", why_not="it loads")[::2]
    assert told == ("HTTP/1.1 503 Service Unavailable", "not ready: it loads\n")


def test_head_has_no_body():
    status, headers, body = answer_to(b"HEAD /readyz HTTP/1.1\r\n\r\n", why_not="it loads")
    assert (status, body) == ("HTTP/1.1 503 Service Unavailable", "")
    assert headers["Content-Length"] == "20"


def test_any_split():
    request = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    for at in range(1, len(request)):
        assert answer_to(request[:at], request[at:])[0] == "HTTP/1.1 200 OK"
    assert answer_to(*(bytes([byte]) for byte in request))[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /livez HTTP/1.1", 405),
        (b"POST /admin HTTP/1.1", 404),
        (b"GET / HTTP/1.1", 404),
        (b"GET /livez/ HTTP/1.1", 404),
        (b"GET /LIVEZ HTTP/1.1", 404),
        (b"GET /livez HTTP/2", 400),
        (b"GET  /livez HTTP/1.1", 400),
        (b"GET /livez", 400),
        (b"", 400),
        (b"\xff\x00\x16\x03\x01", 400),
    ],
)
def test_what_is_not_answered(request_line, status):
    told, headers, _ = answer_to(request_line + b"\r\n\r\n")
    assert told.split(" ")[1] == str(status)
    assert ("Allow" in headers) == (status == 405)


def test_a_head_without_an_end_is_not_collected_for_ever():
    assert answer_to(b"x" * (LIMIT - 1), b"x")[0].startswith("HTTP/1.1 431 ")
    assert answer_to(b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 2000)[0].startswith("HTTP/1.1 431 ")


def test_a_body_is_not_waited_for():
    assert answer_to(b"GET /livez HTTP/1.1\r\nContent-Length: 9999\r\n\r\nx")[0] == "HTTP/1.1 200 OK"


def test_patience():
    peer = HttpPeer(lambda: None)
    assert peer.patience_ns is not None
    peer.receive(b"GET /livez HTTP/1.1\r\n", 1)
    peer.expire()
    assert (peer.ended, bytes(peer.out)) == (True, b"")
