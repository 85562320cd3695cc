"""What the command line says about models."""

import click
import pytest
from click.testing import CliRunner

from broker.engine.config import ModelConfig
from broker.options import apply_options, model_options, parse_model
from ringbuf.errors import Code, RingbrokerError

A, B = ModelConfig(name="a", source="a.pt2"), ModelConfig(name="b", source="b.onnx")


def described(models, *arguments):
    """The models as `arguments` describe them, through a real command."""
    taken = []

    @click.command()
    @model_options
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "x:F32[batch]"),
        ("--input", "c/x:F32[batch]"),
        ("--max-batch", "c/2"),
        ("--weights", "w.pt"),
        ("--allow-pickle", "c"),
    ],
)
def test_which_model_is_meant_must_be_clear(arguments):
    assert "there are a, b" in refusal([A, B], *arguments).text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "x"),
        ("--input", ":F32[]"),
        ("--maximum", "seq=many"),
        ("--range", "x=1..b"),
        ("--max-batch", "0"),
        ("--max-batch", "x"),
        ("--max-queue-delay-us", "-1"),
        ("--gather", "sometimes"),
        ("--argument", "novalue"),
    ],
)
def test_what_is_written_wrongly_is_named(arguments):
    assert refusal([A], *arguments).path == " ".join(arguments)


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
