"""Scripts of section 7: requests, each check in its order, rows in flight, cancelling, deadlines."""

from collections.abc import Callable
from typing import Any

from generator.script import (
    ANY,
    F32_ROW,
    I64_ROW,
    OPEN_SUM,
    OPEN_TWICE,
    SUM,
    A,
    B,
    Frame,
    Script,
    X,
    Y,
    error,
    expect,
    expect_any_order,
    infer,
    infer_twice,
    message,
    read,
    refusals,
    result,
    result_twice,
    script,
    send,
    sum_inputs,
    sum_y,
    twice_x,
    twice_y,
    write,
)

MOST = 2**53 - 1
Refusal = tuple[Callable[[int], Frame], str, str | None]


def infer_scripts() -> list[Script]:
    return [*answered(), *dynamic(), *refused(), *in_flight(), *dropped()]


def answered() -> list[Script]:
    flat = list(range(32))
    doubled_flat = [2 * value for value in flat]
    rows = [flat[start : start + 4] for start in range(0, 32, 4)]
    doubled = [doubled_flat[start : start + 4] for start in range(0, 32, 4)]
    return [
        script(
            "one row",
            *OPEN_TWICE,
            write(X, "F32", [1, -2, 0.5, 1024]),
            send(infer_twice(2)),
            expect(result_twice(2)),
            read(Y, "F32", [2, -4, 1, 2048]),
        ),
        script(
            "the last row",
            *OPEN_TWICE,
            write(X + 7 * F32_ROW, "F32", rows[7]),
            send(infer_twice(2, slot=7)),
            expect(result_twice(2, slot=7)),
            read(Y + 7 * F32_ROW, "F32", doubled[7]),
        ),
        script(
            "three rows, and no other is touched",
            *OPEN_TWICE,
            write(X, "F32", flat),
            write(Y, "F32", [-1] * 32),
            send(infer_twice(2, slot=2, rows=3)),
            expect(result_twice(2, slot=2, rows=3)),
            read(Y, "F32", [-1] * 8 + doubled_flat[8:20] + [-1] * 12),
            read(X, "F32", flat),
        ),
        script(
            "every row",
            *OPEN_TWICE,
            write(X, "F32", flat),
            send(infer_twice(2, rows=8)),
            expect(result_twice(2, rows=8)),
            read(Y, "F32", doubled_flat),
        ),
        script(
            "adjacent rows that arrive together are one batch",
            *OPEN_TWICE,
            write(X, "F32", flat),
            send(*(infer_twice(10 + slot, slot=slot) for slot in range(8))),
            expect_any_order(*(result_twice(10 + slot, slot=slot, batch_rows=8) for slot in range(8))),
            read(Y, "F32", doubled_flat),
        ),
        script(
            "ATTACHED and INFER in one write",
            *OPEN_TWICE[:-1],
            write(X, "F32", rows[1]),
            send(*OPEN_TWICE[-1]["send"], infer_twice(2)),
            expect(result_twice(2)),
            read(Y, "F32", doubled[1]),
        ),
        *with_optional_fields(),
    ]


def with_optional_fields() -> list[Script]:
    asks = [
        ("the version", infer_twice(2, version="1")),
        ("outputs", infer_twice(2, outputs=[twice_y(0)])),
        ("a deadline far ahead", infer_twice(2, deadline_ns=MOST)),
        ("a trace", infer_twice(2, extra={"trace": "a\u00e9\U0001f600"})),
        ("an unknown key", infer_twice(2, extra={"later": {"x": [None, 1.5]}})),
        ("the id 0", infer_twice(0)),
        ("the largest id", infer_twice(MOST)),
    ]
    return [script(f"INFER with {name}", *OPEN_TWICE, send(ask), expect(result_twice(ask[1]))) for name, ask in asks]


def dynamic() -> list[Script]:
    return [
        script(
            "a short sequence is packed at the front of its row",
            *OPEN_SUM,
            write(A, "I64", [1, 2, 3, 99]),
            write(B, "I64", [10, 20, 30, 99]),
            send(infer(2, 0, 1, sum_inputs(0, 3))),
            expect(result(2, [sum_y(0, 3)], 1)),
            read(SUM, "I64", [11, 22, 33]),
        ),
        script(
            "each row of a short sequence at the front of its own row",
            *OPEN_SUM,
            *(write(A + slot * I64_ROW, "I64", [slot, slot + 1]) for slot in (4, 5, 6)),
            *(write(B + slot * I64_ROW, "I64", [100, 200]) for slot in (4, 5, 6)),
            send(infer(2, 4, 3, sum_inputs(4, 2, 3))),
            expect(result(2, [sum_y(4, 2, 3)], 3)),
            *(read(SUM + slot * I64_ROW, "I64", [100 + slot, 201 + slot]) for slot in (4, 5, 6)),
        ),
        *(
            script(
                f"a sequence of {seq}",
                *OPEN_SUM,
                write(A + I64_ROW, "I64", list(range(seq))),
                write(B + I64_ROW, "I64", [-(2**53), *[5] * (seq - 1)]),
                send(infer(2, 1, 1, sum_inputs(1, seq), outputs=[sum_y(1, 16)])),
                expect(result(2, [sum_y(1, seq)], 1)),
                read(SUM + I64_ROW, "I64", [-(2**53), *range(6, seq + 5)]),
            )
            for seq in (1, 16)
        ),
    ]


def of_twice(x: Frame | None = None, slot: int = 0, rows: int = 1, **fields: Any) -> Callable[[int], Frame]:
    """An INFER of `twice` whose only input is `x`, to be given its id."""
    return lambda request_id: infer(request_id, slot, rows, [x or twice_x(slot, rows)], **fields)


def refused() -> list[Script]:
    groups: list[tuple[str, tuple[Refusal, ...]]] = [
        ("ring, version and rows", wrong_rows()),
        ("inputs", wrong_inputs()),
        ("outputs", wrong_outputs()),
        ("each check before the next", in_order()),
    ]
    scripts = [
        script(f"INFER refused: {name}", *OPEN_TWICE, *refusals(*cases), send(infer_twice(2)), expect(result_twice(2)))
        for name, cases in groups
    ]
    ranges = [(8, 1), (7, 2), (1, 8), (MOST, 1)]
    return [
        *scripts,
        script(
            "INFER refused: rows past the end",
            *OPEN_TWICE,
            *(
                step
                for slot, rows in ranges
                for step in (send(infer(3, slot, rows, [])), expect(error(3, "ROWS_OUT_OF_RANGE", ANY)))
            ),
        ),
        wrong_dynamic(),
    ]


def wrong_rows() -> tuple[Refusal, ...]:
    return (
        (of_twice(ring=999), "UNKNOWN_RING", "ring"),
        (of_twice(ring=MOST), "UNKNOWN_RING", "ring"),
        (of_twice(version="9"), "UNKNOWN_VERSION", "version"),
        (of_twice(version=""), "UNKNOWN_VERSION", "version"),
        (of_twice(rows=9), "TOO_MANY_ROWS", "rows"),
        (of_twice(rows=MOST), "TOO_MANY_ROWS", "rows"),
    )


def wrong_inputs() -> tuple[Refusal, ...]:
    def asks(*inputs: Frame) -> Callable[[int], Frame]:
        return lambda request_id: infer(request_id, 1, 2, list(inputs))

    offset, shape, dtype = twice_x(1, 2)
    return (
        (asks(), "WRONG_TENSOR_COUNT", "inputs"),
        (asks([offset, shape, dtype], [offset, shape, dtype]), "WRONG_TENSOR_COUNT", "inputs"),
        *((asks([offset, shape, wrong]), "WRONG_DTYPE", "inputs[0].dtype") for wrong in ("F64", "I32", "f32", "")),
        *((asks([offset, wrong, dtype]), "WRONG_RANK", "inputs[0].shape") for wrong in ([], [2], [2, 4, 1], [8])),
        *((asks([offset, [wrong, 4], dtype]), "WRONG_DIM", "inputs[0].shape[0]") for wrong in (0, 1, 3, MOST)),
        *((asks([offset, [2, wrong], dtype]), "WRONG_DIM", "inputs[0].shape[1]") for wrong in (0, 3, 5, MOST)),
        *(
            (asks([wrong, shape, dtype]), "WRONG_OFFSET", "inputs[0].offset")
            for wrong in (0, X, X + 2 * F32_ROW, offset + 1, offset - 1, Y + F32_ROW, MOST)
        ),
    )


def wrong_outputs() -> tuple[Refusal, ...]:
    def asks(*outputs: Frame) -> Callable[[int], Frame]:
        return of_twice(slot=1, rows=2, outputs=list(outputs))

    offset, shape, dtype = twice_y(1, 2)
    return (
        (asks(), "WRONG_TENSOR_COUNT", "outputs"),
        (asks([offset, shape, dtype], [offset, shape, dtype]), "WRONG_TENSOR_COUNT", "outputs"),
        (asks([offset, shape, "F64"]), "WRONG_DTYPE", "outputs[0].dtype"),
        (asks([offset, [2], dtype]), "WRONG_RANK", "outputs[0].shape"),
        (asks([offset, [1, 4], dtype]), "WRONG_DIM", "outputs[0].shape[0]"),
        (asks([offset, [2, 3], dtype]), "WRONG_DIM", "outputs[0].shape[1]"),
        (asks([Y, shape, dtype]), "WRONG_OFFSET", "outputs[0].offset"),
        (asks(twice_x(1, 2)), "WRONG_OFFSET", "outputs[0].offset"),
    )


def in_order() -> tuple[Refusal, ...]:
    """A request with everything wrong, put right one thing at a time in the order of the checks."""
    wrong: dict[str, Any] = {"ring": 999, "version": "9", "outputs": []}
    versioned = {**wrong, "ring": "$ring"}
    placed: dict[str, Any] = {"outputs": []}
    return (
        (lambda i: infer(i, 100, 9, [], **wrong), "UNKNOWN_RING", "ring"),
        (lambda i: infer(i, 100, 9, [], **versioned), "UNKNOWN_VERSION", "version"),
        (lambda i: infer(i, 100, 9, [], **placed), "TOO_MANY_ROWS", "rows"),
        (lambda i: infer(i, 0, 1, [], **placed), "WRONG_TENSOR_COUNT", "inputs"),
        (of_twice([0, [3], "F64"], **placed), "WRONG_DTYPE", "inputs[0].dtype"),
        (of_twice([0, [3], "F32"], **placed), "WRONG_RANK", "inputs[0].shape"),
        (of_twice([0, [3, 4], "F32"], **placed), "WRONG_DIM", "inputs[0].shape[0]"),
        (of_twice([0, [1, 4], "F32"], **placed), "WRONG_OFFSET", "inputs[0].offset"),
        (of_twice(**placed), "WRONG_TENSOR_COUNT", "outputs"),
        (of_twice(outputs=[[0, [3], "F64"]]), "WRONG_DTYPE", "outputs[0].dtype"),
        (of_twice(outputs=[[0, [3], "F32"]]), "WRONG_RANK", "outputs[0].shape"),
        (of_twice(outputs=[[0, [3, 4], "F32"]]), "WRONG_DIM", "outputs[0].shape[0]"),
        (of_twice(outputs=[[0, [1, 4], "F32"]]), "WRONG_OFFSET", "outputs[0].offset"),
    )


def wrong_dynamic() -> Script:
    def asks(a_seq: int, b_seq: int, y_seq: int | None = None) -> Callable[[int], Frame]:
        inputs = [sum_inputs(0, a_seq)[0], sum_inputs(0, b_seq)[1]]
        outputs = None if y_seq is None else [sum_y(0, y_seq)]
        return lambda request_id: infer(request_id, 0, 1, inputs, outputs=outputs)

    return script(
        "INFER refused: dynamic dims",
        *OPEN_SUM,
        *refusals(
            (asks(0, 0), "WRONG_DIM", "inputs[0].shape[1]"),
            (asks(17, 17), "WRONG_DIM", "inputs[0].shape[1]"),
            (asks(3, 17), "WRONG_DIM", "inputs[1].shape[1]"),
            (asks(3, 4), "WRONG_DIM", "inputs[1].shape[1]"),
            (asks(16, 15), "WRONG_DIM", "inputs[1].shape[1]"),
            (asks(3, 3, 3), "WRONG_DIM", "outputs[0].shape[1]"),
            (lambda i: infer(i, 0, 1, sum_inputs(0, 3)[:1]), "WRONG_TENSOR_COUNT", "inputs"),
            (lambda i: infer(i, 0, 1, [*reversed(sum_inputs(0, 3))]), "WRONG_OFFSET", "inputs[0].offset"),
        ),
        send(infer(2, 0, 1, sum_inputs(0, 3))),
        expect(result(2, [sum_y(0, 3)], 1)),
    )


def in_flight() -> list[Script]:
    """Two requests in one write are both there before either runs."""
    overlaps = [
        ("the same row", (0, 1), (0, 1)),
        ("a row at the end", (0, 3), (2, 4)),
        ("a row inside", (1, 6), (3, 1)),
    ]
    scripts = []
    for name, first, second in overlaps:
        scripts.append(
            script(
                f"rows in flight: {name}",
                *OPEN_TWICE,
                send(infer_twice(5, *first), infer_twice(6, *second)),
                expect_any_order(result_twice(5, *first), error(6, "ROWS_IN_FLIGHT", ANY)),
                send(infer_twice(6, *second)),
                expect(result_twice(6, *second)),
            )
        )
    told_last = infer_twice(6, 0, outputs=[[0, [1, 4], "F32"]])
    return [
        *scripts,
        script(
            "rows in flight are told after every other check",
            *OPEN_TWICE,
            send(infer_twice(5), told_last),
            expect_any_order(result_twice(5), error(6, "WRONG_OFFSET", "outputs[0].offset")),
        ),
        script(
            "rows with a gap between them run both",
            *OPEN_TWICE,
            send(infer_twice(5, 0), infer_twice(6, 4, 2)),
            expect_any_order(result_twice(5, 0), result_twice(6, 4, 2)),
        ),
    ]


def dropped() -> list[Script]:
    again = (send(infer_twice(5)), expect(result_twice(5)))
    return [
        script(
            "CANCEL of what has not begun",
            *OPEN_TWICE,
            send(infer_twice(5), message("CANCEL", 5)),
            expect(error(5, "CANCELLED", ANY)),
            *again,
        ),
        script(
            "CANCEL of one of two",
            *OPEN_TWICE,
            send(infer_twice(5, 0), infer_twice(6, 1), message("CANCEL", 5)),
            expect_any_order(error(5, "CANCELLED", ANY), result_twice(6, 1)),
        ),
        script(
            "CANCEL of what is not in flight",
            *OPEN_TWICE,
            send(message("CANCEL", 5)),
            *again,
            send(message("CANCEL", 5), message("CANCEL", MOST)),
        ),
        *(
            script(
                f"a deadline of {deadline_ns}",
                *OPEN_TWICE,
                send(infer_twice(5, deadline_ns=deadline_ns)),
                expect(error(5, "DEADLINE_EXCEEDED", ANY)),
                *again,
            )
            for deadline_ns in (0, 1)
        ),
        script(
            "the deadline of the handshake has passed",
            *OPEN_TWICE,
            send(infer_twice(5, deadline_ns="$clock_ns"), infer_twice(6, 1)),
            expect_any_order(error(5, "DEADLINE_EXCEEDED", ANY), result_twice(6, 1)),
        ),
    ]
