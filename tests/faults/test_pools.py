"""Pools that do not wait for each other, and versions that share a model's requests."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import ringbroker

from broker import admin
from tests.conformance.reference_models import Model
from tests.conftest import START_TIMEOUT_S, running_broker
from tests.faults.reloadable import ROW, times
from tests.faults.wire import until

__all__ = ["times"]


def gated(path):
    """y = 2 * x, when there is a file at `path`."""

    def run(x):
        while not Path(path).exists():
            time.sleep(0.001)
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


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


def wide(width):
    """y = the sum of x, `width` times."""
    return Model(lambda x: x.sum(1, keepdim=True).expand(-1, width), {"x": ROW}, {"y": f"F32[batch,{width}]"})


def test_a_model_of_another_pool_with_a_new_signature(tmp_path):
    """Nobody has read on the first connection that its worker sends it away: that one still lists the old signature."""
    config = tmp_path / "broker.toml"

    def write(width):
        config.write_text(
            f"[[model]]\nname = 'm'\nfactory = '{__name__}:times'\narguments = {{ factor = 2 }}\n"
            f"[[model]]\nname = 'wide'\nfactory = '{__name__}:wide'\narguments = {{ width = {width} }}\n"
            "[[pool]]\nname = 'first'\nmodels = ['m']\n[[pool]]\nname = 'second'\nmodels = ['wide']\n"
        )

    write(1)
    x = np.ones((1, 4), np.float32)
    with running_broker("--config", str(config), folder=tmp_path) as broker:
        with ringbroker.connect(broker.socket_path) as client, client.open("wide") as model:
            assert model(x).tolist() == [[4]]
            for width in (2, 3):
                write(width)
                assert "generation" in admin.ask(broker.socket_path, "reload", START_TIMEOUT_S)
                answers = []
                while len(answers) == 0 or answers[-1] != [[4] * width]:  # the worker may not have sent it away yet
                    with suppress(ringbroker.SignatureChanged):
                        answers.append(model(x).tolist())
                        assert answers[-1] in ([[4] * (width - 1)], [[4] * width])
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
