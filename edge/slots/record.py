"""What an agent knows of the release that its hub names: `program.json` in the state folder.

It is synced before anything is done because of it. Releases of the agent before and after an update read the same file.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from console.errors import BadData, EdgequiltError
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.messages import Program
from wire.record import at_least, plain, read_record

log = logging.getLogger("edgequilt.agent")
RECORD = "program.json"
LONGEST = 500

# the states of an update, in their order; an empty one is none
FETCH, VERIFY, UNPACK, PROVE, SWITCH = "fetch", "verify", "unpack", "prove", "switch"
TRIAL, COMMIT, BACK = "trial", "commit", "back"
CHILD = (FETCH, VERIFY, UNPACK, PROVE, SWITCH)  # what a process of its own does
STATES = (*CHILD, TRIAL, COMMIT, BACK)


@dataclass(frozen=True)
class Kept:
    """What `program.json` says.

    Attributes:
        seen: the highest order that was seen.
        state: of the update because of it; empty: there is none.
        version: the release that it is about, once its manifest is here.
        fresh: whether that release was not on this board before.
        before: what ran when it was switched to.
        attempts: starts of the process that does it since there was last any progress.
        done: the sequence of the last order that was followed.
        failed_sequence: of the last one that could not be; `failed` says why.
    """

    seen: Program | None = None
    state: str = ""
    version: str = ""
    fresh: bool = False
    before: str = ""
    attempts: int = field(default=0, metadata=at_least(0))
    done: int = field(default=-1, metadata=at_least(-1))
    failed_sequence: int = field(default=-1, metadata=at_least(-1))
    failed: str = ""


class Record:
    """The file; one process writes it at a time."""

    def __init__(self, state: Path) -> None:
        self.path = state / RECORD
        self.kept = self._read()

    def follow(self, message: Program) -> bool:
        """Take note of an order; False if one with the same or a higher sequence was seen (no way back)."""
        seen = self.kept.seen
        if seen is not None and message.sequence <= seen.sequence:
            return False
        self.note(seen=message)
        return True

    @property
    def wanted(self) -> Program | None:
        """The order that is neither followed nor given up."""
        seen = self.kept.seen
        if seen is None or seen.sequence <= max(self.kept.done, self.kept.failed_sequence):
            return None
        return seen

    def note(self, **changes: Any) -> None:
        """Write changes down; they hold when this returns."""
        kept = replace(self.kept, **changes)
        write_atomic(self.path, json.dumps(plain(kept), indent=1).encode())
        self.kept = kept

    def enter(self, state: str, **changes: Any) -> None:
        """Write down what is done next, before it is."""
        self.note(state=state, attempts=0, **changes)

    def again(self) -> None:
        """Read what another process wrote."""
        self.kept = self._read()

    def _read(self) -> Kept:
        if not self.path.exists():
            return Kept()
        try:
            found = read_record(Kept, parse_json(read_bytes(self.path, "the record of releases")), str(self.path))
            return found if found.state in ("", *STATES) else replace(found, state=FETCH)
        except (ValueError, BadData, EdgequiltError):
            log.warning("%s cannot be read; the next release that the hub names is taken as it comes", self.path)
            return Kept()
