"""The hub's counter for releases of the agent: says to devices which one is theirs, and finds what they may fetch."""

from __future__ import annotations

import logging
from typing import Any

from hub.bundles.counter import Counter
from hub.bundles.keeping import Source
from hub.serving.post import Post
from hub.store import schema as t
from hub.store.ledger import Row
from hub.store.registry import Home
from wire import messages as m
from wire.topics import NO_MODEL
from wire.transport import Transport

log = logging.getLogger("edgequilt.hub")
FAILED = "release-"  # and the sequence: how a device names an order that it could not follow


class Programs:
    """Releases and devices of one hub. Owned by the hub's thread.

    Args:
        home: the hub's.
        transport: to the devices.
        bundles: the counter beside it, which knows where HTTPS is served.
    """

    def __init__(self, home: Home, transport: Transport, bundles: Counter) -> None:
        self.home, self._transport, self._bundles = home, transport, bundles

    def hello(self, device: Row, model: str, has: str) -> None:
        """A device said which release it is: say which one it should be.

        Also to one that is: a release on trial is healthy once it heard the hub.
        """
        row = self.home.ledger.order(device["name"])
        if row is None or not has:
            return
        program = self.home.ledger.program(row["program"])
        if program is not None and row["failed"] and program["version"] == has:
            self._note(device["name"], "")
        self.say(device["name"], model, row)

    def say(self, device: str, model: str, row: Row) -> None:
        """Name the release of a device to it, under the model that it listens to."""
        where = self._bundles.where
        if where:
            post = Post(self._transport, self.home.key, self.home.config.fleet, model or NO_MODEL)
            post.send(device, m.Program(device, row["sequence"], row["program"], where))

    def tell(self, devices: list[str]) -> None:
        """Say it to devices whose release changed; who is away hears it at its next hello."""
        for name in devices:
            device, row = self.home.ledger.device(name), self.home.ledger.order(name)
            if device is not None and row is not None and device["online"]:
                self.say(name, device["model"], row)

    def failed(self, device: Row, message: m.Failed) -> bool:
        """A device could not be its release; whether that is what it says."""
        row = self.home.ledger.order(device["name"])
        if not message.job.startswith(FAILED):
            return False
        if row is not None and message.job == f"{FAILED}{row['sequence']}" and row["failed"] != message.reason[:500]:
            log.warning("%s could not take release %s: %s", device["name"], row["program"][:12], message.reason)
            self._note(device["name"], message.reason[:500])
        return True

    def program_of(self, device: str, sha256: str) -> Row | None:
        """A release that a device may fetch: its own."""
        row = self.home.ledger.order(device)
        return self.home.ledger.program(sha256) if row is not None and row["program"] == sha256 else None

    def source(self, device: str, sha256: str) -> Source | None:
        """The stream of a release that a device may fetch."""
        row = self.home.ledger.order(device)
        program = None if row is None else self.home.ledger.program(row["program"])
        if program is None or program["stream_sha256"] != sha256:
            return None
        return Source(sha256, program["stream_bytes"], (self.home.bundles.path(sha256),))

    def _note(self, device: str, failed: str) -> None:
        with self.home.ledger.transaction() as tx:
            tx.execute(t.orders.update().where(t.orders.c.device == device).values(failed=failed))


def show(home: Home) -> list[Row]:
    """What every device is, what it should be, and how far it is."""
    rows: list[dict[str, Any]] = []
    for device in home.ledger.devices():
        row, hello = home.ledger.order(device["name"]), device["hello"] or {}
        program = None if row is None else home.ledger.program(row["program"])
        version, has = "" if program is None else program["version"], hello.get("program") or ""
        state = "" if row is None else row["failed"] or ("runs it" if has == version else "is to fetch it")
        rows.append(
            {
                "device": device["name"],
                "has": has,
                "system": hello.get("system") or "",
                "assigned": version,
                "sequence": None if row is None else row["sequence"],
                "state": state,
            }
        )
    return rows
