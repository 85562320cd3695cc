"""The client that was written from the specification alone classifies the digits against a real broker."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "from_spec" / "client.py"
DEMO = ROOT / "broker" / "demo"


@pytest.fixture(scope="module")
def socket_path(start_broker):
    return start_broker({"digits": "broker.demo:digits"}, max_batch=32)


def run_example(socket_path, images, labels):
    arguments = ["--socket", socket_path, "--images", images, "--labels", labels]
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_digits_are_classified(socket_path):
    run = run_example(socket_path, DEMO / "test-images-idx3-ubyte", DEMO / "test-labels-idx1-ubyte")
    assert run.returncode == 0, run.stderr
    right, count, accuracy = re.search(r"(\d+) of (\d+) right, accuracy (0\.\d{4}|1\.0000)", run.stdout).groups()
    assert accuracy == f"{int(right) / int(count):.4f}"
    assert float(accuracy) > 0.9


def test_labels_that_are_shifted_are_noticed(socket_path, tmp_path):
    """The accuracy is counted, not claimed: with every label wrong by one, hardly any answer is right."""
    labels = (DEMO / "test-labels-idx1-ubyte").read_bytes()
    shifted = tmp_path / "labels"
    shifted.write_bytes(labels[:8] + bytes((label + 1) % 10 for label in labels[8:]))
    run = run_example(socket_path, DEMO / "test-images-idx3-ubyte", shifted)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.split()[-1]) < 0.2


def test_the_example_imports_nothing_of_ours():
    imported = set(re.findall(r"^(?:import|from) (\w+)", EXAMPLE.read_text(), re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"msgpack"}
