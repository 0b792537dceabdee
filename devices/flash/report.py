"""flash-report.json: what was written onto a card, for an inventory; no secret is in it, nor a digest of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from devices.flash.changes import Changes
from devices.payload.placed import Placed
from wire.files import digest, file_digest, write_atomic

FORMAT = 1
NAME = "flash-report.json"
GROUP_READS = 0o040


@dataclass(frozen=True)
class Report:
    """One card.

    Attributes:
        image, image_sha256: what was given, compressed as it was.
        system, title: what it holds.
        target: for which Python, glibc and processor the release is.
        release: its version.
        device: the name that its claim token is for.
        profile: the kind of board.
        written_to: path, name and serial of the card, or a file's path.
        size_bytes, sha256: of what was written.
        placed: files, links and removals by partition.
        said: what the user was told.
        seconds: by step.
        edgequilt: our version.
    """

    image: str
    image_sha256: str
    system: str
    title: str
    target: str
    release: str
    device: str
    profile: str
    written_to: Mapping[str, str]
    size_bytes: int
    sha256: str
    placed: Mapping[str, Any]
    said: tuple[str, ...]
    seconds: Mapping[str, float]
    edgequilt: str
    format: int = FORMAT
    extra: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Into a file, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        write_atomic(path, json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n")


def path_of(given: Path | None, number: int, cards: int) -> Path:
    """Where the report of one of several cards goes: each has a file of its own.

    >>> path_of(None, 0, 1).name, path_of(Path("barn.json"), 1, 3).name
    ('flash-report.json', 'barn-2.json')
    """
    path = given or Path(NAME)
    return path if cards == 1 else path.with_name(f"{path.stem}-{number + 1}{path.suffix}")


def placed(changes: Changes, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    """What was placed, by partition."""
    return {
        name: {
            "files": [_file(one, name, secrets) for one in payload.files],
            "links": {link.path: link.target for link in payload.links},
            "removed": list(payload.removed),
        }
        for name, payload in (("root", changes.root), ("boot", changes.boot))
    }


def _file(one: Placed, partition: str, secrets: tuple[str, ...]) -> dict[str, Any]:
    """A digest would let somebody try passwords, so there is none of what others may not read."""
    hidden = not one.mode & GROUP_READS or (partition == "boot" and one.path.strip("/") in secrets)
    if hidden:
        return {"path": one.path, "mode": f"{one.mode:04o}", "secret": True}
    found = digest(one.content) if isinstance(one.content, bytes) else file_digest(one.content)
    return {"path": one.path, "mode": f"{one.mode:04o}", "sha256": found}
