"""Programs of the system that tests start. Without them a test is skipped, but not where everything must run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

HINT = ".ci/packages installs it"


def mosquitto() -> str:
    """The broker."""
    return _needed("mosquitto", shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"))


def postgres() -> Path:
    """The folder of PostgreSQL's programs, of its newest version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return Path(_needed("postgresql", str(found[-1]) if found else None)).parent


def _needed(name: str, found: str | None) -> str:
    if found is None:
        if os.environ.get("EDGEQUILT_ALL_PROGRAMS"):
            pytest.fail(f"{name} is not installed here, and every test must run; {HINT}")
        pytest.skip(f"{name} is not installed; {HINT}")
    return found
