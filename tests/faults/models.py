"""Models that are slow, large or fail in every way that a model can, as factories for the broker."""

import contextlib
import ctypes
import os
import sys
import time

import torch

from ringbuf.errors import RingbrokerError
from tests.conformance.reference_models import Model, twice

__all__ = ["twice"]

ROW = "F32[batch,4]"
SLOW_S = 0.02


class NotAnException(BaseException):
    """What `except Exception` lets through."""


def slow():
    """y = 2 * x, after 20 ms."""

    def run(x):
        time.sleep(SLOW_S)
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


STUCK = 13  # what the first of a row says to `stuck`


def stuck():
    """y = 2 * x, but where a row begins with 13 it does not return."""

    def run(x):
        if STUCK in x[:, 0].tolist():
            print("does not return", file=sys.stderr, flush=True)
            time.sleep(600)
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def large():
    """y = 2 * x, with half a megabyte for a slot."""
    return Model(lambda x: 2 * x, {"x": "F32[batch,65536]"}, {"y": "F32[batch,65536]"})


RAISES, EXITS, GOES, BREAKS, WRONG_SHAPE, WRONG_DTYPE, WRONG_COUNT, NO_TENSOR, KEEPS = range(13, 22)
"""What x[0] of any row says to `picky`."""


def picky():
    """y = 2 * x, unless a row begins with one of the numbers above."""

    def run(x):
        asked = set(x[:, 0].tolist())
        if RAISES in asked:
            time.sleep(SLOW_S)  # time for a client to be gone when it is told
            raise ZeroDivisionError("thirteen")
        if EXITS in asked:
            sys.exit(3)
        if GOES in asked:
            raise NotAnException
        if BREAKS in asked:
            raise RingbrokerError(1003, "of another connection, which this model is a client of")
        if KEEPS in asked:
            error = ValueError("a frame that holds the error that holds the frame")
            raise error
        answers = {
            WRONG_SHAPE: lambda: torch.zeros(len(x), 5),
            WRONG_DTYPE: lambda: torch.zeros(len(x), 4, dtype=torch.float64),
            WRONG_COUNT: lambda: (2 * x, 2 * x),
            NO_TENSOR: lambda: [None],
        }
        wrong = asked & set(answers)
        return answers[wrong.pop()]() if wrong else 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


# --- factories that cannot be served ---

NOT_A_FACTORY = 5


def raising():
    raise OSError("no weights here")


def exiting():
    sys.exit(7)


def not_callable():
    return 5


def undeclared():
    return lambda x: x


def _declared(inputs, outputs, maxima=None):
    return lambda: Model(lambda x: x, inputs, outputs, maxima)


bad_dtype = _declared({"x": "F33[batch,4]"}, {"y": ROW})
bad_dim = _declared({"x": "F32[batch,-1]"}, {"y": ROW})
no_inputs = _declared({}, {"y": ROW})
unknown_dim = _declared({"x": ROW}, {"y": "F32[batch,seq]"})
two_batch_axes = _declared({"x": "F32[batch,batch]"}, {"y": ROW})
not_a_dict = _declared([ROW], {"y": ROW})
not_a_text = _declared({"x": 4}, {"y": ROW})
not_a_name = _declared({4: ROW}, {"y": ROW})
maxima_no_dict = _declared({"x": "F32[batch,seq]"}, {"y": ROW}, [16])
maximum_no_number = _declared({"x": "F32[batch,seq]"}, {"y": ROW}, {"seq": "16"})
maximum_not_whole = _declared({"x": "F32[batch,seq]"}, {"y": ROW}, {"seq": 1.5})
maximum_too_large = _declared({"x": "F32[batch,seq]"}, {"y": ROW}, {"seq": 2**64})
maximum_zero = _declared({"x": "F32[batch,seq]"}, {"y": ROW}, {"seq": 0})
other_shape = _declared({"x": ROW}, {"y": "F32[batch,5]"})
other_dtype = _declared({"x": ROW}, {"y": "I64[batch,4]"})
other_count = _declared({"x": ROW}, {"y": ROW, "z": ROW})


def _load():
    print("loading", file=sys.stderr, flush=True)
    time.sleep(60)


def endless():
    """Is not loaded before a signal ends it."""
    _load()


def complaining():
    """Makes another error of the one that interrupts it."""
    try:
        _load()
    except BaseException as error:
        raise OSError("no weights") from error


def deaf():
    """Is loaded whatever interrupts it."""
    with contextlib.suppress(BaseException):
        _load()
    return twice()


def fails_at_trial():
    return Model(lambda x: x / 0 + undefined, {"x": ROW}, {"y": ROW})  # noqa: F821


def exits_at_trial():
    return Model(lambda _x: sys.exit(7), {"x": ROW}, {"y": ROW})


def writing():
    """Writes into the client's memory."""
    return Model(lambda x: x.mul_(2), {"x": ROW}, {"y": ROW})


def fatal():
    """Ends its process: 1.0 by SIGSEGV, 2.0 by SIGABRT, 3.0 by an exit that nobody can catch."""

    def run(x):
        end = {1.0: lambda: ctypes.string_at(0), 2.0: os.abort, 3.0: lambda: os._exit(3)}.get(float(x.flatten()[0]))
        if end is not None:
            end()
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def hangs():
    """Never comes back from 1.0, and gives no signal handler a chance."""

    def run(x):
        if x.flatten()[0] == 1.0:
            sum(range(10**15))
        return 2 * x

    return Model(run, {"x": ROW}, {"y": ROW})


def dies_while_loading():
    ctypes.string_at(0)


TENSOR, BYTES, PIECES, HOARD = 1.0, 2.0, 3.0, 4.0
"""What the first value says to `hungry`: one large tensor, one large object, many small objects, and to keep them."""


def hungry():
    """y = 2 * x, or takes memory until there is none."""
    kept = []

    def take(asked):
        if asked == TENSOR:
            return torch.ones(2**30)
        if asked == BYTES:
            return bytearray(2**32)
        pieces = kept if asked == HOARD else []
        while True:
            pieces.append(bytes(1000))

    def run(x):
        asked = float(x.flatten()[0])
        if asked in (TENSOR, BYTES, PIECES, HOARD):
            take(asked)
        return 2 * x

    return Model(run, {"x": "F32[4]"}, {"y": "F32[4]"})
