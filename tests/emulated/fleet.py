"""The hub of emulated boards, on this machine, by the command: mosquitto, HTTPS, a bundle, rounds."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.cli import export
from hub.config import FILE
from hub.serving import control
from tests.conftest import ROOT
from tests.emulated.machine import HOST, PATIENCE_S, Machine
from tests.export.models import tiny_bert
from tests.processes import started
from tests.programs import mosquitto
from wire.bundle import MANIFEST
from wire.files import file_digest
from wire.keys import new_key, write_key

COMMAND = [sys.executable, "-m", "edgequilt"]
FLEET, BOARD = "farm", "raspberry-pi-4-2gb"
COLOURS, BEASTS, LABELS = ("red", "blue"), ("cat", "dog", "tree"), ("sat", "ran", "mat")


def well(*arguments: str | Path) -> Any:
    """The command with `--json`, which must succeed; what it printed."""
    told = [*COMMAND, *map(str, arguments), "--json"]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def export_bundle(folder: Path, out: Path) -> None:
    """A tiny encoder with random weights, exported by the command for the kind of board that is emulated."""
    tiny_bert(folder / "model", layers=2)
    (folder / "labels").write_text("".join(f"{label}\n" for label in LABELS))
    told = [folder / "model", "--task", "text-classification", "--labels", folder / "labels", "--sequence", "16"]
    told += ["--micro-batches", "2", "--rank", "2", "--device", BOARD, "--key", folder / "tester.key"]
    assert export([*map(str, told), "--out", str(folder / "exported"), "--json"]) == 0
    (folder / "exported" / BOARD).rename(out)


class Fleet:
    """A hub's folder with one bundle, a publisher's key, and rows to learn from."""

    def __init__(self, folder: Path, ports: tuple[int, int] | None = None) -> None:
        mosquitto()
        folder.mkdir(exist_ok=True)
        self.folder, self.hub, self.bundle, self.data = folder, folder / "hub", folder / "bundle", folder / "data"
        self.broker, self.web = ports or (_free_port(), _free_port())
        write_key(new_key("publisher", "tester"), folder)
        export_bundle(folder, self.bundle)
        self.data.mkdir()
        rows = [{"text": f"the {a} {b} {c}", "label": c} for a in COLOURS for b in BEASTS for c in LABELS]
        (self.data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        listen = f"127.0.0.1:{self.broker}"
        well("hub", "init", self.hub, "--fleet", FLEET, "--publisher", self.trust, "--listen", listen)
        text = (self.hub / FILE).read_text().replace("127.0.0.1:8884", f"127.0.0.1:{self.web}")
        (self.hub / FILE).write_text(text.replace('# hosts = ["hub.example"]', f'hosts = ["{HOST}"]'))
        well("hub", "add", self.bundle, "--hub", self.hub)

    @property
    def trust(self) -> Path:
        """The publisher's public half."""
        return self.folder / "tester.pub"

    @property
    def digest(self) -> str:
        """What the bundle is called."""
        return file_digest(self.bundle / MANIFEST)

    @property
    def address(self) -> str:
        """Where a board finds it."""
        return f"mqtts://{HOST}:{self.broker}"

    @contextmanager
    def up(self) -> Iterator[None]:
        """The hub, ready."""
        command = [*COMMAND, "hub", "up", str(self.hub), "--broker", "mosquitto", "--json"]
        with (self.folder / "hub.log").open("a") as log, started(command, stdout=subprocess.PIPE, stderr=log) as hub:
            assert hub.stdout is not None
            ready = json.loads(hub.stdout.readline())
            assert (ready["tls"], ready["web"]) == (True, f"127.0.0.1:{self.web}")
            yield
            hub.terminate()
            assert hub.wait(60) == 0

    def enroll(self, name: str) -> str:
        """A token for a new board."""
        (made,) = well("hub", "enroll", name, "--hub", self.hub)["tokens"]
        return str(made["token"])

    def status(self, name: str) -> dict[str, Any]:
        """What the hub knows of a device."""
        found = control.ask(self.hub, {"request": "status"})["devices"]
        return next((dict(device) for device in found if device["device"] == name), {})

    def online(self, name: str, machine: Machine, patience_s: float = PATIENCE_S) -> None:
        """Wait until a board has said hello, with a bundle."""
        machine.until(lambda: self._hears(name), f"{name} online with a bundle", patience_s)

    def _hears(self, name: str) -> bool:
        found = self.status(name)
        return bool(found.get("online") and found.get("bundle"))

    def open(self, kind: str, **more: Any) -> int:
        """Ask all boards for something."""
        return int(control.ask(self.hub, {"request": "open", "kind": kind, **more})["round"])

    def show(self, number: int) -> dict[str, Any]:
        """A round."""
        return control.ask(self.hub, {"request": "show", "round": number})

    def round(self, kind: str, wait: Callable[[Callable[[], bool], str], None], **more: Any) -> dict[str, Any]:
        """Ask all boards for something; the round when it is over."""
        number = self.open(kind, **more)
        wait(lambda: not self.show(number)["open"], f"the end of round {number}")
        return self.show(number)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
