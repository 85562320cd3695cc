"""`broker infer`: arrays from files to a real broker and back."""

import numpy as np
import pytest
from click.testing import CliRunner

from broker.cli import main
from ringbuf.wire import messages
from tests.conformance import reference_models
from tests.unit.ringbroker.peer import Peer

SERVED = {**reference_models.ALL_SOURCES, "pair": f"{__name__}:pair"}


def pair():
    """Two inputs, two outputs."""
    sides = {"a": "F32[batch,2]", "b": "F32[batch,2]"}
    outputs = {"sum": "F32[batch,2]", "difference": "F32[batch,2]"}
    return reference_models.Model(lambda a, b: (a + b, a - b), sides, outputs)


@pytest.fixture
def infer(start_broker):
    """A function that runs `broker infer` in this process."""
    socket_path = start_broker(SERVED, max_batch=8)

    def infer(*arguments, code=0):
        result = CliRunner().invoke(main, ["infer", *map(str, arguments), "--socket", socket_path])
        assert result.exit_code == code, result.output
        return result

    return infer


def saved(folder, name, array):
    path = folder / f"{name}.npy"
    np.save(path, array)
    return path


def test_one_input_and_one_output(infer, tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    infer("twice", saved(tmp_path, "x", x), "-o", tmp_path / "y.npy")
    assert (np.load(tmp_path / "y.npy") == 2 * x).all()


def test_prints_without_an_output_file(infer, tmp_path):
    output = infer("twice", saved(tmp_path, "x", np.ones((1, 4), np.float32))).stdout
    assert "[[2. 2. 2. 2.]]" in output


def test_several_inputs_and_outputs(infer, tmp_path):
    a, b = np.full((2, 2), 5, np.float32), np.full((2, 2), 3, np.float32)
    inputs = [f"b={saved(tmp_path, 'b', b)}", f"a={saved(tmp_path, 'a', a)}"]
    infer("pair", *inputs, "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert (out["sum"] == 8).all()
        assert (out["difference"] == 2).all()


def test_opens_dims_as_large_as_the_input(infer, tmp_path):
    a = np.arange(14, dtype=np.int64).reshape(2, 7)
    infer("open", saved(tmp_path, "a", a), "-o", tmp_path / "y.npy")
    assert (np.load(tmp_path / "y.npy") == a).all()


def test_errors(infer, tmp_path):
    x = saved(tmp_path, "x", np.ones((1, 4), np.float32))
    unknown = is_told_in_a_line(infer("absent", x, code=1))
    assert "UNKNOWN_MODEL" in unknown
    assert "twice" in unknown
    absent = is_told_in_a_line(infer("twice", tmp_path / "absent.npy", code=1))
    assert absent == f"Error: {tmp_path}/absent.npy: No such file or directory"
    for content in (b"", b"no array", b"PK\3\4", b"\x93NUMPY\1\0\x10\0{'descr':'<f4'  "):
        (tmp_path / "odd.npy").write_bytes(content)
        assert "odd.npy: not a .npy" in is_told_in_a_line(infer("twice", tmp_path / "odd.npy", code=1))


@pytest.mark.parametrize(
    ("inputs", "total"),
    [(["two.npy", "one.npy"], 1), (["one.npy", "b=two.npy"], -1), (["./a=b.npy", "b=one.npy"], 1)],
)
def test_gives_files_without_a_name_to_the_inputs_in_their_order(infer, tmp_path, monkeypatch, inputs, total):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, "one", np.full((1, 2), 1, np.float32))
    for name in ("two", "a=b"):
        saved(tmp_path, name, np.full((1, 2), 2, np.float32))
    infer("pair", *inputs, "-o", "out.npz")
    with np.load("out.npz") as out:
        assert (out["difference"] == total).all()


def test_writes_what_the_files_name_says_or_nothing(infer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = saved(tmp_path, "x", np.ones((1, 4), np.float32))
    ab = saved(tmp_path, "ab", np.ones((1, 2), np.float32))
    infer("twice", x, "-o", "y.npz")
    with np.load("y.npz") as out:
        assert out["y"].tolist() == [[2, 2, 2, 2]]
    before = sorted(tmp_path.iterdir())
    assert "they need a .npz file" in is_told_in_a_line(infer("pair", ab, ab, "-o", "out.npy", code=1))
    for name in ("out", "out.bin", "out.NPY"):
        assert "ends in .npy" in is_told_in_a_line(infer("twice", x, "-o", name, code=1))
    assert "No such file" in is_told_in_a_line(infer("twice", x, "-o", "nowhere/y.npy", code=1))
    assert sorted(tmp_path.iterdir()) == before


def test_prints_outputs_by_name(infer, tmp_path):
    ab = saved(tmp_path, "ab", np.ones((1, 2), np.float32))
    assert infer("pair", ab, ab).stdout == "sum:\n[[2. 2.]]\ndifference:\n[[0. 0.]]\n"


def test_counts_rows_where_the_batch_axis_is(infer, tmp_path):
    h = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    infer("turned", saved(tmp_path, "h", h), "-o", tmp_path / "y.npy")
    assert (np.load(tmp_path / "y.npy") == h + 1).all()


@pytest.mark.parametrize("kind", [messages.Hello, messages.List, messages.Open, messages.Infer])
def test_keeps_its_time_whatever_the_broker_does_not_answer(tmp_path, kind):
    x = saved(tmp_path, "x", np.ones((1, 4), np.float32))
    with Peer(tmp_path / "broker.sock") as peer:
        peer.hold(kind)
        arguments = ["infer", "double", str(x), "--timeout", "0.1", "--socket", peer.path]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "4009 TIMEOUT" in result.stderr


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
def test_what_does_not_fit_is_told_in_a_line(infer, tmp_path, name):
    is_told_in_a_line(infer("twice", saved(tmp_path, "x", MISFITS[name]), code=1))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (["a=x.npy"], "there is no file for 'b'"),
        (["x.npy"], "there is no file for 'b'"),
        (["a=x.npy", "c=x.npy"], "the model has no input 'c'"),
        (["a=x.npy", "x.npy"], "there are two files for 'a'"),
        (["b=x.npy", "b=x.npy"], "there are two files for 'b'"),
        (["x.npy", "x.npy", "x.npy"], "there are more files than inputs"),
        (["x.npz", "x.npy"], "x.npz: not a .npy file"),
    ],
)
def test_wrong_inputs_are_told_in_a_line(infer, tmp_path, monkeypatch, inputs, text):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((1, 2), np.float32))
    np.savez("x.npz", a=np.ones((1, 2), np.float32))
    assert text in is_told_in_a_line(infer("pair", *inputs, code=1))


def is_told_in_a_line(result):
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.splitlines()
    return line
