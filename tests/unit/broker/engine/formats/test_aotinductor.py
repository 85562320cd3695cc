"""AOTInductor packages: what compiled code misreads without a word, and what keeps such inputs from it.

One package is compiled for all tests; it takes some ten seconds, and a C++ compiler.
"""

import json
import shutil
import warnings
import zipfile

import pytest
import torch

from broker.engine.config import ModelConfig
from broker.engine.formats import aotinductor
from broker.engine.probe import Probe
from ringbuf.errors import Code, RingbrokerError

INPUTS = {"x": "F32[batch,4]", "y": "F32[batch,4]", "z": "F32[batch,seq]"}
OUTPUTS = {"sum": "F32[batch,4]", "tripled": "F32[batch,seq]"}


class Model(torch.nn.Module):
    def forward(self, x, y, z):
        return {"sum": 2 * x + y, "tripled": 3 * z}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("aotinductor") / "model.pt2"
    batch, seq = torch.export.Dim("batch", max=16), torch.export.Dim("seq", min=8, max=64)
    shapes = {"x": {0: batch}, "y": {0: batch}, "z": {0: batch, 1: seq}}
    example = (torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 16))
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(Model(), example, dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


def prepare(path, **said):
    return aotinductor.prepare(path, ModelConfig(**{"name": "m", "source": str(path), **said}))


def prepare_all(path, inputs=INPUTS, outputs=OUTPUTS, **said):
    return prepare(path, inputs=inputs, outputs=outputs, **said)


def bind(prepared):
    probe = Probe(prepared.signature, ModelConfig(name="m", source="m"), prepared.minima)
    return prepared.bind(torch.get_num_threads(), "cpu", probe)


def some_inputs(rows=3, seq=8):
    made = torch.Generator().manual_seed(1)
    return [torch.rand(rows, size, generator=made) for size in (4, 4, seq)]


def some_outputs(rows=3, seq=8):
    return [torch.full((rows, size), 77.0) for size in (4, seq)]


def repacked(path, target, change):
    """A copy of the package; `change` is given each member's name and bytes, and returns bytes, or None to drop it."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            if (content := change(name, source.read(name))) is not None:
                copy.writestr(name, content)
    return target


def with_metadata(path, target, **metadata):
    def change(name, content):
        return json.dumps(json.loads(content) | metadata) if name.endswith("_metadata.json") else content

    return repacked(path, target, change)


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_results(package, rows):
    x, y, z = some_inputs(rows, 20)
    total, tripled = some_outputs(rows, 20)
    plan = bind(prepare_all(package))
    plan.run([x, y, z], [total, tripled])
    torch.testing.assert_close(total, 2 * x + y)
    torch.testing.assert_close(tripled, 3 * z)
    assert plan.ledger.outputs_bytes == total.nbytes + tripled.nbytes
    assert not any(route.in_place for route in plan.routes)


def test_bounds_are_read(package):
    prepared = prepare_all(package)
    assert (prepared.max_batch, dict(prepared.minima), prepared.signature.dims) == (16, {"seq": 8}, {"seq": 64})


def test_outputs_are_matched_by_name(package):
    plan = bind(prepare_all(package, outputs=dict(reversed(OUTPUTS.items()))))
    (x, y, z), (total, tripled) = some_inputs(), some_outputs()
    plan.run([x, y, z], [tripled, total])
    torch.testing.assert_close(total, 2 * x + y)
    torch.testing.assert_close(tripled, 3 * z)


@pytest.mark.parametrize("outputs", [{"tripled": "F32[batch,4]", "b": "F32[batch,seq]"}, {"sum": "F32[batch,4]"}])
def test_other_outputs_are_refused(package, outputs):
    with pytest.raises(RingbrokerError) as caught:
        bind(prepare_all(package, outputs=outputs))
    assert caught.value.code == Code.CONFIG_INVALID


def test_rows_that_lie_apart_are_misread_by_the_code_and_refused_by_the_plan(package):
    """If the first half fails, compiled code has learnt to read strides, and the plan may accept them."""
    x, y, z = some_inputs()
    apart = torch.zeros(3, 9)[:, :4].copy_(x)
    loaded = torch._inductor.aoti_load_package(str(package))
    with warnings.catch_warnings(action="ignore"):
        assert torch.allclose(loaded(x, y, z)["sum"], 2 * x + y)
        assert not torch.allclose(loaded(apart, y, z)["sum"], 2 * x + y)
    plan = bind(prepare_all(package))
    assert not plan.accepts_strides
    outputs = some_outputs()
    with pytest.raises(ValueError, match=r"inputs\[0\] is not contiguous"):
        plan.run([apart, y, z], outputs)
    assert all((output == 77).all() for output in outputs)


def test_dims_below_their_bound_are_refused(package):
    with pytest.raises(ValueError, match=r"inputs\[2\]: dim 1 was compiled for 8 and more"):
        bind(prepare_all(package)).run(some_inputs(seq=7), some_outputs(seq=7))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": "F32[batch,3]"}, "its dim 1 is 3"),
        ({"x": "F32[batch,wide]"}, "its dim 1 is wide"),
        ({"x": "F64[batch,4]"}, "compiled for F32"),
        ({"x": "F32[4]"}, "compiled for F32"),
        ({"y": "F32[rows,4]"}, "always equal to one called batch"),
        ({"y": "F32[3,4]"}, "always equal to one called batch"),
        ({"z": "F32[batch,7]"}, "outside 8 to 64"),
        ({"z": "F32[batch,65]"}, "outside 8 to 64"),
        ({"w": "F32[batch,4]"}, "4 inputs are declared, and the package has 3"),
    ],
)
def test_declarations_that_the_package_contradicts(package, change, text):
    with pytest.raises(RingbrokerError, match=text) as caught:
        prepare_all(package, inputs={**INPUTS, **change})
    assert caught.value.code == Code.CONFIG_INVALID


def test_a_maximum_over_the_packages_own(package):
    assert prepare_all(package, maxima={"seq": 64}).signature.dims == {"seq": 64}
    with pytest.raises(RingbrokerError, match="over the package's own, 64") as caught:
        prepare_all(package, maxima={"seq": 65})
    assert caught.value.code == Code.CONFIG_INVALID


def test_the_signature_must_come_from_somebody(package):
    with pytest.raises(RingbrokerError, match="or put them into the package's metadata") as caught:
        prepare(package)
    assert caught.value.code == Code.SIGNATURE_INVALID


def test_the_signature_may_be_in_the_metadata(package, tmp_path):
    written = {"ringbroker.inputs": json.dumps(INPUTS), "ringbroker.outputs": json.dumps(OUTPUTS)}
    path = with_metadata(package, tmp_path / "m.pt2", **written, **{"ringbroker.maxima": '{"seq": 32}'})
    assert prepare(path).signature == prepare_all(package, maxima={"seq": 32}).signature
    assert prepare(path, maxima={"seq": 16}).signature.dims == {"seq": 16}
    with pytest.raises(RingbrokerError, match="inputs are x, y, z") as caught:
        prepare(path, inputs={"w": "F32[batch,4]"})
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "m.w")


@pytest.mark.parametrize("text", ["x=F32[4]", "[1]", '{"x": 3}', 3])
def test_metadata_that_is_no_signature(package, tmp_path, text):
    path = with_metadata(package, tmp_path / "m.pt2", **{"ringbroker.inputs": text})
    with pytest.raises(RingbrokerError, match=r"its metadata ringbroker\.inputs is n") as caught:
        prepare_all(path)
    assert caught.value.code == Code.MODEL_INVALID


def test_a_package_for_another_device(package, tmp_path):
    with pytest.raises(RingbrokerError, match="compiled for cuda") as caught:
        prepare_all(with_metadata(package, tmp_path / "m.pt2", AOTI_DEVICE_KEY="cuda"))
    assert caught.value.code == Code.MODEL_INVALID


def test_a_package_for_another_processor(package, tmp_path, monkeypatch):
    """Its instructions would kill the process."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx avx2 avx512fp16")
    monkeypatch.setattr(aotinductor, "_CPUINFO", cpuinfo)
    prepare_all(with_metadata(package, tmp_path / "m.pt2", AOTI_CPU_ISA="AVX2"))
    with pytest.raises(RingbrokerError, match="a CPU with AVX512, AVX512_VNNI, which") as caught:
        prepare_all(with_metadata(package, tmp_path / "m.pt2", AOTI_CPU_ISA="AVX512 AVX512_VNNI"))
    assert caught.value.code == Code.MODEL_INVALID


def test_without_the_source_there_are_no_facts(package, tmp_path):
    path = repacked(package, tmp_path / "m.pt2", lambda name, content: None if name.endswith(".cpp") else content)
    prepared = prepare_all(path)
    assert (prepared.max_batch, prepared.minima, prepared.signature.dims) == (None, {}, {"seq": None})
    x, y, z = some_inputs()
    total, tripled = some_outputs()
    bind(prepared).run([x, y, z], [total, tripled])
    torch.testing.assert_close(total, 2 * x + y)


def test_a_damaged_library_is_not_run(package, tmp_path):
    path = tmp_path / "m.pt2"
    shutil.copy(package, path)
    with zipfile.ZipFile(path) as archive:
        library = next(info for info in archive.infolist() if info.filename.endswith(".so"))
    content = bytearray(path.read_bytes())
    content[library.header_offset + library.file_size // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RingbrokerError, match=r"\.so is damaged") as caught:
        prepare_all(path)
    assert caught.value.code == Code.MODEL_INVALID


@pytest.mark.parametrize("keep", [0, 100, 0.5, -9])
def test_truncated(package, tmp_path, keep):
    whole = package.read_bytes()
    path = tmp_path / "m.pt2"
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(RingbrokerError) as caught:
        prepare_all(path)
    assert (caught.value.code, caught.value.path) == (Code.MODEL_INVALID, str(path))


def test_a_library_that_is_none(package, tmp_path):
    path = repacked(package, tmp_path / "m.pt2", lambda name, content: b"no" if name.endswith(".so") else content)
    with pytest.raises(RingbrokerError, match="the library cannot be loaded") as caught:
        bind(prepare_all(path))
    assert caught.value.code == Code.MODEL_INVALID
