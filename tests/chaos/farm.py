"""Everything real: mosquitto with TLS and an access list, a hub, agents with workers; each can be killed alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from edge.outbox import read_receipts
from hub import authority
from hub.brokers.mosquitto import Mosquitto
from hub.brokers.rules import rules
from hub.serving import control
from hub.store import registry
from tests.chaos.link import Link
from tests.edge.boards import hub_key, make_board
from tests.edge.hub import FLEET
from tests.processes import started
from tests.programs import mosquitto
from wire.broker import Broker
from wire.keys import PrivateKey, new_key, write_key
from wire.tls import new_request

NAMES = ("barn-1", "coop-1", "mill-1")
PATIENCE_S = 90.0
TRAIN = {"steps": 2, "batch": 4, "learning_rate": 0.01}
IN_1970 = """
import sys, time
began, real = time.time(), time.time
time.time = lambda: real() - began
import edgequilt
sys.exit(edgequilt.main())
"""


@dataclass
class Program:
    """A program that can be killed and started again."""

    command: list[str]
    log: Path
    process: subprocess.Popen[str] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> Program:
        """In a session of its own, which ends with the test."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        out = self._stack.enter_context(self.log.open("a"))
        self.process = self._stack.enter_context(started(self.command, stdout=out, stderr=out, env=environment))
        return self

    def kill(self) -> None:
        """Without warning: the program alone first, as the system does it, then what it left."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
        self._stack.close()
        self.process = None

    def again(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()


class Farm:
    """A hub, a broker beside it, three agents behind one link."""

    def __init__(self, folder: Path, seed: int, hub: Path | None = None, states: dict[str, Path] | None = None) -> None:
        mosquitto()
        self.folder, self.hub_folder, self.began = folder, hub or folder / "hub", time.monotonic()
        self.random, self.states = random.Random(seed), states or {}
        self.board, self.keys = make_board(folder / "board", NAMES[0]), dict[str, PrivateKey]()
        self._make_hub()
        self._make_broker()
        self.link = Link(("127.0.0.1", self.broker.port), seed)
        self.hub = Program(self._hub_command(), folder / "hub.log").start()
        self.agents: dict[str, Program] = {}
        self.seen: dict[str, set[str]] = {name: set() for name in NAMES}
        self._watching = True
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self.ask("status")  # a hub that never was there hears nothing of what was said before it came
        self.agents = {name: self._make_agent(name) for name in NAMES}

    def _make_hub(self) -> None:
        write_key(hub_key(self.board), self.hub_folder)
        publisher = self.board.folder / "keys" / f"{self.board.publisher.public.name}.pub"
        registry.create(self.hub_folder, FLEET, [publisher], "127.0.0.1:0")
        home = registry.open_home(self.hub_folder)
        registry.add_bundle(home, self.board.bundle)
        for name in NAMES:
            self.keys[name] = self.board.key if name == NAMES[0] else new_key("device", name)
            registry.enroll(home, name, self.keys[name].public.line)
        home.ledger.close()
        self.authority = authority.create(FLEET, self.hub_folder)
        authority.issue_hub(self.authority, self.hub_folder, "way")
        told = self.hub_folder / "hub.toml"
        mine = '[broker]\nca = "ca.pem"\ncertificate = "way.pem"\nkey = "way.key"\n'
        told.write_text(told.read_text().replace("[broker]\n", mine))

    def _make_broker(self) -> None:
        place = self.folder / "broker"
        place.mkdir()
        shutil.copy(self.hub_folder / "ca.pem", place)
        authority.issue_server(self.authority, ["127.0.0.1"], place, "broker")
        self.broker = Mosquitto("127.0.0.1", 0, place, rules(FLEET, list(NAMES)))

    def _hub_command(self) -> list[str]:
        at = f"mqtts://127.0.0.1:{self.broker.port}"
        return [
            sys.executable,
            "-m",
            "edgequilt",
            "hub",
            "up",
            str(self.hub_folder),
            "--broker",
            at,
            "--web-port",
            "0",
            "--json",
        ]

    def _make_agent(self, name: str) -> Program:
        place, board = self.folder / name, self.board
        place.mkdir()
        write_key(self.keys[name], place)
        _, request = new_request(name, place)
        (place / "own.pem").write_bytes(authority.issue_device(self.authority, name, request.read_bytes()))
        keys = board.folder / "keys"
        (place / "agent.toml").write_text(
            f'[agent]\nname = "{name}"\nfleet = "{FLEET}"\nbundle = "{board.config.bundle}"\n'
            f'state = "{self.state(name)}"\ndata = "{board.config.data}"\nworker_idle_s = 60\n'
            f'[broker]\nurl = "mqtts://127.0.0.1:{self.link.port}"\nca = "{self.hub_folder / "ca.pem"}"\n'
            f'certificate = "own.pem"\nkey = "{name}.tls.key"\n'
            f'[keys]\ndevice = "{name}.key"\nhub = "{keys / "hub.pub"}"\n'
            f'publisher = "{keys / f"{board.publisher.public.name}.pub"}"\n'
        )
        return Program([sys.executable, "-m", "edgequilt", *self._run(name)], self.folder / f"{name}.log").start()

    def _run(self, name: str) -> list[str]:
        return ["agent", "run", "--config", str(self.folder / name / "agent.toml")]

    def state(self, name: str) -> Path:
        """The state folder of an agent."""
        return self.states.get(name, self.folder / name / "state")

    def in_1970(self, name: str) -> None:
        """Start an agent again, for whose Python it is the first second of 1970."""
        self.agents[name].command = [sys.executable, "-c", IN_1970, *self._run(name)]
        self.agents[name].again()

    def way_in(self, name: str) -> Broker:
        """How a device comes to the broker."""
        place = self.folder / name
        return Broker(
            "127.0.0.1",
            self.broker.port,
            True,
            self.hub_folder / "ca.pem",
            place / "own.pem",
            place / f"{name}.tls.key",
        )

    def restart_broker(self) -> None:
        """Kill the broker as a power cut would, and start it again on its port."""
        os.kill(self.broker.pid, signal.SIGKILL)
        port = self.broker.port
        self.broker.close()
        self.broker = Mosquitto("127.0.0.1", port, self.folder / "broker", rules(FLEET, list(NAMES)))

    # ------------------------------------------------------------------------------------------ rounds

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Through the hub's socket, as soon as there is one."""
        found: dict[str, Any] = {}

        def answered() -> bool:
            with suppress(EdgequiltError, OSError):
                found.update(control.ask(self.hub_folder, {"request": request, **arguments}))
            return bool(found)

        self.until(answered, f"an answer to {request}")
        return found

    def all_online(self) -> None:
        """Wait until every agent is there."""
        self.until(lambda: all(d["online"] and d["agent"] for d in self.ask("status")["devices"]), "all agents online")

    def open(self, kind: str = "train") -> int:
        """Ask all agents for something."""
        more = {"settings": TRAIN} if kind == "train" else {"recipe": {"head": "ridge"}}
        return int(self.ask("open", kind=kind, devices=list(NAMES), **more)["round"])

    def ends(self, number: int) -> None:
        """Wait for the end of a round, and until no update waits for its receipt."""
        self.until(lambda: not self.ask("show", round=number)["open"], f"the end of round {number}")
        self.until(lambda: not any(self.waiting(name) for name in NAMES), "receipts for all that waits")

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something; agents that ended by themselves are started again, as systemd would."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, (
                f"expected {what} within {PATIENCE_S:.0f} s; the logs are in {self.folder}"
            )
            for program in self.agents.values():
                if program.process is not None and program.process.poll() is not None:
                    program.again()
            time.sleep(0.1)

    def passes(self, least_s: float, most_s: float) -> None:
        """Let a random while of a round pass."""
        time.sleep(self.random.uniform(least_s, most_s))

    # ------------------------------------------------------------------------------------------- books

    def waiting(self, name: str) -> set[str]:
        """What waits in an agent's outbox: the files, whatever the agent says."""
        return {path.stem for path in (self.state(name) / "outbox").glob("*.update")}

    def receipts(self, name: str) -> list[dict[str, Any]]:
        """What an agent has receipts for."""
        return read_receipts(self.state(name))

    def _look(self) -> None:
        """Note every update that any agent ever had in its outbox: nothing of that may get lost."""
        while self._watching:
            for name in NAMES:
                self.seen[name] |= self.waiting(name)
            time.sleep(0.02)

    def books(self) -> dict[str, Any]:
        """Compare what was seen, what is receipted and what counts; nothing may be lost or counted twice."""
        home = registry.open_home(self.hub_folder, reading=True)
        try:
            rows = [row for number in range(1, home.ledger.last_round() + 1) for row in home.ledger.updates(number)]
            kept = all(home.blobs.get(row["digest"]) for row in rows)
        finally:
            home.ledger.close()
        counted = [(row["device"], row["job"], row["digest"]) for row in rows]
        held = {name: self.receipts(name) for name in NAMES}
        good = {(n, r["job"], r["digest"]) for n in NAMES for r in held[n] if r["status"] in ("accepted", "duplicate")}
        receipted = {(n, r["digest"]) for n in NAMES for r in held[n]}
        waiting = {(n, digest) for n in NAMES for digest in self.waiting(n)}
        seen = {(n, digest) for n in NAMES for digest in self.seen[n]} | receipted
        lost = (seen - receipted - waiting) | {(n, d) for n, _, d in good - set(counted)}
        return {
            "updates": len(seen),
            "receipted": len(receipted),
            "counted": len(counted),
            "refused": sum(r["status"] == "refused" for n in NAMES for r in held[n]),
            "repeats": sum(r["status"] == "duplicate" for n in NAMES for r in held[n]),
            "lost": len(lost),
            "twice": len(counted) - len(set(counted)),
            "unknown": len(set(counted) - good - {c for c in counted if (c[0], c[2]) in waiting}),
            "kept": kept,
            "core_bytes": max(self._core_bytes(name) for name in NAMES),
            "seconds": round(time.monotonic() - self.began, 1),
        }

    def _core_bytes(self, name: str) -> int:
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.state(name) / "status.json").read_text())["core_bytes"] or 0)
        return 0

    def close(self) -> None:
        """End everything that was started."""
        self._watching = False
        self._watch.join()
        for program in (*self.agents.values(), self.hub):
            program.kill()
        self.broker.close()
        self.link.close()
