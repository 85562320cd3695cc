"""Scripts of section 4 and 5: the handshake, PING, and the list of models."""

from typing import Any

from generator.script import (
    ANY,
    EOF,
    GREET,
    POOL,
    REFERENCE_MODELS,
    VERSION,
    Frame,
    Script,
    Step,
    error,
    expect,
    framed,
    hello,
    message,
    script,
    send,
    send_bytes,
    send_payload,
    welcome,
)


def handshake_scripts() -> list[Script]:
    return [*welcomed(), *refused(), *pings(), list_models()]


def welcomed() -> list[Script]:
    options: list[tuple[str, dict[str, Any]]] = [
        ("no options", {}),
        ("segments with path", {"segments": ["path"]}),
        ("segments with path among others", {"segments": ["fd", "path", "other"]}),
        ("segments with fd alone", {"segments": ["fd"]}),
        ("the pool by name", {"pool": POOL}),
        ("every option nil", {"segments": None, "pool": None, "resume": None}),
        ("unknown options", {"later": {"deep": [1, 2, {"x": None}]}, "flag": True}),
    ]
    greetings = [(name, hello(each)) for name, each in options]
    greetings += [("a later minor", hello(minor=7)), ("the largest minor", hello(minor=65535))]
    data = framed(hello())
    pieces = [send_bytes(data[:2]), send_bytes(data[2:4]), send_bytes(data[4:-1]), send_bytes(data[-1:])]
    return [
        *(script(f"HELLO with {name}", send(frame), expect(welcome())) for name, frame in greetings),
        script("HELLO in pieces", *pieces, expect(welcome())),
        script(
            "HELLO and what follows it in one write",
            send(hello(), message("PING", 1), message("LIST", 2, 0)),
            expect(welcome(), message("PONG", 1), message("MODELS", 2, ANY, None)),
        ),
    ]


def refused() -> list[Script]:
    """An ERROR that answers a HELLO ends the connection, whatever its code."""
    cases: list[tuple[str, Step, Frame]] = [
        ("HELLO with a later major", send(hello(major=2)), error(None, "VERSION_UNSUPPORTED", "major")),
        ("HELLO with major 0", send(hello(major=0)), error(None, "VERSION_UNSUPPORTED", "major")),
        ("HELLO with an unknown pool", send(hello({"pool": "elsewhere"})), error(None, "UNKNOWN_POOL", "options.pool")),
        (
            "HELLO with an unknown resume token",
            send(hello({"resume": "token"})),
            error(None, "RESUME_REFUSED", "options.resume"),
        ),
        (
            "HELLO with unknown kinds of segment alone",
            send(hello({"segments": ["file"]})),
            error(None, "NOT_SUPPORTED", "options.segments"),
        ),
        ("HELLO with no segments", send(hello({"segments": []})), error(None, "NOT_SUPPORTED", "options.segments")),
        ("HELLO cut short", send_bytes(framed(hello())[:-1]), error(None, "HANDSHAKE_TIMEOUT", None)),
    ]
    return [script(name, step, expect(answer), EOF) for name, step, answer in cases]


def pings() -> list[Script]:
    tokens = (0, 1, 2**32, 2**53 - 1)
    return [
        script(
            "PING one by one",
            *GREET,
            *(step for token in tokens for step in (send(message("PING", token)), expect(message("PONG", token)))),
        ),
        script(
            "PINGs in one write",
            *GREET,
            send(*(message("PING", token) for token in tokens)),
            expect(*(message("PONG", token) for token in tokens)),
        ),
        script(
            "PING with a wider integer",
            *GREET,
            send_payload(bytes.fromhex("92cc08cf0000000000000005")),
            expect(message("PONG", 5)),
        ),
        script("a client that leaves", *GREET, {"close": True}),
    ]


def list_models() -> Script:
    models = [
        [name, [VERSION], POOL, {key: model[key] for key in ("inputs", "outputs", "dims")}]
        for name, model in REFERENCE_MODELS.items()
    ]
    listed = message("MODELS", 3, {"$contains": models}, None)
    return script("LIST", *GREET, send(message("LIST", 3, 0)), expect(listed))
