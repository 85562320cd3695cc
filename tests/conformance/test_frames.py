"""The codec on every frame of `spec/vectors/frames.json`."""

import pytest

from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire import messages
from ringbuf.wire.framing import FrameReader
from tests.conformance.vectors import DECODERS, load, spell_error, spell_message, spelled_bytes

FRAMES = load("vectors/frames.json")
MESSAGES = [row["name"] for row in load("messages.json")["messages"]]


def outcome_of(side, payload):
    """What a payload decodes to, or the error that refuses it. Any other exception is a failed test."""
    try:
        message = DECODERS[side](payload)
    except RingbrokerError as error:
        return {"error": spell_error(error)}
    return {"message": type(message).__name__.upper(), "fields": spell_message(message)}


def vectors_of(section, message):
    return [vector for vector in FRAMES[section] if vector["name"].split()[0] == message]


@pytest.mark.parametrize("message", MESSAGES)
def test_valid_frames_decode(message):
    vectors = vectors_of("valid", message)
    wrong = [
        (vector["name"], outcome)
        for vector in vectors
        if (outcome := outcome_of(vector["from"], spelled_bytes(vector)))
        != {"message": message, "fields": vector["fields"]}
    ]
    assert vectors
    assert not wrong


@pytest.mark.parametrize("message", MESSAGES)
def test_canonical_frames_are_what_we_encode(message):
    vectors = [vector for vector in vectors_of("valid", message) if vector["canonical"]]
    wrong = [vector["name"] for vector in vectors if encoded_anew(vector) != spelled_bytes(vector)]
    assert vectors
    assert not wrong


@pytest.mark.parametrize("message", MESSAGES)
def test_detours_are_encoded_as_what_they_mean(message):
    canonical = {str(vector["fields"]): vector for vector in vectors_of("valid", message) if vector["canonical"]}
    detours = [vector for vector in vectors_of("valid", message) if not vector["canonical"]]
    twins = [(vector, canonical[str(vector["fields"])]) for vector in detours if str(vector["fields"]) in canonical]
    assert twins
    assert not [vector["name"] for vector, twin in twins if encoded_anew(vector) != spelled_bytes(twin)]


def encoded_anew(vector):
    frame = messages.encode_frame(DECODERS[vector["from"]](spelled_bytes(vector)))
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    return frame[4:]


@pytest.mark.parametrize("message", MESSAGES)
def test_invalid_frames_are_refused_with_their_code_and_path(message):
    vectors = vectors_of("invalid", message)
    wrong = [
        (vector["name"], outcome)
        for vector in vectors
        if (outcome := outcome_of(vector["from"], spelled_bytes(vector))).get("error") not in vector["errors"]
    ]
    assert vectors
    assert not wrong


@pytest.mark.parametrize("message", MESSAGES)
def test_every_truncation_is_bad_msgpack(message):
    (vector,) = vectors_of("truncations", message)
    whole = spelled_bytes(vector)
    assert "message" in outcome_of(vector["from"], whole)
    for length in range(len(whole)):
        outcome = outcome_of(vector["from"], whole[:length])
        assert outcome == {"error": {"code": 1002, "name": "BAD_MSGPACK", "path": None}}, length


@pytest.mark.parametrize("stream", FRAMES["streams"], ids=lambda stream: stream["name"])
def test_streams(stream):
    reader = Reader(stream["from"])
    for index, piece in enumerate(stream["pieces"]):
        assert reader.outcomes(spelled_bytes(piece)) == piece["outcomes"], f"piece {index}"


class Reader:
    """Framing and codec as a session uses them: nothing happens after an error."""

    def __init__(self, side):
        self.side = side
        self.frames = FrameReader()
        self.ended = False

    def outcomes(self, data):
        payloads = self.frames.feed(data)
        found = [outcome_of(self.side, payload) for payload in payloads]
        if self.frames.error is not None:
            assert self.frames.error.code is Code.FRAME_TOO_LARGE
            found.append({"error": spell_error(self.frames.error)})
        if self.ended:
            return []
        errors = [index for index, outcome in enumerate(found) if "error" in outcome]
        self.ended = bool(errors)
        return found[: errors[0] + 1] if errors else found
