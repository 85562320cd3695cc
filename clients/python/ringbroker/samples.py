"""The arrays of a model's one-call form, in the signature's shape, as rows of planes, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ringbroker.errors import error_of
from ringbroker.planes import Array, Sample
from ringbuf.errors import Code
from ringbuf.wire.messages import Plane


class Samples:
    """What a model was called with, as rows: by name `[rows, *sample]`, or `[1, *sample]` for all rows.

    `short` has the shapes of one row that are not the plane's full ones.
    """

    def __init__(
        self, planes: tuple[Plane, ...], arrays: tuple[npt.ArrayLike, ...], named: dict[str, npt.ArrayLike]
    ) -> None:
        names = [plane.name for plane in planes]
        given = dict(zip(names, arrays, strict=False)) | named
        if len(given) < len(arrays) + len(named) or sorted(given) != sorted(names):
            raise TypeError(
                f"the model's inputs are {names}; got {len(arrays)} by position and {sorted(named)} by name"
            )
        self.rows = 1
        self.rows_by_name: dict[str, Array] = {}
        self.short: dict[str, Sample] = {}
        counts: set[int] = set()
        for index, plane in enumerate(planes):
            rows = _to_rows(given[plane.name], plane, index)
            self.rows_by_name[plane.name] = rows
            if rows.shape[1:] != plane.sample:
                self.short[plane.name] = rows.shape[1:]
            if plane.batch_axis is not None:
                counts.add(len(rows))
        if counts:
            self.rows = counts.pop()
        if counts:
            raise error_of(Code.WRONG_DIM, "the inputs have different numbers of rows", "inputs")


def fill(plane: Array, rows: Array, name: str) -> None:
    """Copy rows into their plane; raises TypeError where numpy does not cast to its dtype."""
    try:
        np.copyto(plane, rows, casting="same_kind")
    except TypeError as error:
        raise TypeError(f"{name!r}: {error}") from error


def _to_rows(given: npt.ArrayLike, plane: Plane, index: int) -> Array:
    """View an array of the signature's shape as rows."""
    array = np.asarray(given)
    rank = len(plane.sample) + (plane.batch_axis is not None)
    if array.ndim != rank:
        text = f"{plane.name!r} has {rank} dims, the batch axis included, not {array.ndim}"
        raise error_of(Code.WRONG_RANK, text, f"inputs[{index}].shape")
    return array[np.newaxis] if plane.batch_axis is None else np.moveaxis(array, plane.batch_axis, 0)


def from_rows(rows: Array, batch_axis: int | None) -> Array:
    """Copy rows into an array of the signature's shape."""
    return rows[0].copy() if batch_axis is None else np.moveaxis(rows, 0, batch_axis).copy()
