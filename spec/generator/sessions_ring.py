"""Scripts of sections 6 and 8: opening, attaching and closing rings."""

from generator.script import (
    ANY,
    EOF,
    GREET,
    MAP_TWICE,
    MAX_ROWS,
    OPEN_TWICE,
    TWICE_PLANES,
    TWICE_RING,
    VERSION,
    Script,
    Y,
    attach,
    error,
    expect,
    infer_twice,
    message,
    open_model,
    plane,
    read,
    refusals,
    result_twice,
    ring,
    script,
    send,
    write,
)

PING, PONG = message("PING", 7), message("PONG", 7)
CLOSE = message("CLOSE", 9, "$ring")
CLOSED = message("CLOSED", 9, "$ring")
UNLINKED = {"unlinked": "$path"}


def ring_scripts() -> list[Script]:
    return [*opened(), *refused(), *attached(), *closed()]


def opened() -> list[Script]:
    short = [
        plane("a", "in", "I64", [5], 4096, 40),
        plane("b", "in", "I64", [5], 8192, 40),
        plane("y", "out", "I64", [5], 12288, 40),
    ]
    chosen = [plane("a", "in", "I64", [3], 4096, 24), plane("y", "out", "I64", [3], 8192, 24)]
    any_size = [plane("x", "in", "F32", [4], ANY, 16), plane("y", "out", "F32", [4], ANY, 16)]
    later = {"later": [1, {"x": 2}]}
    return [
        script("OPEN", *GREET, send(open_model("twice")), expect(TWICE_RING)),
        script("OPEN of a version", *GREET, send(open_model("twice", version=VERSION)), expect(TWICE_RING)),
        script("OPEN with unknown options", *GREET, send(open_model("twice", options=later)), expect(TWICE_RING)),
        script(
            "OPEN that leaves the slots to the broker",
            *GREET,
            send(open_model("twice", slots=0)),
            expect(ring(any_size, ANY, ANY)),
        ),
        script(
            "OPEN of fewer slots than a batch has rows",
            *GREET,
            send(open_model("twice", slots=3)),
            expect(ring(TWICE_PLANES, 12288, 3, max_rows=3)),
        ),
        script(
            "OPEN of more slots than a batch has rows",
            *GREET,
            send(open_model("twice", slots=256)),
            expect(ring(TWICE_PLANES, 12288, 256, max_rows=MAX_ROWS)),
        ),
        script("OPEN with a smaller maximum", *GREET, send(open_model("sum", {"seq": 5})), expect(ring(short, 16384))),
        script(
            "OPEN with the client's maximum", *GREET, send(open_model("open", {"seq": 3})), expect(ring(chosen, 12288))
        ),
        two_rings(),
    ]


def two_rings() -> Script:
    first = ring(TWICE_PLANES, 12288, id=1, ring="$first", path="$first_path")
    second = ring(TWICE_PLANES, 12288, id=2, ring="$second", path="$second_path")
    return script(
        "two rings of one model",
        *GREET,
        send(open_model("twice", id=1), open_model("twice", id=2)),
        expect(first, second),
        send(message("ATTACHED", "$first", 0), message("ATTACHED", "$second", 0)),
        send(infer_twice(5, ring="$second")),
        expect(result_twice(5)),
        send(message("CLOSE", 6, "$first"), infer_twice(7, ring="$first"), infer_twice(8, ring="$second")),
        expect(message("CLOSED", 6, "$first"), error(7, "UNKNOWN_RING", "ring"), result_twice(8)),
    )


def refused() -> list[Script]:
    most = 2**53 - 1
    one_more = [
        send(open_model("twice", slots=1)),
        expect(message("RING", 1, "$last", ANY, 1, 1, VERSION, ANY, {})),
    ]
    return [
        script(
            "OPEN refused",
            *GREET,
            *refusals(
                (lambda i: open_model("nobody", id=i), "UNKNOWN_MODEL", "model"),
                (lambda i: open_model("", id=i), "UNKNOWN_MODEL", "model"),
                (lambda i: open_model("twice", id=i, version="9"), "UNKNOWN_VERSION", "version"),
                (lambda i: open_model("twice", {"seq": 4}, id=i), "UNKNOWN_DIM", "maxima.seq"),
                (lambda i: open_model("twice", {"batch": 4}, id=i), "UNKNOWN_DIM", "maxima.batch"),
                (lambda i: open_model("sum", {"batch": 4}, id=i), "UNKNOWN_DIM", "maxima.batch"),
                (lambda i: open_model("sum", {"seq": 17}, id=i), "MAXIMUM_TOO_LARGE", "maxima.seq"),
                (lambda i: open_model("sum", {"seq": 0}, id=i), "MAXIMUM_TOO_LARGE", "maxima.seq"),
                (lambda i: open_model("open", {"seq": 0}, id=i), "MAXIMUM_TOO_LARGE", "maxima.seq"),
                (lambda i: open_model("open", {}, id=i), "MAXIMUM_MISSING", "maxima.seq"),
                (lambda i: open_model("twice", id=i, slots=most), "TOO_MANY_SLOTS", "slots"),
            ),
            send(open_model("open", {"seq": most}, id=50)),
            expect(error(50, "RING_TOO_LARGE", ANY)),
            send(open_model("open", {"seq": 2**40}, id=51, slots=1)),
            expect(error(51, "RING_TOO_LARGE", ANY)),
            send(open_model("twice")),
            expect(TWICE_RING),
        ),
        script(
            "OPEN of more rings than a session may have",
            *GREET,
            {"repeat": {"times": "$rings", "steps": one_more}},
            send(open_model("twice", slots=1, id=2)),
            expect(error(2, "TOO_MANY_RINGS", ANY)),
            send(message("CLOSE", 3, "$last")),
            expect(message("CLOSED", 3, "$last")),
            send(open_model("twice", slots=1, id=4)),
            expect(message("RING", 4, ANY, ANY, 1, 1, VERSION, ANY, {})),
        ),
    ]


def attached() -> list[Script]:
    opened_twice = (*GREET, send(open_model("twice")), expect(TWICE_RING), MAP_TWICE)
    given_up = (
        send(open_model("twice", slots=1)),
        expect(message("RING", 1, "$late", ANY, 1, 1, VERSION, ANY, {})),
        send(message("ATTACHED", "$late", 2011)),
    )
    return [
        script("the name goes with ATTACHED", *OPEN_TWICE, UNLINKED),
        script("a mapping that failed", *opened_twice, send(attach(2011)), UNLINKED, *refusals(UNKNOWN)),
        script(
            "rings that nobody waits for any more make room for others",
            *GREET,
            {"repeat": {"times": "$rings", "steps": [*given_up]}},
            *opened_twice[len(GREET) :],
        ),
        script(
            "INFER before ATTACHED",
            *opened_twice,
            send(infer_twice(2)),
            expect(error(2, "RING_NOT_ATTACHED", "ring")),
            send(attach(), infer_twice(2)),
            expect(result_twice(2)),
        ),
        script("the connection ends before ATTACHED", *opened_twice, {"close": True}, UNLINKED),
        script("the connection ends after ATTACHED", *OPEN_TWICE, {"close": True}, UNLINKED),
        script(
            "a segment begins with its header",
            *OPEN_TWICE,
            read(0, "U8", list(b"RINGBRKR\x01\0\0\0")),
            read(16, "U8", [0] * 64),
        ),
    ]


UNKNOWN = (infer_twice, "UNKNOWN_RING", "ring")


def closed() -> list[Script]:
    unattached = (*GREET, send(open_model("twice")), expect(TWICE_RING))
    return [
        script("CLOSE", *OPEN_TWICE, send(CLOSE), expect(CLOSED), *refusals(UNKNOWN)),
        script("CLOSE of no ring", *GREET, send(message("CLOSE", 9, 999)), expect(error(9, "UNKNOWN_RING", "ring"))),
        script(
            "CLOSE twice",
            *OPEN_TWICE,
            send(CLOSE, message("CLOSE", 10, "$ring")),
            expect(CLOSED, error(10, "UNKNOWN_RING", "ring")),
        ),
        script("CLOSE before ATTACHED", *unattached, send(CLOSE), expect(CLOSED), UNLINKED),
        script(
            "ATTACHED after CLOSE",
            *unattached,
            send(CLOSE, attach()),
            expect(CLOSED, error(ANY, "UNEXPECTED_MESSAGE", ANY)),
            EOF,
        ),
        script(
            "CLOSE cancels what has not begun",
            *OPEN_TWICE,
            send(infer_twice(5, slot=0), infer_twice(6, slot=3), CLOSE),
            expect(error(5, "CANCELLED", ANY), error(6, "CANCELLED", ANY), CLOSED),
        ),
        script(
            "CLOSE after an answer",
            *OPEN_TWICE,
            write(4096, "F32", [1, 2, 3, 4]),
            send(infer_twice(5)),
            expect(result_twice(5)),
            send(CLOSE),
            expect(CLOSED),
            read(Y, "F32", [2, 4, 6, 8]),
        ),
    ]
