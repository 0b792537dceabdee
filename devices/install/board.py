"""What runs on the board while an agent is installed: the standard library alone, sent as text and never kept there.

`python3 - VERB JSON`, data on standard input, one line of JSON as the answer. Everything is written beside, then
renamed: killed at any instant, the board has what it had before, and what was sent already need not be sent again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 20


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                sha.update(block)
    except OSError:
        return ""
    return sha.hexdigest()


def below(root: Path, name: str) -> Path:
    """A path below a folder; ValueError if it is none."""
    if name.startswith("/") or ".." in name.split("/") or not name.strip("/"):
        raise ValueError(f"a file may not be at {name!r}")
    return root / name


def state(told: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """What is there: `digests` of the asked paths, `links`, the text of `read`, and which files of `release` are whole.

    told: root, digests, links, read, release, partial; data: lines of files.sha256.
    """
    root = Path(told["root"])
    links = {p: str(below(root, p).readlink()) for p in told["links"] if below(root, p).is_symlink()}
    read = {p: below(root, p).read_text("utf-8", "replace") for p in told["read"] if below(root, p).is_file()}
    listed = (line.split("  ", 1) for line in data.read().decode().splitlines())
    wanted = {path: value for value, path in listed}
    release, partial = below(root, told["release"]), below(root, told["partial"])
    found = release if release.is_dir() else partial
    whole = [path for path, value in wanted.items() if file_sha256(below(found, path)) == value]
    return {
        "digests": {p: file_sha256(below(root, p)) for p in told["digests"]},
        "links": links,
        "read": read,
        "complete": release.is_dir() and len(whole) == len(wanted),
        "whole": whole,
    }


def take(told: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Put the files of a tar stream where they belong, each whole or not at all. told: root, home; data: tar, gzip."""
    root, count = Path(told["root"]), 0
    with tarfile.open(fileobj=data, mode="r|gz") as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isfile() else None
            if source is None:
                raise ValueError(f"only plain files are taken, {member.name!r} is none")
            path = below(root, member.name)
            held(below(root, told["home"]), path)
            place(source, path, member.mode & 0o777)
            count += 1
    data.read()
    return {"files": count}


def held(home: Path, path: Path) -> None:
    """Refuse a path that a link leads out of the agent's folder: the agent owns that folder, and we are root."""
    if path.is_relative_to(home) and not path.parent.resolve().is_relative_to(home.resolve()):
        raise ValueError(f"a link below {home} leads out of it, at {path.parent}")


def place(source: IO[bytes], path: Path, mode: int) -> None:
    """Write a file beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)  # of a run that was killed; with another mode perhaps
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(source, file, BLOCK)
        os.fchmod(handle, mode)
    beside.replace(path)


def finish(told: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Make a release of what was sent, once every file is what it should be. told: root, release, partial."""
    root = Path(told["root"])
    partial, release = below(root, told["partial"]), below(root, told["release"])
    lines = (partial / "files.sha256").read_text(encoding="utf-8").splitlines()
    wrong = [path for value, path in (line.split("  ", 1) for line in lines) if file_sha256(partial / path) != value]
    if wrong:
        return {"wrong": wrong[:5]}
    os.sync()  # before its name says that it is whole
    shutil.rmtree(release, ignore_errors=True)  # a damaged one of the same name
    partial.rename(release)
    owned(below(root, told["home"]), release)
    return {"wrong": []}


def link(told: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Set a link at one instant, make folders, and give to the agent's user what is the agent's.

    A release that takes another's place is on trial: the launcher counts its starts and goes back if it must.
    told: root, path, target, trial, home, folders, owned.
    """
    root = Path(told["root"])
    for name, mode in told["folders"]:
        folder = below(root, name)
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(mode)
    path = below(root, told["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    before = Path(path.readlink()).name if path.is_symlink() else ""
    if (
        before
        and (path.parent / "releases" / before / "release.json").is_file()
        and before != Path(told["target"]).name
    ):
        trial = {"release": Path(told["target"]).name, "before": before, "starts": 0}
        place(io.BytesIO(json.dumps(trial).encode()), below(root, told["trial"]), 0o644)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(told["target"])
    os.sync()
    beside.replace(path)
    for name in told["owned"]:
        owned(below(root, told["home"]), below(root, name))
    return {}


def remove(told: dict[str, Any], data: IO[bytes]) -> dict[str, Any]:
    """Remove files, links and folders with what they hold. told: root, paths."""
    gone = []
    for name in told["paths"]:
        path = below(Path(told["root"]), name)
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            continue
        gone.append(name)
    return {"removed": gone}


def owned(home: Path, path: Path) -> None:
    """Give what root wrote to the agent's user, where there was one: systemd does it only for a whole new folder."""
    if not home.exists() or os.geteuid() != 0:
        return
    about = home.stat()
    for one in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        if one.exists() or one.is_symlink():
            os.chown(one, about.st_uid, about.st_gid, follow_symlinks=False)


VERBS: dict[str, Callable[[dict[str, Any], IO[bytes]], dict[str, Any]]] = {
    "state": state,
    "take": take,
    "finish": finish,
    "link": link,
    "remove": remove,
}


def main(arguments: list[str]) -> None:
    """Answer one verb; what goes wrong is an answer too."""
    try:
        answer = VERBS[arguments[0]](json.loads(arguments[1]), sys.stdin.buffer)
    except (OSError, ValueError, tarfile.TarError, EOFError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
