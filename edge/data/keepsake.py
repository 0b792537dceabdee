"""A sample as a replay folder keeps it: a text in its line, anything else in a file named by its own SHA-256."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from console.errors import BadData
from wire.files import digest, file_digest, read_bytes, write_atomic

FOLDER = "samples"
LIMIT_BYTES = 64 << 20  # of one picture, sound or row of arrays
PRIVATE = 0o600  # samples are for nobody else's eyes


@dataclass(frozen=True)
class Keepsake:
    """A sample on its way into a folder, or in it.

    Attributes:
        column: `text`, `image`, `sound` or `arrays`, as JSONL calls it.
        content: the text, or the file's path in the folder.
        size_bytes: of the file, or of the text.
        source: what its bytes are made of while it is not in the folder: a file's path, arrays or a picture.
    """

    column: str
    content: str
    size_bytes: int
    source: Any = None

    def put(self, folder: Path) -> None:
        """Write the file, if it needs one and it is not there.

        Raises:
            StorageError: there is no room, or the sample is not there any more.
        """
        path = folder / self.content
        if self.source is not None and not path.exists():
            write_atomic(path, _bytes(self.source), PRIVATE)

    def whole(self, folder: Path) -> bool:
        """Whether what is in the folder is what was put there."""
        path = folder / self.content
        return self.column == "text" or (path.is_file() and file_digest(path) == path.stem)

    def sample(self, folder: Path) -> str | Path:
        """The sample of a row."""
        return self.content if self.column == "text" else folder / self.content


def keepsake(sample: Any, kind: str) -> Keepsake:
    """What to keep of a sample.

    Args:
        sample: a text, a file's path, a picture (Pillow's, or an array of bytes), or arrays by input name.
        kind: of sample that the bundle takes.

    Raises:
        BadData: it is nothing that can be kept.
        StorageError: its file cannot be read.
    """
    if kind == "text" and isinstance(sample, str):
        return Keepsake("text", sample, len(sample.encode()))
    if isinstance(sample, Path):
        column = "image" if kind == "image" else ("arrays" if sample.suffix == ".npz" else "sound")
        try:
            name, size = file_digest(sample), sample.stat().st_size
        except OSError as error:
            raise BadData(f"expected a sample at {sample}, found none that can be read ({error.strerror})") from error
        return Keepsake(column, f"{FOLDER}/{name}{sample.suffix.lower()}", size, sample)
    if kind == "tensors" and isinstance(sample, Mapping):
        return _made("arrays", sample, ".npz")
    if kind == "image":
        return _made("image", sample, ".png")
    raise BadData(f"expected a sample of a bundle that takes {kind}, found {type(sample).__name__}")


def _made(column: str, sample: Any, suffix: str) -> Keepsake:
    data = _bytes(sample)  # made again where it is put: of many samples few are kept
    return Keepsake(column, f"{FOLDER}/{digest(data)}{suffix}", len(data), sample)


def _bytes(source: Any) -> bytes:
    if isinstance(source, Path):
        return read_bytes(source, "a sample", LIMIT_BYTES)
    return _npz(source) if isinstance(source, Mapping) else _png(source)


def _npz(sample: Mapping[str, Any]) -> bytes:
    """The same arrays give the same bytes: `numpy.savez` would put the time of day in."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as file:
            for name, value in sorted(sample.items()):
                with io.BytesIO() as one:
                    np.lib.format.write_array(one, np.ascontiguousarray(value), allow_pickle=False)
                    file.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue())
        return buffer.getvalue()


def _png(sample: Any) -> bytes:
    import PIL.Image

    picture = sample if isinstance(sample, PIL.Image.Image) else PIL.Image.fromarray(np.asarray(sample, np.uint8))
    with io.BytesIO() as buffer:
        picture.save(buffer, "png")
        return buffer.getvalue()
