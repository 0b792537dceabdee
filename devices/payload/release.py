"""A release of the agent: a folder of everything that it imports, named by its content.

```
releases/0.1.0+1f3c9a40/
    lib/             our code and all libraries
    files.sha256     a line for each file of lib/, as `sha256sum -c` reads them
    release.json     version, the system that it is for, libraries, the digest of files.sha256
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devices.payload.own import own_files, version
from devices.payload.placed import Linked, Payload, Placed
from devices.payload.places import CURRENT, LIBRARIES, RELEASE_FILE, RELEASES, SUMS_FILE
from devices.payload.target import Target
from devices.payload.unpacked import unpack
from devices.payload.wheelhouse import cache_folder, wheels_for
from devices.profile import Profile
from wire.files import digest, file_digest

FORMAT = 1
MARK = 8  # hexadecimal digits of the content in a version


@dataclass(frozen=True)
class Release:
    """A release for one kind of system.

    Attributes:
        version: `0.1.0+1f3c9a40`: ours, and which bytes.
        target: the system that it is for.
        libraries: versions by name.
        files: of the folder, release.json last; paths are those on the board.
        size_bytes: of all files.
        sums: SHA-256 of every file of lib/ by its path below the release's folder.
    """

    version: str
    target: Target
    libraries: Mapping[str, str]
    files: tuple[Placed, ...]
    size_bytes: int
    sums: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Where it is on the board."""
        return f"{RELEASES}/{self.version}"

    @property
    def payload(self) -> Payload:
        """All of it, and the link that makes it the one that starts."""
        return Payload(self.files, (Linked(CURRENT, f"{Path(RELEASES).name}/{self.version}"),))


def release(
    target: Target, profile: Profile | None = None, wheelhouse: Path | None = None, cache: Path | None = None
) -> Release:
    """Make a release from our own code and the wheels that fit.

    Args:
        target: the system.
        profile: whose limits on onnxruntime count.
        wheelhouse: a folder of wheels to take, without the network.
        cache: where wheels are kept and unpacked; by default below `XDG_CACHE_HOME`.

    Raises:
        EdgequiltError: see `devices.payload.wheelhouse.wheels_for` and `devices.payload.unpacked.unpack`.
    """
    folder = cache_folder() if cache is None else cache
    wheels = wheels_for(target, profile, wheelhouse, folder)
    found = {placed.path: placed for placed in own_files(LIBRARIES)}
    for wheel in wheels:
        root = unpack(wheel, folder)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        placed = [Placed(f"{LIBRARIES}/{p.relative_to(root).as_posix()}", p, p.stat().st_mode & 0o777) for p in paths]
        found = {**{p.path: p for p in placed}, **found}  # of two files with one name, ours stays
    return assemble(target, {w.name: w.version for w in wheels}, tuple(found[path] for path in sorted(found)))


def assemble(target: Target, libraries: Mapping[str, str], files: tuple[Placed, ...]) -> Release:
    """A release of files whose paths are below its folder (`lib/...`)."""
    sums = {placed.path: digest_of(placed) for placed in files}
    listed = "".join(f"{value}  {path}\n" for path, value in sums.items()).encode()
    mark = digest(listed)
    said = f"{version()}+{mark[:MARK]}"
    size = sum(size_of(placed) for placed in files)
    about = {
        "format": FORMAT,
        "version": said,
        "python": target.python,
        "glibc": target.glibc,
        "architecture": target.architecture,
        "libraries": dict(libraries),
        "files": len(files),
        "bytes": size,
        "digest": mark,
    }
    last = json.dumps(about, indent=1).encode() + b"\n"
    whole = (*files, Placed(SUMS_FILE, listed), Placed(RELEASE_FILE, last))
    placed = tuple(Placed(f"{RELEASES}/{said}/{f.path}", f.content, f.mode) for f in whole)
    return Release(said, target, dict(libraries), placed, size + len(listed) + len(last), sums)


def digest_of(placed: Placed) -> str:
    """SHA-256 of a file that shall be placed."""
    return file_digest(placed.content) if isinstance(placed.content, Path) else digest(placed.content)


def size_of(placed: Placed) -> int:
    """Bytes of a file that shall be placed."""
    return placed.content.stat().st_size if isinstance(placed.content, Path) else len(placed.content)
