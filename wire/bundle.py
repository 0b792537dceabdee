"""A bundle on disk: a folder with `manifest.json`, its signature `manifest.sig`, and blobs.

Opening checks the signature first, then the manifest, then length and SHA-256 of every file. Nothing is loaded
before that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import IntegrityError, SignatureError
from wire.files import digest, file_digest, inside, read_bytes
from wire.manifest import LIMIT_BYTES, Manifest, parse_manifest

if TYPE_CHECKING:  # a worker opens what its core has checked, and saves the 7 MiB of cryptography
    from wire.envelope import Trust
    from wire.keys import PublicKey

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle."""

    folder: Path
    manifest: Manifest
    sha256: str  # of manifest.json: the identity of the bundle
    signer: PublicKey | None

    def path(self, name: str) -> Path:
        """Where a file of the manifest lies."""
        return inside(self.folder, name)


def open_bundle(folder: Path, trust: Trust | None, advance: Callable[[int], None] = lambda n: None) -> Bundle:
    """Check a bundle and return it.

    Args:
        folder: where it lies.
        trust: the publisher keys that are believed; None skips the signature (for `inspect` of an unknown bundle only).
        advance: told the bytes checked so far, for a progress bar.

    Raises:
        StorageError: a file cannot be read.
        SignatureError: the signature is absent, wrong, or of an unknown key.
        BadData: the manifest is not one.
        IntegrityError: a file has another length or digest than the manifest says.
    """
    body = read_bytes(folder / MANIFEST, "a bundle's manifest", LIMIT_BYTES)
    signer = None
    if trust is not None:
        from wire.envelope import check_detached

        if not (folder / SIGNATURE).exists():
            raise SignatureError(
                f"expected a signature at {folder / SIGNATURE}, found none; export with --key, or fetch "
                f"the bundle again"
            )
        signer = check_detached(
            read_bytes(folder / SIGNATURE, "a signature", 4096),
            body,
            "publisher",
            trust,
            f"bundle {folder.name}",
        )
    manifest = parse_manifest(body, str(folder / MANIFEST))
    check_files(folder, manifest, advance)
    return Bundle(folder, manifest, digest(body), signer)


def check_files(folder: Path, manifest: Manifest, advance: Callable[[int], None] = lambda n: None) -> None:
    """Compare every file with the manifest.

    Raises:
        IntegrityError: naming all files that differ.
    """
    problems = []
    for file in manifest.files:
        path = inside(folder, file.path)
        if not path.is_file():
            problems.append(f"{file.path} is missing")
        elif path.stat().st_size != file.bytes:
            problems.append(f"{file.path} has {path.stat().st_size} bytes instead of {file.bytes}")
        elif file_digest(path, advance) != file.sha256:
            problems.append(f"{file.path} has another SHA-256")
    if problems:
        raise IntegrityError(
            f"expected the files that {folder / MANIFEST} lists, but {'; '.join(problems)}; fetch or "
            f"export the bundle again"
        )
