"""The `broker` command: what it prints, how it ends, and its questions to a real broker."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli import main
from tests.conformance import reference_models
from tests.conftest import ROOT, broker_command, running_broker

SERVED = {**reference_models.SOURCES, "pair": f"{__name__}:pair"}


def pair():
    """Two inputs, two outputs."""
    sides = {"a": "F32[batch,2]", "b": "F32[batch,2]"}
    outputs = {"sum": "F32[batch,2]", "difference": "F32[batch,2]"}
    return reference_models.Model(lambda a, b: (a + b, a - b), sides, outputs)


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
    for command in ("serve", "models", "status", "infer"):
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
def test_load_errors_are_one_line_and_exit_1(tmp_path, model, error):
    (tmp_path / "file.bin").write_text("x")
    (tmp_path / "file.pt2").write_text("x")
    (tmp_path / "failing.py").write_text("def factory(): raise OSError('no weights')")
    source = "class Model:\n inputs = {'x': 'F32[4]'}\n outputs = {'y': 'F32[5]'}\n def __call__(self, x): return x\n"
    (tmp_path / "mismatching.py").write_text(source + "factory = Model\n")
    done = serve(model, folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"broker: error {error}: ")
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


def test_status(invoke, broker):
    told = json.loads(invoke("status").stdout)
    assert told["pid"] == broker.pid
    assert told["socket"] == broker.socket_path
    assert set(told["models"]) == set(SERVED)
    assert told["models"]["twice"]["source"] == SERVED["twice"]
    assert told["in_flight"] == 0


@pytest.mark.parametrize("command", [["status"]])
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


def saved(folder, name, array):
    path = folder / f"{name}.npy"
    np.save(path, array)
    return path


def test_infer(invoke, tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    invoke("infer", "twice", saved(tmp_path, "x", x), "-o", tmp_path / "y.npy")
    assert (np.load(tmp_path / "y.npy") == 2 * x).all()


def test_infer_prints_without_an_output_file(invoke, tmp_path):
    output = invoke("infer", "twice", saved(tmp_path, "x", np.ones((1, 4), np.float32))).stdout
    assert "[[2. 2. 2. 2.]]" in output


def test_infer_with_several_inputs_and_outputs(invoke, tmp_path):
    a, b = np.full((2, 2), 5, np.float32), np.full((2, 2), 3, np.float32)
    inputs = [f"b={saved(tmp_path, 'b', b)}", f"a={saved(tmp_path, 'a', a)}"]
    invoke("infer", "pair", *inputs, "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert (out["sum"] == 8).all()
        assert (out["difference"] == 2).all()


def test_infer_opens_dims_as_large_as_the_input(invoke, tmp_path):
    a = np.arange(14, dtype=np.int64).reshape(2, 7)
    invoke("infer", "open", saved(tmp_path, "a", a), "-o", tmp_path / "y.npy")
    assert (np.load(tmp_path / "y.npy") == a).all()


def test_infer_errors(invoke, tmp_path):
    x = saved(tmp_path, "x", np.ones((1, 4), np.float32))
    assert "UNKNOWN_MODEL" in invoke("infer", "absent", x, code=1).stderr
    assert "absent.npy" in invoke("infer", "twice", tmp_path / "absent.npy", code=1).output
    (tmp_path / "text.npy").write_text("no array")
    assert "text.npy" in invoke("infer", "twice", tmp_path / "text.npy", code=1).output


MISFITS = {
    "wide": np.ones((1, 5), np.float32),
    "many": np.ones((9, 4), np.float32),
    "none": np.ones((0, 4), np.float32),
    "flat": np.ones(4, np.float32),
    "scalar": np.float32(1),
    "complex": np.ones((1, 4), np.complex64),
    "text": np.array([["a", "b", "c", "d"]]),
}


@pytest.mark.parametrize("name", MISFITS)
def test_infer_of_what_does_not_fit_is_told_in_a_line(invoke, tmp_path, name):
    is_told_in_a_line(invoke("infer", "twice", saved(tmp_path, "x", MISFITS[name]), code=1))


@pytest.mark.parametrize("inputs", [["a=x.npy"], ["x.npy"], ["a=x.npy", "c=x.npy"], ["a=x.npy", "x.npy"], ["x.npz"]])
def test_infer_with_the_wrong_inputs_is_told_in_a_line(invoke, tmp_path, monkeypatch, inputs):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((1, 2), np.float32))
    np.savez("x.npz", a=np.ones((1, 2), np.float32))
    is_told_in_a_line(invoke("infer", "pair", *inputs, code=1))


def is_told_in_a_line(result):
    assert isinstance(result.exception, SystemExit), result.exception
    assert len(result.stderr.splitlines()) == 1


def test_sigterm_ends_it_and_leaves_nothing(tmp_path):
    with running_broker(f"twice={SERVED['twice']}", folder=tmp_path) as broker:
        assert broker.stop() == 0
        assert "stopped" in broker.log
        assert not Path(broker.socket_path).exists()
        assert not Path(broker.socket_path + ".admin").exists()
