"""The configuration: what the file and the flags say, what is wrong with them, and where a value comes from."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from click.testing import CliRunner

from broker import configuration
from broker.cli import main
from broker.config import PoolConfig, ServeConfig
from broker.configuration import Given
from broker.engine.config import Canary, ModelConfig
from broker.settings import SETTINGS, check_reload
from ringbuf.errors import Code, RingbrokerError

EVERYTHING = """
[server]
socket = "run/broker.sock"
repository = "models"
workers = 3
threads = 2
slots = 16
spin = 50
max_connections = 10
max_rings = 5
max_ring_bytes = 1000000
max_memory_bytes = 5000000
max_execution_s = 0.5
max_load_s = 30
resume_grace_s = 0
drain_grace_s = 3
watch = true
log_format = "json"

[[pool]]
name = "fast"
models = ["digits"]
workers = 1

[[model]]
name = "digits"
factory = "broker.demo:digits"
max_batch = 8

[[model]]
name = "fraud"
version = "2"
versions = ["1"]
canary = { version = "3", percent = 5, seed = 7 }

[[model]]
name = "net"
source = "net.pt2"
weights = "w.pt"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with models, the current one."""
    monkeypatch.chdir(tmp_path)
    for version in "123":
        (tmp_path / "models" / "fraud" / version).mkdir(parents=True)
        (tmp_path / "models" / "fraud" / version / "model.pt2").touch()
    for file in ("net.pt2", "other.pt2"):
        (tmp_path / file).touch()
    return tmp_path


@pytest.fixture
def examine(folder):
    """A function from a file's text and flags to what is in effect, and what is wrong."""

    def examine(text, **given):
        (folder / "broker.toml").write_text(text)
        return configuration.examine(Given(config_path="broker.toml", **given))

    return examine


def served(*names):
    """The tables of some models."""
    return "".join(f"[[model]]\nname = '{name}'\nsource = 'net.pt2'\n" for name in names)


def command(*arguments, code=0):
    result = CliRunner().invoke(main, ["config", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_everything_that_a_file_can_say(examine, folder):
    found = examine(EVERYTHING)
    assert found.problems == []
    assert found.config == ServeConfig(
        (
            ModelConfig(
                name="fraud",
                source=str(folder / "models" / "fraud"),
                version="2",
                versions=("1",),
                canary=Canary("3", 5.0, 7),
            ),
            ModelConfig(name="digits", source="broker.demo:digits", max_batch=8),
            ModelConfig(name="net", source=str(folder / "net.pt2"), weights=str(folder / "w.pt")),
        ),
        str(folder / "run" / "broker.sock"),
        pools=(PoolConfig("fast", ("digits",), 1, 2),),
        workers=3,
        threads=2,
        default_slots=16,
        spin="50",
        max_connections=10,
        max_rings=5,
        max_ring_bytes=1_000_000,
        max_memory_bytes=5_000_000,
        max_execution_s=0.5,
        max_load_s=30.0,
        resume_grace_s=0.0,
        drain_grace_s=3.0,
        watch=True,
        log_format="json",
        repository=str(folder / "models"),
        config_path="broker.toml",
    )


def test_everything_can_be_set():
    """A field that is added must be settable."""
    settable = {setting.field for setting in SETTINGS.values()}
    assert {each.name for each in fields(ServeConfig)} == settable | {"models", "pools", "config_path", "max_slots"}


def test_paths_are_relative_to_the_file(folder):
    (folder / "etc").mkdir()
    (folder / "etc" / "broker.toml").write_text("[[model]]\nname = 'm'\nsource = '../net.pt2'\n")
    (model,) = configuration.read(Given(config_path="etc/broker.toml")).models
    assert model.source == str(folder / "etc" / ".." / "net.pt2")


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("[sever]", "sever", "there is no key 'sever': did you mean 'server'?"),
        ("workers = 2", "workers", "it belongs in the table [server]"),
        ("server = 3", "server", "3 is not a table [server]"),
        ("[model]\nname = 'm'", "model", "is not a list of tables [[model]]"),
        ("[server]\nwokers = 2", "server.wokers", "did you mean 'workers'?"),
        ("[server]\nworkers = 0", "server.workers", "0 is not a whole number from 1"),
        ("[server]\nworkers = '2'", "server.workers", "'2' is not a whole number from 1"),
        ("[server]\nslots = 5000", "server.slots", "5000 is not a whole number from 1 to 4096"),
        ("[server]\nmax_rings = 128", "server.max_rings", "128 is not a whole number from 1 to 127"),
        ("[server]\nspin = 'on'", "server.spin", "'on' is not auto, off, or microseconds"),
        ("[server]\nspin = true", "server.spin", "True is not auto, off, or microseconds"),
        ("[server]\nmax_execution_s = 0", "server.max_execution_s", "0 is not a number of seconds from 0.001"),
        ("[server]\nresume_grace_s = -1", "server.resume_grace_s", "-1 is not a number of seconds from 0"),
        ("[server]\ndrain_grace_s = inf", "server.drain_grace_s", "inf is not a number of seconds"),
        ("[server]\nwatch = 1", "server.watch", "1 is not true or false"),
        ("[server]\nlog_format = 'xml'", "server.log_format", "'xml' is not 'text' or 'json'"),
        ("[server]\nrepository = 'absent'", "absent", "the folder cannot be read"),
        ("[[pool]]\nname = 'p'\nmodel = ['m']", "pool.p.model", "did you mean 'models'?"),
        ("[[pool]]\nname = 'p'\nmodels = 'm'", "pool.p.models", "'m' is not a list of models' names"),
        ("[[pool]]\nname = 'p'\nmodels = ['m']\nworkers = 0", "pool.p.workers", "0 is not a whole number from 1"),
        ("[[pool]]\nmodels = ['m']", "pool[0]", "it needs 'name'"),
        ("[[pool]]\nname = 'p'\nmodels = ['nett']", "pool.p.models", "no model 'nett' is served: did you mean 'net'?"),
        ("[[pool]]\nname = 'p'", "pool.p", "no model is in it"),
        (
            "[[pool]]\nname = 'p'\nmodels = ['m']\n[[pool]]\nname = 'q'\nmodels = ['m']",
            "pool.q.models",
            "the model 'm' is in the pool 'p' already",
        ),
        (
            "[[pool]]\nname = 'p'\nmodels = ['m']\n[[pool]]\nname = 'p'\nmodels = ['m']",
            "pool.p",
            "another pool has this name",
        ),
        ("[[model]]\nsource = 'net.pt2'", "model[2]", "it needs 'name'"),
        ("[[model]]\nname = 'a b'\nsource = 'net.pt2'", "model[2].name", "'a b' is not 1 to 128 letters"),
        ("[[model]]\nname = 'm'\nsource = 'net.pt2'", "m", "another model has this name"),
        ("[[model]]\nname = 'a'", "a", "it needs a source, or a factory"),
        ("[[model]]\nname = 'a'\nsource = 'net.pt2'\nfactory = 'b:c'", "a", "its source is said twice"),
        ("[[model]]\nname = 'a'\nsource = 'net.pt2'\ngater = 1", "a.gater", "did you mean 'gather'?"),
        ("[[model]]\nname = 'a'\nsource = 'net.pt2'\nmax_batch = 5000", "a.max_batch", "from 1 to 4096"),
        ("[[model]]\nname = 'a'\nsource = 'net.pt2'\nversions = ['1']", "a", "only a folder of versions"),
        (
            "[[model]]\nname = 'a'\nsource = 'models/fraud'\nversion = '9'",
            "a.version",
            "no version '9'; there are 1, 2",
        ),
        (
            "[[model]]\nname = 'a'\nsource = 'models/fraud'\nversion = '2'\ncanary = {version = '2', percent = 5}",
            "a.canary",
            "version 2 is the usual one, and cannot be its own canary",
        ),
        (
            "[[model]]\nname = 'a'\nsource = 'models/fraud'\ncanary = {version = '2', precent = 5}",
            "a.canary.precent",
            "did you mean 'percent'?",
        ),
        (
            "[[model]]\nname = 'a'\nsource = 'models/fraud'\ncanary = {version = '2'}",
            "a.canary",
            "it needs 'percent', a number from 0 to 100",
        ),
    ],
)
def test_what_is_wrong_is_named(examine, text, path, said):
    end = served("m", "net")
    is_head = text.startswith(("[server]", "workers", "server", "[sever]"))
    problems = examine(f"{text}\n{end}" if is_head else f"{'' if text.startswith('[model]') else end}{text}\n").problems
    assert (problems[0].path.removeprefix(str(configuration.Path.cwd()) + "/"), problems[0].code) == (
        path,
        Code.MODEL_NOT_FOUND if path == "absent" else Code.CONFIG_INVALID,
    )
    assert said in problems[0].text


@pytest.mark.parametrize("content", [None, b"a = ", b"\xff"])
def test_a_file_that_cannot_be_read(folder, content):
    if content is not None:
        (folder / "broker.toml").write_bytes(content)
    with pytest.raises(RingbrokerError) as caught:
        configuration.read(Given(config_path="broker.toml"))
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, "broker.toml")


def test_a_source_that_is_not_there(examine):
    (problem,) = examine("[[model]]\nname = 'a'\nsource = 'absent.pt2'").problems
    assert (problem.code, problem.text) == (Code.MODEL_NOT_FOUND, "there is no such file or folder")


def test_nothing_to_serve(examine):
    assert [problem.text for problem in examine("").problems] == ["there is no model to serve"]


def test_a_model_of_the_file_and_of_the_repository(examine):
    text = "[server]\nrepository = 'models'\n[[model]]\nname = 'fraud'\nsource = 'net.pt2'"
    (problem,) = examine(text).problems
    assert problem.text.startswith("its source is said twice")


def test_a_pool_default_is_of_the_others(examine):
    text = "[[pool]]\nname = 'default'\nworkers = 4\n[[pool]]\nname = 'p'\nmodels = ['m']\nthreads = 1\n"
    pools = {pool.name: pool for pool in examine(text + served("m", "n")).config.all_pools()}
    assert pools["default"].models == ("n",)
    assert (pools["default"].workers, pools["p"].workers) == (4, 1)


def test_flags_overrule_the_file(folder):
    (folder / "broker.toml").write_text(EVERYTHING)
    flags = ("--config", "broker.toml", "--workers", "5", "--no-watch", "--max-batch", "digits/4", "--pool-workers")
    shown = json.loads(command("show", "--json", *flags, "fast=6", "net=other.pt2", "--canary", "fraud/1=50").stdout)
    assert shown["server"]["workers"] == {"value": 5, "origin": "flag"}
    assert shown["server"]["watch"] == {"value": False, "origin": "flag"}
    assert shown["server"]["threads"] == {"value": 2, "origin": "file"}
    assert shown["pool"]["fast"]["workers"] == {"value": 6, "origin": "flag"}
    assert shown["pool"]["fast"]["models"] == {"value": ["digits"], "origin": "file"}
    assert shown["pool"]["default"]["workers"] == {"value": 5, "origin": "flag"}
    assert shown["model"]["digits"]["max_batch"] == {"value": 4, "origin": "flag"}
    assert shown["model"]["fraud"]["canary"]["value"] == {"version": "1", "percent": 50.0, "seed": 7}
    assert shown["model"]["fraud"]["source"]["origin"] == "repository"
    assert shown["model"]["net"]["source"] == {"value": "other.pt2", "origin": "flag"}
    assert shown["model"]["net"]["weights"]["origin"] == "file"
    assert shown["model"]["net"]["gather"] == {"value": "never", "origin": "default"}


def test_what_a_repository_says(folder):
    (folder / "models" / "fraud" / "model.toml").write_text("max_batch = 2\ncanary = { version = '3', percent = 5 }")
    fraud = json.loads(command("show", "--json", "--repository", "models").stdout)["model"]["fraud"]
    assert fraud["max_batch"] == {"value": 2, "origin": "repository"}
    assert fraud["canary"] == {"value": {"version": "3", "percent": 5.0, "seed": None}, "origin": "repository"}
    assert fraud["version"] == {"value": "2", "origin": "repository"}


def test_what_is_shown_is_a_file_that_says_the_same(folder):
    (folder / "broker.toml").write_text(EVERYTHING)
    flags = ("--config", "broker.toml", "--argument", 'digits/a b="c"', "--spin", "off")
    (folder / "other.toml").write_text(command("show", *flags).stdout)
    expected, found = (
        configuration.examine(given).config for given in (Given("broker.toml", {"spin": "off"}), Given("other.toml"))
    )
    (digits,) = [model for model in expected.models if model.name == "digits"]
    described = replace(digits, arguments={"a b": "c"})
    models = tuple(described if model is digits else model for model in expected.models)
    pools = expected.all_pools()
    assert found == replace(expected, models=models, pools=pools, config_path="other.toml")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--pool", "fast=digits"), "no model 'digits' is served; there are m (at pool.fast.models)"),
        (("--pool", "fast="), "[''] is not a list of models' names (at --pool fast=)"),
        (("--pool", "a b=m"), "'a b' is not 1 to 128 letters, digits, '_', '.', '-' (at --pool a b=m)"),
        (("--pool-workers", "fast=2"), "there is no pool 'fast'; there are default (at --pool-workers fast)"),
        (("--pool-workers", "default=0"), "0 is not a whole number from 1 (at --pool-workers default=0)"),
        (("--pool-threads", "default=x"), "'x' is not a whole number from 1 (at --pool-threads default=x)"),
        (("--canary", "x/1=5"), "no model 'x'; there are m (at --canary x/1=5)"),
        (("--canary", "1=five"), "'five' is not a number (at --canary 1=five)"),
        (("--canary", "1=101"), "101.0 is not a number from 0 to 100 (at --canary 1=101)"),
        (("--canary", "1"), "it is written as VERSION=PERCENT (at --canary 1)"),
        (("--canary-seed", "1"), "the model has no canary"),
        (("--versions", "1,2"), "only a folder of versions, NAME/VERSION, has several (at m)"),
    ],
)
def test_flags_that_are_wrong(folder, flags, said):
    assert said in command("check", "m=net.pt2", *flags, code=1).stderr


def test_check_tells_every_problem_in_a_line_of_its_own(folder):
    (folder / "broker.toml").write_text(
        "[server]\nwokers = 2\nslots = 0\n[[pool]]\nname = 'p'\nmodels = ['n']\n"
        "[[model]]\nname = 'm'\nsource = 'absent.pt2'\nmax_batch = 0\n"
    )
    lines = command("check", "--config", "broker.toml", code=1).stderr.splitlines()
    assert [line.rpartition(" (at ")[2] for line in lines] == [
        "server.wokers)",
        "server.slots)",
        "m.max_batch)",
        f"{folder / 'absent.pt2'})",
        "pool.p.models)",
    ]
    assert all(line.startswith("broker: error 31") for line in lines)


def test_check_of_what_is_right(folder):
    (folder / "broker.toml").write_text(EVERYTHING)
    assert command("check", "--config", "broker.toml").stdout == "nothing is wrong; the models are fraud, digits, net\n"


def test_check_needs_no_torch_and_no_numpy(folder):
    (folder / "broker.toml").write_text(EVERYTHING)
    code = (
        "import sys, broker.cli\n"
        "try: broker.cli.main(['config', 'check', '--config', 'broker.toml'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "import broker.supervisor\n"
        "assert not {'torch', 'numpy', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "change", [{"socket_path": "other"}, {"watch": True}, {"log_format": "json"}], ids=lambda change: next(iter(change))
)
def test_what_a_reload_cannot_change(change):
    with pytest.raises(RingbrokerError) as caught:
        check_reload(ServeConfig((), "path"), ServeConfig((), **{"socket_path": "path", **change}))
    assert caught.value.code == Code.CONFIG_INVALID
    assert caught.value.path == "server." + next(iter(change)).removesuffix("_path")
    check_reload(ServeConfig((), "path"), ServeConfig((), "path", max_connections=1, resume_grace_s=1))
