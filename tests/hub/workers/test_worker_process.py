"""The real program: a hub and `edgequilt hub worker` over mosquitto and PostgreSQL, workers killed without warning."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.hub.conftest import prepared
from tests.hub.serving.test_process import Fleet
from tests.processes import started
from wire.messages import Receipt

pytestmark = [pytest.mark.fleet, pytest.mark.postgresql]


class Crew:
    """Workers as processes."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack, self.all = folder, stack, list[subprocess.Popen[str]]()

    def start(self) -> dict[str, Any]:
        """Another one; returns what it says when it is ready."""
        command = [sys.executable, "-m", "edgequilt", "hub", "worker", str(self.folder), "--json"]
        process = self._stack.enter_context(started(command, stdout=subprocess.PIPE))
        self.all.append(process)
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    def kill(self) -> None:
        """The first of them, without warning."""
        self.all[0].send_signal(signal.SIGKILL)
        self.all.pop(0).wait()


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A hub over mosquitto and PostgreSQL, and three devices."""
    made = Fleet(tmp_path, "mosquitto", prepared(request))
    made.flow(lambda: all(d["online"] for d in made.hub.ask("status")["devices"]))
    yield made
    made.close()


@pytest.fixture
def crew(fleet: Fleet) -> Iterator[Crew]:
    """Two workers that the hub knows of."""
    with ExitStack() as stack:
        made = Crew(fleet.folder, stack)
        names = {made.start()["worker"], made.start()["worker"]}
        fleet.flow(lambda: {w["worker"] for w in fleet.hub.ask("status")["workers"]} == names)
        yield made


def receipts(fleet: Fleet) -> list[Receipt]:
    """All that the devices got."""
    return [receipt for device in fleet.devices.values() for receipt in device.receipts]


def test_updates_go_through_workers(fleet: Fleet, crew: Crew) -> None:
    """Three devices' updates are taken in by two workers and counted by the hub, which hears none of them."""
    number = fleet.hub.ask("open", kind="train")["round"]
    fleet.flow(lambda: not fleet.hub.ask("status")["rounds_open"])

    shown = fleet.hub.ask("show", round=number)
    assert sorted(u["device"] for u in shown["updates"]) == ["barn", "coop", "mill"]
    fleet.flow(lambda: sum(w["taken"] for w in fleet.hub.ask("status")["workers"]) >= 3)
    assert {r.status for r in receipts(fleet)} <= {"accepted", "duplicate"}


def test_a_killed_worker_loses_nothing(fleet: Fleet, crew: Crew) -> None:
    """With one of two workers killed while updates come, and then the other, the hub still counts each once."""
    number = fleet.hub.ask("open", kind="train")["round"]
    fleet.flow(lambda: any(d.sent for d in fleet.devices.values()))
    crew.kill()
    crew.start()
    crew.kill()
    fleet.flow(lambda: not fleet.hub.ask("status")["rounds_open"])

    shown = fleet.hub.ask("show", round=number)
    assert sorted(u["device"] for u in shown["updates"]) == ["barn", "coop", "mill"]


def test_a_worker_needs_a_ledger_that_it_can_share(tmp_path: Path) -> None:
    """Over a SQLite file there are no workers, and a sentence says so."""
    told = [sys.executable, "-m", "edgequilt", "hub"]
    subprocess.run([*told, "init", str(tmp_path / "hub")], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    done = subprocess.run(
        [*told, "worker", str(tmp_path / "hub")], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "expected the ledger in PostgreSQL" in done.stderr


def test_a_worker_needs_shared_subscriptions(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The embedded broker has none, and a sentence says so."""
    made = Fleet(tmp_path, "amqtt", prepared(request))
    command = [sys.executable, "-m", "edgequilt", "hub", "worker", str(made.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    made.close()
    assert done.returncode != 0
    assert "expected a broker with shared subscriptions" in done.stderr
    assert "MQTT 3.1.1" in done.stderr
