"""Reloads, by signal and by command, while a client infers and notices nothing."""

import os
import signal
import threading
from contextlib import suppress

import pytest
import ringbroker

from broker import admin
from ringbuf.errors import Code, RingbrokerError
from tests.conftest import START_TIMEOUT_S
from tests.faults.reloadable import Bystander, serving
from tests.faults.wire import until


@pytest.mark.parametrize("how", ["SIGHUP", "SIGUSR2", "command"])
def test_a_reload_takes_the_new_file(tmp_path, how):
    with serving(tmp_path) as served, Bystander(served.broker.socket_path) as bystander:
        served.write(3)
        if how == "command":
            assert served.reload() == (0, "generation 2 serves\n")
        else:
            os.kill(served.broker.pid, signal.Signals[how])
            served.wait_for(2)
        assert served.answer() == 3
        until(lambda: bystander.factors[-1] == 3)
        assert sorted(bystander.factors) == bystander.factors
        assert set(bystander.factors) == {2, 3}
        assert served.last_reload["generation"] == 2
        assert f"a reload is asked for by={how}" in served.broker.log


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A broker whose reloads all fail, and a client that notices nothing of them."""
    with serving(tmp_path_factory.mktemp("shared")) as served, Bystander(served.broker.socket_path) as bystander:
        yield served, bystander


@pytest.mark.parametrize(
    ("spoil", "code", "text"),
    [
        (lambda served: served.config.unlink(), Code.CONFIG_INVALID, "No such file or directory"),
        (lambda served: served.config.write_text("[server"), Code.CONFIG_INVALID, "it cannot be read"),
        (lambda served: served.write(3, "wokers = 2"), Code.CONFIG_INVALID, "did you mean 'workers'?"),
        (lambda served: served.write(3, "log_format = 'json'"), Code.CONFIG_INVALID, "restart the broker"),
        (lambda served: served.write("'a text'"), Code.SIGNATURE_MISMATCH, "(at m)"),
    ],
    ids=["no file", "no TOML", "wrong key", "fixed setting", "no model"],
)
def test_a_reload_that_fails_leaves_what_serves(shared, spoil, code, text):
    served, bystander = shared
    spoil(served)
    exit_code, printed = served.reload()
    assert exit_code == 1
    assert printed.startswith(f"broker: the reload failed, and what served goes on: error {int(code)} {code.name}: ")
    assert text in printed
    told = served.last_reload
    assert (told["code"], told["error"] in printed) == (code, True)
    failed = served.broker.log.count("the reload failed")
    os.kill(served.broker.pid, signal.SIGHUP)
    until(lambda: served.broker.log.count("the reload failed") == failed + 1)
    assert served.last_reload["error"] == told["error"]
    assert served.broker.status()["generation"] == 1
    bystander.wait_for_more()
    assert set(bystander.factors) == {2}
    assert served.answer() == 2


def test_settings_that_a_reload_takes(tmp_path):
    with serving(tmp_path) as served, ringbroker.connect(served.broker.socket_path, timeout=60):
        served.write(2, "max_connections = 1")
        assert served.reload()[0] == 0
        with pytest.raises(ringbroker.Error) as caught:
            ringbroker.connect(served.broker.socket_path, timeout=1)
        assert caught.value.code == Code.TOO_MANY_CONNECTIONS


def test_reloads_that_are_asked_for_while_one_loads(tmp_path):
    """All that ask meanwhile are answered by one more, which begins after they asked."""
    with serving(tmp_path) as served:
        answers = []

        def ask():
            answers.append(admin.ask(served.broker.socket_path, "reload", START_TIMEOUT_S))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        threads[0].start()
        until(lambda: served.broker.status()["is_loading"])
        served.write(3)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(START_TIMEOUT_S)
        assert sorted(answer["generation"] for answer in answers) == [2, 3, 3]
        assert served.answer() == 3


def test_sigterm_while_one_loads(tmp_path):
    """The clients that there are keep full service: nobody is sent away to a broker that takes no connections."""
    with serving(tmp_path) as served:
        with Bystander(served.broker.socket_path) as bystander:
            served.write(3)
            answers = []
            asking = threading.Thread(target=lambda: answers.append(served.reload()))
            asking.start()
            until(lambda: served.broker.status()["is_loading"])
            served.broker.process.send_signal(signal.SIGTERM)
            until(lambda: served.broker.status()["is_draining"])
            assert not served.broker.status()["is_loading"]
            asking.join(START_TIMEOUT_S)
            served.broker.process.send_signal(signal.SIGHUP)  # too late
            answers.append(served.reload())
            assert [exit_code for exit_code, _ in answers] == [1, 1]
            assert all("BROKER_LOST: the broker is stopping" in printed for _, printed in answers)
            bystander.wait_for_more(500)
            assert set(bystander.factors) == {2}
            assert served.broker.status()["generation"] == 1
        assert served.broker.process.wait(START_TIMEOUT_S) == 0


def test_a_reload_that_is_asked_for_before_anything_serves(tmp_path):
    answers = []

    def ask():
        while not answers:
            with suppress(RingbrokerError):  # it does not listen yet
                answers.append(admin.ask(str(tmp_path / "broker.sock"), "reload", START_TIMEOUT_S))

    thread = threading.Thread(target=ask)
    thread.start()
    with serving(tmp_path) as served:
        thread.join(START_TIMEOUT_S)
        assert answers == [{"generation": 2}]
        assert served.answer() == 2
