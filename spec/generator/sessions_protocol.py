"""Scripts of the codes 1xxx: each ends the session, after what came before it has been answered."""

from generator.encoding import encode
from generator.script import (
    EOF,
    GREET,
    OPEN_TWICE,
    Frame,
    Script,
    Step,
    attach,
    error,
    expect,
    framed,
    hello,
    infer_twice,
    message,
    result_twice,
    script,
    send,
    send_bytes,
    send_payload,
)

PING, PONG = message("PING", 7), message("PONG", 7)


def protocol_scripts() -> list[Script]:
    return [*wrong_frames(), *unexpected_messages(), *duplicate_ids()]


def wrong_frames() -> list[Script]:
    """What is wrong with a frame is told before HELLO as after it."""
    not_utf8 = encode(hello()).replace(b"script", b"scrip\xff")
    no_int = encode([1, 1, 0.0, {"name": "", "version": ""}, {}])
    cases: list[tuple[str, Step, Frame]] = [
        ("a length of 65537", send_bytes(bytes.fromhex("01000100")), error(None, "FRAME_TOO_LARGE")),
        ("a length of 2^32-1", send_bytes(b"\xff\xff\xff\xff"), error(None, "FRAME_TOO_LARGE")),
        ("an HTTP request", send_bytes(b"GET / HTTP/1.1\r\n\r\n"), error(None, "FRAME_TOO_LARGE")),
        ("an empty payload", send_payload(b""), error(None, "BAD_MSGPACK")),
        ("0xc1", send_payload(b"\xc1"), error(None, "BAD_MSGPACK")),
        ("a truncated payload", send_payload(encode(hello())[:-1]), error(None, "BAD_MSGPACK")),
        ("two values in a payload", send_payload(encode(hello()) * 2), error(None, "BAD_MSGPACK")),
        ("a string that is not UTF-8", send_payload(not_utf8), error(None, "BAD_MSGPACK")),
        ("a payload that is no array", send_payload(encode({"PING": 7})), error(None, "UNKNOWN_MESSAGE")),
        ("an empty array", send_payload(encode([])), error(None, "UNKNOWN_MESSAGE")),
        ("number 9", send([9, 1]), error(None, "UNKNOWN_MESSAGE")),
        ("a message of the broker's", send(message("PONG", 1)), error(None, "UNKNOWN_MESSAGE")),
        ("a missing field", send(hello()[:-1]), error(None, "INVALID_FIELD")),
        ("a further field", send([*hello(), 1]), error(None, "INVALID_FIELD")),
        ("a float for an integer", send_payload(no_int), error(None, "INVALID_FIELD", "minor")),
        ("a missing key", send([1, 1, 0, {"name": ""}, {}]), error(None, "INVALID_FIELD", "client")),
        ("a wrong item", send(hello({"segments": ["path", 1]})), error(None, "INVALID_FIELD", "options.segments[1]")),
    ]
    before = [script(f"before HELLO: {name}", step, expect(refusal), EOF) for name, step, refusal in cases]
    after = [script(f"after HELLO: {name}", *GREET, step, expect(refusal), EOF) for name, step, refusal in cases]
    return [*before, *after, *wrong_after_good()]


def wrong_after_good() -> list[Script]:
    ping = framed(PING)
    return [
        script(
            "a wrong frame behind a good one",
            *GREET,
            send_bytes(ping + bytes(4) + ping),
            expect(PONG, error(None, "BAD_MSGPACK")),
            EOF,
        ),
        script(
            "a wrong field deep in an INFER",
            *OPEN_TWICE,
            send([*infer_twice(2)[:5], [[4096, [1, -1], "F32"]], *infer_twice(2)[6:]]),
            expect(error("*", "INVALID_FIELD", "inputs[0].shape[1]")),
            EOF,
        ),
        script(
            "rows of 0",
            *OPEN_TWICE,
            send([*infer_twice(2)[:4], 0, *infer_twice(2)[5:]]),
            expect(error("*", "INVALID_FIELD", "rows")),
            EOF,
        ),
    ]


def unexpected_messages() -> list[Script]:
    first: list[Frame] = [
        PING,
        message("LIST", 1, 0),
        message("OPEN", 1, "twice", None, 8, {}, {}),
        message("ATTACHED", 1, 0),
        message("CANCEL", 1),
        message("CLOSE", 1, 1),
        message("INFER", 1, 1, 0, 1, [], None, None, None, {}),
    ]
    names = ("PING", "LIST", "OPEN", "ATTACHED", "CANCEL", "CLOSE", "INFER")
    refusal = expect(error("*", "UNEXPECTED_MESSAGE", "*"))
    return [
        *(script(f"{name} before HELLO", send(frame), refusal, EOF) for name, frame in zip(names, first, strict=True)),
        script("a second HELLO", *GREET, send(hello()), refusal, EOF),
        script("two HELLOs in one write", send(hello(), hello()), GREET[1], refusal, EOF),
        script("ATTACHED for no ring", *GREET, send(message("ATTACHED", 999, 0)), refusal, EOF),
        script("ATTACHED twice", *OPEN_TWICE, send(attach()), refusal, EOF),
        script("ATTACHED and then ATTACH_FAILED", *OPEN_TWICE, send(attach(2011)), refusal, EOF),
    ]


def duplicate_ids() -> list[Script]:
    return [
        script(
            "an id that is in flight",
            *OPEN_TWICE,
            send(infer_twice(5, slot=0), infer_twice(5, slot=1)),
            expect(error("*", "DUPLICATE_ID", "*")),
            EOF,
        ),
        script(
            "an id that is in flight is told before an unknown ring",
            *OPEN_TWICE,
            send(infer_twice(5, slot=0), infer_twice(5, slot=1, ring=999)),
            expect(error("*", "DUPLICATE_ID", "*")),
            EOF,
        ),
        script(
            "an id that was answered is free again",
            *OPEN_TWICE,
            *(step for _ in range(3) for step in (send(infer_twice(5)), expect(result_twice(5)))),
        ),
    ]
