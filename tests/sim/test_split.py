"""A fleet as people run it: boards that hold fronts of different depth, tails on servers; one tail is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.making import versions
from hub.serving import control
from sim.fleet import SERVER, Fleet, closing_home
from sim.processes import Processes
from tests.conftest import ROOT
from tests.export.models import tiny_bert
from tests.export.split_case import DEEP, SHALLOW, SplitBundles, split_bundles
from wire.keys import write_key

LABELS = ("good", "bad")
WORDS = {"good": ("sun", "leaf"), "bad": ("sea", "red")}
ROUND_S = 240.0
STAY, LOCAL = ("--labels", "stay", "--coding", "float16"), ("--split-mode", "local")

pytestmark = pytest.mark.fleet


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> SplitBundles:
    """Fronts that end in the first and the third layer of a BERT of four, and the tail of both."""
    folder = tmp_path_factory.mktemp("split")
    model = tiny_bert(folder / "model", layers=4)
    return split_bundles(folder / "out", str(model), "text-classification", LABELS, (50, 110))


def rows(path: Path, count: int, seed: int) -> Path:
    """Texts whose words tell their class."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for _ in range(count):
            label = draw.choice(LABELS)
            text = " ".join(draw.choice((*WORDS[label], "blue")) for _ in range(5))
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    return path


@contextmanager
def fleet_of(folder: Path, bundles: SplitBundles, tails: tuple[str, ...]) -> Iterator[Fleet]:
    """Hub, broker, tails (the first is the server agent) and both boards."""
    folder.mkdir(parents=True, exist_ok=True)
    _, public = write_key(bundles.key, folder / "keys")
    with Processes(folder / "logs") as processes:
        fleet = Fleet(folder / "fleet", public, processes, quiet=True)
        fleet.prepare()
        held = {**dict.fromkeys(tails, bundles.tail), SHALLOW: bundles.shallow, DEEP: bundles.deep}
        configs = {}
        for seed, (name, bundle) in enumerate(held.items()):
            told = SERVER if name == tails[0] else name
            configs[told] = fleet.join(name, bundle.folder, rows(folder / f"{name}.jsonl", 24, seed), 0.2)
        child = processes.start(
            "hub", ["hub", "up", str(fleet.hub), "--web-port", "0", "--server-agent", str(configs[SERVER])]
        )
        fleet._until(lambda: control.is_running(fleet.hub), f"expected the hub to come up; see {child.log}", 90)
        for name in (name for name in configs if name != SERVER):
            processes.start(name, ["agent", "run", "--config", str(configs[name])])
        fleet._until(lambda: online(fleet) >= set(held), "expected all agents online", 90)
        yield fleet


def online(fleet: Fleet) -> set[str]:
    """Devices that are there."""
    return {d["device"] for d in control.ask(fleet.hub, {"request": "status"})["devices"] if d["online"]}


def open_round(fleet: Fleet, *more: str) -> dict[str, Any]:
    """`edgequilt hub round open`, as somebody types it."""
    asked = ["round", "open", "--kind", "train", "--devices", f"{SHALLOW},{DEEP}", "--batch", "4", "--train-head"]
    command = [sys.executable, "-m", "edgequilt", "hub", *asked, "--learning-rate", "0.02", *more]
    found = subprocess.run(
        [*command, "--hub", str(fleet.hub), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ROUND_S,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    made: dict[str, Any] = json.loads(found.stdout)
    return made


def ladder(fleet: Fleet) -> dict[str, Any]:
    """The factors of the newest version, by slot."""
    with closing_home(fleet.hub) as home:
        row = home.ledger.version(home.ledger.tip(home.ledger.models()[0]["model"]))
        assert row is not None
        return versions.read_ladder(versions.read_made(row).version, home.blobs)


def test_fronts_of_two_depths_learn_with_a_tail(tmp_path: Path, bundles: SplitBundles) -> None:
    """The loss falls over two rounds, and every slot of the model has learned from somebody."""
    with fleet_of(tmp_path, bundles, ("hall",)) as fleet:
        first = open_round(fleet, "--steps", "20", "--wait")
        second = open_round(fleet, "--steps", "20", "--wait")
        others = [open_round(fleet, "--steps", "6", "--wait", *more) for more in (STAY, LOCAL)]
    assert all(found["state"] == "complete" for found in (first, second, *others))
    for found in others:
        for seat in found["per_device"].values():
            assert sorted(seat["halves"]) == ["front", "tail"], seat["reason"]
    assert others[1]["per_device"][DEEP]["metrics"]["crossed_down_bytes"] == 0
    for name in (SHALLOW, DEEP):
        seat = second["per_device"][name]
        assert (seat["state"], sorted(seat["halves"]), seat["tail"]) == ("arrived", ["front", "tail"], "hall")
        assert seat["metrics"]["loss_last"] < 0.9 * first["per_device"][name]["metrics"]["loss_first"]
        assert seat["metrics"]["crossed_up_bytes"] > 0
    assert all(np.abs(lora.b).max() > 0 for lora in ladder(fleet).values())
    assert len(ladder(fleet)) == len(bundles.tail.manifest.slots_of("lora"))


def test_boards_of_a_killed_tail_go_on_with_another(tmp_path: Path, bundles: SplitBundles) -> None:
    """Killed in the middle of a round: its boards are asked again with the other one, and the round is whole."""
    with fleet_of(tmp_path, bundles, ("hall", "annex")) as fleet:
        number = open_round(fleet, "--steps", "200")["round"]

        def seats() -> dict[str, Any]:
            found: dict[str, Any] = control.ask(fleet.hub, {"request": "show", "round": number})
            return found

        fleet._until(
            lambda: any(s.get("tail") == "annex" for s in seats()["per_device"].values()), "no board at annex", 30
        )
        served = [name for name, seat in seats()["per_device"].items() if seat["tail"] == "annex"]
        fleet._until(
            lambda: any(job["state"] == "computing" for job in fleet.status("annex").get("jobs", [])), "idle", 60
        )
        victim = next(child for child in fleet.processes.children if child.name == "annex")
        fleet.processes.children.remove(victim)
        os.killpg(victim.process.pid, signal.SIGKILL)
        victim.process.wait()
        ends = time.monotonic() + ROUND_S
        while (found := seats())["open"] and time.monotonic() < ends:
            time.sleep(0.5)
    assert found["state"] == "complete", found["sentence"]
    assert served
    for name in (SHALLOW, DEEP):
        seat = found["per_device"][name]
        assert (seat["state"], sorted(seat["halves"]), seat["tail"]) == ("arrived", ["front", "tail"], "hall")
    assert all(found["per_device"][name]["moved"] for name in served)
