"""The exception tree, and how codes find their class."""

import copy
import pickle
import re
import traceback

import pytest
import ringbroker
from ringbroker import errors

from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages


def test_docstring_shows_the_whole_tree():
    drawn, branch = {}, []
    tree = ringbroker.__doc__[ringbroker.__doc__.index("    Error  ") :]
    for indent, name in re.findall(r"^    ( *)([A-Z]\w+)", tree, re.MULTILINE):
        branch[len(indent) // 2 :] = [name]
        drawn[name] = branch[-2] if len(branch) > 1 else None
    classes = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.Error)
    }
    assert drawn.keys() == classes.keys()
    for name, parent in drawn.items():
        if parent:
            assert classes[name].__bases__[0].__name__ == parent
    assert classes.keys() <= set(ringbroker.__all__)


def test_a_traceback_names_what_can_be_caught():
    error = errors.error_of(Code.UNKNOWN_MODEL, "why")
    assert traceback.format_exception_only(error) == ["ringbroker.UnknownModel: UNKNOWN_MODEL: why\n"]


@pytest.mark.parametrize("code", Code)
def test_class_is_in_the_branch_of_its_range(code):
    branch = {
        1: ringbroker.ProtocolError,
        2: ringbroker.RingError,
        3: ringbroker.ModelError,
        4: ringbroker.CapacityError,
        5: ringbroker.ExecutionError,
        6: ringbroker.LifecycleError,
    }[code // 1000]
    error = errors.error_of(code, "text", "path", 5, 6)
    assert isinstance(error, branch)
    assert isinstance(error, RingbrokerError)
    assert (error.code, error.text, error.path, error.retry_after_ms) == (code, "text", "path", 5)
    assert error.needed_bytes == 6


def test_every_part_of_an_error_of_the_broker_is_told():
    error = errors.told(messages.Error(1, Code.OUTPUT_TOO_LARGE, "why", "outputs[0]", 7, messages.ErrorExtra(640)))
    assert isinstance(error, ringbroker.OutputTooLarge)
    assert (error.text, error.path, error.retry_after_ms, error.needed_bytes) == ("why", "outputs[0]", 7, 640)
    without = messages.Error(1, Code.OUTPUT_TOO_LARGE, "why", None, None, messages.NO_ERROR_EXTRA)
    assert errors.told(without).needed_bytes is None


def test_unknown_code_is_told_by_its_range():
    assert type(errors.error_of(4999, "new")) is ringbroker.CapacityError
    assert type(errors.error_of(9001, "newer")) is ringbroker.Error
    assert str(errors.error_of(9001, "newer")) == "9001: newer"


def test_builtin_kinships():
    assert issubclass(ringbroker.BrokerLost, ConnectionError)
    for kind in (ringbroker.Timeout, ringbroker.DeadlineExceeded, ringbroker.AcquireTimeout):
        assert issubclass(kind, TimeoutError)


@pytest.mark.parametrize("code", [Code.BROKER_LOST, Code.TIMEOUT, Code.MODEL_FAILED])
def test_text_and_copies(code):
    error = errors.error_of(code, "why", "inputs[0]", 5, 6)
    assert str(error) == f"{code.name}: why (at inputs[0])"
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), errors.fresh(error)):
        assert (type(other), other.code, other.text, other.path) == (type(error), code, "why", "inputs[0]")
        assert (other.retry_after_ms, other.needed_bytes) == (5, 6)


def test_what_may_be_retried():
    assert errors.error_of(Code.BROKER_LOST, "").is_retryable
    assert errors.error_of(Code.ACQUIRE_TIMEOUT, "").is_retryable
    assert not errors.error_of(Code.TIMEOUT, "").is_retryable
