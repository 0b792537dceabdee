"""How many rows the board has now, on the core's side: counted at the start, and again when its data has changed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.data.board import Counted, count_board
from edge.watching import Watching
from wire.bundle import MANIFEST
from wire.files import read_bytes
from wire.manifest import LIMIT_BYTES, parse_manifest

if TYPE_CHECKING:
    from edge.core import Core

log = logging.getLogger("edgequilt.agent")


class Rows:
    """What the status and the hub are told of the data; broken samples are told, and end nothing."""

    def __init__(self, core: Core) -> None:
        self._core, self.counted = core, core.setup.counted
        setup = core.setup
        watched = setup.take_part and bool(setup.place.bundle)
        self._watching = Watching(Path(setup.place.data), self._count, self._told) if watched else None
        self._tell_status()

    @property
    def settled(self) -> bool:
        """Whether nobody writes to it."""
        return self._watching is None or self._watching.settled

    def look(self, now: float) -> float | None:
        """Whether it has changed; returns when to look again, in seconds."""
        return None if self._watching is None else self._watching.look(now)

    def again(self) -> None:
        """A label was corrected."""
        if self._watching is not None:
            self._watching.again()

    def _count(self) -> Counted:
        place = self._core.setup.place
        manifest = parse_manifest(read_bytes(Path(place.bundle) / MANIFEST, "a manifest", LIMIT_BYTES))
        return count_board(Path(place.data), manifest, Path(place.corrections))

    def _told(self, found: Counted | str) -> None:
        self._core.call(lambda: self._take(found))

    def _take(self, found: Counted | str) -> None:
        """A file that is broken now was not, or not as much, before: its rows count again when it is mended."""
        found = replace(self.counted, problems=(found,), problems_in_all=1) if isinstance(found, str) else found
        if found.problems and found.problems != self.counted.problems:
            log.warning("of the data, %d things are broken: %s", found.problems_in_all, found.problems[0])
        if found.rows != self.counted.rows:
            log.info("%d rows to learn from or to keep back, %d before", found.rows, self.counted.rows)
        self.counted = found
        self._tell_status()

    def _tell_status(self) -> None:
        problems = {"problems": list(self.counted.problems), "problems_in_all": self.counted.problems_in_all}
        self._core.status.set(samples=self.counted.rows, data=problems)
