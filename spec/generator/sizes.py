"""`dtypes.json` (from dtype and shape to bytes) and `layouts.json` (from slots and samples to a segment)."""

from math import prod
from typing import Any

from generator.tables import dtype_sizes, find_error

MAX_BYTES = 2**53 - 1
PAGE_BYTES = 4096
COMMENT = "Written by spec/make_vectors.py from spec/dtypes.json; the format is told in README.md."

SHAPES: tuple[tuple[int, ...], ...] = (
    (), (1,), (3,), (4, 4), (1, 1, 1, 1), (3, 5, 7), (2, 128), (3, 224, 224), (65536,), (0,), (3, 0), tuple([2] * 16)
)  # fmt: skip
LARGE_SHAPES: tuple[tuple[int, ...], ...] = (
    (2**53 - 1,), (2**52,), (2**51,), (2**50 - 1,), (2**50,), (2**26, 2**27), (2**27, 2**26, 2), (2**32, 2**32),
    (2**53 - 1, 2**53 - 1), tuple([2**53 - 1] * 16), (6361, 69431, 20394401),
)  # fmt: skip
UNKNOWN_DTYPES = ("", "F8", "f32", "FP32", "float32", "I128", "F32 ", "F\U0001f600")

Plane = tuple[str, tuple[int, ...]]
GEOMETRIES: tuple[tuple[str, int, tuple[Plane, ...]], ...] = (
    ("one input, one output", 8, (("F32", (4,)), ("F32", (4,)))),
    ("the digits model", 64, (("F32", (8, 8)), ("F32", (10,)))),
    ("two inputs, one output", 8, (("I64", (16,)), ("I64", (16,)), ("I64", (16,)))),
    ("one slot", 1, (("F32", (4,)), ("F32", (4,)))),
    ("a scalar is one element", 5, (("F64", ()), ("BOOL", ()))),
    ("three bytes to a row", 7, (("U8", (3,)), ("F64", (2,)))),
    ("one byte to a row", 4096, (("BOOL", (1,)), ("U8", (1,)))),
    ("one byte past a page", 4097, (("U8", ()), ("U8", ()))),
    ("exactly one page", 1024, (("F32", ()), ("F32", ()))),
    ("one byte under a page", 4095, (("I8", ()), ("I8", ()))),
    ("a row over a page", 3, (("F16", (3, 1000)), ("BF16", (1,)))),
    ("rows that no power of two divides", 13, (("U16", (3, 5, 7)), ("I16", (11,)), ("U32", (1, 1, 3)))),
    ("images", 256, (("F32", (3, 224, 224)), ("F32", (1000,)))),
    ("one plane", 2, (("U64", (2,)),)),
    ("64 planes", 9, tuple(("U8", (index + 1,)) for index in range(64))),
    ("terabytes", 2**20, (("F64", (2**20,)), ("F64", (2**19,)))),
    ("the largest segment", 1, (("U8", (2**53 - 2 * PAGE_BYTES,)),)),
    ("one byte under the largest segment", 1, (("U8", (2**53 - 2 * PAGE_BYTES - 1,)),)),
    ("one byte over the largest segment", 1, (("U8", (2**53 - 2 * PAGE_BYTES + 1,)),)),
    ("the second plane does not fit", 1, (("U8", (2**53 - 2 * PAGE_BYTES,)), ("U8", ()))),
    ("slots times stride is 2^53", 2**20, (("F64", (2**30,)), ("U8", ()))),
    ("slots times stride is 2^64", 2**32, (("U8", (2**32,)), ("U8", ()))),
    ("the stride is 2^64", 1, (("F64", (2**30, 2**31)), ("U8", ()))),
    ("the stride is 2^64 and slots are many", 2**53 - 1, (("F64", (2**53 - 1, 2**53 - 1)),)),
    ("only the output is too large", 2**10, (("U8", ()), ("F64", (2**45,)))),
)


def build_dtypes() -> dict[str, Any]:
    sizes = [spell_size(dtype, shape) for dtype in dtype_sizes() for shape in (*SHAPES, *LARGE_SHAPES)]
    error = find_error("WRONG_DTYPE")
    return {
        "comment": COMMENT,
        "sizes": sizes,
        "unknown": [{"dtype": dtype, "error": error} for dtype in UNKNOWN_DTYPES],
    }


def spell_size(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    size_bytes = dtype_sizes()[dtype] * prod(shape)
    return {"dtype": dtype, "shape": spell_numbers(shape), "bytes": str(size_bytes), "fits": size_bytes <= MAX_BYTES}


def build_layouts() -> dict[str, Any]:
    return {
        "comment": COMMENT,
        "page_bytes": str(PAGE_BYTES),
        "max_bytes": str(MAX_BYTES),
        "layouts": [spell_layout(*geometry) for geometry in GEOMETRIES],
    }


def spell_layout(name: str, slots: int, planes: tuple[Plane, ...]) -> dict[str, Any]:
    """The last plane is the output where there are two or more."""
    offsets, strides, end = [], [], PAGE_BYTES
    for dtype, sample in planes:
        strides.append(dtype_sizes()[dtype] * prod(sample))
        offsets.append(end)
        end = round_up(end + slots * strides[-1])
    fits = end <= MAX_BYTES
    directions = ["in"] * (len(planes) - 1) + ["out" if len(planes) > 1 else "in"]
    return {
        "name": name,
        "slots": str(slots),
        "planes": [
            {"direction": direction, "dtype": dtype, "sample": spell_numbers(sample)}
            for direction, (dtype, sample) in zip(directions, planes, strict=True)
        ],
        "error": None if fits else find_error("RING_TOO_LARGE"),
        "offsets": spell_numbers(offsets) if fits else None,
        "strides": spell_numbers(strides) if fits else None,
        "segment_bytes": str(end) if fits else None,
    }


def round_up(size_bytes: int) -> int:
    return (size_bytes + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES


def spell_numbers(numbers: list[int] | tuple[int, ...]) -> list[str]:
    return [str(number) for number in numbers]
