"""What a model's file says of its inputs and outputs, and what the operator says, made into one signature.

A file gives some dims a symbol (`s40`, `batch_size`), and some not even that. The operator may name them
(`F32[batch,seq]`), or narrow one to a number; without a word from the operator they are named here:

- a symbol is the batch axis where the file calls it so, or where it is the first dim of every input;
- another keeps its name where the file gave it one on purpose, and is else called `INPUT_AXIS` after the first tensor
  that has it (`tokens_1`);
- a dim of an output that is no input's is open (`broker.engine.signature`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from broker.engine import signature as signatures
from broker.engine.config import ModelConfig
from broker.engine.signature import BATCH, parse_tensor
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

_BATCH_SYMBOLS = frozenset({"batch", "batch_size", "batchsize", "n", "b", "bs", "batch_dim"})


class Symbol(NamedTuple):
    """A dynamic dim in a file. Two dims are always equal where they have the same non-empty `key`."""

    key: str
    name: str | None = None
    """What the file calls it, for people."""


class FileTensor(NamedTuple):
    """An input or output as a file describes it."""

    name: str
    dtype: str
    shape: tuple[int | Symbol, ...]


def reconcile(
    inputs: Sequence[FileTensor],
    outputs: Sequence[FileTensor],
    config: ModelConfig,
    maxima: Mapping[str, int | None] | None = None,
) -> tuple[Signature, dict[str, str | int]]:
    """Return the signature, and what became of every symbol: its name, or the number it was narrowed to.

    `maxima` are the file's own, by symbol; the operator's may be smaller. Raises `RingbrokerError` CONFIG_INVALID where
    the operator contradicts the file, and SIGNATURE_INVALID for what cannot be served.
    """
    _refuse_strangers(config.inputs, inputs, "inputs")
    _refuse_strangers(config.outputs, outputs, "outputs")
    names: dict[str, str | int] = {}
    for tensor in inputs:
        _take_declared(tensor, config.inputs, names)
    for tensor in outputs:
        _take_declared(tensor, config.outputs, names)
    _name_the_rest(inputs, names)
    signature = signatures.checked(
        tuple(_named(tensor, config.inputs, names) for tensor in inputs),
        tuple(_named(tensor, config.outputs, names) for tensor in outputs),
        _maxima(config, maxima or {}, names),
    )
    return signature, names


def _refuse_strangers(declared: Mapping[str, str], found: Sequence[FileTensor], side: str) -> None:
    known = [tensor.name for tensor in found]
    for name in declared:
        if name not in known:
            raise _contradiction(f"the file's {side} are {', '.join(known)}", name)


def _take_declared(tensor: FileTensor, declared: Mapping[str, str], names: dict[str, str | int]) -> None:
    """Check a tensor's declaration against the file, and learn the names of its symbols."""
    if tensor.name not in declared:
        return
    wanted = parse_tensor(tensor.name, declared[tensor.name])
    if wanted.dtype != tensor.dtype or len(wanted.shape) != len(tensor.shape):
        raise _contradiction(f"the file says {tensor.dtype} with {len(tensor.shape)} dims", tensor.name)
    for dim, found in zip(wanted.shape, tensor.shape, strict=True):
        if isinstance(found, int):
            if dim != found:
                raise _contradiction(f"the dim {dim} is {found} in the file", tensor.name)
        elif found.key and names.setdefault(found.key, dim) != dim:
            raise _contradiction(f"the dim {dim} is always equal to one called {names[found.key]}", tensor.name)


def _name_the_rest(inputs: Sequence[FileTensor], names: dict[str, str | int]) -> None:
    symbols = {dim.key: dim for tensor in inputs for dim in tensor.shape if isinstance(dim, Symbol) and dim.key}
    if BATCH not in names.values():
        batch = _batch_symbol(inputs, symbols)
        if batch is not None:
            names.setdefault(batch, BATCH)
    for tensor in inputs:
        for axis, dim in enumerate(tensor.shape):
            if isinstance(dim, Symbol) and dim.key and dim.key not in names:
                taken = set(names.values())
                own = dim.name if dim.name and signatures.is_dim_name(dim.name) and dim.name not in taken else None
                names[dim.key] = own or f"{signatures.as_dim_name(tensor.name)}_{axis}"


def _batch_symbol(inputs: Sequence[FileTensor], symbols: Mapping[str, Symbol]) -> str | None:
    firsts = {dim.key for tensor in inputs if tensor.shape and isinstance(dim := tensor.shape[0], Symbol)}
    called = [key for key, symbol in symbols.items() if (symbol.name or "").lower() in _BATCH_SYMBOLS]
    if len(called) == 1:
        return called[0]
    is_everywhere = len(firsts) == 1 and all(tensor.shape and isinstance(tensor.shape[0], Symbol) for tensor in inputs)
    return firsts.pop() or None if is_everywhere else None


def _named(tensor: FileTensor, declared: Mapping[str, str], names: dict[str, str | int]) -> Tensor:
    """The tensor with names for its symbols; those of an output's open dims are learnt here."""
    if tensor.name in declared:
        return parse_tensor(tensor.name, declared[tensor.name])
    shape = []
    for axis, dim in enumerate(tensor.shape):
        if isinstance(dim, Symbol):
            name = names.get(dim.key) or _own_name(dim, names) or f"{signatures.as_dim_name(tensor.name)}_{axis}"
            shape.append(names.setdefault(dim.key, name) if dim.key else name)
        else:
            shape.append(dim)
    return Tensor(tensor.name, tensor.dtype, tuple(shape), shape.index(BATCH) if BATCH in shape else None)


def _own_name(dim: Symbol, names: Mapping[str, str | int]) -> str | None:
    """The name that the file gives an output's dim which is no input's, unless an input's dim took it."""
    is_free = dim.name is not None and signatures.is_dim_name(dim.name) and dim.name not in names.values()
    return dim.name if is_free and dim.name != BATCH else None


def _maxima(
    config: ModelConfig, of_file: Mapping[str, int | None], names: Mapping[str, str | int]
) -> dict[str, int | None]:
    maxima: dict[str, int | None] = {}
    for key, most in of_file.items():
        name = names.get(key)
        if isinstance(name, str) and name != BATCH and most is not None:
            maxima[name] = min(most, maxima.get(name) or most)
    for dim, asked in config.maxima.items():
        known = maxima.get(dim)
        if known is not None and asked > known:
            raise _contradiction(f"the maximum {asked} is over the file's own, {known}", dim)
        maxima[dim] = asked
    return maxima


def _contradiction(text: str, path: str) -> RingbrokerError:
    return RingbrokerError(Code.CONFIG_INVALID, text, path)
