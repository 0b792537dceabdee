"""What happens to boards: a clock at 1970, no network, power cuts, a full disk, a bad bundle, a false hub.

One board lives through all of it, in this order; each story ends with a board that works. `make boot` tells them.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from devices.payload.places import COMMAND, STATE
from tests.emulated.card import bare, flashed
from tests.emulated.debian import debian
from tests.emulated.fleet import BOARD, Fleet, well
from tests.emulated.machine import Machine
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import detached
from wire.files import digest, file_digest
from wire.keys import read_private_key
from wire.manifest import File, parse_manifest, to_bytes

pytestmark = pytest.mark.boot
NAME = "barn-1"
IN_1970 = "1970-01-01T00:00:10"
SEED = 1970
# What the board has said before it is cut off, and how many seconds later at most: while it boots, claims its name,
# fetches the bundle, proves it, works.
CUTS = (
    ("Starting edgequilt-agent", 10),
    ("Started edgequilt-agent", 15),
    ("INFO connected", 4),
    ("INFO connected", 20),
    ("INFO connected", 30),
)
TRAIN = {"steps": 1, "head": True, "batch": 2, "learning_rate": 0.01}
INTEGRITY = f"""python3 -c '
import glob, json, sqlite3
found = [sqlite3.connect(p).execute("pragma integrity_check") for p in glob.glob("{STATE}/outbox/*.sqlite")]
print(json.dumps([answer.fetchone()[0] for answer in found]))'"""


@dataclass
class World:
    """A hub that can be stopped, and the board."""

    fleet: Fleet
    board: Machine
    hub: ExitStack

    def again(self) -> None:
        """The hub, on its ports, after whatever was there."""
        self.hub.enter_context(self.fleet.up())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The hub runs; the board is off, its card was never used."""
    folder = tmp_path_factory.mktemp("world")
    fleet = Fleet(folder / "fleet")
    with ExitStack() as hub:
        hub.enter_context(fleet.up())
        card = flashed(folder, fleet, NAME)
        board = Machine(debian(), card.image, folder, key=card.key, clock=IN_1970, safe=True)
        try:
            yield World(fleet, board, hub)
        finally:
            board.cut()


def status(board: Machine) -> dict[str, Any]:
    """What the agent says of itself."""
    return dict(json.loads(board.run(f"cat {STATE}/status.json")))


def journal(board: Machine) -> str:
    """The agent's log of this start."""
    return board.run("journalctl --boot --unit edgequilt-agent --output cat --no-pager")


def test_in_1970_without_a_network(world: World) -> None:
    """A first start without clock and network: the board takes the date of its flashing, and waits for its hub."""
    board = world.board
    board.networked = False
    board.start()
    board.says("the hub cannot be asked yet")
    year = int(board.run("date +%Y"))
    board.cut()
    board.networked = True
    assert year >= 2025
    assert not world.fleet.status(NAME).get("online")


def test_five_power_cuts(world: World) -> None:
    """Cut off at five instants that a seed draws, from its first start to its first jobs: nothing is torn or lost."""
    fleet, board, drawn = world.fleet, world.board, random.Random(SEED)
    number = None
    for said, most_s in CUTS:
        board.start()
        board.says(said)
        time.sleep(drawn.uniform(0, most_s))
        if number is None and fleet.status(NAME).get("bundle"):
            number = fleet.open("train", settings=TRAIN)
        board.cut()
    board.start()
    fleet.online(NAME, board)
    number = fleet.open("train", settings=TRAIN) if number is None else number
    board.until(lambda: not fleet.show(number)["open"], "the end of the round")
    assert len(fleet.show(number)["updates"]) == 1
    assert set(json.loads(board.run(INTEGRITY))) == {"ok"}
    assert "EXT4-fs error" not in board.heard()
    assert board.run("systemctl --failed --no-legend").strip() == ""


def test_a_full_disk(world: World) -> None:
    """With no byte free a job fails with a reason, and the agent stays; with room again the next one succeeds."""
    fleet, board = world.fleet, world.board
    board.run("dd if=/dev/zero of=/filled bs=1M; dd if=/dev/zero of=/filled2 bs=4k; sync; true")
    full = fleet.round("train", board.until, settings=TRAIN)
    (said,) = full["per_device"].values()
    assert (said["state"], len(full["updates"])) == ("failed", 0), said
    assert re.search(r"room|space|disk", said["reason"]), said
    board.run("rm /filled /filled2; sync")
    assert len(fleet.round("train", board.until, settings=TRAIN)["updates"]) == 1


def test_a_bad_bundle(world: World, tmp_path: Path) -> None:
    """A bundle whose golden values are others is signed and sent all the same: the board keeps the one that it has."""
    fleet, board = world.fleet, world.board
    bad = spoiled(fleet, tmp_path / "bad")
    well("hub", "add", bad, "--hub", fleet.hub)
    well("hub", "bundle", "assign", NAME, file_digest(bad / MANIFEST), "--hub", fleet.hub)
    board.until(lambda: "cannot be taken" in journal(board), "the board to refuse it")
    assert fleet.status(NAME)["bundle"] == fleet.digest
    well("hub", "bundle", "assign", NAME, fleet.digest, "--hub", fleet.hub)
    assert len(fleet.round("train", board.until, settings=TRAIN)["updates"]) == 1


def spoiled(fleet: Fleet, folder: Path) -> Path:
    """A copy of the bundle with other golden values, signed by the same publisher."""
    shutil.copytree(fleet.bundle, folder)
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    golden = folder / manifest.golden.file
    tensors = safetensors.numpy.load(golden.read_bytes())
    golden.write_bytes(safetensors.numpy.save({n: t + 1 if n.startswith("fetch/") else t for n, t in tensors.items()}))
    data = golden.read_bytes()
    new = File(manifest.golden.file, len(data), digest(data))
    files = tuple(new if file.path == new.path else file for file in manifest.files)
    body = to_bytes(dataclasses.replace(manifest, files=files))
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(read_private_key(fleet.folder / "tester.key"), body))
    return folder


def test_a_hub_of_another_authority(world: World, tmp_path: Path) -> None:
    """Whoever listens where the hub was, with other certificates, hears nothing; the board comes back to its hub."""
    fleet, board = world.fleet, world.board
    world.hub.close()
    false = Fleet(tmp_path / "false", (fleet.broker, fleet.web))
    false.enroll(NAME)
    with false.up():
        before = journal(board).count("certificate verify failed")
        board.until(lambda: journal(board).count("certificate verify failed") > before, "the board to refuse it")
        assert not false.status(NAME).get("online")
    world.again()
    fleet.online(NAME, board)
    assert status(board)["trouble"] is None


def test_install_over_ssh(world: World, tmp_path: Path) -> None:
    """A plain Debian that runs becomes an agent by one command; the second time there is nothing to do."""
    world.board.cut()
    card = bare(tmp_path)
    with Machine(debian(), card.image, tmp_path, key=card.key) as board:
        board.run("true")
        told: list[str | Path] = [
            "install",
            "root@127.0.0.1",
            "--port",
            str(board.port),
            "--identity",
            card.key,
            "--accept-new-host-key",
        ]
        told += ["--known-hosts", tmp_path / "known", "--device", BOARD, "--data", world.fleet.data]
        (tmp_path / "token").write_text(world.fleet.enroll("barn-2"))
        first = well(*told, "--hub", world.fleet.address, "--claim-file", tmp_path / "token")
        board.until(lambda: bool(world.fleet.status("barn-2")), "it to claim its name")
        # the newest bundle of its kind of board is the bad one of another story
        well("hub", "bundle", "assign", "barn-2", world.fleet.digest, "--hub", world.fleet.hub)
        world.fleet.online("barn-2", board)
        second = well(*told)
        version = board.run(f"{COMMAND} --version")
    assert (first["changed"], second["changed"]) == (True, False)
    assert version.startswith("edgequilt")
