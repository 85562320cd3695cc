"""What a source is: told from what a file holds, whatever it is called."""

import pickle
import struct
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from broker.engine import formats
from broker.engine.config import ModelConfig
from broker.engine.formats import aotinductor, detect, exported, pickled, torchscript
from ringbuf.errors import Code, RingbrokerError

ROWS = {"inputs": {"x": "F32[batch,4]"}, "outputs": {"y": "F32[batch,2]"}}


def write_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")


def write_exported(path):
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.zeros(1, 4),)), path)


def write_torchscript(path):
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(torch.nn.Linear(4, 2)).save(str(path))


def write_torchscript_of_models(path):
    """Its classes lie in a package `models`, by whose name exported programs are known."""
    write_zip(path, "a/data.pkl", "a/code/__torch__/models/net.py", "a/constants.pkl", "a/version")


def write_package(path):
    write_zip(path, "a/data/aotinductor/model/x.wrapper.so", "a/data/aotinductor/model/x.wrapper_metadata.json")


def write_package_called_models(path):
    write_zip(path, "a/data/aotinductor/models/x.wrapper.so")


def write_package_with_program(path):
    write_zip(path, "a/models/model.json", "a/data/aotinductor/model/x.wrapper.so")


def write_saved(path):
    torch.save(torch.nn.Linear(4, 2), path)


def write_legacy(path):
    torch.save(torch.nn.Linear(4, 2), path, _use_new_zipfile_serialization=False)


def write_pickle(path, protocol=4):
    path.write_bytes(pickle.dumps(ModelConfig(name="m", source="s"), protocol=protocol))


@pytest.fixture
def kinds(monkeypatch):
    """Which module was asked to read a file."""
    asked = []
    for module in (aotinductor, exported, pickled, torchscript):
        monkeypatch.setattr(module, "prepare", lambda path, config, module=module: asked.append(module))
    table = tuple(
        detect.Kind(kind.is_kind, getattr(sys_module(kind), "prepare", kind.prepare)) for kind in detect._KINDS
    )
    monkeypatch.setattr(detect, "_KINDS", table)
    return asked


def sys_module(kind):
    by_name = {module.__name__: module for module in (aotinductor, exported, pickled, torchscript)}
    return by_name.get(kind.prepare.__module__)


@pytest.mark.parametrize(
    ("write", "module"),
    [
        (write_exported, exported),
        (write_torchscript, torchscript),
        (write_torchscript_of_models, torchscript),
        (write_package, aotinductor),
        (write_package_called_models, aotinductor),
        (write_package_with_program, exported),
        (write_saved, pickled),
        (write_legacy, pickled),
        (write_pickle, pickled),
    ],
)
@pytest.mark.parametrize("name", ["model.pt2", "model.pt", "model.onnx", "model"])
def test_by_content(tmp_path, kinds, write, module, name):
    write(tmp_path / name)
    formats.prepare(ModelConfig(name="m", source=str(tmp_path / name)))
    assert kinds == [module]


def test_what_was_recognised_is_read(tmp_path):
    write_torchscript(tmp_path / "model.pt2")
    prepared = formats.prepare(ModelConfig(name="m", source=str(tmp_path / "model.pt2"), **ROWS))
    assert prepared.signature.inputs[0].shape == ("batch", 4)


def refusal(source, **said):
    with pytest.raises(RingbrokerError) as caught:
        formats.prepare(ModelConfig(name="m", source=str(source), **said))
    return caught.value


def test_safetensors_are_no_model(tmp_path):
    save_file(torch.nn.Linear(4, 2).state_dict(), tmp_path / "model.safetensors")
    error = refusal(tmp_path / "model.safetensors")
    assert error.code == Code.MODEL_FORMAT_UNKNOWN
    assert "holds weights and no model" in error.text


@pytest.mark.parametrize("write", [write_exported, write_torchscript, write_saved])
@pytest.mark.parametrize("cut", [1, 30, 1000])
def test_truncated_archives(tmp_path, write, cut):
    path = tmp_path / "model.bin"  # nothing but its magic says what it was
    write(path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert refusal(path).code == Code.MODEL_INVALID


@pytest.mark.parametrize("name", ["model.pt2", "model.pt", "model.jit", "model.safetensors", "model.onnx", "model"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    assert refusal(tmp_path / name).code == Code.MODEL_INVALID


@pytest.mark.parametrize("name", ["model.pt2", "model.pt", "model.pth", "model.jit", "model.safetensors"])
def test_other_bytes_under_a_known_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello, this is a text")
    assert refusal(tmp_path / name).code == Code.MODEL_INVALID


def test_a_truncated_safetensors_header(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1000) + b'{"weight":')
    assert refusal(tmp_path / "model.safetensors").code == Code.MODEL_INVALID


@pytest.mark.parametrize("name", ["model.gguf", "model"])
def test_an_unknown_kind_is_told_what_is_supported(tmp_path, name):
    (tmp_path / name).write_bytes(b"GGUF, version 3, and more of it")
    error = refusal(tmp_path / name)
    assert error.code == Code.MODEL_FORMAT_UNKNOWN
    for kind in ("exported program", "TorchScript", "AOTInductor", "ONNX", "factory"):
        assert kind in error.text


def test_another_archive_is_an_unknown_kind(tmp_path):
    write_zip(tmp_path / "model.pt2", "word/document.xml")
    assert refusal(tmp_path / "model.pt2").code == Code.MODEL_FORMAT_UNKNOWN


@pytest.mark.parametrize("source", ["/absent/model.pt2", "absent.pt2", "rb_absent:factory", "a b:c", "nul\0.pt2"])
def test_nothing_there(source):
    assert refusal(source).code == Code.MODEL_NOT_FOUND


def test_a_factory_beside_the_operator(tmp_path, monkeypatch):
    (tmp_path / "rb_beside.py").write_text("import torch\ndef make(rows): return torch.nn.Linear(rows, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path.parent))  # what the test adds to the path is undone behind it
    prepared = formats.prepare(ModelConfig(name="m", source="rb_beside:make", arguments={"rows": 4}, **ROWS))
    assert prepared.model.in_features == 4


def test_onnx_without_its_packages(tmp_path, monkeypatch):
    """Only the suffix can tell then, and what is missing is said."""

    def absent():
        raise ModuleNotFoundError("No module named 'onnxruntime'")

    monkeypatch.setattr(detect, "_onnx", absent)
    for name in ("model.onnx", "model"):
        (tmp_path / name).write_bytes(b"\x08\x09:\x10")
    error = refusal(tmp_path / "model.onnx")
    assert error.code == Code.RUNTIME_MISSING
    assert "ringbroker[onnx]" in error.text
    assert refusal(tmp_path / "model").code == Code.MODEL_FORMAT_UNKNOWN


@pytest.mark.parametrize("said", [{"arguments": {"rows": 4}}, {"weights": "w.safetensors"}])
def test_only_a_factory_takes_arguments_and_weights(tmp_path, said):
    write_torchscript(tmp_path / "model.pt")
    error = refusal(tmp_path / "model.pt", **ROWS, **said)
    assert (error.code, error.path) == (Code.CONFIG_INVALID, f"m.{next(iter(said))}")
    assert error.text == "only a factory takes these"
