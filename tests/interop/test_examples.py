"""The examples, as their programs' first lines say: models made, served by one broker, and asked from Python and Go.

The programs compare what they get with the plain models and exit with an error where it differs; what is looked at
here is that they do and what they print.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, running_broker

PYTHON = ROOT / "examples" / "python"
MADE = ("embed", "classify", "score", "listen")

# By program and arguments, after the language's own: what its output must match.
PRINTED = {
    ("embed",): r"14 of 14 found their pair, difference from the plain model \S+\n\Z",
    ("classify",): r"\A(2[6-9]|3[0-2]) of 32 right; 32 as the plain network, difference \S+\n\Z",
    ("classify", "model", "classify-onnx"): r"\A(2[6-9]|3[0-2]) of 32 right; 32 as the plain network",
    ("score", "requests", "2000"): r"AUC 0\.9\d+, difference \S+\n\Z",
    (
        "listen",
    ): r"(?s)stream voice: heard (5[6-9]|6\d) of 62 .*clip silence: heard 0 of 0 windows of speech, 0 elsewhere",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that `python -m examples.models` made, with every model."""
    folder = tmp_path_factory.mktemp("examples")
    done = run([sys.executable, "-m", "examples.models", "--out", folder], ROOT)
    assert re.findall(r"^(\w+): made in", done, re.MULTILINE) == list(MADE)
    return folder


@pytest.fixture(scope="module")
def socket_path(made):
    """The socket of a broker that serves them, by their folder alone."""
    with running_broker("--repository", str(made / "models")) as broker:
        yield broker.socket_path


@pytest.fixture(scope="module")
def binaries(tmp_path_factory):
    """The folder of the Go programs, built without cgo."""
    folder = tmp_path_factory.mktemp("binaries")
    run(["/usr/bin/env", "go", "build", "-o", f"{folder}/", "./..."], ROOT / "examples" / "go")
    return folder


def run(command, folder):
    """Run a program that must succeed; returns what it prints."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
        "CGO_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def options(dashes, arguments, **more):
    names = dict(zip(arguments[::2], arguments[1::2], strict=True)) | more
    return [part for name, value in names.items() for part in (f"{dashes}{name}", str(value))]


@pytest.mark.parametrize("program", PRINTED, ids="-".join)
def test_python(program, socket_path, made):
    name, *arguments = program
    command = [sys.executable, "-W", "error", PYTHON / f"{name}.py"]
    printed = run([*command, *options("--", arguments, socket=socket_path, cases=made)], ROOT)
    assert re.search(PRINTED[program], printed), printed


@pytest.mark.parametrize("program", PRINTED, ids="-".join)
def test_go(program, socket_path, made, binaries):
    name, *arguments = program
    printed = run([binaries / name, *options("-", arguments, socket=socket_path, cases=made)], ROOT / "examples" / "go")
    assert re.search(PRINTED[program], printed), printed


def test_bucketing(socket_path, made):
    few = options("--", ["rounds", "1", "sentences", "20", "threads", "4"], socket=socket_path, cases=made)
    printed = run([sys.executable, "-W", "error", PYTHON / "bucketing.py", *few], ROOT)
    assert [line.split("  ")[0] for line in printed.splitlines()[2:]] == [
        "exact lengths, one ring",
        "buckets, one ring",
        "buckets, a ring for each",
    ]


def test_a_wrong_answer_is_an_error(socket_path, made, binaries, tmp_path):
    """The programs do compare: with other cases than the model's they end with an error."""
    for file in made.glob("score.json"):
        (tmp_path / file.name).write_text(file.read_text().replace('"scores": [0', '"scores": [9'))
    arguments = options("-", ["requests", "1000"], socket=socket_path, cases=tmp_path)
    python = [sys.executable, PYTHON / "score.py", *(f"-{part}" if part[0] == "-" else part for part in arguments)]
    for command in (python, [binaries / "score", *arguments]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "not what the plain perceptron says" in done.stderr


def test_digits(start_broker):
    socket_path = start_broker({"digits": "broker.demo:digits"})
    printed = run([sys.executable, "-W", "error", PYTHON / "digits.py", "--socket", socket_path], ROOT)
    assert printed == "443 of 450 right, accuracy 0.9844\n"
