"""The promises about faults under load, with counts: `make faults` runs all of them, the tests a tenth.

Times are printed, never asserted.
"""

import os
import random
import shutil
import signal
import time
from contextlib import suppress

import pytest

from broker import admin
from tests.conftest import running_broker
from tests.faults import leaks
from tests.faults.load import Load
from tests.faults.wire import until

IS_FULL = bool(os.environ.get("RINGBROKER_ALL_FAULTS"))
KILLS = 200 if IS_FULL else 20
RELOADS = 50 if IS_FULL else 5
TWICE = "twice=tests.faults.models:twice"


def told(text):
    print(f"\n    {text}", end="")


def percentile(values, percent):
    return values[min(len(values) - 1, len(values) * percent // 100)]


@pytest.mark.parametrize("repost", [False, True], ids=["lost", "reposted"])
def test_workers_killed_under_load(repost):
    choice = random.Random(7)
    with running_broker(TWICE, "--workers", "2") as broker:
        with Load(broker.socket_path, repost=repost) as load:
            until(lambda: load.answers > 100)
            before = leaks.settled(broker)
            waits = []
            for _ in range(KILLS):
                time.sleep(choice.uniform(0.0, 0.05))
                pids = [pid for pid in broker.worker_pids if pid is not None]
                killed = time.monotonic()
                with suppress(ProcessLookupError):
                    os.kill(choice.choice(pids), signal.SIGKILL)
                until(lambda killed=killed: load.next_answer(killed) is not None)
                waits.append(load.next_answer(killed) - killed)
            until(lambda: len(broker.worker_pids) == 2)
            leaks.assert_back_to(before, broker)
        load.check()
        assert load.lost == 0 or not repost
        waits.sort()
        told(
            f"{KILLS} kills, {load.answers} answers, {load.lost} lost and asked again, 0 wrong; next answer of every "
            f"client {percentile(waits, 50) * 1e3:.0f} ms at p50, {percentile(waits, 99) * 1e3:.0f} ms at p99"
        )
        assert broker.stop() == 0


def test_reloads_under_load(tmp_path):
    """Good, bad and missing files in turn; nobody notices any of them."""
    models = tmp_path / "models"
    version = models / "twice" / "1"
    version.mkdir(parents=True)
    good = 'factory = "tests.faults.models:twice"\n'
    table = version / "model.toml"
    table.write_text(good)
    with running_broker("--repository", str(models)) as broker:
        with Load(broker.socket_path, clients=2) as load:
            until(lambda: load.answers > 200)
            began = time.monotonic()
            time.sleep(2)
            quiet = load.waits(began, time.monotonic())
            reloading = time.monotonic()
            memory = []
            for number in range(RELOADS):
                kind = ("good", "bad", "good", "missing")[number % 4]
                if kind == "missing":
                    table.unlink()
                else:
                    table.write_text(good if kind == "good" else "factory = 7\n")
                came = admin.ask(broker.socket_path, "reload", timeout_s=60)
                assert ("generation" in came) == (kind == "good"), came
                if kind == "good":
                    until(lambda: len(leaks.processes(broker)) == 3)
                    memory.append(leaks.private_bytes(broker))
            loaded = load.waits(reloading, time.monotonic())
        load.check()
        assert load.lost == 0
        told(
            f"{RELOADS} reloads, {load.answers} answers, 0 lost, 0 wrong; p99 {percentile(loaded, 99) * 1e3:.1f} ms, "
            f"quiet {percentile(quiet, 99) * 1e3:.1f} ms; private memory after the first {memory[0] >> 20} MiB, after "
            f"the last {memory[-1] >> 20} MiB"
        )
        assert broker.stop() == 0
    shutil.rmtree(models)
