"""Sounds into a model's input: mixed to one channel, resampled, cut or padded.

Resampling by up / down (in lowest terms) is that of `scipy.signal.resample_poly`: zeros between samples, a low pass
in front of both Nyquist frequencies, every down-th sample. The low pass is a sinc under a Kaiser window (Kaiser,
"Nonrecursive digital filter design using the I0-sinh window function", 1974) of beta 5 and 20 max(up, down) + 1 taps:
about 50 dB of stop band. Only taps that meet a sample are multiplied (polyphase).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.data.wav import Wave, read_wave

Samples = NDArray[np.float32]
ZERO_CROSSINGS, BETA = 10, 5.0
LARGEST_RATIO = 1 << 15  # of rates without a common divisor: the filter has 20 taps for each
BLOCK = 4096  # outputs whose windows are gathered at once


def read_sound(path: Path, rate: int | None, length: int, *, normalise: bool = False) -> Samples:
    """The beginning of a file: float32 [length] in -1 to 1, zeros behind its end.

    Args:
        path: a WAV file.
        rate: samples per second wanted; None takes them as they are.
        length: samples wanted.
        normalise: whether what is heard is brought to zero mean and unit variance, as transformers'
            Wav2Vec2FeatureExtractor does it.

    Raises:
        BadData: it cannot be read.
    """
    wave = read_wave(path)
    wanted, up, down = length, 1, 1
    if rate is not None and rate != wave.rate:
        shared = math.gcd(rate, wave.rate)
        up, down = rate // shared, wave.rate // shared
        if max(up, down) > LARGEST_RATIO:
            raise BadData(
                f"expected a sound that can be brought to {rate} Hz at {path}, found {wave.rate} Hz; save it at 16000"
            )
        wanted = (length * down) // up + 2 * ZERO_CROSSINGS * max(up, down) // up + 2  # what the last taps reach
    mono = _frames(path, wave, min(wanted, wave.frames))
    if (up, down) != (1, 1):
        mono = resampled(mono, up, down)
    heard, out = mono[:length].astype(np.float64), np.zeros(length, np.float32)
    if normalise:
        heard = (heard - heard.mean()) / np.sqrt(heard.var() + 1e-7)
    out[: len(heard)] = heard
    return out


def resampled(samples: Samples, up: int, down: int) -> Samples:
    """Samples at up / down of their rate: float32 [ceil(n up / down)]."""
    taps = low_pass(up, down)
    half, reach = (len(taps) - 1) // 2, math.ceil(len(taps) / up)
    phases = np.zeros((reach, up))
    phases.ravel()[: len(taps)] = taps
    # output n is the sum over j of taps[phase + j up] samples[first - j], with n down + half = first up + phase
    count = -(-len(samples) * up // down)
    last = ((count - 1) * down + half) // up
    padded = np.zeros(reach - 1 + max(last + 1, len(samples)))
    padded[reach - 1 : reach - 1 + len(samples)] = samples
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach)
    out = np.zeros(count, np.float32)
    for start in range(0, count, BLOCK):
        first, phase = np.divmod(np.arange(start, min(count, start + BLOCK)) * down + half, up)
        out[start : start + BLOCK] = np.einsum("nj,jn->n", windows[first], phases[::-1, phase])
    return out


@lru_cache(maxsize=4)
def low_pass(up: int, down: int) -> NDArray[np.float64]:
    """The taps: a windowed sinc whose sum is `up`."""
    half = ZERO_CROSSINGS * max(up, down)
    at = np.arange(-half, half + 1)
    taps = np.sinc(at / max(up, down)) * np.kaiser(len(at), BETA)
    scaled: NDArray[np.float64] = taps / taps.sum() * up
    return scaled


def _frames(path: Path, wave: Wave, count: int) -> Samples:
    """The first frames, mixed to one channel by their mean."""
    width = wave.bits // 8
    with path.open("rb") as file:
        file.seek(wave.offset_bytes)
        data = file.read(count * wave.channels * width)
    mixed: Samples = _decoded(data, wave).reshape(-1, wave.channels).mean(axis=1, dtype=np.float32)
    return mixed


def _decoded(data: bytes, wave: Wave) -> Samples:
    """Samples as fractions of full scale; a byte of 8 bits is unsigned and rests at 128."""
    found: NDArray[Any]
    if wave.floating:
        return np.frombuffer(data, "<f4").astype(np.float32)
    if wave.bits == 8:
        found = np.frombuffer(data, np.uint8).astype(np.float32) - 128
    elif wave.bits == 24:
        three = np.frombuffer(data, np.uint8).reshape(-1, 3)
        four = np.zeros((len(three), 4), np.uint8)
        four[:, 1:] = three
        found = four.view("<i4")[:, 0] >> 8
    else:
        found = np.frombuffer(data, f"<i{wave.bits // 8}")
    fractions: Samples = (found / np.float32(1 << (wave.bits - 1))).astype(np.float32)
    return fractions
