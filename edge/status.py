"""`status.json` in the state folder: what the agent did and what it cost, for people, for the hub's tests, for reports.

Written whole or not at all, without waiting for the disk: a power cut may lose the last one, a reader never sees
half of one.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wire.json_text import parse_json

REMEMBERED_JOBS, REMEMBERED_ROUNDS = 200, 100
LONGEST_S = 1e10  # that is believed of a file


@dataclass
class Traffic:
    """Bytes of topics and payloads, up and down, by round; round -1 is all before the first that is remembered."""

    by_round: dict[int, list[int]] = field(default_factory=dict)
    round: int = -1

    def add(self, up: int = 0, down: int = 0) -> None:
        """Count bytes to the round that is open."""
        self._count(self.round, up, down)
        while len(self.by_round) > REMEMBERED_ROUNDS + 1:
            self._count(-1, *self.by_round.pop(min(r for r in self.by_round if r >= 0)))

    def _count(self, round_: int, up: int, down: int) -> None:
        cell = self.by_round.setdefault(round_, [0, 0])
        cell[0] += up
        cell[1] += down

    def enter(self, round_: int) -> None:
        """A job of this round came."""
        self.round = max(self.round, round_)

    @property
    def up(self) -> int:
        """All bytes sent."""
        return sum(cell[0] for cell in self.by_round.values())

    @property
    def down(self) -> int:
        """All bytes received."""
        return sum(cell[1] for cell in self.by_round.values())


@dataclass
class Status:
    """What `status.json` says."""

    path: Path
    fixed: dict[str, Any]
    traffic: Traffic = field(default_factory=Traffic)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    worker_peak_bytes: int = 0
    now: dict[str, Any] = field(default_factory=dict)
    dirty: bool = True

    def job(self, name: str, **fields: Any) -> None:
        """Note something about a job."""
        self.jobs.setdefault(name, {"job": name}).update(fields)
        while len(self.jobs) > REMEMBERED_JOBS:
            del self.jobs[next(iter(self.jobs))]
        self.worker_peak_bytes = max(self.worker_peak_bytes, int(fields.get("peak_bytes") or 0))
        self.dirty = True

    def set(self, **fields: Any) -> None:
        """Note how things are now."""
        self.now.update(fields)
        self.dirty = True

    def record(self) -> dict[str, Any]:
        """What is written."""
        return {
            **self.fixed,
            **self.now,
            "worker_peak_bytes": self.worker_peak_bytes,
            "bytes_up": self.traffic.up,
            "bytes_down": self.traffic.down,
            "bytes_by_round": {str(r): {"up": u, "down": d} for r, (u, d) in sorted(self.traffic.by_round.items())},
            "jobs": list(self.jobs.values()),
        }

    def line(self) -> str:
        """The same in a few words, for `systemctl status`."""
        released, trouble = self.now.get("released"), self.now.get("trouble")
        words = [
            "connected" if self.now.get("connected") else "not connected",
            f"model {self.fixed.get('model')}" if self.fixed.get("bundle") else "no bundle yet",
            *([f"version {released['version']}"] if released else []),
            str(self.now.get("phase", "idle")),
            *([str(trouble)] if trouble else []),
        ]
        return ", ".join(words)

    def write(self) -> None:
        """Write it; a full disk does not stop the agent."""
        temporary = self.path.with_name(f".{self.path.name}")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.path)
        self.dirty = False

    def restore(self) -> float:
        """Go on counting where an earlier start of the same agent ended; returns its `hub_silent_s`."""
        try:
            found = parse_json(self.path.read_bytes(), finite=False)
            self.worker_peak_bytes = int(found["worker_peak_bytes"])
            self.jobs = {str(j["job"]): dict(j) for j in found["jobs"]}
            silent_s = float(found.get("hub_silent_s") or 0.0)
            cells = {int(r): [int(c["up"]), int(c["down"])] for r, c in found["bytes_by_round"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return 0.0
        self.traffic = Traffic(cells, max(cells, default=-1))
        return silent_s if 0 <= silent_s < LONGEST_S else 0.0
