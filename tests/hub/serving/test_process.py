"""The real program: `edgequilt hub up` over real MQTT, killed without warning and started again."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.authority import issue_device, load
from hub.config import FILE
from hub.serving import control
from hub.store import registry
from tests.conftest import ROOT
from tests.fleet import Device, nudge
from tests.hub.bundles import FEATURES, LABELS, manifest, write_bundle
from tests.hub.world import RANKS
from tests.programs import mosquitto
from wire.broker import Broker
from wire.keys import PrivateKey, new_key, read_public_key, write_key
from wire.mqtt import MqttTransport
from wire.tls import new_request

pytestmark = pytest.mark.fleet
PATIENCE_S = 60.0


class Program:
    """`edgequilt hub up` as a process of its own."""

    def __init__(self, folder: Path, port: int = 0, broker: str = "amqtt") -> None:
        self.folder, self.broker = folder, broker
        told = ["--port", str(port), "--web-port", "0", "--broker", broker, "--json"]
        command = [sys.executable, "-m", "edgequilt", "hub", "up", str(folder), *told]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Through the local socket."""
        return control.ask(self.folder, {"request": request, **arguments})

    def kill(self) -> None:
        """Without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """As systemd would; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=20)


class Fleet:
    """Three devices over MQTT; `flow` lets them work on this thread until something holds."""

    def __init__(self, folder: Path, broker: str, database: str = "") -> None:
        if broker == "mosquitto":
            mosquitto()
        self.folder = folder / "hub"
        publisher = new_key("publisher", "acme")
        _, public = write_key(publisher, folder)
        registry.create(self.folder, "farm", [public], "127.0.0.1:0")
        if database:
            told = self.folder / FILE
            told.write_text(told.read_text().replace("[database]\n", f'[database]\nurl = "{database}"\n'))
        home = registry.open_home(self.folder)
        registry.add_bundle(home, write_bundle(folder / "bundle", publisher, *manifest()))
        self.keys = {name: new_key("device", name) for name in RANKS}
        for name, key in self.keys.items():
            registry.enroll(home, name, key.public.line)
        home.ledger.close()
        self.hub = Program(self.folder, broker=broker)
        self.calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self.devices = {name: self.join(name, key, i) for i, (name, key) in enumerate(self.keys.items())}

    def join(self, name: str, key: PrivateKey, index: int) -> Device:
        """A device whose messages are handled by `flow`."""
        g = np.random.default_rng(index)
        classes = np.array([index] * 12 + [(index + 1) % len(LABELS)])
        features = g.standard_normal((len(classes), FEATURES)).astype(np.float32)
        features[np.arange(len(classes)), classes] += 6
        transport = MqttTransport(self.way_in(name), f"test-{name}")
        device = Device(
            name, key, read_public_key(self.folder / "hub.pub", "hub"), "farm", "tiny", transport, RANKS[name],
            features, classes, len(LABELS), nudge(index),
        )  # fmt: skip
        take, connected = device.handle, device.connected
        device.handle = lambda topic, payload: self.calls.put(lambda: take(topic, payload))  # type: ignore[method-assign]
        device.connected = lambda up: self.calls.put(lambda: connected(up))  # type: ignore[method-assign]
        device.start()
        return device

    def way_in(self, name: str) -> Broker:
        """How a device comes to the broker: with a certificate of its own, where the broker asks for one."""
        plain = Broker("127.0.0.1", self.hub.ready["port"])
        if not self.hub.ready["tls"]:
            return plain
        key, request = new_request(name, self.folder.parent)
        certificate = self.folder.parent / f"{name}.pem"
        certificate.write_bytes(issue_device(load(self.folder), name, request.read_bytes()))
        return replace(plain, tls=True, ca=self.folder / "ca.pem", certificate=certificate, key=key)

    def flow(self, until: Callable[[], bool]) -> None:
        """Make the devices' calls until something holds; what has no receipt is sent again every second."""
        deadline, again = time.monotonic() + PATIENCE_S, time.monotonic() + 1
        while not until():
            assert time.monotonic() < deadline, "it took too long"
            with contextlib.suppress(queue.Empty):
                self.calls.get(timeout=0.1)()
            if time.monotonic() > again:
                again = time.monotonic() + 1
                for device in self.devices.values():
                    device.work()
                    device.retry()

    def close(self) -> None:
        """End everything that was started."""
        for device in self.devices.values():
            device.transport.close()
        if self.hub.process.poll() is None:
            self.hub.kill()


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A hub and three devices, all online; the broker is the embedded one, unless a test asks for another."""
    made = Fleet(tmp_path, getattr(request, "param", "amqtt"))
    made.flow(lambda: all(d["online"] for d in made.hub.ask("status")["devices"]))
    yield made
    made.close()


@pytest.mark.parametrize("fleet", ["amqtt", "mosquitto"], indirect=True)
def test_a_killed_hub_goes_on(fleet: Fleet) -> None:
    """Killed between two updates and started again, the hub completes the round; no receipt was a lie."""
    fleet.hub.ask("open", kind="statistics")
    fleet.flow(lambda: not fleet.hub.ask("show", round=1)["open"])
    for name in ("coop", "mill"):
        fleet.devices[name].jobs_held = True
    fleet.hub.ask("open", kind="train", devices=sorted(RANKS))
    fleet.flow(lambda: fleet.hub.ask("show", round=2)["answered"] == 1 and len(fleet.devices["barn"].receipts) == 2)

    fleet.hub.kill()
    for device in fleet.devices.values():
        device.jobs_held = False
    fleet.hub = Program(fleet.folder, fleet.hub.ready["port"], fleet.hub.broker)
    fleet.flow(lambda: not fleet.hub.ask("show", round=2)["open"])

    found = fleet.hub.ask("show", round=2)
    assert (found["state"], found["answered"], found["version"]["version"]) == ("complete", 3, 2)
    fleet.flow(lambda: all(d.outbox == {} for d in fleet.devices.values()))
    for name, device in fleet.devices.items():
        sent = {s.begin.update for s in device.sent.values() if s.begin.round == 2}
        assert sent == {found["per_device"][name]["update"]}
        assert {r.status for r in device.receipts} <= {"accepted", "duplicate"}
    assert fleet.hub.end() == 0


@pytest.mark.parametrize(
    "mode", [{"laps": 2}, {"mode": "buffered", "buffer": 2, "laps": 4}], ids=["synchronous", "buffered"]
)
def test_rounds_of_several_versions_over_a_broker(fleet: Fleet, mode: dict[str, Any]) -> None:
    """Over a real broker, too, each receipted update is in one version, and all versions are made."""
    fleet.hub.ask("open", kind="train", **mode)
    fleet.flow(lambda: not fleet.hub.ask("show", round=1)["open"])
    fleet.flow(lambda: all(d.outbox == {} for d in fleet.devices.values()))

    found = fleet.hub.ask("show", round=1)
    assert (found["state"], found["lap"], found["version"]["version"]) == ("complete", mode["laps"], mode["laps"])
    assert {u["lap"] for u in found["updates"]} == set(range(mode["laps"]))
    counted = [u["digest"] for u in found["updates"]]
    answers = [r for d in fleet.devices.values() for r in d.receipts if r.status != "refused"]
    assert len(set(counted)) == len(counted)
    assert {r.update for r in answers} == set(counted)


def test_the_command_line_from_init_to_round(fleet: Fleet, tmp_path: Path) -> None:
    """The verbs print JSON that can be read, wait for a round, and say what failed with an exit code."""

    def run(*arguments: str) -> tuple[int, Any, str]:
        command = [sys.executable, "-m", "edgequilt", "hub", *arguments]
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "EDGEQUILT_HUB": str(fleet.folder)},
        )  # fmt: skip
        fleet.flow(lambda: child.poll() is not None)
        out, err = child.communicate()
        return child.returncode, json.loads(out) if out.startswith("{") else out, err

    code, done, _ = run("round", "open", "--kind", "statistics", "--wait", "--json")
    assert (code, done["state"], done["released"]) == (0, "complete", True)
    code, judged, _ = run("round", "open", "--kind", "evaluate", "--split", "all", "--ranks", "2,8", "--wait", "--json")
    assert (code, judged["settings"]) == (0, {"split": "all", "ranks": [2, 8]})
    assert set(judged["scores"]) == set(RANKS)
    code, text, _ = run("status")
    assert code == 0
    assert "model tiny: tip version 1, released version 1" in text
    code, text, _ = run("round", "show", "1")
    assert "round 1 (statistics): complete" in text
    code, _, words = run("round", "show", "9")
    assert (code, words) == (
        16, "edgequilt: expected a round of 1 to 2, found 9; see `edgequilt hub round list`\n"
    )  # fmt: skip
    code, _, words = run("round", "open", "--kind", "train", "--devices", "barn,hill")
    assert code == 16
    assert "expected enrolled devices of model tiny, found hill" in words
    code, found, _ = run("adapter", "export", "--base", "tiny", "--out", str(tmp_path / "out"), "--json")
    assert (code, found["version"]) == (0, 1)
    code, _, words = run("up", str(fleet.folder), "--port", "0")
    assert code == 16
    assert "found a hub running on it" in words

    code, found, _ = run("group", "add", "canary", "coop", "barn", "--json")
    assert (code, found) == (0, {"groups": {"canary": ["barn", "coop"]}})
    code, text, _ = run("tag", "list")
    assert (code, text) == (0, "no tag yet\n")
    code, trained, _ = run(
        "round", "open", "--kind", "train", "--group", "canary", "--mode", "buffered", "--buffer", "1", "--laps", "3",
        "--then", "statistics", "--wait", "--json",
    )  # fmt: skip
    assert (code, trained["lap"], set(trained["per_device"])) == (0, 3, {"barn", "coop"})
    fleet.flow(lambda: not fleet.hub.ask("show", round=4)["open"])
    code, text, _ = run("round", "list")
    assert "buffered" in text
    code, _, words = run("round", "open", "--kind", "train", "--mode", "buffered", "--over", "0.5")
    assert "expected over-selection in a synchronous round, found a buffered one; leave out --over" in words

    assert fleet.hub.end() == 0
    code, _, words = run("status")
    assert code == 16
    assert "found none; start it with `edgequilt hub up" in words


def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A hub that cannot start says so with an exit code, and leaves neither socket nor agent behind."""
    registry.create(tmp_path / "hub", "farm", [], "127.0.0.1:0")
    command = [sys.executable, "-m", "edgequilt", "hub", "up", str(tmp_path / "hub"), "--web-port", "0"]
    command += ["--server-agent", "none.toml"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "expected the server agent's configuration at none.toml, found none" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "hub" / "control.path").exists()
