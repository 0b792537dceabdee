"""Which bundles an agent has from its hub: the one in use, the one before, and the one that the hub names.

* `bundles/DIGEST/`: a bundle; while it is fetched, with files `NAME.part`.
* `bundle.json`: the highest assignment that was seen, what is in use, what was before, and which assignment failed.

The record is synced before anything is done because of it: an older assignment never wins, whatever is cut off when.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from console.errors import BadData, EdgequiltError
from wire.bundle import Bundle, open_bundle
from wire.envelope import Trust
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.messages import Assignment
from wire.record import at_least, plain, read_record

log = logging.getLogger("edgequilt.agent")
RECORD = "bundle.json"
MOST_STARTS = 3  # of a bundle on trial, after which the one before is used again
MOST_FETCHES = 20  # starts of the agent that were cut off while a bundle was on its way, after which it is given up
MOST_PROOFS = 3  # of a bundle that were cut off with the whole agent


@dataclass(frozen=True)
class Kept:
    """What `bundle.json` says; empty digests are none."""

    seen: Assignment | None = None
    current: str = ""
    former: str = ""
    failed_sequence: int = field(default=-1, metadata=at_least(-1))
    failed: str = ""  # why that one could not be taken
    starts: int = field(default=-1, metadata=at_least(-1))  # of the bundle in use while it is on trial; -1: it is not
    untold: bool = False  # the hub has not heard yet that it was gone back from, or given up
    fetches: int = field(default=0, metadata=at_least(0))  # since the last end that was no accident, and any progress
    proofs: int = field(default=0, metadata=at_least(0))  # the same


class Shelf:
    """The bundles in a state folder."""

    def __init__(self, state: Path) -> None:
        self.bundles, self._record = state / "bundles", state / RECORD
        self.kept = self._read()

    def folder(self, digest: str) -> Path:
        """Where a bundle lies, or is to lie."""
        return self.bundles / digest

    def follow(self, message: Assignment) -> bool:
        """Take note of an assignment; False if one with the same or a higher sequence was seen (no way back)."""
        if self.kept.seen is not None and message.sequence <= self.kept.seen.sequence:
            return False
        self._write(replace(self.kept, seen=message, untold=False, fetches=0, proofs=0))
        return True

    def attempt(self, what: Literal["fetches", "proofs"]) -> str:
        """Count a part of the way before it begins: it may take the whole board down.

        Returns:
            Why it is not to be begun again; empty: it is.
        """
        times = int(getattr(self.kept, what))
        if times >= {"fetches": MOST_FETCHES, "proofs": MOST_PROOFS}[what]:
            told = {"fetches": "fetched", "proofs": "proved"}[what]
            return f"expected it to be {told}, found the agent cut off {times} times meanwhile; look at the board"
        one = replace(self.kept, fetches=times + 1) if what == "fetches" else replace(self.kept, proofs=times + 1)
        self._write(one)
        return ""

    def calm(self) -> None:
        """Begin to count anew."""
        if self.kept.fetches or self.kept.proofs:
            self._write(replace(self.kept, fetches=0, proofs=0))

    def wanted(self, has: str) -> Assignment | None:
        """The assignment that is still to be fetched, for an agent that runs the bundle `has`."""
        seen = self.kept.seen
        if seen is None or seen.bundle == has or seen.sequence == self.kept.failed_sequence:
            return None
        return seen

    def switch(self, digest: str) -> None:
        """A bundle is whole and was seen to run: it is in use from the next start on."""
        kept = self.kept
        former = kept.former if digest == kept.current else kept.current
        self._write(replace(kept, current=digest, former=former, starts=0 if former else -1, fetches=0, proofs=0))

    def give_up(self, message: Assignment, reason: str) -> None:
        """An assignment cannot be taken; the same bundle may be tried again under a higher sequence."""
        given = replace(self.kept, failed_sequence=message.sequence, failed=reason[:500], untold=True)
        self._write(replace(given, fetches=0, proofs=0))

    @property
    def on_trial(self) -> bool:
        """Whether the bundle in use is new, and may still be gone back from."""
        return self.kept.starts >= 0

    def begin(self) -> None:
        """Count a start of a bundle on trial before it happens; after the third the one before is used again."""
        if self.on_trial and self.kept.starts >= MOST_STARTS:
            self.go_back(f"it was not healthy in {self.kept.starts} starts; the one before is used again")
        elif self.on_trial:
            self._write(replace(self.kept, starts=self.kept.starts + 1))

    def keep(self) -> None:
        """The bundle in use is healthy."""
        self._write(replace(self.kept, starts=-1))

    def told(self) -> None:
        """The hub has heard what failed."""
        self._write(replace(self.kept, untold=False))

    def go_back(self, reason: str) -> None:
        """Use the bundle before again, and give up the assignment that led to this one."""
        kept = self.kept
        log.warning("bundle %s: %s", kept.current[:12], reason)
        back = replace(kept, current=kept.former, former="", starts=-1)
        if kept.seen is not None and kept.seen.bundle == kept.current:
            back = replace(back, failed_sequence=kept.seen.sequence, failed=reason[:500], untold=True)
        self._write(back)

    def open(self, publishers: Trust) -> Bundle | None:
        """The bundle in use, checked; the former one where that one is no longer whole. None without either."""
        for digest in filter(None, (self.kept.current, self.kept.former)):
            try:
                found = open_bundle(self.folder(digest), publishers)
            except EdgequiltError as error:
                log.error("bundle %s is left out: %s", digest[:12], error)  # noqa: TRY400  # one line, no traceback
                continue
            if found.sha256 == digest:
                if digest != self.kept.current:
                    self._write(replace(self.kept, current=digest, former="", starts=-1))
                return found
        return None

    def collect(self) -> None:
        """Delete bundles that are neither in use, nor the former one, nor on their way."""
        seen = self.kept.seen
        keep = {self.kept.current, self.kept.former}
        if seen is not None and seen.sequence != self.kept.failed_sequence:
            keep.add(seen.bundle)
        for folder in self.bundles.glob("*"):
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> Kept:
        if not self._record.exists():
            return Kept()
        try:
            return read_record(Kept, parse_json(read_bytes(self._record, "the record of bundles")), str(self._record))
        except (ValueError, BadData):
            log.warning("%s cannot be read; the next assignment is taken as it comes", self._record)
            return Kept()

    def _write(self, kept: Kept) -> None:
        write_atomic(self._record, json.dumps(plain(kept), indent=1).encode())
        self.kept = kept
