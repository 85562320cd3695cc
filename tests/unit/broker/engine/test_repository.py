"""Repositories: which file of which version is served, and what a table may say."""

import subprocess
import sys
import tomllib

import pytest

from broker.engine import keys, repository
from broker.engine.config import Canary, ModelConfig
from ringbuf.errors import Code, RingbrokerError

EVERY_KEY = """
inputs = { ids = "I64[batch,seq]", by = "F32[]" }
outputs = { y = "F32[batch,4]" }
maxima = { seq = 256 }
ranges = { ids = [0, 30521], by = [0.5, 2] }
uniform = ["by"]
arguments = { layers = 3, names = ["a"] }
weights = "weights.safetensors"
factory = "package.module:make"
max_batch = 8
max_queue_delay_us = 200
gather = "always"
batch_tolerance = 0.01
private_inputs = true
allow_pickle = true
require_zero_copy = true
"""


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def write(models, *files, **texts):
    for file in files:
        (models / file).parent.mkdir(parents=True, exist_ok=True)
        (models / file).write_text("")
    for file, text in texts.items():
        (models / file).parent.mkdir(parents=True, exist_ok=True)
        (models / file).write_text(text)


def refusal(function, *arguments):
    with pytest.raises(RingbrokerError) as caught:
        function(*arguments)
    return caught.value


def from_text(text, source="m.pt2"):
    return repository.config_from_table("m", source, tomllib.loads(text), repository.Path("/base"))


def test_every_key():
    assert from_text(EVERY_KEY, None) == ModelConfig(
        name="m",
        source="package.module:make",
        inputs={"ids": "I64[batch,seq]", "by": "F32[]"},
        outputs={"y": "F32[batch,4]"},
        maxima={"seq": 256},
        ranges={"ids": (0, 30521), "by": (0.5, 2)},
        uniform=frozenset({"by"}),
        arguments={"layers": 3, "names": ["a"]},
        weights="/base/weights.safetensors",
        max_batch=8,
        max_queue_delay_us=200,
        gather="always",
        batch_tolerance=0.01,
        private_inputs=True,
        allow_pickle=True,
        require_zero_copy=True,
    )


def test_every_field_of_a_model_has_its_key():
    """A field that is added must be settable, or be one that a folder's place says."""
    settable = (set(keys.KEYS) - {"factory"}) | set(keys.VERSION_KEYS)
    assert set(ModelConfig.__dataclass_fields__) == settable | {"name", "source", "is_candidate"}


def test_defaults_are_those_of_the_model():
    assert from_text("") == ModelConfig(name="m", source="m.pt2")


def test_an_absolute_path_stays():
    assert from_text("weights = '/elsewhere/w'").weights == "/elsewhere/w"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("inputs = ['x']", "inputs"),
        ("inputs = {x = 3}", "inputs"),
        ("outputs = 'F32[4]'", "outputs"),
        ("maxima = {seq = 0}", "maxima"),
        ("maxima = {seq = true}", "maxima"),
        ("maxima = {seq = 1.5}", "maxima"),
        ("ranges = {x = [1]}", "ranges"),
        ("ranges = {x = [2, 1]}", "ranges"),
        ("ranges = {x = [0, inf]}", "ranges"),
        ("ranges = {x = 3}", "ranges"),
        ("uniform = 'x'", "uniform"),
        ("uniform = [3]", "uniform"),
        ("arguments = ['x']", "arguments"),
        ("weights = 3", "weights"),
        ("weights = ''", "weights"),
        ("factory = false", "factory"),
        ("max_batch = 0", "max_batch"),
        ("max_batch = '8'", "max_batch"),
        ("max_batch = true", "max_batch"),
        ("max_queue_delay_us = -1", "max_queue_delay_us"),
        ("gather = 'sometimes'", "gather"),
        ("gather = ['never']", "gather"),
        ("batch_tolerance = -0.1", "batch_tolerance"),
        ("batch_tolerance = nan", "batch_tolerance"),
        ("private_inputs = 1", "private_inputs"),
        ("allow_pickle = 'yes'", "allow_pickle"),
        ("require_zero_copy = 'no'", "require_zero_copy"),
    ],
)
def test_values_of_a_wrong_type(text, key):
    error = refusal(from_text, text)
    assert (error.code, error.path) == (Code.CONFIG_INVALID, f"m.{key}")
    assert keys.KEYS[key].expects in error.text


@pytest.mark.parametrize(("key", "hint"), [("gater", "did you mean 'gather'?"), ("zzz", "there are allow_pickle, ")])
def test_an_unknown_key(key, hint):
    error = refusal(from_text, f"{key} = 1")
    assert (error.code, error.path) == (Code.CONFIG_INVALID, f"m.{key}")
    assert hint in error.text


@pytest.mark.parametrize(("text", "source"), [("", None), ("factory = 'a:b'", "m.pt2")])
def test_a_file_or_a_factory(text, source):
    assert refusal(from_text, text, source).code == Code.CONFIG_INVALID


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["net.pt2"], "net.pt2"),
        (["model.pt2", "other.pt", "net.onnx"], "model.pt2"),
        (["net.onnx", "net.onnx.data", "README.md", "tokenizer.json", ".hidden.pt", "weights.safetensors"], "net.onnx"),
    ],
)
def test_the_file_of_a_version(models, files, chosen):
    write(models, *(f"net/1/{file}" for file in files))
    config = repository.read_model(models / "net" / "1")
    assert config == ModelConfig(name="net", source=str(models / "net" / "1" / chosen), version="1")


@pytest.mark.parametrize("files", [["a.pt", "b.pt2"], ["model.pt", "model.onnx", "c.pt"]])
def test_several_files(models, files):
    write(models, *(f"net/1/{file}" for file in files))
    error = refusal(repository.read_model, models / "net")
    assert (error.code, error.path) == (Code.CONFIG_INVALID, str(models / "net" / "1"))
    assert files[0] in error.text


@pytest.mark.parametrize("files", [[], ["README.md"], ["model.toml"], ["model.pt.part", "tokenizer.json"]])
def test_a_version_that_is_half_written(models, files):
    """The newest version counts: an older one must not be served in its place without a word."""
    write(models, "net/1/model.pt2", *(f"net/2/{file}" for file in files))
    (models / "net" / "2").mkdir(exist_ok=True)
    error = refusal(repository.read_model, models / "net")
    assert (error.code, error.path) == (Code.MODEL_NOT_FOUND, str(models / "net" / "2"))
    assert all(file in error.text for file in files)


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["1", "2"], "2"),
        (["9", "10"], "10"),
        (["alpha", "beta"], "beta"),
        (["zeta", "2"], "2"),
        (["1", ".2", "__pycache__"], "1"),
    ],
)
def test_the_newest_version(models, versions, newest):
    write(models, *(f"net/{version}/model.pt2" for version in versions))
    config = repository.read_model(models / "net")
    assert (config.name, config.version) == ("net", newest)


def test_tables_of_model_and_version(models):
    write(models, "net/1/net.pt2", "net/2/net.pt2")
    (models / "net" / "model.toml").write_text("max_batch = 4\ngather = 'always'\nweights = 'shared.pt'")
    (models / "net" / "2" / "model.toml").write_text("max_batch = 8")
    newest, older = repository.read_model(models / "net"), repository.read_model(models / "net" / "1")
    assert (newest.max_batch, newest.gather, newest.version) == (8, "always", "2")
    assert (older.max_batch, older.gather, older.version) == (4, "always", "1")
    assert newest.weights == str(models / "net" / "shared.pt")


def test_weights_beside_a_factory_are_no_model(models):
    write(models, "net/1/weights.pt")
    (models / "net" / "1" / "model.toml").write_text("factory = 'a.b:c'\nweights = 'weights.pt'")
    config = repository.read_model(models / "net")
    assert (config.source, config.weights) == ("a.b:c", str(models / "net" / "1" / "weights.pt"))


@pytest.mark.parametrize("content", [b"max_batch = ", b"= 3", b"\xff\xfe", b"a = " + 20000 * b"["])
def test_a_table_that_cannot_be_read(models, content):
    write(models, "net/1/net.pt2")
    (models / "net" / "1" / "model.toml").write_bytes(content)
    error = refusal(repository.read_model, models / "net")
    assert (error.code, error.path) == (Code.CONFIG_INVALID, str(models / "net" / "1" / "model.toml"))


def test_a_repository(models):
    write(models, "b/1/model.pt2", "a/1/model.pt2", "a/2/model.onnx", ".git/1/model.pt2", "README.md")
    found = [repository.versions_of(model) for model in repository.read_repository(models)]
    assert [[(model.name, model.version) for model in versions] for versions in found] == [[("a", "2")], [("b", "1")]]


def test_a_repository_with_a_model_without_versions(models):
    write(models, "a/model.pt2")
    error = refusal(repository.read_repository, models)
    assert (error.code, error.path) == (Code.MODEL_NOT_FOUND, str(models / "a"))


def test_no_repository(models):
    assert refusal(repository.read_repository, models).code == Code.MODEL_NOT_FOUND
    models.mkdir()
    assert refusal(repository.read_repository, models).code == Code.MODEL_NOT_FOUND
    assert refusal(repository.read_model, models / "absent").code == Code.MODEL_NOT_FOUND


def test_what_the_operator_says_goes_before_the_folder(models):
    write(models, "net/3/model.pt2")
    (models / "net" / "model.toml").write_text("max_batch = 4\ngather = 'always'\nmaxima = {seq = 9, width = 8}")
    said = ModelConfig(name="mine", source=str(models / "net"), max_batch=2, maxima={"seq": 7})
    assert repository.resolve(said) == ModelConfig(
        name="mine",
        source=str(models / "net" / "3" / "model.pt2"),
        version="3",
        max_batch=2,
        gather="always",
        maxima={"seq": 7, "width": 8},
    )


def test_another_source_is_resolved_already(models):
    write(models, "net/3/model.pt2")
    for source in ("a.b:c", str(models / "net" / "3" / "model.pt2"), str(models / "absent")):
        config = ModelConfig(name="m", source=source, version="7")
        assert repository.resolve(config) == config
        assert repository.versions_of(config) == [config]


def versions_of(models, **said):
    return repository.versions_of(ModelConfig(name="net", source=str(models / "net"), **said))


def test_the_usual_version_further_ones_and_a_canary(models):
    write(models, *(f"net/{version}/model.pt2" for version in "1234"))
    found = versions_of(models, versions=("1",), canary=Canary("4", 5))
    assert [(each.version, each.is_candidate) for each in found] == [("3", False), ("1", False), ("4", True)]
    assert found[2].source == str(models / "net" / "4" / "model.pt2")
    assert [each.version for each in versions_of(models, version="2", versions=("2", "4"))] == ["2", "4"]


def test_a_model_says_its_versions_unless_the_operator_does(models):
    write(models, *(f"net/{version}/model.pt2" for version in "123"))
    text = "version = '1'\nversions = ['2']\ncanary = { version = '3', percent = 5, seed = 7 }\nmax_batch = 2"
    (models / "net" / "model.toml").write_text(text)
    found = versions_of(models)
    assert [(each.version, each.is_candidate) for each in found] == [("1", False), ("2", False), ("3", True)]
    assert {(each.canary, each.max_batch) for each in found} == {(Canary("3", 5.0, 7), 2)}
    found = versions_of(models, version="3", canary=Canary("1", 1))
    assert [(each.version, each.is_candidate) for each in found] == [("3", False), ("2", False), ("1", True)]


@pytest.mark.parametrize(
    ("said", "path", "text"),
    [
        ({"version": "3"}, "net.version", "there is no version '3'; there are 1, 20"),
        ({"versions": ("2",)}, "net.versions", "there is no version '2': did you mean '20'?"),
        ({"canary": Canary("9", 5)}, "net.canary", "there is no version '9'"),
        ({"canary": Canary("20", 5), "version": "20"}, "net.canary", "cannot be its own canary"),
    ],
)
def test_versions_that_cannot_be_served(models, said, path, text):
    write(models, "net/1/model.pt2", "net/20/model.pt2")
    error = refusal(lambda: versions_of(models, **said))
    assert (error.code, error.path) == (Code.CONFIG_INVALID, path)
    assert text in error.text


def test_the_only_version_is_no_canary(models):
    write(models, "net/1/model.pt2")
    assert refusal(lambda: versions_of(models, canary=Canary("1", 5))).path == "net.canary"
    assert refusal(lambda: repository.versions_of(ModelConfig(name="m", source="m.pt2", versions=("1",)))).path == "m"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("versions = '1'", "net.versions"),
        ("version = 1", "net.version"),
        ("canary = { version = '1' }", "net.canary"),
        ("canary = { version = '1', percent = 101 }", "net.canary.percent"),
        ("canary = { version = '1', percent = 5, sed = 1 }", "net.canary.sed"),
    ],
)
def test_what_a_model_says_wrongly_of_its_versions(models, text, path):
    write(models, "net/1/model.pt2")
    (models / "net" / "model.toml").write_text(text)
    error = refusal(lambda: versions_of(models))
    assert (error.code, error.path) == (Code.CONFIG_INVALID, path)


def test_a_version_says_nothing_of_other_versions(models):
    write(models, "net/1/model.pt2")
    (models / "net" / "1" / "model.toml").write_text("versions = ['2']")
    assert refusal(lambda: versions_of(models)).path == "net.versions"


def test_a_name_that_is_too_long_for_a_file():
    said = ModelConfig(name="m", source="x" * 5000)
    error = refusal(repository.resolve, said)
    assert (error.code, error.path) == (Code.MODEL_NOT_FOUND, said.source)


def test_it_needs_no_torch():
    """Repositories are read by commands that load no model."""
    code = "import sys, broker.engine.repository; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
