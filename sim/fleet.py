"""A fleet on one machine: a real hub with its broker and its server agent, real agents, as processes.

Everything is set up as a person would: keys, `hub init`, `hub add`, `hub enroll`, configuration files, programs.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import HubError, TransportError
from console.progress import progress
from hub.serving import control
from hub.serving.control import Row
from hub.store import registry
from sim.processes import Processes
from wire.files import write_atomic
from wire.keys import new_key, write_key

POLL_S = 0.25
ONLINE_S = 90.0
ROUND_S = 600.0
SERVER = "server"

AGENT_TOML = """\
[agent]
name = "{name}"
fleet = "{fleet}"
bundle = {bundle}
state = {state}
data = {data}
holdout = {holdout}
worker_idle_s = 60

[broker]
url = "mqtt://127.0.0.1:{port}"

[keys]
device = {key}
hub = {hub}
publisher = {publisher}
"""


@dataclass
class Fleet:
    """One fleet below `folder`: `hub/`, and per device a configuration, a key and a state folder."""

    folder: Path
    publisher: Path  # the .pub file whose bundles are believed
    processes: Processes
    quiet: bool = False
    name: str = "demo"
    port: int = 0

    @property
    def hub(self) -> Path:
        """The hub's folder."""
        return self.folder / "hub"

    def state(self, device: str) -> Path:
        """A device's state folder."""
        return self.folder / "devices" / device / "state"

    def prepare(self) -> None:
        """Make the hub: its key and its configuration."""
        self.port = free_port()
        registry.create(self.hub, self.name, [self.publisher], f"127.0.0.1:{self.port}")

    def join(self, device: str, bundle: Path, data: Path, holdout: float) -> Path:
        """Give a device its bundle, key and configuration, and tell the hub (which must not run yet)."""
        home = self.folder / "devices" / device
        secret, public = write_key(new_key("device", device), home)
        with closing_home(self.hub) as hub:
            registry.add_bundle(hub, bundle)
            registry.enroll(hub, device, public.read_text())
        config = home / "agent.toml"
        paths = {
            "bundle": bundle,
            "state": self.state(device),
            "data": data,
            "key": secret,
            "hub": self.hub / "hub.pub",
            "publisher": self.publisher,
        }
        quoted = {name: json.dumps(str(path.resolve()), ensure_ascii=False) for name, path in paths.items()}
        text = AGENT_TOML.format(name=device, fleet=self.name, holdout=holdout, port=self.port, **quoted)
        write_atomic(config, text.encode())
        return config

    def start(self, configs: dict[str, Path]) -> None:
        """Start the hub with the server agent, then the other agents; return when all are online."""
        told = ["--web-port", "0", "--server-agent", str(configs[SERVER])]
        child = self.processes.start("hub", ["hub", "up", str(self.hub), *told])
        self._until(lambda: control.is_running(self.hub), f"expected the hub to come up; see {child.log}", ONLINE_S)
        for device, config in configs.items():
            if device != SERVER:
                self.processes.start(device, ["agent", "run", "--config", str(config)])

        def online() -> bool:
            devices = control.ask(self.hub, {"request": "status"})["devices"]
            return {d["device"] for d in devices if d["online"]} >= set(configs)

        self._until(online, f"expected all agents online; see the logs in {self.processes.logs}", ONLINE_S)

    def round(self, kind: str, devices: Sequence[str], words: str, **request: Any) -> Row:
        """Open a round and wait for its end.

        Raises:
            HubError: it failed, or took longer than ten minutes.
        """
        found = control.ask(self.hub, {"request": "open", "kind": kind, "devices": list(devices), **request})
        deadline = time.monotonic() + ROUND_S
        with progress(words, len(devices), unit="boards", quiet=self.quiet) as bar:
            answered = 0
            while found["open"]:
                time.sleep(POLL_S)
                self.processes.check()
                found = control.ask(self.hub, {"request": "show", "round": found["round"]})
                bar.advance(found["answered"] - answered)
                answered = found["answered"]
                if time.monotonic() > deadline:
                    raise HubError(
                        f"expected round {found['round']} to end within {ROUND_S:.0f} s; see {self.processes.logs}"
                    )
        if found["state"] == "failed":
            raise HubError(f"expected round {found['round']} ({kind}) to complete, it failed: {found['sentence']}")
        return found

    def status(self, device: str) -> dict[str, Any]:
        """What a device says of itself in its `status.json`."""
        found: dict[str, Any] = json.loads((self.state(device) / "status.json").read_text())
        return found

    def _until(self, condition: Any, words: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.processes.check()
            if time.monotonic() > deadline:
                raise TransportError(f"{words} (waited {timeout_s:.0f} s)")
            time.sleep(POLL_S)


class closing_home:  # noqa: N801  # used like contextlib.closing
    """A hub's folder, opened and closed again."""

    def __init__(self, folder: Path) -> None:
        self._home = registry.open_home(folder)

    def __enter__(self) -> registry.Home:
        return self._home

    def __exit__(self, *_: object) -> None:
        self._home.ledger.close()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
