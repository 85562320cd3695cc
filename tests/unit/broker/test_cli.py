"""The `broker` command: what it prints, how it ends, and its questions to a real broker."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.conformance import reference_models
from tests.conftest import ROOT, broker_command, running_broker

SERVED = reference_models.SOURCES


@pytest.fixture(scope="module")
def broker():
    models = [f"{name}={source}" for name, source in SERVED.items()]
    with running_broker(*models, "--max-batch", "8") as broker:
        yield broker


@pytest.fixture
def invoke(broker):
    """A function that runs a command of a client in this process, against the broker."""

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(main, [*map(str, arguments), "--socket", broker.socket_path])
        assert result.exit_code == code, result.output
        return result

    return invoke


def serve(*arguments, folder):
    """`broker serve` of what cannot be served: it ends by itself."""
    command = [*broker_command("serve", "--socket", str(folder / "broker.sock")), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_version():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("broker, version ")


def test_help_lists_the_commands():
    output = CliRunner().invoke(main, ["--help"]).output
    for command in ("serve", "inspect", "config", "models", "status", "reload", "infer"):
        assert command in output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name at least one model"),
        (["a=x:y", "a=x:z"], "two models have the same name"),
        (["digits=x:y", "--demo"], "two models have the same name"),
        (["a=x:y", "--spin", "on"], "auto, off, or microseconds"),
        (["a=x:y", "--spin", "inf"], "auto, off, or microseconds"),
        (["a=x:y", "--spin=-1"], "auto, off, or microseconds"),
        (["a=x:y", "--slots", "4097"], "--slots"),
        (["a=x:y", "--threads", "0"], "--threads"),
        (["a=x:y", "--max-connections", "0"], "--max-connections"),
        (["a=x:y", "--log-format", "xml"], "--log-format"),
        (["a=x:y", "--unknown"], "--unknown"),
    ],
)
def test_usage_errors(arguments, text):
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert text in result.output


def test_a_model_without_a_name_is_an_error():
    result = CliRunner().invoke(main, ["serve", "model.pt2"])
    assert result.exit_code == 1
    assert result.output.startswith("broker: error 3111 CONFIG_INVALID: ")
    assert "model.pt2" in result.output


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("m=absent.pt2", "3101 MODEL_NOT_FOUND"),
        ("m=absent.module:factory", "3101 MODEL_NOT_FOUND"),
        ("m=file.bin", "3102 MODEL_FORMAT_UNKNOWN"),
        ("m=file.pt2", "3103 MODEL_INVALID"),
        ("m=failing:factory", "3104 FACTORY_FAILED"),
        ("m=mismatching:factory", "3106 SIGNATURE_MISMATCH"),
    ],
)
def test_load_errors_are_told_in_the_last_line_and_exit_1(tmp_path, model, error):
    (tmp_path / "file.bin").write_text("x")
    (tmp_path / "file.pt2").write_text("x")
    (tmp_path / "failing.py").write_text("def factory(): raise OSError('no weights')")
    source = "class Model:\n inputs = {'x': 'F32[4]'}\n outputs = {'y': 'F32[5]'}\n def __call__(self, x): return x\n"
    (tmp_path / "mismatching.py").write_text(source + "factory = Model\n")
    done = serve(model, folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"broker: error {error}: ")
    assert not (tmp_path / "broker.sock").exists()


def test_a_path_that_is_taken(broker):
    result = subprocess.run(
        broker_command("serve", "--demo", "--socket", broker.socket_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("broker: error 6101 SOCKET_IN_USE: ")


def test_status_as_json(invoke, broker):
    told = json.loads(invoke("status", "--json").stdout)
    assert told["pid"] == broker.pid
    assert told["socket"] == broker.socket_path
    assert set(told["models"]) == set(SERVED)
    assert told["models"]["twice"]["source"] == SERVED["twice"]
    assert told["in_flight"] == 0


def test_status_for_people(invoke, broker):
    output = invoke("status").stdout
    assert output.startswith(f"broker    serving, generation 1; process {broker.pid}, up ")
    assert "\nsessions  0 open; 0 rings, 0 bytes of " in output
    assert "\npool default: 1 worker, " in output
    assert f"\n  worker 0  process {broker.worker_pid}: 0 sessions, 0 in flight\n" in output
    assert f"\nmodel twice: 0 results; {SERVED['twice']}\n  version 1    0.0 %  0 results\n" in output
    assert "reload" not in output


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["reload"]])
def test_nobody_there(tmp_path, command):
    result = CliRunner().invoke(main, [*command, "--socket", str(tmp_path / "broker.sock")])
    assert result.exit_code == 1
    assert result.stderr.startswith("broker: error 6001 BROKER_LOST: ")


def test_models(invoke):
    output = invoke("models").stdout
    assert "twice  versions 1  pool default\n  in  x: F32[batch,4]\n  out y: F32[batch,4]\n" in output
    assert "  dim seq: 1 to 16\n" in output
    assert "  dim seq: any size\n" in output


def test_models_as_json(invoke):
    models = {model["name"]: model for model in json.loads(invoke("models", "--json").stdout)}
    assert set(models) == set(SERVED)
    assert models["sum"] == {
        "name": "sum",
        "versions": ["1"],
        "pool": "default",
        "inputs": {"a": "I64[batch,seq]", "b": "I64[batch,seq]"},
        "outputs": {"y": "I64[batch,seq]"},
        "dims": {"seq": 16},
    }


def test_sigterm_ends_it_and_leaves_nothing(tmp_path):
    with running_broker(f"twice={SERVED['twice']}", folder=tmp_path) as broker:
        assert broker.stop() == 0
        assert "stopped" in broker.log
        assert not Path(broker.socket_path).exists()
        assert not Path(broker.socket_path + ".admin").exists()
