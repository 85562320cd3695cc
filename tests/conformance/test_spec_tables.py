"""The names and numbers in Python are those of `spec/*.json`."""

import numpy as np
import pytest
import torch

from broker.engine.tensors import TORCH_DTYPES
from ringbuf import errors
from ringbuf.dtypes import DTYPES
from ringbuf.wire import framing, messages
from tests.conformance.vectors import load

KINDS = {"client": messages.CLIENT_MESSAGES, "broker": messages.BROKER_MESSAGES}


@pytest.mark.parametrize("side", KINDS)
def test_messages(side):
    rows = [row for row in load("messages.json")["messages"] if row["from"] == side]
    assert {row["number"]: (row["name"], [name for name, _ in row["fields"]]) for row in rows} == {
        number: (kind.__name__.upper(), list(kind.__struct_fields__)) for number, kind in KINDS[side].items()
    }


def test_answers_are_numbered_64_above_what_they_answer():
    for request, answer in {
        "HELLO": "WELCOME",
        "LIST": "MODELS",
        "OPEN": "RING",
        "INFER": "RESULT",
        "CLOSE": "CLOSED",
    }.items():
        numbers = {row["name"]: row["number"] for row in load("messages.json")["messages"]}
        assert numbers[answer] == numbers[request] + 64


def test_protocol_and_frame():
    table = load("messages.json")
    assert table["protocol"] == {"major": messages.PROTOCOL_MAJOR, "minor": messages.PROTOCOL_MINOR}
    assert table["frame"] == {
        "length_bytes": framing.LENGTH_BYTES,
        "byte_order": "little",
        "max_payload_bytes": framing.MAX_PAYLOAD_BYTES,
    }


def test_errors():
    rows = load("errors.json")["errors"]
    assert {row["name"]: row["code"] for row in rows} == {code.name: code.value for code in errors.Code}
    assert {row["code"] for row in rows if row["retryable"]} == set(errors.RETRYABLE)


def test_error_codes_are_in_their_ranges_and_in_order():
    table = load("errors.json")
    codes = [row["code"] for row in table["errors"]]
    assert codes == sorted(set(codes))
    for code in codes:
        (span,) = [span for span in table["ranges"] if span["from"] <= code <= span["to"]]
        assert errors.is_protocol_error(code) is (span["name"] == "protocol")


def test_dtypes():
    rows = load("dtypes.json")["dtypes"]
    assert {row["name"]: row["size_bytes"] for row in rows} == {
        dtype.name: dtype.size_bytes for dtype in DTYPES.values()
    }
    for row in rows:
        assert DTYPES[row["name"]].numpy == np.dtype(row["numpy"] or row["bits"])
        assert np.dtype(row["bits"]).itemsize == row["size_bytes"]


def test_torch_dtypes():
    rows = load("dtypes.json")["dtypes"]
    assert {row["name"]: getattr(torch, row["torch"]) for row in rows} == TORCH_DTYPES
    for row in rows:
        assert TORCH_DTYPES[row["name"]].itemsize == row["size_bytes"]
