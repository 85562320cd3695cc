"""Reloads, by signal, by command and by the watch, while a client infers and notices nothing."""

import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import ringbroker
import torch

from broker import admin
from ringbuf.errors import Code, RingbrokerError
from tests.conformance.reference_models import Model
from tests.conftest import ROOT, START_TIMEOUT_S, broker_command, running_broker
from tests.faults.wire import until

ROW = "F32[batch,4]"
SETTLED_S = 1.5  # three times what the watch waits for: a change that has not been taken for one by then is none


def times(factor):
    """y = factor * x."""
    return Model(lambda x: factor * x, {"x": ROW}, {"y": ROW})


def gated(path):
    """y = 2 * x, when there is a file at `path`."""

    def run(x):
        while not Path(path).exists():
            time.sleep(0.001)
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Files of y = 2 * x and y = 3 * x, by their factor."""
    folder = tmp_path_factory.mktemp("exported")
    files = {}
    for factor in (2, 3):
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(Times(factor), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
        files[factor] = folder / f"times{factor}.pt2"
        torch.export.save(program, files[factor])
    return files


class Bystander:
    """A client on a thread of its own that infers all the time, and knows by which factors it was answered."""

    def __init__(self, path):
        self.factors = []
        self._failure = None
        self._is_stopping = threading.Event()
        self._client = ringbroker.connect(path, timeout=60)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.wait_for_more()
        self._is_stopping.set()
        self._thread.join()
        self._client.close()
        assert self._failure is None, f"disturbed after {len(self.factors)} inferences: {self._failure!r}"

    def wait_for_more(self, count=10):
        wanted = len(self.factors) + count
        until(lambda: len(self.factors) >= wanted or self._failure is not None)

    def _run(self):
        try:
            with self._client.open("m", slots=2) as model:
                while not self._is_stopping.is_set():
                    x = np.full((1, 4), 1.0 + len(self.factors) % 100, np.float32)
                    (factor,) = set((model(x, timeout=60) / x).flatten().tolist())
                    self.factors.append(factor)
        except Exception as error:
            self._failure = error


class Served:
    """A broker with a configuration that can be changed."""

    def __init__(self, folder):
        self.folder = folder
        self.config = folder / "broker.toml"
        self.broker = None

    def write(self, factor, server="", path=None):
        text = f"[server]\n{server}\n[[model]]\nname = 'm'\nfactory = '{__name__}:times'\n"
        (path or self.config).write_text(f"{text}arguments = {{ factor = {factor} }}\n")

    def reload(self):
        """`broker reload`: its exit code, and what it printed."""
        command = broker_command("reload", "--socket", self.broker.socket_path)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def answer(self):
        """The factor that a new client meets."""
        with ringbroker.connect(self.broker.socket_path, timeout=60) as client, client.open("m") as model:
            return float(model(np.ones((1, 4), np.float32), timeout=60)[0, 0])

    @property
    def last_reload(self):
        return self.broker.status()["last_reload"]

    @property
    def reloads(self):
        """How many were asked for."""
        return self.broker.log.count("a reload is asked for")

    def wait_for(self, generation):
        until(lambda: self.broker.status()["generation"] == generation)


@contextmanager
def serving(folder, *arguments):
    served = Served(folder)
    if not served.config.exists():
        served.write(2)
    with running_broker("--config", str(served.config), *arguments, folder=folder) as served.broker:
        yield served
        assert served.broker.stop() == 0


# --- by signal and by command ---


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


# --- by the watch ---


def settled(served):
    """No reload has begun, and none is due."""
    before = served.reloads
    time.sleep(SETTLED_S)
    return served.reloads == before


def watching(tmp_path, exported):
    """A broker that watches one file, which doubles."""
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "m.pt2"
    model.write_bytes(exported[2].read_bytes())
    (tmp_path / "broker.toml").write_text("[[model]]\nname = 'm'\nsource = 'models/m.pt2'\n")
    return model


def test_a_file_that_is_replaced_by_a_rename_is_one_reload(tmp_path, exported):
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served, Bystander(served.broker.socket_path) as bystander:
        fresh = model.with_suffix(".tmp")
        fresh.write_bytes(exported[3].read_bytes())
        assert settled(served)
        fresh.rename(model)
        served.wait_for(2)
        assert served.answer() == 3
        assert settled(served)
        assert served.reloads == 1
        until(lambda: bystander.factors[-1] == 3)
        assert sorted(bystander.factors) == bystander.factors


def test_several_files_at_once_are_one_reload(tmp_path, exported):
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served:
        for count in range(3):
            fresh = model.with_suffix(f".{count}")
            fresh.write_bytes(exported[3].read_bytes())
            fresh.rename(model)
            served.config.write_text(served.config.read_text() + f"# {count}\n")
        served.wait_for(2)
        assert served.answer() == 3
        assert settled(served)
        assert served.reloads == 1


def test_a_file_that_is_moved_away_is_none_until_it_is_back(tmp_path, exported):
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served, Bystander(served.broker.socket_path):
        away = tmp_path / "away.pt2"
        model.rename(away)
        assert settled(served)
        assert served.reloads == 0
        away.write_bytes(exported[3].read_bytes())
        assert settled(served)
        away.rename(model)
        served.wait_for(2)
        assert served.answer() == 3


def test_a_version_that_is_still_written_is_not_served(tmp_path, exported):
    (tmp_path / "models" / "m" / "1").mkdir(parents=True)
    (tmp_path / "models" / "m" / "1" / "model.pt2").write_bytes(exported[2].read_bytes())
    (tmp_path / "broker.toml").write_text("[server]\nrepository = 'models'\nwatch = true\n")
    whole = exported[3].read_bytes()
    with serving(tmp_path) as served, Bystander(served.broker.socket_path):
        folder = tmp_path / "models" / "m" / "2"
        folder.mkdir()
        assert settled(served)
        with (folder / "model.pt2").open("wb") as file:
            for part in (whole[:100], whole[100:-100], whole[-100:]):
                file.write(part)
                file.flush()
                assert settled(served)
        assert served.reloads == 0
        served.wait_for(2)
        assert served.answer() == 3
        assert served.reloads == 1


def test_the_folder_of_a_file_is_replaced(tmp_path, exported):
    """As with a rename of a folder, or the link that Kubernetes puts in place for a ConfigMap."""
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served:
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        (fresh / "m.pt2").write_bytes(exported[3].read_bytes())
        model.parent.rename(tmp_path / "old")
        fresh.rename(model.parent)
        served.wait_for(2)
        assert served.answer() == 3
        link = tmp_path / "..new"
        link.symlink_to("old")
        assert settled(served)
        link.rename(tmp_path / "..data")
        served.wait_for(3)


# --- pools and canaries ---


def test_a_slow_model_keeps_no_other_pool_waiting(tmp_path):
    """The gate stays closed until the fast model has answered: in one pool, this would never end."""
    gate = tmp_path / "gate"
    gate.touch()
    models = (f"slow={__name__}:gated", f"fast={__name__}:times")
    flags = ("--argument", f"slow/path={gate}", "--argument", "fast/factor=3")
    pools = ("--pool", "slow=slow", "--pool", "fast=fast")
    x = np.ones((1, 4), np.float32)
    with running_broker(*models, *flags, *pools) as broker:
        with ringbroker.connect(broker.socket_path) as client, client.open("slow") as slow, client.open("fast") as fast:
            gate.unlink()
            order = []
            thread = threading.Thread(target=lambda: order.append(float(slow(x, timeout=60)[0, 0])))
            thread.start()
            until(lambda: broker.status()["pools"]["slow"]["workers"][0]["busy_s"] > 0)
            order.extend(float(fast(x, timeout=60)[0, 0]) for _ in range(100))
            gate.touch()
            thread.join(60)
        assert order == [3] * 100 + [2]
        assert broker.stop() == 0


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    """A model whose version 1 doubles, with a canary that triples."""
    folder = tmp_path_factory.mktemp("canary")
    for version, factor in (("1", 2), ("2", 3)):
        (folder / "m" / version).mkdir(parents=True)
        table = f"factory = '{__name__}:times'\narguments = {{ factor = {factor} }}\n"
        (folder / "m" / version / "model.toml").write_text(table)
    flags = ("--repository", str(folder), "--canary", "m/2=5", "--canary-seed", "m/7")
    with running_broker(*flags) as broker:
        yield broker
        assert broker.stop() == 0


@pytest.mark.parametrize("requests", [2_000, 20_000])
def test_a_canary_answers_its_share(canary, requests):
    before = canary.status()["models"]["m"]["versions"]
    counts = {"1": 0, "2": 0}
    with ringbroker.connect(canary.socket_path) as client, client.open("m") as model, model.acquire() as lease:
        lease.inputs["x"][:] = 1
        for _ in range(requests):
            result = lease.infer()
            assert result["y"][0, 0] == {"1": 2, "2": 3}[result.version]
            counts[result.version] += 1
    spread = 3.2905 * (requests * 0.05 * 0.95) ** 0.5  # of 99.9 % of all binomial draws
    assert abs(counts["2"] - 0.05 * requests) <= spread
    versions = canary.status()["models"]["m"]["versions"]
    told = {version: did["results"] - before[version]["results"] for version, did in versions.items()}
    assert told == counts
    assert [did["canary_percent"] for did in versions.values()] == [None, 5.0]


def test_a_request_may_name_its_version(canary):
    with ringbroker.connect(canary.socket_path) as client, client.open("m") as model, model.acquire() as lease:
        lease.inputs["x"][:] = 1
        answers = [lease.infer(version=version)["y"][0, 0] for version in ("1", "2") * 50]
        assert answers == [2, 3] * 50
