"""The words that the scripts of `sessions.json` are made of: messages of the reference models, and steps."""

from collections.abc import Callable
from typing import Any

from generator.encoding import encode
from generator.tables import find_error, find_message

Frame = list[Any]
Step = dict[str, Any]
Script = dict[str, Any]

ANY = "*"
POOL, VERSION = "default", "1"
SLOTS, MAX_ROWS = 8, 8
# Name, dtype and size of every plane's row, as in layouts.json; a page holds 8 rows of any of them.
F32_ROW, I64_ROW = 16, 128
X, Y = 4096, 8192
A, B, SUM = 4096, 8192, 12288

REFERENCE_MODELS = {
    "twice": {
        "about": "y = 2 * x",
        "inputs": [["x", "F32", ["batch", 4], 0]],
        "outputs": [["y", "F32", ["batch", 4], 0]],
        "dims": {},
    },
    "sum": {
        "about": "y = a + b; seq is at most 16",
        "inputs": [["a", "I64", ["batch", "seq"], 0], ["b", "I64", ["batch", "seq"], 0]],
        "outputs": [["y", "I64", ["batch", "seq"], 0]],
        "dims": {"seq": 16},
    },
    "open": {
        "about": "y = a; the client chooses how large seq may be",
        "inputs": [["a", "I64", ["batch", "seq"], 0]],
        "outputs": [["y", "I64", ["batch", "seq"], 0]],
        "dims": {"seq": None},
    },
    "found": {
        "about": "y = the values of x that are over 0, in their order: n is an open dim; one row at a time",
        "inputs": [["x", "F32", ["batch", 4], 0]],
        "outputs": [["y", "F32", ["batch", "n"], 0]],
        "dims": {"n": 4},
    },
    "scaled": {
        "about": "y = x * by where keep, else 0; seq is at most 4",
        "inputs": [["x", "F32", ["batch", "seq"], 0], ["keep", "BOOL", ["batch", "seq"], 0], ["by", "F32", [], None]],
        "outputs": [["y", "F32", ["batch", "seq"], 0]],
        "dims": {"seq": 4},
        "uniform": ["by"],
    },
    "turned": {
        "about": "y = h + 1",
        "inputs": [["h", "F32", [2, "batch", 3], 1]],
        "outputs": [["y", "F32", [2, "batch", 3], 1]],
        "dims": {},
    },
}


def message(name: str, *fields: Any) -> Frame:
    return [find_message(name).number, *fields]


def error(request_id: Any, name: str, path: Any = None, **extra: int) -> Frame:
    """An ERROR: the code is the contract, the text is not."""
    return message("ERROR", request_id, find_error(name)["code"], ANY, path, ANY, extra)


def send(*frames: Frame) -> Step:
    return {"send": list(frames)}


def send_bytes(data: bytes) -> Step:
    return {"send_hex": data.hex()}


def send_payload(data: bytes) -> Step:
    return send_bytes(len(data).to_bytes(4, "little") + data)


def expect(*frames: Frame) -> Step:
    return {"expect": list(frames)}


def expect_any_order(*frames: Frame) -> Step:
    return {"expect_any_order": list(frames)}


EOF: Step = {"expect_eof": True}


def framed(frame: Frame) -> bytes:
    payload = encode(frame)
    return len(payload).to_bytes(4, "little") + payload


def hello(options: dict[str, Any] | None = None, major: int = 1, minor: int = 0) -> Frame:
    return message("HELLO", major, minor, {"name": "script", "version": "0"}, options or {})


def welcome() -> Frame:
    limits = {"frame_bytes": 65536, "segment_bytes": "$segment_bytes", "slots": "$slots", "rings": "$rings"}
    return message("WELCOME", 1, 0, ANY, ANY, "$clock_ns", limits, ANY, ANY, {"pool": POOL})


GREET = (send(hello()), expect(welcome()))


def open_model(model: str, maxima: dict[str, int] | None = None, **fields: Any) -> Frame:
    asked = {"id": 1, "version": None, "slots": SLOTS, "options": {}, **fields}
    return message("OPEN", asked["id"], model, asked["version"], asked["slots"], maxima or {}, asked["options"])


def ring(planes: list[Frame], segment_bytes: Any, slots: Any = SLOTS, **fields: Any) -> Frame:
    """The RING that answers the OPEN with id 1, unless `fields` say otherwise."""
    told = {"id": 1, "ring": "$ring", "path": "$path", "max_rows": MAX_ROWS, **fields}
    segment = {"kind": "path", "path": told["path"], "bytes": segment_bytes}
    return message("RING", told["id"], told["ring"], segment, slots, told["max_rows"], VERSION, planes, {})


def plane(
    name: str, direction: str, dtype: str, sample: list[int], offset: Any, stride: int, batch_axis: int | None = 0
) -> Frame:
    return [name, direction, dtype, sample, offset, stride, batch_axis, "cpu"]


TWICE_PLANES = [plane("x", "in", "F32", [4], X, F32_ROW), plane("y", "out", "F32", [4], Y, F32_ROW)]
SUM_PLANES = [
    plane("a", "in", "I64", [16], A, I64_ROW),
    plane("b", "in", "I64", [16], B, I64_ROW),
    plane("y", "out", "I64", [16], SUM, I64_ROW),
]
TWICE_RING = ring(TWICE_PLANES, Y + 4096)
SUM_RING = ring(SUM_PLANES, SUM + 4096)


def attach(code: int = 0) -> Frame:
    return message("ATTACHED", "$ring", code)


MAP_TWICE: Step = {"map": {"path": "$path", "bytes": Y + 4096}}
MAP_SUM: Step = {"map": {"path": "$path", "bytes": SUM + 4096}}
OPEN_TWICE = (*GREET, send(open_model("twice")), expect(TWICE_RING), MAP_TWICE, send(attach()))
OPEN_SUM = (*GREET, send(open_model("sum")), expect(SUM_RING), MAP_SUM, send(attach()))


def write(offset: int, dtype: str, values: list[Any]) -> Step:
    return {"write": {"offset": offset, "dtype": dtype, "values": values}}


def read(offset: int, dtype: str, values: list[Any]) -> Step:
    return {"read": {"offset": offset, "dtype": dtype, "values": values}}


def infer(request_id: int, slot: int, rows: int, inputs: list[Frame], **fields: Any) -> Frame:
    asked = {"ring": "$ring", "outputs": None, "deadline_ns": None, "version": None, "extra": {}, **fields}
    rest = (asked["outputs"], asked["deadline_ns"], asked["version"], asked["extra"])
    return message("INFER", request_id, asked["ring"], slot, rows, inputs, *rest)


def result(request_id: int, outputs: list[Frame], batch_rows: Any) -> Frame:
    return message("RESULT", request_id, True, outputs, VERSION, [ANY, ANY], batch_rows, {})


def twice_x(slot: int, rows: int = 1) -> Frame:
    return [X + slot * F32_ROW, [rows, 4], "F32"]


def twice_y(slot: int, rows: int = 1) -> Frame:
    return [Y + slot * F32_ROW, [rows, 4], "F32"]


def infer_twice(request_id: int, slot: int = 0, rows: int = 1, **fields: Any) -> Frame:
    return infer(request_id, slot, rows, [twice_x(slot, rows)], **fields)


def result_twice(request_id: int, slot: int = 0, rows: int = 1, batch_rows: Any = None) -> Frame:
    return result(request_id, [twice_y(slot, rows)], batch_rows or rows)


def sum_inputs(slot: int, seq: int, rows: int = 1) -> list[Frame]:
    return [[plane_offset + slot * I64_ROW, [rows, seq], "I64"] for plane_offset in (A, B)]


def sum_y(slot: int, seq: int, rows: int = 1) -> Frame:
    return [SUM + slot * I64_ROW, [rows, seq], "I64"]


def script(name: str, *steps: Step) -> Script:
    """A script. Where the session is still alive at its end, a PING shows that nothing else was sent."""
    ended = steps[-1] == EOF or any("close" in step for step in steps)
    farewell = () if ended else (send(message("PING", 4242)), expect(message("PONG", 4242)))
    return {"name": name, "steps": [*steps, *farewell]}


def refusals(*pairs: tuple[Callable[[int], Frame], str, str | None]) -> list[Step]:
    """Requests that are refused with a code and a path, one after the other; their ids count from 100."""
    steps: list[Step] = []
    for request_id, (ask, code, path) in enumerate(pairs, 100):
        steps += [send(ask(request_id)), expect(error(request_id, code, path))]
    return steps
