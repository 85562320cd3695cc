"""A broker whose configuration changes while it serves, and a client that notices nothing."""

import os
import subprocess
import threading
from contextlib import contextmanager

import numpy as np
import ringbroker

from tests.conformance.reference_models import Model
from tests.conftest import ROOT, START_TIMEOUT_S, broker_command, running_broker
from tests.faults.wire import until

ROW = "F32[batch,4]"


def times(factor):
    """y = factor * x."""
    return Model(lambda x: factor * x, {"x": ROW}, {"y": ROW})


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
