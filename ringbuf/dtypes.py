"""The dtypes, by their name on the wire (safetensors spelling), and what numpy calls them (spec/dtypes.json).

torch's side of the table is in `broker.engine.tensors`: nothing here imports torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class DType(NamedTuple):
    """One dtype: `numpy` is the type of a client's view; BF16, which numpy has not, is seen as its bits, `uint16`."""

    name: str
    size_bytes: int
    numpy: np.dtype[Any]


DTYPES: dict[str, DType] = {
    name: DType(name, np.dtype(numpy).itemsize, np.dtype(numpy))
    for name, numpy in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "U16": "uint16",
        "I16": "int16",
        "U32": "uint32",
        "I32": "int32",
        "U64": "uint64",
        "I64": "int64",
        "F16": "float16",
        "BF16": "uint16",
        "F32": "float32",
        "F64": "float64",
    }.items()
}
