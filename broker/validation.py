"""The checks of an INFER, in the spec's order, before any byte of its rows is looked at (spec section 7).

The session first compares a request with what the usual one says (one full row), and comes here only when it differs:
to find out what is wrong, or that nothing is.
"""

from __future__ import annotations

from broker.batcher import Form
from broker.engine.signature import Sample, sample_of
from broker.ring import Ring
from ringbuf.dtypes import DTYPES
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Descriptor, Infer, Plane


def check(ring: Ring | None, ask: Infer) -> tuple[Ring, Form | None]:
    """Return the request's form, None where all its rows are as large as the planes'; raises `RingbrokerError` 2xxx or
    UNKNOWN_VERSION.

    Whether the rows are in flight is left to the caller, and so is what `look` looks at.
    """
    if ring is None:
        raise RingbrokerError(Code.UNKNOWN_RING, "this session has no such ring", "ring")
    if not ring.attached:
        raise RingbrokerError(Code.RING_NOT_ATTACHED, "ATTACHED comes first", "ring")
    if ask.version is not None:
        ring.answering(ask.version)
    if ask.rows > ring.max_rows:
        raise RingbrokerError(Code.TOO_MANY_ROWS, f"{ring.max_rows} rows are the most", "rows")
    if ask.slot + ask.rows > ring.slots:
        raise RingbrokerError(Code.ROWS_OUT_OF_RANGE, f"the ring has {ring.slots} slots", "slot")
    form = _check_inputs(ring, ask)
    if ask.outputs is not None:
        _check_count(ask.outputs, ring.out_planes, "outputs")
        for index, (given, plane) in enumerate(zip(ask.outputs, ring.out_planes, strict=True)):
            _check_descriptor(given, plane, plane.sample, ask, {}, f"outputs[{index}]")
    return ring, form


def look(ring: Ring, slot: int, rows: int, form: Form | None) -> Form | None:
    """Look at the bytes of a request's BOOL and uniform inputs, after everything else was found right.

    Returns the form, with the uniform inputs' values, copied here and never read again. Raises `RingbrokerError`
    INVALID_BOOL or UNIFORM_MISMATCH. A client that writes on while its request is in flight can still change its BOOLs:
    it then harms its own answer (spec section 7).
    """
    inputs = form.inputs if form else tuple(plane.sample for plane in ring.in_planes)
    for index, plane in enumerate(ring.in_planes):
        if plane.dtype == "BOOL" and ring.greatest_byte(index, slot, rows, inputs[index]) > 1:
            raise RingbrokerError(Code.INVALID_BOOL, "a byte is neither 0 nor 1", f"inputs[{index}]")
    uniform = []
    for index in ring.model.uniform:
        values = set(ring.row_bytes(index, slot, rows, inputs[index]))
        if len(values) > 1:
            raise RingbrokerError(Code.UNIFORM_MISMATCH, "it is uniform, and the rows differ in it", f"inputs[{index}]")
        uniform.append(values.pop())
    if not uniform:
        return form
    outputs = form.outputs if form else tuple(plane.sample for plane in ring.out_planes)
    return Form(inputs, outputs, tuple(uniform))


def _check_inputs(ring: Ring, ask: Infer) -> Form | None:
    _check_count(ask.inputs, ring.in_planes, "inputs")
    dims: dict[str, int] = {}
    signature = ring.model.signature
    for index, (given, plane, tensor) in enumerate(zip(ask.inputs, ring.in_planes, signature.inputs, strict=True)):
        _check_descriptor(given, plane, sample_of(tensor), ask, dims, f"inputs[{index}]")
    inputs = tuple(shape[1:] for _, shape, _ in ask.inputs)
    if all(sample == plane.sample for sample, plane in zip(inputs, ring.in_planes, strict=True)):
        return None
    outputs = tuple(
        tuple(
            dims.get(dim, most) if isinstance(dim, str) else dim
            for dim, most in zip(sample_of(tensor), plane.sample, strict=True)
        )
        for tensor, plane in zip(signature.outputs, ring.out_planes, strict=True)
    )
    return Form(inputs, outputs)


def _check_count(given: tuple[Descriptor, ...], planes: tuple[Plane, ...], path: str) -> None:
    if len(given) != len(planes):
        raise RingbrokerError(
            Code.WRONG_TENSOR_COUNT, f"{len(given)} descriptors; the model has {len(planes)} {path}", path
        )


def _check_descriptor(
    given: Descriptor, plane: Plane, sample: Sample, ask: Infer, dims: dict[str, int], path: str
) -> None:
    """Check one descriptor; `dims` collects what the dynamic dims were seen to be."""
    offset, shape, dtype = given
    if dtype != plane.dtype:
        known = "" if dtype in DTYPES else "an unknown dtype; "
        raise RingbrokerError(Code.WRONG_DTYPE, f"{known}the plane is {plane.dtype}", f"{path}.dtype")
    if len(shape) != len(sample) + 1:
        raise RingbrokerError(
            Code.WRONG_RANK, f"{len(shape)} dims; [rows, *sample] has {len(sample) + 1}", f"{path}.shape"
        )
    if shape[0] != ask.rows:
        raise _wrong_dim(f"{shape[0]}; the request has {ask.rows} rows", path, 0)
    for axis, (dim, size, most) in enumerate(zip(sample, shape[1:], plane.sample, strict=True), start=1):
        if isinstance(dim, int):
            if size != dim:
                raise _wrong_dim(f"{size}; the plane has {dim}", path, axis)
        elif not 1 <= size <= most:
            raise _wrong_dim(f"{size}; this ring takes a {dim!r} of 1 to {most}", path, axis)
        elif dims.setdefault(dim, size) != size:
            raise _wrong_dim(f"{size}; {dim!r} is {dims[dim]} in this request", path, axis)
    if offset != plane.offset + ask.slot * plane.stride:
        raise RingbrokerError(Code.WRONG_OFFSET, "not where the plane's row begins", f"{path}.offset")


def _wrong_dim(text: str, path: str, axis: int) -> RingbrokerError:
    return RingbrokerError(Code.WRONG_DIM, text, f"{path}.shape[{axis}]")
