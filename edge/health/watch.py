"""The core's eye on its board: looks once a minute, and says when there is something new."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.health.readings import Health, read_health
from edge.health.warnings import SAYS, warnings

log = logging.getLogger("edgequilt.agent")
EVERY_S = 60.0


class Watch:
    """Readings of a board and the warnings that they give.

    Args:
        folder: the state folder.
        root: where proc and sys are.
    """

    def __init__(self, folder: Path, root: Path = Path("/")) -> None:
        self._folder, self._root = folder, root
        self.health, self.warnings = Health(), frozenset[str]()
        self._looked_at = -1e9

    def look(self, now: float) -> bool:
        """Look if it is time; whether a warning began or ended."""
        if now - self._looked_at < EVERY_S:
            return False
        self._looked_at, before = now, self.warnings
        self.health = read_health(self._folder, self._root)
        self.warnings = warnings(self.health, before)
        for name in sorted(self.warnings - before):
            log.warning("%s", SAYS[name])
        for name in sorted(before - self.warnings):
            log.info("no longer: %s", SAYS[name])
        return self.warnings != before

    def record(self) -> dict[str, Any]:
        """For status.json."""
        return {"health": asdict(self.health), "warnings": sorted(self.warnings)}

    def told(self) -> dict[str, Any]:
        """For a hello: how things are now, and the warnings as they were found last."""
        self.health = read_health(self._folder, self._root)
        names = ("temperature_c", "under_voltage", "throttled", "load", "memory_available_bytes", "disk_free_bytes")
        told = {name: getattr(self.health, name) for name in (*names, "uptime_s")}
        return {**told, "warnings": tuple(sorted(self.warnings))}
