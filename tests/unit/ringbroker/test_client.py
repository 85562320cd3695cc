"""Connecting, listing, closing."""

import subprocess
import sys
import threading

import pytest
import ringbroker
from ringbroker.settings import spin_ns

from ringbuf.errors import Code
from ringbuf.wire import messages
from tests.unit.ringbroker.peer import WAIT_S, Background, Peer, Session


def test_models_of_every_page(client):
    listed = client.models()
    assert [model.name for model in listed] == ["double", "tokens"]
    assert listed[0].versions == ("1",)
    assert listed[1].signature.inputs[0] == messages.Tensor("tokens", "I64", ("batch", "seq"), 0)


def test_who_calls(peer):
    with ringbroker.connect(peer.path, name="me", pool="large"):
        hello = peer.sessions[0].got(messages.Hello)[0]
        assert (hello.client.name, hello.options.pool) == ("me", "large")


@pytest.mark.parametrize("pages", [[0], [1, 1], [5, 3]])
def test_pages_that_do_not_grow(peer, client, pages):
    following = iter(pages)
    peer.on[messages.List] = lambda session, ask: session.send(messages.Models(ask.id, (), next(following)))
    with pytest.raises(ringbroker.BadAnswer):
        client.models()
    assert next(following, None) is None


def test_pages_without_end(peer, client):
    peer.on[messages.List] = lambda session, ask: session.send(messages.Models(ask.id, (), ask.page + 7))
    with pytest.raises(ringbroker.BadAnswer):
        client.models()
    assert len(peer.sessions[0].got(messages.List)) == 4096


def test_ping(client):
    assert client.ping() > 0


def test_default_path(peer, monkeypatch):
    monkeypatch.setenv("RINGBROKER_SOCKET", peer.path)
    with ringbroker.connect() as client:
        assert client.path == peer.path


def test_broker_that_is_not_there(tmp_path):
    with pytest.raises(ringbroker.BrokerLost) as caught:
        ringbroker.connect(tmp_path / "none.sock", timeout=0.01)
    assert caught.value.is_retryable


def test_broker_that_starts_late(tmp_path):
    path = tmp_path / "broker.sock"
    connecting = Background(ringbroker.connect, path, timeout=WAIT_S)
    with Peer(path), connecting.result() as client:
        assert client.models()


def test_broker_that_goes_away_in_the_handshake(peer):
    def hang_up_once(session, hello):
        peer.on[messages.Hello] = Session.welcome
        session.hang_up()

    peer.on[messages.Hello] = hang_up_once
    with ringbroker.connect(peer.path, timeout=WAIT_S) as client:
        assert client.models()


def test_broker_that_does_not_answer_hello(peer):
    peer.hold(messages.Hello)
    with pytest.raises(ringbroker.Timeout):
        ringbroker.connect(peer.path, timeout=0.01)


def test_refused_hello(peer):
    peer.on[messages.Hello] = lambda session, hello: session.fail(None, Code.TOO_MANY_CONNECTIONS)
    with pytest.raises(ringbroker.CapacityError) as caught:
        ringbroker.connect(peer.path, timeout=WAIT_S)
    assert caught.value.code == Code.TOO_MANY_CONNECTIONS


def test_unknown_model(client):
    with pytest.raises(ringbroker.UnknownModel) as caught:
        client.open("nobody")
    assert caught.value.path == "model"


def test_two_models_on_one_connection(peer, client):
    with client.open("double") as one, client.open("double") as two:
        assert one([[1, 2, 3, 4]]).tolist() == two([[1, 2, 3, 4]]).tolist()
    assert len(peer.sessions) == 1


def test_close_is_idempotent_and_ends_everything(peer):
    client = ringbroker.connect(peer.path)
    model = client.open("double")
    held = peer.hold()
    lease = model.acquire()
    inferring = Background(lease.infer)
    held.get(timeout=WAIT_S)
    client.close()
    client.close()
    with pytest.raises(ringbroker.ClientClosed):
        inferring.result()
    for use in (lease.infer, model.acquire, client.models, lambda: client.open("double")):
        with pytest.raises(ringbroker.ClientClosed):
            use()
    model.close()
    lease.release()


def test_reconnects_when_the_broker_is_back(tmp_path):
    path = tmp_path / "broker.sock"
    with Peer(path):
        client = ringbroker.connect(path, timeout=WAIT_S)
        assert client.models()
    path.unlink()
    with Peer(path), client:
        for _ in range(2):
            try:
                names = [model.name for model in client.models()]
            except ringbroker.BrokerLost:
                continue
        assert names == ["double", "tokens"]


def test_spin():
    assert spin_ns("off") == 0
    assert spin_ns(50) == 50_000
    assert spin_ns("auto") in (0, 100_000)
    for wrong in ("on", -1):
        with pytest.raises(ValueError, match="spin"):
            spin_ns(wrong)


def test_no_thread_is_started(client):
    with client.open("double") as model:
        before = threading.active_count()
        model([[1, 2, 3, 4]])
        assert threading.active_count() == before


def test_imports_neither_torch_nor_the_broker():
    names = ("torch", "broker", "asyncio", "posix_ipc", "click")
    code = f"import sys, ringbroker; print([name for name in {names} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_needs_nothing_that_only_the_broker_needs(peer):
    """From connecting to an answer in shared memory, where the broker's packages are not installed."""
    code = (
        "import sys\n"
        "for name in ('torch', 'posix_ipc', 'click'):\n"
        "    sys.modules[name] = None\n"
        "import ringbroker\n"
        "with ringbroker.connect(sys.argv[1]) as client, client.open('double', slots=2) as model:\n"
        "    print(model([[1, 2, 3, 4]]).tolist())\n"
    )
    run = subprocess.run([sys.executable, "-c", code, peer.path], check=True, capture_output=True, text=True)
    assert run.stdout == "[[2.0, 4.0, 6.0, 8.0]]\n"
