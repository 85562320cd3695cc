"""Sounds for listen, made here so that nothing is downloaded: a voice, a tone, noise and silence, at 16 kHz.

The voice is the old way to synthesise one: pulses as of vocal folds, through three resonators that glide from the
formants of one vowel to those of the next, an "s" before every other syllable. It says nothing, and a detector
of speech takes it for speech.
"""

import numpy as np

RATE = 16_000
VOWELS = {
    "a": (730, 1090, 2440),
    "i": (270, 2290, 3010),
    "u": (300, 870, 2240),
    "e": (530, 1840, 2480),
    "o": (570, 840, 2410),
}  # Peterson and Barney's formants of men, in hertz
BANDWIDTHS = (70, 90, 130)


def voice(vowels: str, syllable_s: float = 0.2, seed: int = 0) -> np.ndarray:
    """Glide through vowels, one syllable from each to the next: `[samples] F32` within -0.5 to 0.5."""
    noise = np.random.default_rng(seed)
    samples = int(syllable_s * RATE)
    n = (len(vowels) - 1) * samples
    at = np.arange(n) / samples  # in syllables
    seconds = np.arange(n) / RATE
    pitch = np.interp(seconds / seconds[-1], [0, 0.3, 1], [130, 160, 95]) * (1 + 0.02 * np.sin(20 * seconds))
    phase = np.cumsum(pitch) / RATE % 1
    opening = np.clip(phase / 0.6, 0, 1)
    flow = np.where(phase < 0.6, 3 * opening**2 - 2 * opening**3, 0)
    sound = 10 * np.diff(flow, prepend=0) + 0.01 * noise.standard_normal(n) * (phase < 0.6)
    for formant, bandwidth in enumerate(BANDWIDTHS):
        track = np.interp(at, np.arange(len(vowels)), [VOWELS[vowel][formant] for vowel in vowels])
        sound = resonate(sound, track, bandwidth)
    place = at % 1
    sound *= np.clip(np.minimum(place / 0.15, (1 - place) / 0.25), 0.02, 1)
    hiss = np.sin(np.pi * np.clip(place / 0.25, 0, 1)) * (np.floor(at) % 2 == 0)
    hissing = 0.03 * hiss * np.diff(noise.standard_normal(n), prepend=0)
    return (0.4 * sound / np.abs(sound).max() + hissing).astype(np.float32)


def resonate(sound: np.ndarray, frequency: np.ndarray, bandwidth: float) -> np.ndarray:
    """A resonator of two poles, whose frequency moves."""
    radius = np.exp(-np.pi * bandwidth / RATE)
    first = 2 * radius * np.cos(2 * np.pi * frequency / RATE)
    gain = 1 - first + radius**2
    out, before, last = np.empty_like(sound), 0.0, 0.0
    for i, value in enumerate((gain * sound).tolist()):
        before, last = last, value + first[i] * last - radius**2 * before
        out[i] = last
    return out


def tone(seconds: float, hertz: float = 440) -> np.ndarray:
    """A sine: `[samples] F32`."""
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Soft white noise: `[samples] F32`."""
    return (0.01 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    """Zeros: `[samples] F32`."""
    return np.zeros(int(seconds * RATE), np.float32)
