"""A release of the agent as a folder that a hub takes in: packed, and signed by a publisher."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from devices.payload.placed import Placed
from devices.payload.release import Release, digest_of, size_of
from wire.envelope import detached
from wire.files import write_atomic
from wire.keys import PrivateKey
from wire.packed import MANIFEST, SIGNATURE, STREAM, Packed, Part, pack, to_bytes


def write_packed(release: Release, folder: Path, key: PrivateKey) -> Packed:
    """Write the three files of a release; the manifest last.

    Args:
        release: of `devices.payload.release.release`.
        folder: is made.
        key: a publisher's, whom boards believe.

    Raises:
        StorageError: the folder cannot be written.
    """
    parts = tuple(
        Part(placed.path.removeprefix(f"{release.folder}/"), size_of(placed), digest_of(placed), placed.mode)
        for placed in release.files
    )
    write_atomic(folder / SIGNATURE, b"")  # makes the folder, and says early that it cannot
    size, found = pack([_opened(placed) for placed in release.files], folder / STREAM)
    target = release.target
    packed = Packed(release.version, target.python, target.glibc, target.architecture, size, found, parts)
    body = to_bytes(packed)
    write_atomic(folder / SIGNATURE, detached(key, body))
    write_atomic(folder / MANIFEST, body)
    return packed


def _opened(placed: Placed) -> Callable[[], BinaryIO]:
    content = placed.content
    return (lambda: content.open("rb")) if isinstance(content, Path) else (lambda: io.BytesIO(content))
