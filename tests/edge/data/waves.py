"""WAV files as Python's own `wave` writes them."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_wave(path: Path, samples: NDArray[Any], rate: int, bits: int = 16) -> Path:
    """Write samples in -1 to 1, [frames] or [frames, channels], as PCM."""
    frames = np.atleast_2d(samples.T).T
    scaled = np.round(frames * ((1 << (bits - 1)) - 1)).astype(np.int64)
    if bits == 8:
        data = (scaled + 128).astype(np.uint8).tobytes()
    else:
        data = scaled.astype("<i4").reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(data)
    return path
