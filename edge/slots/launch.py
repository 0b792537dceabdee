"""Starts the agent's release that is current; goes back to the one before when a new one does not become healthy.

This file lies outside of all releases and imports nothing of them, only Python's own: a broken release cannot break
what undoes it. Systemd starts it at every start of the agent, and it becomes the agent.

HOME/current says which release starts. HOME/trial.json is there while a release is on trial; whoever switches writes it
before:

    {"release": "0.2.0+1f3c9a40", "before": "0.1.0+77aa01b2", "starts": 0}

Each start of a release on trial is counted before it happens, so that one which takes the whole board down counts, too.
The agent removes the file when it is healthy; the start after the third puts the release before in its place, and
HOME/gave-up.json says so.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HOME = Path("/var/lib/edgequilt")
MOST_STARTS = 3
TRIAL, GAVE_UP, CURRENT, RELEASES = "trial.json", "gave-up.json", "current", "releases"
WRITTEN_LAST = "release.json"  # of a release


def main(arguments: list[str]) -> int:
    """Choose, then become the agent."""
    home = Path(os.environ.get("EDGEQUILT_HOME") or HOME)
    try:
        if arguments[:2] in ([], ["agent", "run"]):  # what a person asks of `edgequilt` is no start of the agent
            settle(home)
    except OSError as error:  # a full disk does not keep a board from starting what it has
        say(f"this start cannot be counted: {error}")
    release = chosen(home)
    if release is None:
        say(f"expected a release of the agent below {home / RELEASES}, found none; install or flash this board again")
        return 1
    library = release / "lib"
    os.environ.update(EDGEQUILT_HOME=str(home), PYTHONPATH=str(library), PYTHONNOUSERSITE="1")
    os.environ["EDGEQUILT_LAUNCHER"] = str(Path(__file__).resolve())  # an agent that has switched begins there
    # by its path, since `-m` would look into the working folder first
    return os.execv(sys.executable, [sys.executable, str(library / "edgequilt.py"), *arguments])  # noqa: S606  # no shell


def settle(home: Path) -> None:
    """Count this start of a release on trial, or end its trial by going back."""
    trial = read(home)
    if trial is None:
        return
    name, before, starts = trial["release"], trial["before"], trial["starts"]
    if linked(home) != name:
        remove(home)  # somebody has switched meanwhile: that trial is over
    elif starts < MOST_STARTS:
        write(home / TRIAL, {**trial, "starts": starts + 1})
    elif whole(home, before):
        say(f"release {name} was not healthy in {starts} starts; {before} starts again")
        write(home / GAVE_UP, {"release": name, "starts": starts})
        switch(home, before)
        remove(home)
    else:
        say(f"release {name} was not healthy in {starts} starts, but {before} is not here; it is kept")
        remove(home)


def read(home: Path) -> dict[str, Any] | None:
    """The trial; None if there is none, or none that can be read: half a file says nothing."""
    try:
        found = json.loads((home / TRIAL).read_text(encoding="utf-8"))
        good = isinstance(found["release"], str) and isinstance(found["before"], str) and found["starts"] >= 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return dict(found) if good else None


def chosen(home: Path) -> Path | None:
    """The folder of the release that starts: what the link says, or else the newest that is whole."""
    name = linked(home)
    if whole(home, name):
        return home / RELEASES / name
    try:
        folders = [folder for folder in (home / RELEASES).iterdir() if whole(home, folder.name)]
    except OSError:
        return None
    return max(folders, key=lambda folder: (folder / WRITTEN_LAST).stat().st_mtime, default=None)


def linked(home: Path) -> str:
    """The name of the release that the link names; empty where there is no such link."""
    try:
        target = (home / CURRENT).readlink()
    except OSError:
        return ""
    return target.name if target.parent.name == RELEASES else ""


def whole(home: Path, name: str) -> bool:
    """Whether a release is there: release.json is the last file of it that is written."""
    plain = name not in ("", ".", "..") and "/" not in name
    return plain and (home / RELEASES / name / WRITTEN_LAST).is_file()


def switch(home: Path, name: str) -> None:
    """Make another release the one that starts: at no instant there is no link."""
    new = home / f"{CURRENT}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(f"{RELEASES}/{name}")
    new.replace(home / CURRENT)
    sync(home)


def write(path: Path, content: dict[str, Any]) -> None:
    """A small file, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)


def remove(home: Path) -> None:
    """End a trial."""
    (home / TRIAL).unlink(missing_ok=True)
    sync(home)


def sync(folder: Path) -> None:
    """What was renamed is so after a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def say(text: str) -> None:
    """To the journal."""
    print(f"edgequilt: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
