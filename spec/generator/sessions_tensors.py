"""Scripts of sections 6 and 7 about open dims, uniform inputs, BOOLs, and a batch axis that is not first."""

from collections.abc import Callable
from typing import Any

from generator.script import (
    ANY,
    GREET,
    MAX_ROWS,
    Frame,
    Script,
    Step,
    attach,
    error,
    expect,
    expect_any_order,
    infer,
    open_model,
    plane,
    read,
    refusals,
    result,
    ring,
    script,
    send,
    write,
)

ROW = 16  # of four F32
FOUND_X, FOUND_Y = 4096, 8192
SCALED_X, KEEP, BY, SCALED_Y = 4096, 8192, 12288, 16384
H, TURNED_Y, TURNED_ROW = 4096, 8192, 24


def tensor_scripts() -> list[Script]:
    return [*open_dims(), *uniform(), *bools(), *looked_at_in_order(), batch_axis_behind()]


def opened(
    model: str, planes: list[Frame], maxima: dict[str, int] | None = None, max_rows: Any = MAX_ROWS
) -> list[Step]:
    segment_bytes = (len(planes) + 1) * 4096
    return [
        *GREET,
        send(open_model(model, maxima)),
        expect(ring(planes, segment_bytes, max_rows=max_rows)),
        {"map": {"path": "$path", "bytes": segment_bytes}},
        send(attach()),
    ]


def open_found(most: int = 4, maxima: dict[str, int] | None = None) -> list[Step]:
    planes = [
        plane("x", "in", "F32", [4], FOUND_X, ROW),
        plane("y", "out", "F32", [most], FOUND_Y, 4 * most),
    ]
    return opened("found", planes, maxima, max_rows=ANY)


def infer_found(request_id: int, slot: int = 0, outputs: list[Frame] | None = None) -> Frame:
    return infer(request_id, slot, 1, [[FOUND_X + slot * ROW, [1, 4], "F32"]], outputs=outputs)


def result_found(request_id: int, size: int, slot: int = 0, most: int = 4) -> Frame:
    return result(request_id, [[FOUND_Y + slot * 4 * most, [1, size], "F32"]], 1)


def open_dims() -> list[Script]:
    rows: list[list[float]] = [[-1, 0, -2, -3], [0, 5, -1, 0], [1, -1, 2, -1], [3, 2, 1, 0], [4, 3, 2, 1]]
    told: list[Step] = []
    for slot, row in enumerate(rows):
        kept = [value for value in row if value > 0]
        told += [
            write(FOUND_X + slot * ROW, "F32", row),
            send(infer_found(5, slot)),
            expect(result_found(5, len(kept), slot)),
            read(FOUND_Y + slot * ROW, "F32", kept),
        ]
    full: Frame = [FOUND_Y, [1, 4], "F32"]
    return [
        script("an open dim is as large as the model makes it", *open_found(), *told),
        script(
            "outputs of an open dim are the plane's at full size",
            *open_found(),
            write(FOUND_X, "F32", rows[2]),
            *refusals((lambda i: infer_found(i, 0, [[FOUND_Y, [1, 2], "F32"]]), "WRONG_DIM", "outputs[0].shape[1]")),
            send(infer_found(5, 0, [full])),
            expect(result_found(5, 2)),
        ),
        script(
            "a result that is larger than its plane",
            *open_found(2, {"n": 2}),
            write(FOUND_X, "F32", rows[3]),
            send(infer_found(5)),
            expect(error(5, "OUTPUT_TOO_LARGE", "outputs[0]", needed_bytes=12)),
            write(FOUND_X, "F32", rows[2]),
            send(infer_found(5)),
            expect(result_found(5, 2, most=2)),
            read(FOUND_Y, "F32", [1, 2]),
        ),
        script(
            "OPEN refused: an open dim's maximum",
            *GREET,
            *refusals(
                (lambda i: open_model("found", {"n": 5}, id=i), "MAXIMUM_TOO_LARGE", "maxima.n"),
                (lambda i: open_model("found", {"n": 0}, id=i), "MAXIMUM_TOO_LARGE", "maxima.n"),
            ),
        ),
    ]


def open_scaled() -> list[Step]:
    planes = [
        plane("x", "in", "F32", [4], SCALED_X, ROW),
        plane("keep", "in", "BOOL", [4], KEEP, 4),
        plane("by", "in", "F32", [], BY, 4, None),
        plane("y", "out", "F32", [4], SCALED_Y, ROW),
    ]
    return [
        *opened("scaled", planes),
        write(SCALED_X, "F32", list(range(32))),
        write(KEEP, "U8", [1] * 32),
        write(BY, "F32", [10] * 8),
    ]


def infer_scaled(request_id: int, slot: int = 0, rows: int = 1, seq: int = 4) -> Frame:
    return infer(
        request_id,
        slot,
        rows,
        [
            [SCALED_X + slot * ROW, [rows, seq], "F32"],
            [KEEP + slot * 4, [rows, seq], "BOOL"],
            [BY + slot * 4, [rows], "F32"],
        ],
    )


def result_scaled(request_id: int, slot: int = 0, rows: int = 1, seq: int = 4, batch_rows: Any = None) -> Frame:
    return result(request_id, [[SCALED_Y + slot * ROW, [rows, seq], "F32"]], batch_rows or rows)


def asks_scaled(slot: int = 0, rows: int = 1, seq: int = 4) -> Callable[[int], Frame]:
    return lambda request_id: infer_scaled(request_id, slot, rows, seq)


def uniform() -> list[Script]:
    return [
        script(
            "a uniform input has a value in every row",
            *open_scaled(),
            send(infer_scaled(5, 2, 3)),
            expect(result_scaled(5, 2, 3)),
            read(SCALED_Y + 2 * ROW, "F32", [10 * value for value in range(8, 20)]),
        ),
        script(
            "rows that differ in a uniform input",
            *open_scaled(),
            write(BY + 2 * 4, "F32", [11]),
            *refusals((asks_scaled(0, 3), "UNIFORM_MISMATCH", "inputs[2]")),
            send(infer_scaled(5, 0, 2)),  # the third row was the one
            expect(result_scaled(5, 0, 2)),
            write(BY, "F32", [11, 11]),
            send(infer_scaled(5, 0, 3)),
            expect(result_scaled(5, 0, 3)),
            read(SCALED_Y, "F32", [11 * value for value in range(12)]),
        ),
        script(
            "neighbours share a batch where their uniform inputs are equal",
            *open_scaled(),
            write(BY + 3 * 4, "F32", [11]),
            send(*(infer_scaled(5 + slot, slot) for slot in range(1, 4))),
            expect_any_order(
                result_scaled(6, 1, batch_rows=2), result_scaled(7, 2, batch_rows=2), result_scaled(8, 3, batch_rows=1)
            ),
            read(SCALED_Y + 2 * ROW, "F32", [80, 90, 100, 110, 132, 143, 154, 165]),
        ),
    ]


def bools() -> list[Script]:
    wrong: list[Step] = []
    for index, byte in ((0, 2), (3, 255), (5, 128)):
        slot = index // 4
        wrong += [
            write(KEEP + index, "U8", [byte]),
            *refusals(
                (asks_scaled(slot), "INVALID_BOOL", "inputs[1]"), (asks_scaled(0, 2), "INVALID_BOOL", "inputs[1]")
            ),
            send(infer_scaled(5, 1 - slot), infer_scaled(6, 2)),
            expect_any_order(result_scaled(5, 1 - slot, batch_rows=ANY), result_scaled(6, 2, batch_rows=ANY)),
            write(KEEP + index, "U8", [0]),
        ]
    return [
        script(
            "a BOOL that is neither 0 nor 1", *open_scaled(), *wrong, send(infer_scaled(7)), expect(result_scaled(7))
        ),
        script(
            "what stands behind a short row is not looked at",
            *open_scaled(),
            write(KEEP, "U8", [1, 0, 2, 3]),
            *refusals((asks_scaled(seq=3), "INVALID_BOOL", "inputs[1]")),
            send(infer_scaled(5, seq=2)),
            expect(result_scaled(5, seq=2)),
            read(SCALED_Y, "F32", [0, 0]),
        ),
    ]


def looked_at_in_order() -> list[Script]:
    spoilt = [write(KEEP + 4, "U8", [9]), write(BY + 4, "F32", [11])]
    dims = infer_scaled(102, 0, 2)
    dims[5][1][1] = [2, 3]
    return [
        script(
            "values are looked at after every other check",
            *open_scaled(),
            *spoilt,
            *refusals((lambda i: [dims[0], i, *dims[2:]], "WRONG_DIM", "inputs[1].shape[1]")),
            send(infer_scaled(5), infer_scaled(6, 0, 2)),
            expect_any_order(result_scaled(5), error(6, "ROWS_IN_FLIGHT", ANY)),
            *refusals((asks_scaled(0, 2), "INVALID_BOOL", "inputs[1]")),
            write(KEEP + 4, "U8", [1]),
            *refusals((asks_scaled(0, 2), "UNIFORM_MISMATCH", "inputs[2]")),
            write(BY + 4, "F32", [10]),
            send(infer_scaled(5, 0, 2)),
            expect(result_scaled(5, 0, 2)),
        )
    ]


def batch_axis_behind() -> Script:
    planes = [
        plane("h", "in", "F32", [2, 3], H, TURNED_ROW, 1),
        plane("y", "out", "F32", [2, 3], TURNED_Y, TURNED_ROW, 1),
    ]
    return script(
        "a batch axis that is not first: a row is a sample without it",
        *opened("turned", planes),
        write(H + TURNED_ROW, "F32", list(range(12))),
        send(infer(5, 1, 2, [[H + TURNED_ROW, [2, 2, 3], "F32"]])),
        expect(result(5, [[TURNED_Y + TURNED_ROW, [2, 2, 3], "F32"]], ANY)),
        read(TURNED_Y + TURNED_ROW, "F32", list(range(1, 13))),
        *refusals(
            (lambda i: infer(i, 1, 2, [[H + TURNED_ROW, [2, 3, 2], "F32"]]), "WRONG_DIM", "inputs[0].shape[1]"),
            (lambda i: infer(i, 1, 1, [[H + TURNED_ROW, [2, 1, 3], "F32"]]), "WRONG_DIM", "inputs[0].shape[0]"),
        ),
    )
