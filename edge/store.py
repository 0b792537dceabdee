"""What an agent keeps of the hub: versions, their blobs, and which version is released. Whole or not there.

* `versions/DIGEST.body`: the exact bytes whose SHA-256 is the version's digest.
* `versions/DIGEST.envelope`: the signed envelope they came in, where they came in one.
* `blobs/SHA256`: rungs and heads.
* `release.json`: the highest release that was seen, and the one that is served.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from console.errors import BadData, EdgequiltError, IntegrityError
from wire.files import digest, file_digest, read_bytes, write_atomic
from wire.json_text import parse_json
from wire.messages import Release, Version, decode
from wire.record import plain, read_record

log = logging.getLogger("edgequilt.agent")
KEEP_VERSIONS = 4
CROWDED = 4 * KEEP_VERSIONS


@dataclass(frozen=True)
class Released:
    """`seen` has the highest sequence; `served` is the last whose blobs were all here."""

    seen: Release | None = None
    served: Release | None = None


class Store:
    """The state folder's part that the hub's messages fill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs, self.versions = folder / "blobs", folder / "versions"
        for part in (self.blobs, self.versions):
            part.mkdir(parents=True, exist_ok=True)
        self._checked: set[str] = set()
        self.released = self._read_release()

    def clean(self) -> None:
        """Remove what a killed agent left; only the agent that has the folder may."""
        for part in (self.folder, self.blobs, self.versions):
            sweep(part)

    def save_version(self, body: bytes, envelope: bytes = b"") -> tuple[str, Version]:
        """Keep a version whose signature was checked, or whose digest a signed message named.

        Raises:
            BadData: it is not a version.
        """
        name, version = digest(body), decode(body, Version)
        if envelope:
            write_atomic(self.versions / f"{name}.envelope", envelope)
        if self.version(name) is None:
            write_atomic(self.versions / f"{name}.body", body)
        return name, version

    def version(self, name: str) -> Version | None:
        """A version by its digest; None if we do not have it, or no longer what it was."""
        path = self.versions / f"{name}.body"
        try:
            body = read_bytes(path, "a version")
        except EdgequiltError:
            return None
        if digest(body) != name:
            path.unlink(missing_ok=True)
            return None
        return decode(body, Version)

    def save_blob(self, name: str, data: bytes) -> None:
        """Keep a blob.

        Raises:
            IntegrityError: these are not the bytes of that name.
        """
        if digest(data) != name:
            raise IntegrityError(f"expected the bytes of blob {name[:12]}, found others; it is fetched again")
        write_atomic(self.blobs / name, data)
        self._checked.add(name)

    def has_blob(self, name: str) -> bool:
        """Whether a blob is here and whole; looked at once per start."""
        path = self.blobs / name
        if not path.is_file():
            self._checked.discard(name)
            return False
        if name not in self._checked:
            if file_digest(path) != name:
                path.unlink()
                return False
            self._checked.add(name)
        return True

    def recheck(self) -> None:
        """Believe no blob until it was looked at again."""
        self._checked.clear()

    def follow(self, release: Release) -> bool:
        """Take note of a release; False if one with the same or a higher sequence was seen (no way back)."""
        if self.released.seen is not None and release.sequence <= self.released.seen.sequence:
            return False
        self._write_release(Released(release, self.released.served))
        return True

    def served_of(self, model: str) -> Release | None:
        """The release that is served, if it is one of the model: an agent may have got a bundle of another one."""
        served = self.released.served
        return served if served is not None and served.model == model else None

    def serve(self, release: Release) -> None:
        """The blobs of a release are all here: it is served from now on."""
        self._write_release(Released(self.released.seen, release))

    def crowded(self) -> bool:
        """Whether many versions came that were announced and neither served nor worked on."""
        return sum(1 for _ in self.versions.glob("*.body")) > CROWDED

    def collect(self, keep: set[str]) -> None:
        """Delete what nobody needs: versions that are neither in `keep` nor among the newest, and their blobs."""
        bodies = sorted(self.versions.glob("*.body"), key=lambda p: p.stat().st_mtime, reverse=True)
        kept = keep | {p.stem for p in bodies[:KEEP_VERSIONS]}
        needed: set[str] = set()
        for path in bodies:
            if path.stem in kept:
                version = self.version(path.stem)
                if version is None:
                    continue
                needed |= {version.head, version.others, *(r.blob for r in version.rungs)}
                needed |= {edit.blob for edit in version.edits}
            else:
                path.unlink(missing_ok=True)
                path.with_suffix(".envelope").unlink(missing_ok=True)
        for blob in self.blobs.iterdir():
            if blob.name not in needed:
                blob.unlink(missing_ok=True)
                self._checked.discard(blob.name)

    def _read_release(self) -> Released:
        path = self.folder / "release.json"
        if not path.exists():
            return Released()
        try:
            found = parse_json(read_bytes(path, "the release state"))
            seen, served = (
                None if found[k] is None else read_record(Release, found[k], str(path)) for k in ("seen", "served")
            )
        except (ValueError, KeyError, TypeError, BadData):
            log.warning("%s cannot be read; the next release is taken as it comes", path)
            return Released()
        return Released(seen, served)

    def _write_release(self, released: Released) -> None:
        record = {"seen": released.seen and plain(released.seen), "served": released.served and plain(released.served)}
        write_atomic(self.folder / "release.json", json.dumps(record, indent=1).encode())
        self.released = released


def sweep(folder: Path) -> None:
    """Remove what a kill in the middle of a write has left: temporary names begin with a dot."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            path.unlink()
