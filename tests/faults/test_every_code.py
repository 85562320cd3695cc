"""Every error code that the broker sends, or prints when it cannot start, is provoked by a test: here it says which."""

import re

import pytest

from tests.conformance.vectors import load
from tests.conftest import ROOT

FUZZ = "tests/fuzz/test_frames.py::test_every_frame_is_answered_as_the_specification_says"
FAULTS = "tests/faults/"
LOADING = FAULTS + "test_start_and_stop.py::test_serve_ends_with_the_code"

# The fuzzer asserts that frames caused each of these; the scripts tell most of them message by message.
BY_FRAMES = {
    *(
        "FRAME_TOO_LARGE",
        "BAD_MSGPACK",
        "UNKNOWN_MESSAGE",
        "INVALID_FIELD",
        "VERSION_UNSUPPORTED",
        "UNEXPECTED_MESSAGE",
    ),
    *("DUPLICATE_ID", "UNKNOWN_RING", "RING_NOT_ATTACHED", "TOO_MANY_ROWS", "ROWS_OUT_OF_RANGE", "ROWS_IN_FLIGHT"),
    *(
        "WRONG_TENSOR_COUNT",
        "WRONG_DTYPE",
        "WRONG_RANK",
        "WRONG_DIM",
        "WRONG_OFFSET",
        "UNKNOWN_MODEL",
        "UNKNOWN_VERSION",
    ),
    *(
        "UNKNOWN_DIM",
        "MAXIMUM_MISSING",
        "MAXIMUM_TOO_LARGE",
        "UNKNOWN_POOL",
        "RESUME_REFUSED",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
    ),
    *("RING_TOO_LARGE", "TOO_MANY_SLOTS", "TOO_MANY_RINGS", "NOT_SUPPORTED"),
}
PROVOKED = dict.fromkeys(BY_FRAMES, FUZZ) | {
    "HANDSHAKE_TIMEOUT": FAULTS + "test_bad_peers.py::test_no_hello_in_time",
    "SHM_FULL": FAULTS + "test_no_room.py::test_shm_is_full",
    "SHM_UNAVAILABLE": FAULTS + "test_no_room.py::test_shm_is_read_only",
    "TOO_MANY_CONNECTIONS": FAULTS + "test_no_room.py::test_too_many_connections",
    "MODEL_FAILED": FAULTS + "test_failing_models.py::test_failure_is_told_and_the_session_goes_on",
    "OUTPUT_MISMATCH": FAULTS + "test_failing_models.py::test_failure_is_told_and_the_session_goes_on",
    "UNIFORM_MISMATCH": FAULTS + "test_values.py::test_rows_that_differ_in_a_uniform_input",
    "INVALID_BOOL": FAULTS + "test_values.py::test_a_byte_that_is_no_bool",
    "OUTPUT_TOO_LARGE": FAULTS + "test_values.py::test_a_result_that_is_larger_than_its_plane",
    "EXECUTION_TIMEOUT": FAULTS + "test_workers.py::test_a_worker_that_hangs_is_ended_and_its_clients_told",
    "SIGNATURE_CHANGED": "tests/unit/broker/test_resume.py::test_a_ring_of_another_signature_is_told_and_freed",
    "PEER_REFUSED": FAULTS + "test_bad_peers.py::test_another_user_is_refused",
    "WRONG_POOL": FAULTS + "test_workers.py::test_a_model_of_another_pool",
    "LOADER_DIED": FAULTS + "test_loaders.py::test_a_model_that_ends_the_loader",
    "MODEL_NOT_FOUND": LOADING,
    "MODEL_FORMAT_UNKNOWN": LOADING,
    "MODEL_INVALID": LOADING,
    "FACTORY_FAILED": LOADING,
    "SIGNATURE_INVALID": LOADING,
    "SIGNATURE_MISMATCH": LOADING,
    "INPUT_MODIFIED": LOADING,
    "ZERO_COPY_IMPOSSIBLE": LOADING,
    "PICKLE_REFUSED": LOADING,
    "RUNTIME_MISSING": LOADING,
    "CONFIG_INVALID": LOADING,
    "SOCKET_IN_USE": FAULTS + "test_start_and_stop.py::test_path_of_a_live_broker",
    "SOCKET_INVALID": FAULTS + "test_start_and_stop.py::test_path_that_is_a_file",
}
ERRORS = {error["name"]: error for error in load("errors.json")["errors"]}


def test_no_code_is_missing():
    assert set(PROVOKED) == {name for name, error in ERRORS.items() if error["raised_by"] in ("broker", "load")}


def test_the_fuzzer_asserts_what_is_said_of_it():
    from tests.fuzz.frames import expected_codes  # it imports torch

    assert {ERRORS[name]["code"] for name in BY_FRAMES} == expected_codes()


@pytest.mark.parametrize("name", sorted(PROVOKED))
def test_the_named_test_is_there_and_names_the_code(name):
    path, _, function = PROVOKED[name].partition("::")
    source = (ROOT / path).read_text()
    assert re.search(rf"^def {function}\(", source, re.MULTILINE)
    if name not in BY_FRAMES:
        assert name in source
        assert str(ERRORS[name]["code"]) in source
