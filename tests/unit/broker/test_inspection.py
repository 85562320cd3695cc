"""`broker inspect`: what it says of models of every kind of trouble, and of none."""

import json

import pytest
from click.testing import CliRunner

from broker import inspection
from broker.cli import main
from broker.config import ServeConfig
from tests.unit.broker.parts import load_model

EXECUTION = "tests.unit.broker.test_execution"
MODELS = "tests.unit.broker.engine.test_models"
UNBOUNDED = {"inputs": {"x": "F32[batch,s]"}, "outputs": {"y": "F32[batch,s]"}}


def inspected(source, **said):
    return inspection.inspect(load_model(source, "m", **said), ServeConfig((), ""))


def told(source, **said):
    return "\n".join(inspection.as_lines(inspected(source, **said)))


def test_a_plain_model():
    found = inspected(f"{MODELS}:doubles", max_batch=8)
    assert found["inputs"] == [{"name": "x", "tensor": "F32[batch,4]", "dims": {}, "stride": 16, "uniform": False}]
    (output,) = found["outputs"]
    assert (output["in_place"], output["why"]) == (False, "the model returns new tensors")
    assert (found["max_batch"], found["is_repeatable"], found["rows_apart"]) == (8, True, None)
    assert (found["slot_bytes"], found["default_slots"]) == (32, 64)
    assert json.loads(json.dumps(found)) == found
    assert told(f"{MODELS}:doubles", max_batch=8).splitlines() == [
        f"m  version 1  from {MODELS}:doubles",
        "  in   x: F32[batch,4]; stride 16 bytes",
        "  out  y: F32[batch,4]; copied: the model returns new tensors",
        "  batch      up to 8 rows (proven: rows of a batch equal rows alone)",
        "  ring       32 bytes a slot; 64 slots by default",
    ]


@pytest.mark.parametrize(
    ("source", "said", "line"),
    [
        (
            f"{MODELS}:mixes_rows",
            {},
            "batch      1 row at a time (row 0 of a batch of 2 is not what it is alone: y off by",
        ),
        (f"{MODELS}:Remembering", {}, "state      the same input twice gave different answers"),
        (f"{MODELS}:enormous", {}, "67108864 bytes a slot; 1 slot by default"),
        (f"{MODELS}:writes_into_its_input", {"private_inputs": True}, "inputs     copied to private memory"),
        (f"{EXECUTION}:double", {}, "lie apart or are permuted: one call, as they are"),
        (f"{EXECUTION}:fussy", {}, "lie apart or are permuted: one by one"),
        (f"{EXECUTION}:fussy", {"gather": "always"}, "lie apart or are permuted: one call, copied together"),
        (f"{EXECUTION}:scaled", {"uniform": frozenset({"rate"})}, "rate: I64[]; stride 8 bytes; uniform: one value"),
        (f"{EXECUTION}:double", {}, "x: F32[batch,seq], seq up to 6; stride 24 bytes"),
        (f"{EXECUTION}:double", UNBOUNDED, "x: F32[batch,s], s of any size; stride 4 bytes with s = 1"),
        (f"{EXECUTION}:double", UNBOUNDED, "dims       no maximum for s: a client says one"),
        (f"{EXECUTION}:double", UNBOUNDED, "ring       8 bytes a slot with s = 1; 64 slots by default"),
    ],
)
def test_what_is_worth_knowing_is_said(source, said, line):
    assert line in told(source, **said)


def test_rows_that_lie_apart_are_no_matter_where_none_share_a_call():
    assert inspected(f"{EXECUTION}:double", max_batch=1)["rows_apart"] is None
    assert "lie apart" not in told(f"{EXECUTION}:double", max_batch=1)


def test_the_command():
    result = CliRunner().invoke(main, ["inspect", "--json", "--max-batch", "4", f"scorer={MODELS}:doubles"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["name"], found["max_batch"]) == ("scorer", 4)
    result = CliRunner().invoke(main, ["inspect", f"{MODELS}:doubles"])
    assert result.stdout.startswith(f"doubles  version 1  from {MODELS}:doubles\n")
    result = CliRunner().invoke(main, ["inspect", f"{MODELS}:doubles", "--require-zero-copy"])
    assert result.exit_code == 1
    assert "3108 ZERO_COPY_IMPOSSIBLE" in result.output


def test_the_pool_of_a_file(tmp_path):
    file = tmp_path / "broker.toml"
    file.write_text(
        "[server]\nthreads = 2\n[[pool]]\nname = 'fast'\nmodels = ['twice']\nworkers = 3\n"
        "[[model]]\nname = 'twice'\nfactory = 'tests.conformance.reference_models:twice'\nmax_batch = 4\n"
    )
    result = CliRunner().invoke(main, ["inspect", "twice", "--config", str(file)])
    assert result.exit_code == 0, result.output
    assert "  batch      up to 4 rows" in result.stdout
    assert result.stdout.endswith("  pool       fast: 3 workers, 2 threads each\n")
    result = CliRunner().invoke(main, ["inspect", "twic", "--config", str(file)])
    assert result.exit_code == 1
    assert "no model 'twic' is served: did you mean 'twice'?" in result.stderr
