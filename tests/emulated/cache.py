"""What takes long to make and seldom changes: kept in build/ under a name that its recipe decides."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

CACHE = ROOT / "build" / "emulated"


def kept(kind: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """A folder that was made by that recipe, now or in an earlier run; those of other recipes go.

    Args:
        kind: beginning of its name.
        recipe: everything that decides what is in it.
        make: is told a path where there is nothing, and puts the folder there.
    """
    folder = CACHE / f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the same run may want it at the same time
        if not folder.exists():
            for old in CACHE.glob(f"{kind}-*"):
                shutil.rmtree(old)
            making = CACHE / f"{kind}-making"
            make(making)
            making.rename(folder)
    return folder
