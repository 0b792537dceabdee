"""Where the workloads are built, once per run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# read when the library is imported: nothing here reaches for the network
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from tests.workloads.exported import Exported, export_unequal
from tests.workloads.registry import CARRIED, Workload

QUICK = ("spiking", "lstm")  # these two go with the fast tests
PARAMS = [
    pytest.param(workload, id=workload.name, marks=() if workload.name in QUICK else pytest.mark.heavy)
    for workload in CARRIED
]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources and raw graphs, each made when it is first asked for."""
    return tmp_path_factory.mktemp("workloads")


@pytest.fixture(scope="session", params=PARAMS)
def exported(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exported]:
    """The bundles of one workload; gone when its tests are done."""
    workload: Workload = request.param
    out = tmp_path_factory.mktemp(workload.name)
    yield export_unequal(workload, built, out)
    shutil.rmtree(out)
