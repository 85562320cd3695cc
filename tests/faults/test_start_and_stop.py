"""`broker serve` that starts, is refused, dies and stops: what it prints, what it leaves, what it takes over."""

import io
import os
import signal
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from broker.engine import models as engine
from broker.engine.config import ModelConfig
from ringbuf.errors import Code, RingbrokerError
from ringbuf.segment import SegmentStore
from tests.conftest import ROOT, START_TIMEOUT_S, broker_command, running_broker
from tests.faults import leaks
from tests.faults.models import STUCK
from tests.faults.wire import Bystander, Peer, until

FACTORIES = "tests.faults.models"
TWICE = f"twice={FACTORIES}:twice"
SLOW = f"slow={FACTORIES}:slow"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def refused(socket_path, *models, path=""):
    """What `broker serve` says on its way out; it must go with 1."""
    command = broker_command("serve", "--socket", str(socket_path), *models)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    uncaught = [line for line in done.stderr.splitlines() if line.startswith("Traceback")]  # the log's are indented
    assert uncaught == []
    return done.stderr.splitlines()[-1]


# --- stop ---


def test_sigterm_with_work_in_progress():
    with running_broker(TWICE, SLOW, "--drain-grace-s", "2") as broker:
        with Peer(broker.socket_path).hello() as peer:
            peer.open("twice")
            ring = peer.open("slow")
            peer.ask(3, 1, "twice", None, 4, {}, {})  # not attached: its name is still there
            peer.send(*(ring.infer(slot, slot) for slot in (0, 2)))
            assert leaks.names(broker)
            assert broker.stop() == 0
        assert not leaks.names(broker)
        assert not Path(broker.socket_path).exists()
        assert not Path(broker.socket_path + ".admin").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_as_soon_as_it_is_ready(number):
    with running_broker(TWICE) as broker:
        broker.process.send_signal(number)
        assert broker.process.wait(START_TIMEOUT_S) == 0
        assert not Path(broker.socket_path).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("factory", ["endless", "complaining", "deaf"])
def test_signal_while_a_model_is_loaded(tmp_path, factory, number):
    command = broker_command("serve", f"m={FACTORIES}:{factory}", "--socket", str(tmp_path / "broker.sock"))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert "loading\n" in iter(process.stderr.readline, "")
            process.send_signal(number)
            told, log = process.communicate(timeout=START_TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert told == ""
    assert f"stopping signal={number.name}" in log
    assert "broker: error" not in log
    assert [left.name for left in tmp_path.iterdir()] == ["broker.sock.lock"]


def test_output_that_nobody_reads(tmp_path):
    """It cannot say that it serves; it ends, and leaves nothing."""
    command = broker_command("serve", TWICE, "--socket", str(tmp_path / "broker.sock"))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert [left.name for left in tmp_path.iterdir()] == ["broker.sock.lock"]


def test_a_second_signal_ends_a_model_that_does_not_return():
    with running_broker(f"stuck={FACTORIES}:stuck") as broker, Peer(broker.socket_path).hello() as peer:
        ring = peer.open("stuck")
        ring.write(0, STUCK)
        peer.send(ring.infer(1))
        until(lambda: "does not return" in broker.log)
        for number in (signal.SIGTERM, signal.SIGINT):
            broker.process.send_signal(number)
            until(lambda: "stopping" in broker.log)
        assert broker.process.wait(START_TIMEOUT_S) == 0


# --- the socket's path ---


def test_path_too_long(tmp_path):
    path = tmp_path / ("s" * 110)
    assert "6102 SOCKET_INVALID" in refused(path, TWICE)
    assert not list(tmp_path.iterdir())


def test_path_that_is_a_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    assert "6102 SOCKET_INVALID" in refused(path, TWICE)
    assert path.read_text() == "keep me"
    assert not Path(f"{path}.admin").exists()


def test_path_is_looked_at_before_the_models(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    for name in ("s" * 110, "notes.txt"):
        assert "6102 SOCKET_INVALID" in refused(tmp_path / name, f"twice={FACTORIES}:raising")


def test_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert "6102 SOCKET_INVALID" in refused(tmp_path / "file" / "broker.sock", TWICE)


def test_path_of_a_live_broker(broker, undisturbed):
    with Peer(broker.socket_path).hello() as peer:
        peer.ask(3, 1, "twice", None, 4, {}, {})
        before = leaks.census(broker)
        assert "6101 SOCKET_IN_USE" in refused(broker.socket_path, TWICE)
        assert leaks.census(broker) == before


def test_path_of_a_dead_broker(tmp_path):
    with running_broker(TWICE, folder=tmp_path) as dead:
        with Peer(dead.socket_path).hello() as peer:
            peer.ask(3, 1, "twice", None, 4, {}, {})
            dead.process.send_signal(signal.SIGKILL)
            dead.process.wait()
        assert Path(dead.socket_path).exists()
        assert len(leaks.names(dead)) == 1
        with running_broker(TWICE, folder=tmp_path) as heir:
            assert leaks.names(heir) == []
            with Bystander(heir.socket_path):
                pass


def test_files_of_other_brokers_are_left_alone(tmp_path):
    other = SegmentStore("/somewhere/else.sock").create(4096)
    try:
        with running_broker(TWICE, folder=tmp_path) as broker:
            assert Path(other.path).exists()
            assert broker.stop() == 0
        assert Path(other.path).exists()
    finally:
        other.unlink()


def test_mode_of_the_socket(broker):
    assert Path(broker.socket_path).stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(broker.socket_path + ".admin")
        sock.sendall(b"nonsense\n")
        assert b"unknown command" in sock.recv(4096)


# --- models that cannot be served ---


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """An exported program of y = 2 * x."""

    class Twice(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    path = tmp_path_factory.mktemp("models") / "twice.pt2"
    torch.export.save(torch.export.export(Twice(), (torch.zeros(1, 4),)), path)
    return path


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("nothing/here.pt2", Code.MODEL_NOT_FOUND),
        ("tests", Code.MODEL_NOT_FOUND),
        ("no.such.module:factory", Code.MODEL_NOT_FOUND),
        ("tests.no_such_module:factory", Code.MODEL_NOT_FOUND),
        (f"{FACTORIES}:no_such_factory", Code.MODEL_NOT_FOUND),
        ("README.md", Code.MODEL_FORMAT_UNKNOWN),
        ("pyproject.toml", Code.MODEL_FORMAT_UNKNOWN),
        (f"{FACTORIES}:NOT_A_FACTORY", Code.FACTORY_FAILED),
        (f"{FACTORIES}:raising", Code.FACTORY_FAILED),
        (f"{FACTORIES}:exiting", Code.FACTORY_FAILED),
        (f"{FACTORIES}:not_callable", Code.FACTORY_FAILED),
        (f"{FACTORIES}:undeclared", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:bad_dtype", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:bad_dim", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:no_inputs", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:unknown_dim", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:two_batch_axes", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:not_a_dict", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:not_a_text", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:not_a_name", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:maxima_no_dict", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:maximum_no_number", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:maximum_not_whole", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:maximum_too_large", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:maximum_zero", Code.SIGNATURE_INVALID),
        (f"{FACTORIES}:other_shape", Code.SIGNATURE_MISMATCH),
        (f"{FACTORIES}:other_dtype", Code.SIGNATURE_MISMATCH),
        (f"{FACTORIES}:other_count", Code.SIGNATURE_MISMATCH),
        (f"{FACTORIES}:fails_at_trial", Code.SIGNATURE_MISMATCH),
        (f"{FACTORIES}:exits_at_trial", Code.SIGNATURE_MISMATCH),
    ],
)
def test_model_that_cannot_be_served(source, code, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(RingbrokerError) as caught:
        engine.load(ModelConfig(name="model", source=source), threads=1)
    assert caught.value.code == code, str(caught.value)


def test_program_cut_short(program, tmp_path):
    whole = program.read_bytes()
    for length in {0, 1, 4, 100, len(whole) // 4, len(whole) // 2, len(whole) - 100, len(whole) - 1}:
        path = tmp_path / "cut.pt2"
        path.write_bytes(whole[:length])
        with pytest.raises(RingbrokerError) as caught:
            engine.load(ModelConfig(name="cut", source=str(path)), threads=1)
        assert caught.value.code == Code.MODEL_INVALID, length


def test_program_with_wrong_bytes(program, tmp_path):
    """It is loaded all the same, or refused by a code: never anything else."""
    whole = program.read_bytes()
    with zipfile.ZipFile(program) as archive:
        directory = archive.start_dir
    refusals = 0
    for at in [*range(10, directory, max(1, directory // 60)), *range(directory, len(whole), 7)]:
        path = tmp_path / "wrong.pt2"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            engine.load(ModelConfig(name="wrong", source=str(path)), threads=1)
        except RingbrokerError as error:
            refusals += 1
            assert error.code in (Code.MODEL_INVALID, Code.SIGNATURE_INVALID, Code.SIGNATURE_MISMATCH)
    assert refusals


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nothing/here.pt2", "3101 MODEL_NOT_FOUND"),
        ("pyproject.toml", "3102 MODEL_FORMAT_UNKNOWN"),
        ("CUT", "3103 MODEL_INVALID"),
        (f"{FACTORIES}:exiting", "3104 FACTORY_FAILED"),
        (f"{FACTORIES}:not_a_text", "3105 SIGNATURE_INVALID"),
        (f"{FACTORIES}:other_shape", "3106 SIGNATURE_MISMATCH"),
        (f"{FACTORIES}:writing", "3107 INPUT_MODIFIED"),
        (f"{FACTORIES}:twice --require-zero-copy", "3108 ZERO_COPY_IMPOSSIBLE"),
        ("PICKLED", "3109 PICKLE_REFUSED"),
        ("ONNX", "3110 RUNTIME_MISSING"),
        (f"{FACTORIES}:twice --maximum seq=long", "3111 CONFIG_INVALID"),
        (f"{FACTORIES}:twice --range z=1", "3111 CONFIG_INVALID"),
    ],
)
def test_serve_ends_with_the_code(source, told, program, tmp_path):
    source, *options = source.split()
    files = {
        "CUT": lambda: program.read_bytes()[:-200],
        "PICKLED": lambda: pickled(torch.nn.Linear(2, 2)),
        "ONNX": lambda: (ROOT / "tests" / "faults" / "identity.onnx").read_bytes(),
    }
    given = tmp_path / "given.pt2"
    if source in files:
        given.write_bytes(files[source]())
        source = str(given)
    missing = tmp_path / "missing"  # stands before the real one, as if it were not installed
    missing.mkdir()
    (missing / "onnxruntime.py").write_text("raise ModuleNotFoundError('no onnxruntime', name='onnxruntime')")
    assert told in refused(tmp_path / "broker.sock", f"model={source}", *options, path=str(missing))
    assert {left.name for left in tmp_path.iterdir()} <= {"broker.sock.lock", given.name, missing.name}


def pickled(module):
    file = io.BytesIO()
    torch.save(module, file)
    return file.getvalue()
