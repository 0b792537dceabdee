"""A sample that a local program sends: its bytes, and what they are."""

from __future__ import annotations

from dataclasses import dataclass

from edge.local.question import Kind
from wire.files import digest

# the first bytes of pictures that are taken (wire.image.FORMATS), and how such a file is called
_SIGNS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
)


@dataclass(frozen=True)
class Sample:
    """Bytes of a text (UTF-8), a picture's or WAV file, or a JSON object of arrays by input name."""

    kind: Kind
    data: bytes

    @property
    def id(self) -> str:
        """SHA-256: the same sample has the same name on every board."""
        return digest(self.data)

    @property
    def suffix(self) -> str:
        """Of a file with these bytes; empty: they are no picture and no sound that is known."""
        if self.data[:4] == b"RIFF":
            return {b"WEBP": ".webp", b"WAVE": ".wav"}.get(self.data[8:12], "")
        return next((suffix for sign, suffix in _SIGNS if self.data.startswith(sign)), "")
