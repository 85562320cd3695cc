"""`frames.json`: valid frames, invalid frames, truncations, and streams of frames."""

from typing import Any

from generator.encoding import encode, spell_bytes
from generator.frames_invalid import list_invalid
from generator.frames_streams import list_streams
from generator.frames_valid import list_valid
from generator.tables import Message, list_messages
from generator.values import rich_message

COMMENT = "Written by spec/make_vectors.py from spec/messages.json; the format is told in README.md."


def build_frames() -> dict[str, Any]:
    return {
        "comment": COMMENT,
        "valid": list_valid(),
        "invalid": list_invalid(),
        "truncations": [spell_truncated(message) for message in list_messages()],
        "streams": list_streams(),
    }


def spell_truncated(message: Message) -> dict[str, Any]:
    return {"name": message.name, "from": message.sender, **spell_bytes(encode(rich_message(message)))}
