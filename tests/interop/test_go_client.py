"""The Go client against a real broker process: its own tests, with the race detector, and without cgo."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.models import SOURCES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run_go(start_broker):
    """A function that runs the go tool in a module, with a real broker in RINGBROKER_TEST_SOCKET."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "RINGBROKER_TEST_SOCKET": start_broker(SOURCES),
    }

    def run(module, *arguments, cgo):
        command = ["/usr/bin/env", "go", *arguments]
        environment["CGO_ENABLED"] = "1" if cgo else "0"
        return subprocess.run(
            command, cwd=ROOT / module, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    return run


def test_under_the_race_detector(run_go):
    done = run_go("clients/go", "test", "-race", "-count=1", "-v", "-run", "TestRealBroker", ".", cgo=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("--- PASS: TestRealBroker") == 7
    assert "SKIP" not in done.stdout


def test_an_inference_allocates_nothing(run_go):
    arguments = ("-run", "^$", "-bench", "RealBrokerInfer", "-benchtime", "2000x", ".")
    done = run_go("clients/go", "test", "-count=1", *arguments, cgo=False)
    assert done.returncode == 0, done.stdout + done.stderr
    allocations = re.search(r"BenchmarkRealBrokerInfer\S*\s.*\s(\d+) allocs/op", done.stdout)
    assert allocations is not None, done.stdout
    assert allocations[1] == "0"


def test_digits_example(run_go, start_broker):
    socket_path = start_broker({"digits": "broker.demo:digits"})
    done = run_go("examples/go", "run", "./digits", "-socket", socket_path, cgo=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "443 of 450 right, accuracy 0.9844\n"
