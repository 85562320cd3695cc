"""Hear where somebody speaks, with silero-vad: four streams as they come, then the same four as whole clips.

    python -m examples.models listen
    broker serve listen=build/examples/models/listen/1 listen-clip=build/examples/models/listen-clip/1
    python examples/python/listen.py [--socket PATH] [--cases DIR]

A stream's state is the client's: it comes back with every answer, and goes in again with the next window.
"""

import argparse
import json
import wave
from pathlib import Path

import numpy as np
import ringbroker

CASES = Path(__file__).resolve().parents[2] / "build" / "examples"
RATE, WINDOW, CONTEXT = 16_000, 512, 64
TOLERANCE = 1e-4


def listen_to_streams(model: ringbroker.Model, sounds: np.ndarray) -> np.ndarray:
    """Window by window, all streams at once, a row each: `[streams, windows] F32`."""
    windows = sounds.reshape(len(sounds), -1, WINDOW)
    probabilities = np.empty(windows.shape[:2], np.float32)
    with model.acquire(rows=len(sounds)) as lease:  # one lease for as long as the streams last
        audio, state = lease.inputs["input"], lease.inputs["state"]  # [rows, 576], [rows, 2, 128]
        lease.inputs["sr"][:] = RATE
        audio[:] = 0
        state[:] = 0
        for at in range(windows.shape[1]):
            audio[:, :CONTEXT] = audio[:, -CONTEXT:]  # the end of the window before
            audio[:, CONTEXT:] = windows[:, at]
            result = lease.infer(timeout=10)
            probabilities[:, at] = result["output"][:, 0]
            state[:] = result["stateN"]
    return probabilities


def listen_to_clip(model: ringbroker.Model, sound: np.ndarray) -> np.ndarray:
    """All windows in one request: `[windows] F32`."""
    windows = sound.reshape(-1, WINDOW)
    with model.acquire(rows=1) as lease:
        lease.shape(windows=len(windows))["audio"][0] = windows
        return lease.infer(timeout=30)["speech"][0].copy()


def check(name: str, probabilities: np.ndarray, plain: list[float], voiced: list[int]) -> None:
    """Compare with the plain model and with where the voice is, print, and end the program where it differs."""
    first, last = voiced
    hits = int((probabilities[first:last] > 0.5).sum())
    around = slice(
        first, last + 4 if last else 0
    )  # a detector may be a few windows late to notice that a voice has ended
    alarms = int((probabilities > 0.5).sum() - (probabilities[around] > 0.5).sum())
    difference = float(np.abs(probabilities - plain).max())
    print(f"{name}: heard {hits} of {last - first} windows of speech, {alarms} elsewhere, difference {difference:.1e}")
    if difference > TOLERANCE or hits < 0.9 * (last - first) or alarms:
        raise SystemExit("listen: that is not what the plain model says")


def main() -> None:
    parser = argparse.ArgumentParser(description="Detect speech through shared memory.")
    parser.add_argument("--socket", help="the broker's socket; by default where `broker serve` puts it")
    parser.add_argument("--cases", type=Path, default=CASES, help="the folder that `python -m examples.models` made")
    options = parser.parse_args()
    cases = json.loads((options.cases / "listen.json").read_text())
    sounds = np.stack([read_wave(options.cases / f"listen-{name}.wav") for name in cases])

    with ringbroker.connect(options.socket) as client:
        with client.open("listen", slots=len(sounds)) as model:
            streams = listen_to_streams(model, sounds)
        with client.open("listen-clip", slots=1) as model:
            clips = [listen_to_clip(model, sound) for sound in sounds]
    for row, (name, case) in enumerate(cases.items()):
        check(f"stream {name}", streams[row], case["stream"], case["voiced"])
        check(f"clip {name}", clips[row], case["clip"], case["voiced"])


def read_wave(path: Path) -> np.ndarray:
    """A mono .wav file of 16 bits: `[samples] F32`, -1 to 1."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)


if __name__ == "__main__":
    main()
