"""A card is written, an arm64 board boots from it, and becomes an agent that its hub can work with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.payload.places import CLAIM, COMMAND, STATE
from tests.conftest import ROOT
from tests.emulated.card import flashed
from tests.emulated.debian import debian
from tests.emulated.fleet import Fleet
from tests.emulated.machine import Machine
from tests.programs import mosquitto, qemu_system, ssh_client

pytestmark = pytest.mark.boot
NAME = "barn-1"
PROMPT = "the red cat ran"
NEAR = 1e-4  # of float32 on another processor; the bundle's own tolerance
CORE_BYTES = 35 << 20  # the bar of an idle core
TRAIN = {"steps": 1, "head": True, "batch": 2, "learning_rate": 0.01}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A hub with a bundle for the board."""
    qemu_system()
    mosquitto()
    ssh_client()
    folder = tmp_path / "fleet"
    folder.mkdir()
    return Fleet(folder)


def outputs(said: str) -> dict[str, np.ndarray]:
    """What `edgequilt run --json` printed."""
    return {name: np.array(value) for name, value in json.loads(said)["outputs"].items()}


def here(fleet: Fleet) -> dict[str, np.ndarray]:
    """What this machine makes of the prompt."""
    told = ["run", str(fleet.bundle), "--trust", str(fleet.trust), "--prompt", PROMPT, "--json"]
    command = [sys.executable, "-m", "edgequilt", *told]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=400)
    return outputs(done.stdout)


def test_from_a_card_to_an_update(fleet: Fleet, tmp_path: Path) -> None:
    """A board that was only switched on claims its name, fetches its bundle, computes what x86 does, and trains."""
    with fleet.up():
        card = flashed(tmp_path, fleet, NAME)
        with Machine(debian(), card.image, tmp_path, key=card.key) as board:
            fleet.online(NAME, board)
            found = outputs(
                board.run(f"test ! -e {CLAIM} && {COMMAND} run {STATE}/bundles/* --prompt '{PROMPT}' --json")
            )
            for name, wanted in here(fleet).items():
                assert np.abs(found[name] - wanted).max() <= NEAR * max(1.0, np.abs(wanted).max()), name
            done = fleet.round("train", board.until, settings=TRAIN)
            status: dict[str, Any] = json.loads(board.run(f"cat {STATE}/status.json"))
    (update,), (job,) = done["updates"], status["jobs"]
    assert (update["device"], update["digest"], job["state"]) == (NAME, job["update"], "accepted")
    assert (job["steps"], job["samples"], status["mqtt"], status["waiting"]) == (1, job["samples"], "5", 0)
    assert job["loss_first"] == pytest.approx(np.log(3))  # the head begins with zeros: three classes are alike
    assert status["core_bytes"] <= CORE_BYTES
