"""The Python client and a real broker of two pools."""

import asyncio
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import ringbroker
from ringbroker import aio

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


@pytest.mark.parametrize("freed", [0, 1])
def test_who_waits_gets_the_first_row_that_is_free_of_any_connection(socket_path, freed):
    with (
        ringbroker.connect(socket_path, conns=2) as client,
        client.open("affine", slots=1) as model,
        ThreadPoolExecutor(2) as threads,
    ):
        held, waiting = [model.acquire(), model.acquire()], []
        for count in (1, 2):
            waiting.append(threads.submit(model.acquire, 1, 60))
            while len(model._rings.waiting) < count:
                time.sleep(0.001)
        for lease, one in zip((held[freed], held[1 - freed]), waiting, strict=True):
            lease.release()
            got = one.result()
            assert got._ring is lease._ring
            assert got.infer(timeout=60).batch_rows == 1


@pytest.mark.parametrize("freed", [0, 1])
def test_what_waits_in_an_event_loop_gets_the_first_row_that_is_free_of_any_connection(socket_path, freed):
    async def wait_for_both():
        async with await aio.connect(socket_path, conns=2) as client, await client.open("affine", slots=1) as model:
            held, waiting = [await model.acquire(), await model.acquire()], []
            for count in (1, 2):
                waiting.append(asyncio.ensure_future(model.acquire(1, 60)))
                while len(model._rings.waiting) < count:
                    await asyncio.sleep(0)
            for lease, one in zip((held[freed], held[1 - freed]), waiting, strict=True):
                lease.release()
                got = await one
                assert got._ring is lease._ring
                assert (await got.infer(timeout=60)).batch_rows == 1

    asyncio.run(wait_for_both())


def test_unknown_pool(socket_path):
    with pytest.raises(ringbroker.ModelError):
        ringbroker.connect(socket_path, pool="three")
