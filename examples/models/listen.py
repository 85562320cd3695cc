"""listen: where somebody speaks, with silero-vad, served in two ways. The files are those of the package silero-vad.

`listen` is its ONNX form, for streams as they come: a window of 512 samples behind the 64 before it, and the state that
the last window gave. The state is the client's, and comes with every request: so one broker serves any
number of streams, and rows of different streams run as one batch. `sr` says the rate for the whole batch, which is why
it is declared uniform.

`listen-clip` is its TorchScript form. That keeps the state inside, where the streams of two clients would mix; the
factory here makes a function of it again: a whole clip in, from a fresh state, and a probability for each window out.
"""

import importlib.util
import shutil
import wave
from pathlib import Path

import numpy as np
import torch

from examples.models import speech
from examples.models.folders import version_folder, write_cases

WINDOW, CONTEXT = 512, 64
WINDOWS = 96  # of each sound: three seconds
MAX_WINDOWS = 512  # of a clip: 16 seconds
SETTINGS = """\
inputs = { input = "F32[batch,576]", state = "F32[2,batch,128]", sr = "I64[]" }
outputs = { output = "F32[batch,1]", stateN = "F32[2,batch,128]" }
uniform = ["sr"]
gather = "always"  # the state's batch axis is its second, and ONNX Runtime takes only rows that lie side by side

[ranges]
sr = [16000, 16000]
"""
CLIP_SETTINGS = """\
factory = "examples.models.listen:clip"
"""


class Clip(torch.nn.Module):
    """Clips as windows of 512 samples, `[batch, windows, 512] F32`, to probabilities, `[batch, windows] F32`."""

    inputs = {"audio": "F32[batch,windows,512]"}
    outputs = {"speech": "F32[batch,windows]"}
    maxima = {"windows": MAX_WINDOWS}

    def __init__(self, silero: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.silero = silero

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        self.silero.reset_states()  # what it heard last was somebody else's
        return torch.cat([self.silero(audio[:, i], speech.RATE) for i in range(audio.shape[1])], 1)


def clip() -> Clip:
    """The factory of `listen-clip`."""
    return Clip(load_torchscript())


def load_torchscript() -> torch.jit.ScriptModule:
    """The plain TorchScript model, with its state inside."""
    return torch.jit.load(package_folder() / "silero_vad.jit").eval()


def package_folder() -> Path:
    """The folder of the package that has the models; it is found, not imported: that needs torchaudio."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise SystemExit("listen: pip install --no-deps -r requirements-models.txt")
    return Path(spec.origin).parent / "data"


def make(out: Path) -> None:
    """Write both models, the sounds as .wav files, and what the plain models make of them, window by window."""
    shutil.copyfile(package_folder() / "silero_vad.onnx", version_folder(out, "listen", SETTINGS) / "model.onnx")
    version_folder(out, "listen-clip", CLIP_SETTINGS)
    sounds = make_sounds()
    for name, (samples, _) in sounds.items():
        write_wave(out / f"listen-{name}.wav", samples)
    write_cases(
        out,
        "listen",
        {
            name: {
                "voiced": voiced,
                "stream": plain_onnx(samples / np.float32(32768)),
                "clip": plain_torchscript(samples / np.float32(32768)),
            }
            for name, (samples, voiced) in sounds.items()
        },
    )


def make_sounds() -> dict[str, tuple[np.ndarray, list[int]]]:
    """By name: `[49152] I16`, and the windows from which and up to which there is a voice."""
    voice = speech.voice("oiaiuouaieo")
    sounds = {
        "voice": (speech.silence(0.512), voice),
        "tone": (speech.tone(0.8), speech.silence(0.096), voice),
        "noise": (speech.noise(3),),
        "silence": (speech.silence(3),),
    }
    made = {}
    for name, parts in sounds.items():
        joined = np.concatenate(parts)
        samples = np.zeros(WINDOWS * WINDOW, np.int16)
        samples[: len(joined)] = (joined * 32767).round()
        is_voiced = parts[-1] is voice
        first = (len(joined) - len(voice)) // WINDOW if is_voiced else 0
        made[name] = (samples, [first, first + len(voice) // WINDOW] if is_voiced else [0, 0])
    return made


def write_wave(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def plain_onnx(samples: np.ndarray) -> list[float]:
    """ONNX Runtime's own answers, frame by frame."""
    import onnxruntime

    session = onnxruntime.InferenceSession(package_folder() / "silero_vad.onnx")
    state, context, probabilities = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32), []
    for window in samples.reshape(-1, WINDOW):
        feed = {"input": np.concatenate([context, window])[None], "state": state, "sr": np.array(speech.RATE)}
        output, state = session.run(None, feed)
        context = window[-CONTEXT:]
        probabilities.append(float(output[0, 0]))
    return probabilities


def plain_torchscript(samples: np.ndarray) -> list[float]:
    """TorchScript's own answers, window by window, from a fresh state."""
    model = load_torchscript()
    with torch.inference_mode():
        return [float(model(torch.from_numpy(window), speech.RATE)) for window in samples.reshape(-1, WINDOW)]
