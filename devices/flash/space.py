"""Whether there is room on this machine for what a run makes: the image, a copy for each card but the last, a file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from console.errors import StorageError
from console.table import mib


def require_space(wanted: Sequence[tuple[Path, int, str]]) -> None:
    """Refuse what cannot be made; folders on one disk share what is free there.

    Args:
        wanted: folders, bytes in each of them, and what for.

    Raises:
        StorageError: there is too little; says where, how much, and what for.
    """
    for folder, _, _ in wanted:
        disk = folder.stat().st_dev
        here = [(size, what) for path, size, what in wanted if size and path.stat().st_dev == disk]
        needed, free = sum(size for size, _ in here), shutil.disk_usage(folder).free
        if needed > free:
            parts = " and ".join(f"{mib(size)} for {what}" for size, what in here)
            raise StorageError(
                f"expected {mib(needed)} free at {folder} ({parts}), found {mib(free)}; make room there, or say --work "
                "DIR on another disk"
            )


def before_unpacking(work: Path, beside: Path | None, size: int, cards: int) -> None:
    """What is sure before an image is unpacked: sizes of sparse files count as if they were full.

    Args:
        work: where it is unpacked.
        beside: where a file is made of it; None: a card is written.
        size: of the image, at least.
        cards: how many.

    Raises:
        StorageError: see `require_space`.
    """
    copy = size if cards > 1 else 0
    wanted = [(work, size, "the unpacked image"), (work, copy, "a copy for each card")]
    require_space([*wanted, (beside or work, size if beside else 0, "the file of --to")])


def before_placing(work: Path, beside: Path | None, image: Path, *, grows: int, size: int, copied: bool) -> None:
    """What is still to be made once an image is unpacked, by what it really takes.

    Args:
        work: where it lies.
        beside: where a file is made of it; None: a card is written.
        image: unpacked.
        grows: by how much its root will; that is done to a copy of it, which goes again.
        size: of what will be written.
        copied: whether this card has a copy of its own.

    Raises:
        StorageError: see `require_space`.
    """
    taken = image.stat().st_blocks * 512
    wanted = [
        (work, taken if copied else 0, "a copy for this card"),
        (work, taken + grows if grows else 0, "its larger root"),
        (beside or work, size if beside else 0, "the file of --to"),
    ]
    require_space(wanted)
