"""What the broker must answer to a frame, told from the specification's tables and text alone.

Independent of `ringbuf.wire` and `broker.validation`: fields are judged by spec/messages.json, an INFER by the order of
checks in section 7, and payloads are unpacked by the PyPI package `msgpack`.
"""

import json
from math import prod
from pathlib import Path

import msgpack

SPEC = Path(__file__).parents[2] / "spec"
MESSAGES = json.loads((SPEC / "messages.json").read_text())
TYPES = MESSAGES["types"]
BY_NUMBER = {message["number"]: message for message in MESSAGES["messages"]}
SIZES = {dtype["name"]: dtype["size_bytes"] for dtype in json.loads((SPEC / "dtypes.json").read_text())["dtypes"]}
ERRORS = json.loads((SPEC / "errors.json").read_text())["errors"]
BROKER_CODES = {error["code"]: error["name"] for error in ERRORS if error["raised_by"] == "broker"}

NOT_A_MESSAGE = {1002, 1003, 1004}


def unpack(payload):
    """The payload's one value, and whether all of its text is UTF-8; raises ValueError where it has no such value.

    Other text comes as surrogates, which fit no type: it is wrong in a field, and not looked at in what is ignored.
    """
    try:
        return msgpack.unpackb(payload, strict_map_key=False), True
    except UnicodeDecodeError:
        return msgpack.unpackb(payload, strict_map_key=False, unicode_errors="surrogateescape"), False
    except (TypeError, msgpack.UnpackException) as error:  # TypeError: a key that cannot be hashed
        raise ValueError("not one msgpack value") from error


def fits(value, type_name):
    """Whether a value is of a type of messages.json."""
    if type_name.endswith("?"):
        return value is None or fits(value, type_name[:-1])
    rule = TYPES[type_name]
    match rule["kind"]:
        case "bool":
            return type(value) is bool
        case "int":
            return type(value) is int and int(rule["min"]) <= value <= int(rule["max"])
        case "str":
            return type(value) is str and len(value) <= rule["max_chars"] and is_text(value)
        case "list":
            return type(value) is list and len(value) <= rule["max_items"] and all(fits(v, rule["of"]) for v in value)
        case "tuple":
            fields = rule["fields"]
            return type(value) is list and len(value) == len(fields) and fields_fit(value, fields)
        case "dict":
            return (
                type(value) is dict
                and len(value) <= rule["max_items"]
                and all(fits(k, rule["key"]) and fits(v, rule["of"]) for k, v in value.items())
            )
        case "map":
            return map_fits(value, rule["keys"])
        case "either":
            return any(fits(value, of) for of in rule["of"])
    raise AssertionError(rule)


def is_text(value):
    return not any("\ud800" <= character <= "\udfff" for character in value)


def fields_fit(values, fields):
    return all(fits(value, type_name) for value, (_, type_name) in zip(values, fields, strict=True))


def map_fits(value, keys):
    if type(value) is not dict or not all(type(key) is str for key in value):
        return False
    for name, type_name, *required in keys:
        if name not in value:
            if required:
                return False
        elif not fits(value[name], type_name if required else type_name + "?"):
            return False
    return True


def judge_payload(payload):
    """Return `(message, codes)`: the message as a list, or None and the codes of which one must come."""
    try:
        value, is_utf8 = unpack(payload)
    except (ValueError, TypeError):
        return None, NOT_A_MESSAGE
    also = set() if is_utf8 else {1002}
    if type(value) is not list or not value or type(value[0]) is not int:
        return None, {1003} | also
    described = BY_NUMBER.get(value[0])
    if described is None or described["from"] != "client":
        return None, {1003} | also
    if len(value) - 1 != len(described["fields"]) or not fields_fit(value[1:], described["fields"]):
        return None, {1004} | also
    return value, set()


def judge_hello(message):
    """The codes of which one must come; none: a WELCOME."""
    _, major, _, _, options = message
    options = options or {}
    codes = set()
    if major != 1:
        codes.add(1005)
    if options.get("segments") is not None and not {"path", "fd"} & set(options["segments"]):
        codes.add(6003)
    if options.get("pool") not in (None, "default"):
        codes.add(3006)
    if options.get("resume") is not None:
        codes.add(6005)
    return codes


def judge_open(message, models, limits, open_rings):
    """`(codes, must)`: the codes that may come, and whether one must. `models`: name to `[versions, signature]`."""
    _, _, name, version, slots, maxima, _ = message
    if name not in models:
        return {3001}, True
    versions, signature = models[name]
    codes = set()
    if version is not None and version not in versions:
        codes.add(3002)
    dims = signature["dims"]
    for dim, size in maxima.items():
        if dim not in dims:
            codes.add(3003)
        elif size < 1 or (dims[dim] is not None and size > dims[dim]):
            codes.add(3005)
    if any(most is None and dim not in maxima for dim, most in dims.items()):
        codes.add(3004)
    if slots > limits["slots"]:
        codes.add(4005)
    if open_rings >= limits["rings"]:
        codes.add(4006)
    if codes:
        return codes | {4004}, True
    sizes = {dim: maxima.get(dim, most) for dim, most in dims.items()}
    tensors = [*signature["inputs"], *signature["outputs"]]
    row_bytes = sum(SIZES[dtype] * prod(row_of(shape, axis, sizes)) for _, dtype, shape, axis in tensors)
    if max(slots, 1) * row_bytes > limits["segment_bytes"]:
        return {4004}, True
    pages = 4096 * (1 + len(tensors))
    return ({4004} if slots * row_bytes + pages > limits["segment_bytes"] else set()), False


def row_of(shape, axis, sizes):
    """A tensor's shape without its batch axis, dynamic dims as `sizes` says."""
    return [sizes.get(dim, dim) for index, dim in enumerate(shape) if index != axis]


def judge_infer(message, rings, pending):
    """The one code that must come, or None for a request that is accepted."""
    _, request_id, number, slot, rows, inputs, outputs, _, version, _ = message
    if request_id in pending:
        return 1007
    ring = rings.get(number)
    if ring is None:
        return 2001
    if not ring.attached:
        return 2002
    if version is not None and version != ring.version:
        return 3002
    if rows > ring.max_rows:
        return 2003
    if slot + rows > ring.slots:
        return 2004
    dims = {}
    code = judge_descriptors(inputs, ring.inputs, ring.input_rows, dims, slot, rows)
    if code is None and outputs is not None:
        code = judge_descriptors(outputs, ring.outputs, [plane.sample for plane in ring.outputs], {}, slot, rows)
    if code is None and any(
        other.ring is ring and other.slot < slot + rows and slot < other.slot + other.rows for other in pending.values()
    ):
        code = 2005
    return code


def judge_descriptors(given, planes, samples, dims, slot, rows):
    if len(given) != len(planes):
        return 2006
    for (offset, shape, dtype), plane, sample in zip(given, planes, samples, strict=True):
        if dtype != plane.dtype:
            return 2007
        if len(shape) != len(plane.sample) + 1:
            return 2008
        if shape[0] != rows:
            return 2009
        for size, most, dim in zip(shape[1:], plane.sample, sample, strict=True):
            if isinstance(dim, str):
                if not 1 <= size <= most or dims.setdefault(dim, size) != size:
                    return 2009
            elif size != most:
                return 2009
        if offset != plane.offset + slot * plane.stride:
            return 2010
    return None
