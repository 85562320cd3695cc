"""What was raised, in one line: for errors and reasons that people read."""

from __future__ import annotations

import logging

log = logging.getLogger("broker.engine")

_TORCHSCRIPT = "The following operation failed in the TorchScript interpreter."


def told(error: BaseException) -> str:
    """The exception's type and the first line of its text; of TorchScript's, the last, which says the same of what was
    raised inside.
    """
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0] == _TORCHSCRIPT else f"{type(error).__name__}: {lines[0]}"


def logged(error: BaseException, model: str) -> str:
    """The same of an exception of the model's code, whose traceback goes into the log."""
    log.error("the model's code raised", extra={"model": model}, exc_info=error)
    return f"{told(error)} (the log has the traceback)"
