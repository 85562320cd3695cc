"""The arrays of `broker infer`: from .npy files to a model's inputs, and its outputs into a file or onto the screen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np

from broker.engine.signature import written
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

Array: TypeAlias = np.ndarray[Any, Any]

_NAMED = re.compile(r"([\w.-]+)=(.+)")  # a path with a folder before its "=" is a path


def read_inputs(arguments: Iterable[str]) -> list[tuple[str | None, Array]]:
    """Read FILE and NAME=FILE arguments: each array, and the input's name where it was given.

    Raises ClickException for what is no .npy file.
    """
    found = ((argument, _NAMED.fullmatch(argument)) for argument in arguments)
    return [(named[1], _read(named[2])) if named else (None, _read(argument)) for argument, named in found]


def assign_inputs(given: Iterable[tuple[str | None, Array]], signature: Signature) -> dict[str, Array]:
    """Give every input of the model its array: those without a name to the inputs in their order. In that order again.

    Raises `RingbrokerError` WRONG_TENSOR_COUNT where an input has none or two, or the model has no such input.
    """
    names = [tensor.name for tensor in signature.inputs]
    unnamed = iter(names)
    arrays: dict[str, Array] = {}
    for said, array in given:
        name = said or next(unnamed, None)
        if name is None:
            raise _wrong_inputs("there are more files than inputs", signature)
        if name not in names:
            raise _wrong_inputs(f"the model has no input {name!r}", signature)
        if name in arrays:
            raise _wrong_inputs(f"there are two files for {name!r}", signature)
        arrays[name] = array
    for name in names:
        if name not in arrays:
            raise _wrong_inputs(f"there is no file for {name!r}", signature)
    return {name: arrays[name] for name in names}


def measure(arrays: Mapping[str, Array], signature: Signature) -> tuple[int, dict[str, int]]:
    """How many rows these arrays have, and how large they make each dynamic dim: what a ring for them needs."""
    rows, maxima = 1, dict[str, int]()
    for tensor in signature.inputs:
        for axis, (dim, size) in enumerate(zip(tensor.shape, arrays[tensor.name].shape, strict=False)):
            if axis == tensor.batch_axis:
                rows = size
            elif isinstance(dim, str):
                maxima[dim] = max(size, maxima.get(dim, 1))
    return rows, maxima


def check_output(path: Path | None, outputs: tuple[Tensor, ...] | None = None) -> None:
    """Raise ClickException unless a file of that name can hold the outputs; with None, any outputs at all."""
    if path is None or path.suffix == ".npz":
        return
    if path.suffix != ".npy":
        raise click.ClickException(f"-o {path}: a file's name ends in .npy, or in .npz")
    if outputs is not None and len(outputs) > 1:
        names = ", ".join(tensor.name for tensor in outputs)
        raise click.ClickException(f"-o {path}: the model has {len(outputs)} outputs, {names}: they need a .npz file")


def write_outputs(outputs: Mapping[str, Array], path: Path | None) -> None:
    """Write the outputs as `check_output` allowed it, or print them; raises ClickException where it cannot."""
    if path is None:
        for name, array in outputs.items():
            click.echo(f"{name}:\n{array}" if len(outputs) > 1 else array)
        return
    try:
        if path.suffix == ".npz":
            np.savez(path, **outputs)  # type: ignore[arg-type]
        else:
            (array,) = outputs.values()
            np.save(path, array)
    except OSError as error:
        raise click.ClickException(f"-o {path}: {error.strerror}") from error


def _read(path: str) -> Array:
    try:
        with Path(path).open("rb") as file:
            return np.lib.format.read_array(file)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    except Exception as error:  # of any type, for a header that numpy cannot parse
        raise click.ClickException(f"{path}: not a .npy file of numbers: {error}") from error


def _wrong_inputs(what: str, signature: Signature) -> RingbrokerError:
    inputs = ", ".join(f"{tensor.name}: {written(tensor)}" for tensor in signature.inputs)
    return RingbrokerError(Code.WRONG_TENSOR_COUNT, f"{what}; its inputs are {inputs}")
