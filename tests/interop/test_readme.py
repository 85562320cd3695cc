"""The snippets of the README run, as they stand there, against a real broker."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def environment(start_broker):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # go is beside python, in the virtual environment
    return {**os.environ, "PATH": path, "RINGBROKER_SOCKET": start_broker({"digits": "broker.demo:digits"})}


def test_python(environment):
    (client,) = [snippet for snippet in snippets("python") if "ringbroker.connect" in snippet]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", client],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["(1, 10)", "(3, 10)"]


def test_go(environment, tmp_path):
    (program,) = snippets("go")
    (tmp_path / "main.go").write_text(program)
    (tmp_path / "go.mod").write_text(
        f"module readme\n\ngo 1.27\n\nrequire ringbroker v0.0.0\n\nreplace ringbroker => {ROOT / 'clients' / 'go'}\n"
    )
    offline = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    go = shutil.which("go", path=environment["PATH"])
    assert go is not None
    done = subprocess.run(
        [go, "run", "."],
        cwd=tmp_path,
        env=environment | offline,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10\n"


def test_the_factory_declares_what_it_takes():
    (declaration,) = [snippet for snippet in snippets("python") if "class Scorer" in snippet]
    namespace = {}
    exec("import torch\n" + declaration, namespace)
    from broker.engine import signature

    scorer = namespace["Scorer"]
    assert signature.declare(scorer.inputs, scorer.outputs).inputs[0].shape == ("batch", 64)
