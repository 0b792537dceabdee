"""The releases of the agent that lie on a board: which one starts, which one is on trial, which ones may go."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from edge.slots import launch

COMING = ".coming-"  # before the name of a release that is being unpacked


class Slots:
    """Those below a home, in the same words as the launcher's."""

    def __init__(self, home: Path) -> None:
        self.home, self.releases = home, home / launch.RELEASES

    @property
    def current(self) -> str:
        """The release that starts next."""
        return launch.linked(self.home)

    def folder(self, name: str) -> Path:
        """Where a release lies, or is to lie."""
        return self.releases / name

    def whole(self, name: str) -> bool:
        """Whether a release is there, to its last file."""
        return launch.whole(self.home, name)

    @property
    def on_trial(self) -> str:
        """The release whose starts are counted; empty: none."""
        found = launch.read(self.home)
        return "" if found is None else str(found["release"])

    @property
    def gave_up(self) -> tuple[str, int]:
        """The release that the launcher went back from, and after how many starts; empty: none."""
        try:
            found = json.loads((self.home / launch.GAVE_UP).read_text(encoding="utf-8"))
            return str(found["release"]), int(found["starts"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return "", 0

    def try_out(self, name: str, before: str) -> None:
        """Have a release start from now on, on trial."""
        launch.write(self.home / launch.TRIAL, {"release": name, "before": before, "starts": 0})
        launch.switch(self.home, name)

    def keep(self) -> None:
        """The trial is over: the release that starts stays."""
        launch.remove(self.home)

    def put_back(self, before: str) -> None:
        """Have the release before start again, and no trial; what the launcher noted is read."""
        if before and self.current != before and self.whole(before):
            launch.switch(self.home, before)
        (self.home / launch.GAVE_UP).unlink(missing_ok=True)
        launch.remove(self.home)

    def install(self, name: str, unpacked: Path) -> None:
        """Give an unpacked release its name: it is whole from one instant to the next."""
        shutil.rmtree(self.folder(name), ignore_errors=True)  # half of one, or one that was changed
        unpacked.rename(self.folder(name))
        launch.sync(self.releases)

    def drop(self, name: str) -> None:
        """Delete a release: its last file first, so that half of one never looks like one."""
        folder = self.folder(name)
        (folder / launch.WRITTEN_LAST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def collect(self, keep: set[str]) -> None:
        """Delete all releases but these and the one that starts, and what is left of half ones."""
        for folder in self.releases.glob("*"):
            if folder.name not in keep | {self.current}:
                self.drop(folder.name)
        self.sweep()

    def sweep(self) -> None:
        """Delete what was being unpacked."""
        for folder in self.releases.glob(f"{COMING}*"):
            shutil.rmtree(folder, ignore_errors=True)


def home_of(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The home that the launcher started this program from; None: it was started otherwise, and replaces nothing."""
    given = environment.get("EDGEQUILT_HOME", "")
    return Path(given) if given and launch.linked(Path(given)) else None


def running(environment: Mapping[str, str] = os.environ) -> str:
    """The release that this program is; empty: none."""
    library = Path(environment.get("PYTHONPATH", "").partition(os.pathsep)[0] or ".")
    home = environment.get("EDGEQUILT_HOME", "")
    inside = bool(home) and library.parent.parent == Path(home) / launch.RELEASES
    return library.parent.name if inside else ""
