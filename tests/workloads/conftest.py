"""Where the workloads are built, once per run."""

from __future__ import annotations

import os
from pathlib import Path

# read when the library is imported: nothing here reaches for the network
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources and raw graphs, each made when it is first asked for."""
    return tmp_path_factory.mktemp("workloads")
