"""The doors of folders: one folder per class, files anywhere below it, as torchvision's ImageFolder reads them.

Hidden files and those that a desktop leaves behind are passed over; a file of another kind is a problem, since a
sample that is silently missing is worse.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from console.errors import StorageError
from edge.data.problems import Problems
from edge.data.wanted import Found, Wanted

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SOUNDS = (".wav",)
LEFT_BEHIND = ("desktop.ini", "thumbs.db")


def read_folder(path: Path, wanted: Wanted, problems: Problems) -> Iterator[Found]:
    """Files of every class, classes and files in the order of their names; rows are named by their path below `path`.

    Raises:
        StorageError: a folder cannot be listed.
    """
    suffixes = PICTURES if wanted.kind == "image" else SOUNDS
    for label, is_folder in _entries(path):
        if not is_folder:
            problems.add(label, "expected a folder per class, found a file beside them; move it into its class")
            continue
        unknown = wanted.unknown(label)
        if unknown is not None:
            problems.add(f"folder {label}", unknown)
            continue
        for file in files_in(path / label):
            name = file.relative_to(path).as_posix()
            if file.suffix.lower() in suffixes:
                yield Found(name, file, label, name)
            else:
                problems.add(name, f"expected {', '.join(suffixes)}, found {file.suffix or 'no suffix'}")


def files_in(folder: Path) -> Iterator[Path]:
    """Files at any depth, in the order of their names; what is hidden is left out.

    Raises:
        StorageError: a folder cannot be listed.
    """
    for name, is_folder in _entries(folder):
        if is_folder:
            yield from files_in(folder / name)
        else:
            yield folder / name


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder in order, and whether each is a folder; what is hidden is left out, links are followed once."""
    try:
        with os.scandir(folder) as entries:
            found = [(e.name, e.is_dir()) for e in entries if not _passed_over(e.name)]
    except OSError as error:
        raise StorageError(
            f"expected a folder of data at {folder}, found none that can be read ({error.strerror or error}); check "
            "the path"
        ) from error
    return sorted(found)


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND
