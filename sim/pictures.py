"""Pictures as PNG files, and the rows that name them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from console.errors import StorageError
from sim.cameras import Picture, Pixels
from sim.rows import write_rows


def png_bytes(pixels: Pixels, enlarged: int = 1) -> bytes:
    r"""A grey picture as PNG; `enlarged` repeats every pixel, so that a report shows it as it is.

    >>> import numpy as np
    >>> png_bytes(np.zeros((16, 16), np.uint8))[:4]
    b'\x89PNG'
    """
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels.repeat(enlarged, 0).repeat(enlarged, 1)).save(data, format="PNG")
    return data.getvalue()


def write_pictures(folder: Path, pictures: Iterable[Picture], name: str = "data.jsonl") -> Path:
    """Write the pictures below `folder`, then a file of rows with `image` (relative to it) and `label`.

    Returns:
        The path of the file of rows.

    Raises:
        StorageError: the folder cannot be written.
    """
    rows = []
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            relative = f"pictures/{picture.name}-{picture.camera}.png"
            # not synced one by one: a thousand syncs take longer than the training, and no row names them yet
            (folder / relative).write_bytes(png_bytes(picture.pixels))
            rows.append({"image": relative, "label": picture.label})
    except OSError as error:
        raise StorageError(
            f"expected to write pictures below {folder}, stopped ({error.strerror}); "
            "choose another place or free some space"
        ) from error
    write_rows(folder / name, rows)
    return folder / name
