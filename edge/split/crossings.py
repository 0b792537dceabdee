"""The core's door to split jobs: nothing is loaded, and nothing listened to, before there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.split.told import KINDS, SETTING
from wire.topics import parse_topic

if TYPE_CHECKING:
    from edge.core import Core
    from edge.request import Request
    from edge.split.carry import Carry
    from wire.transport import Fate

PEER = "/peer/"


class Crossings:
    """What the core tells of split jobs, and is told."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._carry: Carry | None = None  # there since the first split job

    @property
    def address(self) -> str:
        """Where boards may connect to this tail."""
        return "" if self._carry is None else self._carry.address

    def listen(self) -> None:
        """Let boards connect, where agent.toml says so."""
        if self._core.setup.config is not None and self._core.setup.config.split is not None:
            self._loaded().listen()

    def close(self) -> None:
        """The agent ends."""
        if self._carry is not None:
            self._carry.close()

    def begins(self, request: Request) -> None:
        """The worker is about to get a job."""
        if request.kind in KINDS and request.settings.get(SETTING):
            self._loaded().begin(request)

    def put_back(self) -> None:
        """The job that the worker had begins again later."""
        running = self._core.barrier.running
        self.end("" if running is None else running.id, "its board has other work")

    def end(self, job: str, reason: str) -> None:
        """Nobody waits for a job any more."""
        if self._carry is not None:
            self._carry.end(job, reason)

    def worker(self, kind: str, job: str, fields: dict[str, Any]) -> None:
        """The worker of a split job says something to the other half, has taken something of it, or has ended."""
        if self._carry is None:
            return
        if kind == "note":
            self._carry.said(job, fields)
        elif kind == "taken":
            self._carry.taken(job)
        else:
            self._carry.end(job, str(fields.get("reason") or ""))

    def hear(self, topic: str, payload: bytes) -> bool:
        """A message came; returns whether it is one of another device: without a job it is nobody's."""
        if PEER not in topic:
            return False
        address, own = parse_topic(topic), self._core.setup.voice
        if self._carry is not None and address is not None and (address.fleet, address.model) == (own.fleet, own.model):
            self._core.status.traffic.add(down=len(topic) + len(payload))
            self._carry.hear(address, payload)
        return True

    def learn(self, fate: Fate) -> None:
        """The broker says what became of a message."""
        if self._carry is not None and fate.outcome == "denied" and PEER in fate.topic:
            self._carry.denied(fate.topic)

    def connected(self) -> None:
        """Another connection stands."""
        if self._carry is not None:
            self._carry.connected()

    def look(self) -> float | None:
        """What time brings; returns in how many seconds there may be more."""
        return None if self._carry is None else self._carry.look()

    def record(self) -> dict[str, Any]:
        """For status.json."""
        return {} if self._carry is None else {"split": self._carry.record()}

    def _loaded(self) -> Carry:
        from edge.split.carry import Carry

        self._carry = self._carry or Carry(self._core)
        return self._carry
