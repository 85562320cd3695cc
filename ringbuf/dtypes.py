"""The dtypes, by their name on the wire (safetensors spelling), and what numpy calls them (spec/dtypes.json).

torch's side of the table is in `broker.engine.tensors`: nothing here imports torch, and numpy only where it is asked
for, because the broker's supervisor starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class DType(NamedTuple):
    """One dtype."""

    name: str
    size_bytes: int
    numpy_name: str

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of a client's view; BF16, which numpy has not, is seen as its bits, `uint16`."""
        import numpy as np

        return np.dtype(self.numpy_name)


DTYPES: dict[str, DType] = {
    name: DType(name, size_bytes, numpy_name)
    for name, size_bytes, numpy_name in (
        ("BOOL", 1, "bool"),
        ("U8", 1, "uint8"),
        ("I8", 1, "int8"),
        ("U16", 2, "uint16"),
        ("I16", 2, "int16"),
        ("U32", 4, "uint32"),
        ("I32", 4, "int32"),
        ("U64", 8, "uint64"),
        ("I64", 8, "int64"),
        ("F16", 2, "float16"),
        ("BF16", 2, "uint16"),
        ("F32", 4, "float32"),
        ("F64", 8, "float64"),
    )
}
