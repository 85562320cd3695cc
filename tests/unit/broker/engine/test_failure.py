"""What was raised, in one line."""

import pytest

from broker.engine.failure import logged, told

TORCHSCRIPT = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
  File "model.py", line 6, in forward
        return x @ x
               ~~~~~ <--- HERE
RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 1x3)
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such size"), "ValueError: no such size"),
        (ValueError("\nno such size\nException raised from here\n"), "ValueError: no such size"),
        (ValueError(), "ValueError"),
        (KeyError("seq"), "KeyError: 'seq'"),
        (SystemExit(3), "SystemExit: 3"),
        (RuntimeError(TORCHSCRIPT), "RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 1x3)"),
    ],
)
def test_one_line(error, line):
    assert told(error) == line


def test_what_a_models_code_raised_is_in_the_log(caplog):
    try:
        raise KeyError("seq")
    except KeyError as error:
        assert logged(error, "m") == "KeyError: 'seq' (the log has the traceback)"
    (record,) = caplog.records
    assert record.model == "m"
    assert 'raise KeyError("seq")' in caplog.text
