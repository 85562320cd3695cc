"""What the source of a compiled package tells of its inputs, and whether a declaration contradicts it.

AOTInductor writes checks of its inputs into the C++ that it compiles, and the packager puts that source beside the
library. The checks are off when the library runs; here they are read:

    int32_t arg0_1_expected_dtype = aoti_torch_dtype_float32();
    "input_handles[0]: dim value is too large at 0, " << "expected to be <= 16, "
    assert_size_stride(arg0_1, {s17, 4L}, {4L, 1L}, "input");

A source that is written otherwise, by another version of torch, tells nothing, and nothing is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import torch

from broker.engine.signature import BATCH, parse_tensor
from broker.engine.tensors import DTYPE_NAMES
from ringbuf.errors import Code, RingbrokerError

_UNBOUNDED = 2**31 - 1
_NAMES = re.compile(r'inputs_info_\[(\d+)\]\.name = "(\w+)";')
_DTYPES = re.compile(r"int32_t (\w+)_expected_dtype = aoti_torch_dtype_(\w+)\(\);")
_SMALLEST = re.compile(r'input_handles\[(\d+)\]: dim value is too small at (\d+), "\s*<< "expected it to be >= (\d+)')
_LARGEST = re.compile(r'input_handles\[(\d+)\]: dim value is too large at (\d+), "\s*<< "expected to be <= (\d+)')
_SIZES = re.compile(r"assert_size_stride\((\w+), \{([^}]*)\}, \{([^}]*)\}")
_IN_SPEC = re.compile(r'\bin_spec_ = R"\((.*?)\)";')


class Input(NamedTuple):
    """One input. A dim is a number, or a symbol or expression that is the same wherever the dims are equal."""

    dtype: str | None
    shape: tuple[int | str, ...]
    strides: tuple[int | str, ...]


class Facts(NamedTuple):
    """What is known of all inputs."""

    inputs: tuple[Input | None, ...]
    """None for one that the code does not read."""
    bounds: Mapping[str, tuple[int, int | None]]
    """The least and the largest size, by symbol."""
    keywords: tuple[str, ...]
    """The names of the last inputs, if they were given by name when it was exported."""


class Declared(NamedTuple):
    """What became of a declaration that was compared with the facts."""

    maxima: dict[str, int]
    minima: dict[str, int]
    max_batch: int | None
    least_rows: int


def read(source: str) -> Facts | None:
    """What the source tells; None where it is not written as expected."""
    names = {int(index): name for index, name in _NAMES.findall(source)}
    if not names or sorted(names) != list(range(len(names))):
        return None
    dtypes = {name: DTYPE_NAMES.get(getattr(torch, dtype, torch.complex64)) for name, dtype in _DTYPES.findall(source)}
    sizes: dict[str, tuple[str, str]] = {}
    for name, shape, strides in _SIZES.findall(source):
        sizes.setdefault(name, (shape, strides))
    inputs = tuple(
        Input(dtypes.get(name), _dims(sizes[name][0]), _dims(sizes[name][1])) if name in sizes else None
        for _, name in sorted(names.items())
    )
    return Facts(inputs, _bounds(source, inputs), _keywords(source))


def compare(declared: Mapping[str, str], facts: Facts, config_maxima: Mapping[str, int], path: str) -> Declared:
    """Compare the declared inputs, which are in the package's order; raises `RingbrokerError` CONFIG_INVALID."""
    if len(declared) != len(facts.inputs):
        raise _contradiction(f"{len(declared)} inputs are declared, and the package has {len(facts.inputs)}", path)
    _check_keywords(list(declared), facts, path)
    names: dict[str, int | str] = {}
    for (name, text), found in zip(declared.items(), facts.inputs, strict=True):
        if found is not None:
            _compare_input(name, text, found, names, f"{path}.{name}")
    return _bounded(names, facts, config_maxima, path)


def _compare_input(name: str, text: str, found: Input, names: dict[str, int | str], path: str) -> None:
    wanted = parse_tensor(name, text)
    written = f"{found.dtype or '?'}[{','.join(map(str, found.shape))}]"
    if (found.dtype and wanted.dtype != found.dtype) or len(wanted.shape) != len(found.shape):
        raise _contradiction(f"the package was compiled for {written}", path)
    for axis, (dim, size) in enumerate(zip(wanted.shape, found.shape, strict=True)):
        if isinstance(size, int) and dim != size:
            raise _contradiction(f"its dim {axis} is {dim}, and the package was compiled for {written}", path)
        if isinstance(size, str) and names.setdefault(size, dim) != dim:
            raise _contradiction(f"the dim {dim} is always equal to one called {names[size]} ({written})", path)
    if not _is_contiguous(found):
        raise _contradiction(f"the package was compiled for an example with the strides {list(found.strides)}", path)


def _is_contiguous(found: Input) -> bool:
    """Whether the strides are those of a contiguous tensor, as far as they are numbers; a dim of 1 may have any."""
    for axis, stride in enumerate(found.strides):
        rest = [size for size in found.shape[axis + 1 :] if isinstance(size, int)]
        is_known = len(rest) == len(found.shape) - axis - 1 and isinstance(stride, int)
        if is_known and found.shape[axis] != 1 and stride != prod(rest):
            return False
    return True


def _bounded(names: Mapping[str, int | str], facts: Facts, asked: Mapping[str, int], path: str) -> Declared:
    maxima, minima = dict(asked), {}
    rows: tuple[int, int | None] = (1, None)
    for symbol, dim in names.items():
        least, most = facts.bounds.get(symbol, (1, None))
        if isinstance(dim, int):
            if dim < least or (most is not None and dim > most):
                raise _contradiction(f"the dim {dim} is outside {least} to {most}, for which it was compiled", path)
        elif dim == BATCH:
            rows = (least, most)
        else:
            minima[dim] = least
            if most is not None:
                if asked.get(dim, most) > most:
                    raise _contradiction(f"the maximum {asked[dim]} is over the package's own, {most}", f"{path}.{dim}")
                maxima.setdefault(dim, most)
    return Declared(maxima, minima, rows[1], rows[0])


def _check_keywords(declared: list[str], facts: Facts, path: str) -> None:
    first = len(declared) - len(facts.keywords)
    for index, keyword in enumerate(facts.keywords):
        if keyword in declared and declared.index(keyword) != first + index:
            text = f"the package's last inputs are {', '.join(facts.keywords)}, in this order"
            raise _contradiction(text, f"{path}.{keyword}")


def _dims(text: str) -> tuple[int | str, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    return tuple(int(word.rstrip("L")) if word.rstrip("L").isdigit() else word for word in words)


def _bounds(source: str, inputs: tuple[Input | None, ...]) -> dict[str, tuple[int, int | None]]:
    least = dict(_of_symbols(_SMALLEST, source, inputs))
    most = dict(_of_symbols(_LARGEST, source, inputs))
    return {
        symbol: (least.get(symbol, 1), size if (size := most.get(symbol, _UNBOUNDED)) < _UNBOUNDED else None)
        for symbol in {**least, **most}
    }


def _of_symbols(pattern: re.Pattern[str], source: str, inputs: tuple[Input | None, ...]) -> Iterator[tuple[str, int]]:
    for match in pattern.finditer(source):
        index, axis, size = map(int, match.groups())
        found = inputs[index] if index < len(inputs) else None
        symbol = found.shape[axis] if found is not None and axis < len(found.shape) else None
        if isinstance(symbol, str):
            yield symbol, size


def _keywords(source: str) -> tuple[str, ...]:
    match = _IN_SPEC.search(source)
    try:
        keywords: Any = json.loads(json.loads(match[1])[1]["children_spec"][1]["context"]) if match else ()
    except (ValueError, LookupError, TypeError):  # written otherwise
        return ()
    return tuple(map(str, keywords)) if isinstance(keywords, (list, tuple)) else ()


def _contradiction(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.CONFIG_INVALID, text, path)
