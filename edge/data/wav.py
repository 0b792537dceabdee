"""The header of a WAV file: what its samples are and where they lie; samples themselves are read by `edge.sound`.

RIFF chunks as in "Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft 1991, and
WAVE_FORMAT_EXTENSIBLE, which files of 24 bits carry and Python's `wave` knows from 3.12 on only. PCM of 8 (unsigned),
16, 24 and 32 bits and float of 32 bits are read; anything compressed is refused by its number.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from console.errors import BadData
from wire.manifest import Tensor

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # behind the two bytes of the format proper
STREAMED = 0xFFFFFFFF  # a length that a recorder never came back to fill in
SAVE = "save it as PCM of 16 bits"
SHORTEST = 160  # 10 ms at 16 kHz: a model that takes fewer numbers does not listen


@dataclass(frozen=True)
class Wave:
    """A WAV file's samples.

    Attributes:
        rate: frames per second.
        channels: samples in one frame.
        bits: of one sample; 32 and `floating` is IEEE float.
        frames: how many.
        offset_bytes: where the first one begins.
    """

    rate: int
    channels: int
    bits: int
    floating: bool
    frames: int
    offset_bytes: int

    @property
    def length_s(self) -> float:
        """How long it sounds."""
        return self.frames / self.rate


def sound_length(inputs: tuple[Tensor, ...]) -> int:
    """How many samples a model takes.

    Raises:
        BadData: its input is not samples, [batch, samples] or [batch, 1, samples].
    """
    shape = inputs[0].shape if len(inputs) == 1 else ()
    fits = len(shape) in (2, 3) and shape[1:-1] in ((), (1,)) and isinstance(shape[-1], int)
    if not fits or shape[-1] < SHORTEST or not inputs[0].dtype.startswith("float"):
        found = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in inputs)
        raise BadData(
            f"expected a bundle that takes samples of sound, float32 [batch, samples], for WAV files, found one that "
            f"takes {found}; compute these arrays and give them as .npz"
        )
    return int(shape[-1])


def read_wave(path: Path) -> Wave:
    """The header of a file.

    Raises:
        BadData: it is no WAV file, a broken one, or of a format that is not read.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            return _parsed(file, size)
    except (OSError, ValueError, struct.error) as error:
        raise BadData(f"expected a WAV file at {path}, found none that can be read ({_why(error)})") from error


def _why(error: Exception) -> str:
    if isinstance(error, struct.error):
        return f"it ends in its header; {SAVE}"
    return str(getattr(error, "strerror", None) or error)


def _parsed(file: BinaryIO, size: int) -> Wave:
    riff, _, form = struct.unpack("<4sI4s", file.read(12))
    if (riff, form) != (b"RIFF", b"WAVE"):
        raise ValueError(f"expected it to begin with RIFF and WAVE; {SAVE}")
    layout: tuple[int, int, int, bool] | None = None
    while True:
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            break
        if name == b"fmt ":
            layout = _layout(file.read(length))
            file.seek(length % 2, 1)
        else:
            file.seek(length + length % 2, 1)
    if layout is None:
        raise ValueError("expected its format before its samples")
    rate, channels, bits, floating = layout
    offset = file.tell()
    there, width = size - offset, channels * bits // 8
    if length not in (0, STREAMED) and length > there:
        raise ValueError(f"expected {length} bytes of samples, found {there}: it is torn")
    held = there if length in (0, STREAMED) and there else length
    if held < width:
        raise ValueError("expected samples, found none")
    return Wave(rate, channels, bits, floating, held // width, offset)


def _layout(fields: bytes) -> tuple[int, int, int, bool]:
    """Rate, channels, bits and whether samples are floats."""
    form, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", fields)
    if form == EXTENSIBLE and len(fields) >= 40 and fields[26:40] == GUID_TAIL:
        form = struct.unpack_from("<H", fields, 24)[0]
    if (form, bits) not in ((PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32)):
        raise ValueError(f"expected PCM of 8, 16, 24 or 32 bits, found format {form} of {bits} bits; {SAVE}")
    if not rate or not channels or block != channels * bits // 8:
        raise ValueError(f"expected a rate and whole frames, found {rate} Hz, {channels} channels, {block} bytes")
    return rate, channels, bits, form == FLOAT
