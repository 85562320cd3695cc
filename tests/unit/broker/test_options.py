"""What the command line says about models."""

import click
import pytest
from click.testing import CliRunner

from broker.engine.config import Canary, ModelConfig
from broker.options import apply_options, model_options, parse_model, parse_source, version_options
from ringbuf.errors import Code, RingbrokerError

A, B = ModelConfig(name="a", source="a.pt2"), ModelConfig(name="b", source="b.onnx")


def described(models, *arguments):
    """The models as `arguments` describe them, through a real command."""
    taken = []

    @click.command()
    @model_options
    @version_options
    def command(**options):
        taken.extend(apply_options(models, options))

    CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    return taken


def refusal(models, *arguments):
    with pytest.raises(RingbrokerError) as caught:
        described(models, *arguments)
    assert caught.value.code == Code.CONFIG_INVALID
    return caught.value


def test_everything_that_can_be_said():
    (model,) = described(
        [A],
        *("--input", "ids:I64[batch,seq]", "--input", "mask:I64[batch,seq]", "--output", "y:F32[batch]"),
        *("--maximum", "seq=128", "--range", "ids=0..9", "--range", "mask=1", "--uniform", "rate"),
        *("--argument", "layers=3", "--argument", "name=x=y", "--weights", "dir/w.safetensors"),
        *("--max-batch", "7", "--max-queue-delay-us", "50", "--gather", "always", "--batch-tolerance", "0.5"),
        *("--private-inputs", "a", "--allow-pickle", "a", "--require-zero-copy"),
    )
    assert model == ModelConfig(
        name="a",
        source="a.pt2",
        inputs={"ids": "I64[batch,seq]", "mask": "I64[batch,seq]"},
        outputs={"y": "F32[batch]"},
        maxima={"seq": 128},
        ranges={"ids": (0, 9), "mask": (1, 1)},
        uniform=frozenset({"rate"}),
        arguments={"layers": 3, "name": "x=y"},
        weights="dir/w.safetensors",
        max_batch=7,
        max_queue_delay_us=50,
        gather="always",
        batch_tolerance=0.5,
        private_inputs=True,
        allow_pickle=True,
        require_zero_copy=True,
    )


def test_options_are_about_the_model_that_they_name_and_limits_about_all():
    a, b = described(
        [A, B], "--max-batch", "8", "--max-batch", "b/2", "--input", "a/x:F32[batch]", "--gather", "a/always"
    )
    assert (a.max_batch, b.max_batch) == (8, 2)
    assert (dict(a.inputs), dict(b.inputs)) == ({"x": "F32[batch]"}, {})
    assert (a.gather, b.gather) == ("always", "never")


def test_versions():
    a, b = described([A, B], "--version", "a/3", "--versions", "a/1,2", "--canary", "a/4=2.5", "--canary-seed", "a/7")
    assert (a.version, a.versions, a.canary) == ("3", ("1", "2"), Canary("4", 2.5, 7))
    assert b == B


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--input", "x:F32[batch]"), "say which model is meant, as MODEL/..."),
        (("--weights", "w.pt"), "say which model is meant, as MODEL/..."),
        (("--weights", "dir/w.pt"), "say which model is meant, as MODEL/..."),
        (("--argument", "root=/data"), "say which model is meant, as MODEL/..."),
        (("--input", "c/x:F32[batch]"), "no model 'c'"),
        (("--max-batch", "c/2"), "no model 'c'"),
        (("--allow-pickle", "c"), "no model 'c'"),
    ],
)
def test_which_model_is_meant_must_be_clear(arguments, text):
    error = refusal([A, B], *arguments)
    assert error.text == f"{text}; there are a, b"
    assert error.path == " ".join(arguments)


@pytest.mark.parametrize("arguments", [("--max-batch", "ml/2"), ("--input", "ml/x:F32[batch]"), ("--uniform", "ml/x")])
def test_another_model_than_the_only_one(arguments):
    assert refusal([A], *arguments).text == "no model 'ml'; there are a"


def test_a_slash_may_be_the_values_own():
    (model,) = described([A], "--weights", "dir/w.pt", "--argument", "root=/data")
    assert (model.weights, model.arguments) == ("dir/w.pt", {"root": "/data"})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--input", "x"), "it is written as NAME:DTYPE[DIMS]"),
        (("--output", ":F32[]"), "it is written as NAME:DTYPE[DIMS]"),
        (("--maximum", "seq"), "it is written as DIM=N"),
        (("--maximum", "seq=many"), "'many' is not a whole number"),
        (("--maximum", "seq=0"), "0 is not a whole number from 1"),
        (("--range", "x=1..b"), "'1..b' is not a range such as 0..9"),
        (("--range", "x=..1"), "'..1' is not a range such as 0..9"),
        (("--range", "x=2..1"), "the smaller one first"),
        (("--range", "x=nan"), "is not two numbers"),
        (("--max-batch", "0"), "0 is not a whole number from 1"),
        (("--max-batch", "x"), "'x' is not a whole number"),
        (("--max-queue-delay-us", "-1"), "-1 is not a whole number from 0"),
        (("--gather", "sometimes"), "'sometimes' is neither 'never' nor 'always'"),
        (("--batch-tolerance", "much"), "'much' is not a number"),
        (("--batch-tolerance", "nan"), "nan is not a number from 0"),
        (("--argument", "novalue"), "it is written as KEY=VALUE"),
        (("--versions", "1,,2"), "'1,,2' is not a list of versions such as 1,2"),
        (("--canary", "2"), "it is written as VERSION=PERCENT"),
        (("--canary", "2=nan"), "nan is not a number from 0 to 100"),
        (("--canary-seed", "7"), "the model has no canary"),
    ],
)
def test_what_is_written_wrongly_is_named(arguments, text):
    error = refusal([A], *arguments)
    assert error.path == " ".join(arguments)
    assert text in error.text


def test_a_tensor_that_is_written_wrongly_is_named():
    with pytest.raises(RingbrokerError) as caught:
        described([A], "--input", "x:F33[batch]")
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, "--input x:F33[batch]")
    assert "is not a tensor such as" in caught.value.text


def test_a_model_that_cannot_be_served_under_its_name_is_no_options_fault():
    with pytest.raises(RingbrokerError) as caught:
        described([ModelConfig(name="a b", source="a.pt2")], "--max-batch", "8")
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, "a b")


@pytest.mark.parametrize(
    ("argument", "name", "source"), [("m=file.pt2", "m", "file.pt2"), ("m=a.b:c", "m", "a.b:c"), ("m=a=b", "m", "a=b")]
)
def test_parse_model(argument, name, source):
    assert parse_model(argument) == ModelConfig(name=name, source=source)


@pytest.mark.parametrize("argument", ["", "m", "m=", "=file.pt2", "="])
def test_parse_model_refuses(argument):
    with pytest.raises(RingbrokerError) as caught:
        parse_model(argument)
    assert (caught.value.code, caught.value.path) == (Code.CONFIG_INVALID, argument)


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("resnet-50.v2.pt2", "resnet-50.v2"),
        ("there/my model.onnx", "my_model"),
        ("models/digits", "digits"),
        ("models/digits/2", "digits"),
        ("models/digits/2/model.pt2", "model"),
        ("package.module:scorer", "scorer"),
        ("absent.pt2", "absent"),
        ("-.pt2", "model"),
    ],
)
def test_a_model_without_a_name_is_called_as_its_source(tmp_path, monkeypatch, argument, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "digits" / "2"
    folder.mkdir(parents=True)
    (folder / "model.pt2").touch()
    assert parse_source(argument) == ModelConfig(name=name, source=argument)
    assert parse_source(f"m={argument}") == ModelConfig(name="m", source=argument)


def test_no_source():
    with pytest.raises(RingbrokerError) as caught:
        parse_source("")
    assert caught.value.code == Code.CONFIG_INVALID
