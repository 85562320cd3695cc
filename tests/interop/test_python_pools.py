"""The Python client and a real broker of two pools."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import ringbroker

from tests.conftest import ROOT, START_TIMEOUT_S
from tests.interop.models import SOURCES

SERVE = """
import json, sys
from broker.config import PoolConfig, ServeConfig
from broker.engine.config import ModelConfig
from broker.supervisor import serve
models = tuple(ModelConfig(name=name, source=source) for name, source in json.loads(sys.argv[2]).items())
pools = (PoolConfig("one", ("affine",)), PoolConfig("two", ("single",), 2))
serve(ServeConfig(models, sys.argv[1], pools, threads=1), lambda generation: print("ready", flush=True))
"""


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pools") / "broker.sock")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    models = json.dumps({name: SOURCES[name] for name in ("affine", "single")})
    command = [sys.executable, "-c", SERVE, path, models]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield path
        process.terminate()
        process.wait(START_TIMEOUT_S)


def test_models_of_two_pools(socket_path):
    half, brain = np.zeros(3, np.float16), np.zeros(3, np.uint16)
    with ringbroker.connect(socket_path, conns=2) as client:
        assert {model.name: model.pool for model in client.models()} == {"affine": "one", "single": "two"}
        with client.open("affine") as affine, client.open("single") as single:
            assert affine(np.ones((1, 4), np.float32), timeout=60).tolist() == [[4] * 4]
            assert single(half, brain, timeout=60) == 0
        assert sorted(link.session.pool for link in client._links) == ["one", "one", "two", "two"]


def test_unknown_pool(socket_path):
    with pytest.raises(ringbroker.ModelError):
        ringbroker.connect(socket_path, pool="three")
