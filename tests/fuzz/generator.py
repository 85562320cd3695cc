"""Frames to throw at a session: valid messages, and every way of being wrong, by a seeded random generator.

    Generator(random, client).frame()  ->  Frame(kind, data)

`client` is the state of the conversation (`tests.fuzz.conversation.Client`): its rings, and its requests
that have no answer yet.
"""

import struct
from typing import NamedTuple

import msgpack

U53 = 2**53 - 1
MODELS = ("twice", "sum", "open")
NUMBERS = (0, 1, U53, U53 + 1, 2**64 - 1, -1, -(2**63), 0xFFFF, 0x10000)
JUNK = (
    *NUMBERS, None, True, False, 1.0, float("nan"), "", "x", "x" * 129, "é" * 128, "x" * 4097, b"x", [], [[]], {},
    {"a": 1}, {1: 1}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1), [0] * 17, [0] * 65,
)  # fmt: skip
DTYPES = ("BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64", "U64", "", "f32", "C64", "x" * 16)


class Frame(NamedTuple):
    """What is sent: `kind` names the way it was made; `is_whole` is False for bytes that end inside a frame."""

    kind: str
    data: bytes
    is_whole: bool = True


def framed(payload):
    return struct.pack("<I", len(payload)) + payload


class Generator:
    """Makes frames; the seeded `random` is the only source of chance."""

    def __init__(self, random, client):
        self.random = random
        self.client = client
        self.ids = 0
        # Kinds that leave the session alive are frequent, so that the others meet one with rings and requests.
        self.kinds = {
            self.valid: 30, self.wrong_infer: 38, self.wrong_field: 8, self.wrong_arity: 2, self.wide: 3,
            self.edited: 5, self.cut_payload: 2, self.garbage: 2, self.oversized: 1, self.empty: 1, self.bomb: 2,
            self.other_number: 2, self.out_of_order: 2, self.duplicate_id: 2, self.end_inside: 1,
        }  # fmt: skip

    def frame(self):
        (make,) = self.random.choices(list(self.kinds), self.kinds.values())
        if not any(ring.attached for ring in self.client.rings.values()) and self.random.random() < 0.9:
            make = self.valid  # first to where there is something to go wrong
        made = make()
        if isinstance(made, list):
            made = framed(msgpack.packb(made))
        return Frame(make.__name__, made, is_whole=make != self.end_inside)

    def hello(self):
        """The HELLO of a new session: good, as a rule."""
        chance = self.random.random()
        options = {}
        major = 1
        if chance < 0.02:
            options = {
                "segments": self.random.choice((None, [], ["path"], ["file"], ["path", "fd"])),
                "pool": self.random.choice((None, "default", "gpu")),
                "resume": self.random.choice((None, "t")),
                "later": nested(12),
            }
        elif chance < 0.04:
            major = self.random.choice((0, 2, 65535))
        hello = [1, major, self.random.choice((0, 1, 65535)), {"name": "fuzz", "version": "1"}, options]
        if 0.04 < chance < 0.06:
            self.replace_somewhere(hello)
        return Frame("hello", framed(msgpack.packb(hello)))

    # --- ways of making a frame ---

    def valid(self):
        """A message that is right in its state, or only asks for what is not there."""
        if not self.client.rings:
            return self.open()
        chance = self.random.random()
        unattached = [ring.number for ring in self.client.rings.values() if not ring.attached]
        if unattached and (chance < 0.5 or len(unattached) == len(self.client.rings)):
            return [4, self.random.choice(unattached), 2011 if self.random.random() < 0.03 else 0]
        if chance < 0.8:
            return self.infer()
        other = (self.open, self.list, self.ping, self.cancel, self.close)
        return self.random.choice(other)()

    def wrong_infer(self):
        """A valid INFER with one field, or several, that does not fit its ring."""
        message = self.infer()
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self.random.choice(self.INFER_MISTAKES)(self, message)
        return message

    def wrong_field(self):
        message = self.any_message()
        self.replace_somewhere(message)
        return message

    def wrong_arity(self):
        message = self.any_message()
        if self.random.random() < 0.5:
            message.insert(self.random.randint(1, len(message)), self.random.choice(JUNK))
        else:
            del message[self.random.randrange(1, len(message))]
        return message

    def wide(self):
        """A message in another encoding than the shortest."""
        return framed(widened(self.any_message(), self.random))

    def edited(self):
        """A valid payload with bytes changed, put in or taken out."""
        payload = bytearray(msgpack.packb(self.any_message()))
        for _ in range(self.random.choice((1, 1, 2, 3))):
            at = self.random.randrange(len(payload))
            edit = self.random.randrange(3)
            if edit == 0:
                payload[at] = self.random.randrange(256)
            elif edit == 1:
                payload.insert(at, self.random.randrange(256))
            elif len(payload) > 1:
                del payload[at]
        return framed(bytes(payload))

    def cut_payload(self):
        payload = msgpack.packb(self.any_message())
        return framed(payload[: self.random.randrange(len(payload))])

    def garbage(self):
        length = self.random.choice((1, 4, 16, 200, 5000))
        return framed(self.random.randbytes(self.random.randint(1, length)))

    def oversized(self):
        length = self.random.choice((65537, 2**24, 2**31, 2**32 - 1))
        return struct.pack("<I", length) + self.random.randbytes(self.random.randrange(8))

    def empty(self):
        return framed(b"")

    def bomb(self):
        """A payload that promises more than it holds, or is nested deeply."""
        depth = self.random.choice((17, 100, 2000, 65000))
        head = self.random.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"))
        huge = head + struct.pack(">I", self.random.choice((2**16, 2**31, 2**32 - 1)))
        tail = self.random.choice((huge, b"\x91" * depth, b"\x81\xa1a" * (depth // 3), b"\x91" * depth + b"\xc0"))
        start = self.random.choice((b"", b"\x92\x08", b"\x9a\x05\x01\x01\x01\x01", b"\x97\x03\x01\xa1x\xc0\x01"))
        return framed((start + tail)[:65536])

    def other_number(self):
        number = self.random.choice((0, 9, 63, 64, 65, 69, 72, 127, 255, -1, 2**64 - 1, None, "5", 5.0, [], True))
        return self.random.choice(([number, *self.ping()[1:]], [number], [], [number, 1, 2, 3]))

    def out_of_order(self):
        rings = [ring.number for ring in self.client.rings.values() if ring.attached]
        number = self.random.choice([*rings, 99, U53])
        return self.random.choice(([1, 1, 0, {"name": "n", "version": "v"}, {}], [4, number, 0], [4, number, 2011]))

    def duplicate_id(self):
        if not self.client.pending:
            return self.infer()
        message = self.random.choice((self.infer, self.open, self.close, self.list))()
        message[1] = self.random.choice(list(self.client.pending))
        return message

    def end_inside(self):
        """A frame of which the end never comes."""
        whole = framed(msgpack.packb(self.any_message()))
        return whole[: self.random.randrange(1, len(whole))]

    # --- messages ---

    def any_message(self):
        return self.random.choice((self.infer, self.infer, self.open, self.list, self.ping, self.cancel, self.close))()

    def new_id(self):
        self.ids += 1
        return self.ids

    def ping(self):
        return [8, self.random.choice((0, 7, U53))]

    def list(self):
        return [2, self.new_id(), self.random.choice((0, 0, 1, U53))]

    def cancel(self):
        return [6, self.random.choice([*self.client.pending, U53])]

    def close(self):
        return [7, self.new_id(), self.random.choice([*self.client.rings, *self.client.rings, 77])]

    def open(self):
        """Right, as a rule: with small rings, for speed."""
        model = self.random.choice(MODELS)
        maxima = {"open": {"seq": self.random.choice((1, 3, 8))}, "sum": self.random.choice(({}, {"seq": 5}))}.get(
            model, {}
        )
        message = [3, self.new_id(), model, None, self.random.choice((0, 1, 4, 6, 12)), maxima, {}]
        if self.random.random() < 0.2:
            field, value = self.random.choice((
                (2, ""), (2, "none"), (3, "1"), (3, "2"), (4, 33), (4, U53), (5, {}), (5, {"seq": 0}), (5, {"seq": 17}),
                (5, {"seq": 10**6}), (5, {"seq": U53}), (5, {"batch": 1}), (5, {"seq": 2, "x": 1}),
                (6, {"later": nested(12)}),
            ))  # fmt: skip
            message[field] = value
        return message

    def infer(self):
        """An INFER that is right, unless its rows are in flight or its ring is not attached; its inputs are filled."""
        rings = list(self.client.rings.values())
        if not rings:
            return [5, self.new_id(), 1, 0, 1, [], None, None, None, {}]
        ring = self.random.choice([ring for ring in rings if ring.attached] or rings)
        rows = self.random.randint(1, ring.max_rows) if self.random.random() < 0.3 else 1
        slot = self.random.randint(0, ring.slots - rows)
        sizes = {}
        if self.random.random() < 0.5:
            sizes = {dim: self.random.randint(1, most) for dim, most in ring.sizes.items()}
        inputs = ring.descriptors(ring.inputs, ring.input_rows, slot, rows, sizes)
        outputs = (
            ring.descriptors(ring.outputs, ring.output_rows, slot, rows, {}) if self.random.random() < 0.3 else None
        )
        deadline = self.random.choice((None, None, None, None, 0, U53))
        version = self.random.choice((None, ring.version))
        extra = self.random.choice(({}, {}, {"trace": "t"}, {"later": nested(8)}))
        if self.client.is_free(ring, slot, rows):
            ring.fill(slot, rows, self.random)
        return [5, self.new_id(), ring.number, slot, rows, inputs, outputs, deadline, version, extra]

    # --- mistakes of an INFER ---

    def mistake_ring(self, message):
        message[2] = self.random.choice([*self.client.rings, 0, 77, U53])

    def mistake_unattached(self, message):
        unattached = [ring.number for ring in self.client.rings.values() if not ring.attached]
        message[2] = self.random.choice(unattached or [message[2]])

    def mistake_slot(self, message):
        message[3] = self.random.choice((message[3] + 1, 0, 12, 1000, U53))

    def mistake_rows(self, message):
        message[4] = self.random.choice((message[4] + 1, 8, 9, 1000, U53))

    def mistake_rows_past_the_end(self, message):
        ring = self.client.rings.get(message[2])
        if ring is not None:
            message[3:5] = ring.slots - ring.max_rows + 1, ring.max_rows

    def mistake_version(self, message):
        message[8] = self.random.choice(("", "2", "x" * 128))

    def mistake_count(self, message):
        given = message[self.random.choice((5, 6))]
        if given:
            if self.random.random() < 0.5:
                given.pop()
            else:
                given.extend([given[0]] * self.random.choice((1, 31 - len(given))))

    def mistake_dtype(self, message):
        self.a_descriptor(message)[2] = self.random.choice(DTYPES)

    def mistake_rank(self, message):
        shape = self.a_descriptor(message)[1]
        if self.random.random() < 0.5 and shape:
            shape.pop()
        else:
            shape.append(self.random.choice((0, 1, 4)))

    def mistake_dim(self, message):
        shape = self.a_descriptor(message)[1]
        if shape:
            at = self.random.randrange(len(shape))
            shape[at] = self.random.choice((0, 1, shape[at] + 1, shape[at] * 2, 16, 17, U53))

    def mistake_offset(self, message):
        descriptor = self.a_descriptor(message)
        near = (descriptor[0] + 1, descriptor[0] + 4096, descriptor[0] + 16)
        descriptor[0] = self.random.choice((*near, 0, 2**32, U53))

    def mistake_rows_in_flight(self, message):
        """The rows of a request that has no answer yet."""
        if self.client.pending:
            other = self.random.choice(list(self.client.pending.values()))
            ring = other.ring
            message[2:5] = ring.number, other.slot, other.rows
            message[5] = ring.descriptors(ring.inputs, ring.input_rows, other.slot, other.rows, {})
            message[6] = None

    INFER_MISTAKES = (
        mistake_ring, mistake_unattached, mistake_slot, mistake_rows, mistake_rows_past_the_end, mistake_version,
        mistake_count, mistake_dtype, mistake_rank, mistake_dim, mistake_offset, mistake_rows_in_flight,
    )  # fmt: skip

    def a_descriptor(self, message):
        given = [*message[5], *(message[6] or ())]
        return self.random.choice(given) if given else [0, [], ""]

    def replace_somewhere(self, message):
        """Put something else into a random place of the message, at any depth."""
        place, key = message, self.random.randrange(1, len(message))
        while self.random.random() < 0.7:
            inner = place[key]
            if not isinstance(inner, (list, dict)) or not inner:
                break
            place, key = inner, self.random.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        place[key] = self.random.choice(JUNK)


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def widened(value, random):
    """msgpack in which integers, strings, arrays and maps are now and then longer than they need be."""
    wide = random.random() < 0.6
    match value:
        case bool() | None | float() | bytes():
            return msgpack.packb(value)
        case int() if wide and value >= 0:
            formats = [(b"\xcc", ">B"), (b"\xcd", ">H"), (b"\xce", ">I"), (b"\xcf", ">Q"), (b"\xd3", ">q")]
            legal = [(mark, f) for mark, f in formats if value < 256 ** struct.calcsize(f) and value < 2**63]
            mark, layout = random.choice(legal)
            return mark + struct.pack(layout, value)
        case str() if wide:
            data = value.encode()
            return (
                random.choice((b"\xda" + struct.pack(">H", len(data)), b"\xdb" + struct.pack(">I", len(data)))) + data
            )
        case list():
            head = b"\xdd" + struct.pack(">I", len(value)) if wide else msgpack.Packer().pack_array_header(len(value))
            return head + b"".join(widened(item, random) for item in value)
        case dict():
            head = b"\xdf" + struct.pack(">I", len(value)) if wide else msgpack.Packer().pack_map_header(len(value))
            return head + b"".join(widened(item, random) for pair in value.items() for item in pair)
    return msgpack.packb(value)
