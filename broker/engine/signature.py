"""Signatures: a model's named inputs and outputs (DESIGN: one word per idea; spec section 5).

A tensor is written `F32[batch,3,224,224]`: its dtype and its whole shape. A number is a fixed dim, a name a dynamic
one; the name `batch` marks the batch axis. `F32[]` is a scalar. A dim of an output that is no input's is open: its size
is known when the model has run, and its maximum must be declared. The data types are the wire's own
(`messages.Tensor`, `messages.Signature`), so what a model declares is what a client reads. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ringbuf.dtypes import DTYPES
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Signature, Tensor

BATCH = "batch"
MAX_TENSORS = 32
MAX_RANK = 8

_TENSOR = re.compile(r"([A-Z0-9]+)\[([^\]]*)\]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

Shape = tuple[int, ...]
Sample = tuple[int | str, ...]


def parse_tensor(name: str, text: str) -> Tensor:
    """Read `F32[batch,8,8]`; raises `RingbrokerError` SIGNATURE_INVALID."""
    match = _TENSOR.fullmatch(text.replace(" ", ""))
    if match is None or match[1] not in DTYPES:
        raise invalid(f"{text!r} is not a tensor such as F32[batch,8,8]", name)
    shape = tuple(_parse_dim(dim, name) for dim in match[2].split(",") if match[2])
    return Tensor(name, match[1], shape, shape.index(BATCH) if BATCH in shape else None)


def declare(
    inputs: Mapping[str, str], outputs: Mapping[str, str], maxima: Mapping[str, int] | None = None
) -> Signature:
    """Make a signature from written tensors; raises `RingbrokerError` SIGNATURE_INVALID or CONFIG_INVALID."""
    return checked(
        tuple(parse_tensor(name, text) for name, text in inputs.items()),
        tuple(parse_tensor(name, text) for name, text in outputs.items()),
        maxima or {},
    )


def checked(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], maxima: Mapping[str, int | None]) -> Signature:
    """Put a signature together and refuse what the broker cannot serve: SIGNATURE_INVALID, with the tensor's name as
    path; CONFIG_INVALID for the maximum of a dim that there is not.
    """
    for tensors, side in ((inputs, "inputs"), (outputs, "outputs")):
        if not 1 <= len(tensors) <= MAX_TENSORS:
            raise invalid(f"a model has 1 to {MAX_TENSORS} {side}, this one {len(tensors)}", side)
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise invalid("two tensors have the same name", side)
    for tensor in (*inputs, *outputs):
        _check_tensor(tensor)
    dims = dict.fromkeys(dynamic_dims((*inputs, *outputs)))
    for dim, maximum in maxima.items():
        if dim not in dims:
            text = f"it is no dynamic dim; there are: {', '.join(dims) or 'none'}. --input NAME:DTYPE[DIMS] names them"
            raise RingbrokerError(Code.CONFIG_INVALID, text, dim)
        if maximum is not None and not 1 <= maximum < 2**31:
            raise invalid(f"its maximum {maximum} is not 1 to 2147483647", dim)
    of_inputs = dynamic_dims(inputs)
    for tensor in outputs:
        unbounded = [dim for dim in dynamic_dims((tensor,)) if dim not in of_inputs and maxima.get(dim) is None]
        if unbounded:
            text = f"its dim {unbounded[0]!r} is no input's: declare its maximum, --maximum {unbounded[0]}=N"
            raise invalid(text, tensor.name)
    return Signature(inputs, outputs, {dim: maxima.get(dim) for dim in dims})


def open_dims(signature: Signature) -> frozenset[str]:
    """The dims of outputs that are no input's."""
    return frozenset(signature.dims) - frozenset(dynamic_dims(signature.inputs))


def open_axes(tensor: Tensor, signature: Signature) -> frozenset[int]:
    """The axes of an output whose dims are open; counted in its whole shape."""
    dims = open_dims(signature)
    return frozenset(axis for axis, dim in enumerate(tensor.shape) if dim in dims)


def without_batch_axis(signature: Signature, uniform: Collection[str] = ()) -> list[str]:
    """The tensors that keep rows from sharing a forward call; inputs that are uniform do not."""
    return [
        tensor.name
        for tensor in (*signature.inputs, *signature.outputs)
        if tensor.batch_axis is None and not (tensor.name in uniform and tensor in signature.inputs)
    ]


def sample_of(tensor: Tensor) -> Sample:
    """The shape of one row: the tensor's without its batch axis."""
    axis = tensor.batch_axis
    return tensor.shape if axis is None else tensor.shape[:axis] + tensor.shape[axis + 1 :]


def dynamic_dims(tensors: tuple[Tensor, ...]) -> list[str]:
    """The names of the dynamic dims, the batch axis not among them, in order of appearance."""
    return list(dict.fromkeys(dim for tensor in tensors for dim in sample_of(tensor) if isinstance(dim, str)))


def may_lie_apart(tensor: Tensor) -> bool:
    """Whether a ring may hold rows of it that are not adjacent: shorter ones than its longest, or permuted ones."""
    return bool(dynamic_dims((tensor,))) or tensor.batch_axis not in (0, None)


def is_dim_name(text: str) -> bool:
    """Whether a dim may be called so."""
    return _DIM_NAME.fullmatch(text) is not None


def as_dim_name(name: str) -> str:
    """A tensor's name with what a dim's may not have replaced: the stem of the names of its unnamed dims."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name if not name[:1].isdigit() else f"_{name}")[:56]


def written(tensor: Tensor) -> str:
    """The tensor as `parse_tensor` reads it."""
    return f"{tensor.dtype}[{','.join(str(dim) for dim in tensor.shape)}]"


def invalid(text: str, path: str) -> RingbrokerError:
    """The error for a signature that cannot be served."""
    return RingbrokerError(Code.SIGNATURE_INVALID, text, path)


def _parse_dim(text: str, name: str) -> int | str:
    if text.isascii() and text.isdigit():
        return int(text)
    if _DIM_NAME.fullmatch(text):
        return text
    raise invalid(f"{text!r} is neither a number nor the name of a dim", name)


def _check_tensor(tensor: Tensor) -> None:
    if not _NAME.fullmatch(tensor.name):
        raise invalid("a tensor's name is 1 to 128 letters, digits, '_', '.', '-'", tensor.name)
    if len(tensor.shape) > MAX_RANK:
        raise invalid(f"its rank is over {MAX_RANK}", tensor.name)
    if any(isinstance(dim, int) and not 1 <= dim < 2**31 for dim in tensor.shape):
        raise invalid("a fixed dim is 1 to 2147483647", tensor.name)
    if tensor.shape.count(BATCH) > 1:
        raise invalid("it has two batch axes", tensor.name)
