"""The hub's counter for bundles: says to devices which one is theirs, and finds the files that they may fetch."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.bundles.assigning import assigned
from hub.bundles.keeping import Checked, Source, sources
from hub.identity.grant import addresses
from hub.serving.post import Post
from hub.store import schema as t
from hub.store.ledger import Row
from hub.store.registry import Home
from wire import messages as m
from wire.manifest import parse_manifest
from wire.topics import NO_MODEL
from wire.transport import Transport

log = logging.getLogger("edgequilt.hub")
FETCHES_KEPT = 200
FAILED = "bundle-"  # and the sequence: how a device names an assignment that it could not take


@dataclass(frozen=True)
class Fetch:
    """A file that a device fetched, or a part of one."""

    device: str
    file: str
    start: int
    bytes: int
    of: int


class Counter:
    """Bundles and devices of one hub. Owned by the hub's thread, but for `checked` and `fetches`."""

    def __init__(self, home: Home, transport: Transport, clock: Callable[[], float]) -> None:
        self.home, self.transport, self.clock = home, transport, clock
        self.checked = Checked()
        self.fetches: deque[Fetch] = deque(maxlen=FETCHES_KEPT)
        self.port = 0  # where HTTPS is served; 0: nowhere, and then no device is told of a bundle
        self._files: dict[str, dict[str, Source]] = {}  # of a bundle, by digest

    def hello(self, device: Row, model: str, has: str) -> None:
        """A device said which bundle it has: say which one it should have."""
        row = assigned(self.home, device, has, self.clock())
        if row is not None:
            if row["bundle"] == has and row["failed"]:
                self._note(device["name"], "")
            self.say(device["name"], model, row)

    def say(self, device: str, model: str, row: Row) -> None:
        """Name the bundle of a device to it, under the model that it listens to."""
        bundle = self.home.ledger.bundle(row["bundle"])
        if bundle is None or not self.port:
            return
        post = Post(self.transport, self.home.key, self.home.config.fleet, model or NO_MODEL)
        post.send(device, m.Assignment(device, row["sequence"], bundle["model"], bundle["sha256"], self.where))

    def tell(self, devices: list[str]) -> None:
        """Say it to devices whose assignment changed; who is away hears it at its next hello."""
        for name in devices:
            device, row = self.home.ledger.device(name), self.home.ledger.assignment(name)
            if device is not None and row is not None and device["online"]:
                self.say(name, device["model"], row)

    def added(self) -> None:
        """There is a new bundle: devices that wait for one may get it."""
        for device in self.home.ledger.devices():
            hello = device["hello"] or {}
            if device["online"] and not device["revoked"] and hello and not hello.get("bundle"):
                self.hello(device, device["model"], "")

    def failed(self, device: Row, message: m.Failed) -> bool:
        """A device could not take its bundle; whether that is what it says."""
        row = self.home.ledger.assignment(device["name"])
        if not message.job.startswith(FAILED):
            return False
        if row is not None and message.job == f"{FAILED}{row['sequence']}":
            log.warning("%s could not take bundle %s: %s", device["name"], row["bundle"][:12], message.reason)
            self._note(device["name"], message.reason[:500])
        return True

    def bundle_of(self, device: str, bundle: str) -> Row | None:
        """A bundle that a device may fetch: its own, or the one that it runs."""
        return self.home.ledger.bundle(bundle) if bundle in self._of(device) else None

    def source(self, device: str, sha256: str) -> Source | None:
        """A file of a bundle that a device may fetch."""
        for bundle in self._of(device):
            found = self._sources(bundle).get(sha256)
            if found is not None:
                return found
        return None

    def fetched(self, device: str, file: str, start: int, count: int, of: int) -> None:
        """A file went out, or a part of it; called by the threads that serve."""
        self.fetches.append(Fetch(device, file, start, count, of))

    def _of(self, name: str) -> list[str]:
        row, device = self.home.ledger.assignment(name), self.home.ledger.device(name)
        has = ((device or {}).get("hello") or {}).get("bundle") or ""
        return [digest for digest in (row["bundle"] if row else "", has) if digest]

    def _sources(self, bundle: str) -> dict[str, Source]:
        if bundle not in self._files:
            row = self.home.ledger.bundle(bundle)
            if row is None:
                return {}
            files = parse_manifest(row["manifest"], "a bundle in the ledger").files
            listed = [(file.path, file.sha256, file.bytes) for file in files]
            self._files[bundle] = sources(self.home.bundles, Path(row["folder"]), listed)
        return self._files[bundle]

    @property
    def where(self) -> tuple[str, ...]:
        """Where the device finds the broker, then what hub.toml names; nothing while HTTPS is not served."""
        if not self.port:
            return ()
        return (f":{self.port}", *addresses(self.home.config, f"localhost:{self.port}"))

    def _note(self, device: str, failed: str) -> None:
        with self.home.ledger.transaction() as tx:
            tx.execute(t.assignments.update().where(t.assignments.c.device == device).values(failed=failed))


def show(counter: Counter) -> list[Row]:
    """What every device gets, and how far it is."""
    rows: list[dict[str, Any]] = []
    for device in counter.home.ledger.devices():
        row, hello = counter.home.ledger.assignment(device["name"]), device["hello"] or {}
        has = hello.get("bundle") or ""
        state = "" if row is None else "runs it" if has == row["bundle"] else row["failed"] or "is to fetch it"
        rows.append(
            {
                "device": device["name"],
                "has": has,
                "assigned": "" if row is None else row["bundle"],
                "sequence": None if row is None else row["sequence"],
                "why": "" if row is None else row["why"],
                "state": state,
            }
        )
    return rows
