"""The process that does an update (`python -m edge.slots.job CONFIG`): it may be killed at any instant, and hang.

It says on its output, line by line, that it goes on; the core ends one that is silent for too long and starts another,
which goes on from the state that is written down. So the core never waits for a disk, a hub or a new release.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from console.errors import EdgequiltError
from edge.config import Config, read_config
from edge.fetching import hub_of
from edge.slots.ends import At, back, quiet
from edge.slots.record import Record
from edge.slots.slots import Slots, home_of
from edge.slots.steps import FINAL, Job, advance
from edge.worker import end_with_parent, leave_no_image
from wire.envelope import Trust
from wire.keys import read_public_key

LATER = 75  # sysexits(3): a failure that another try may mend
NICE = 10
TOLD_EVERY_S = 0.5


def main(config_path: Path, at: At = quiet) -> int:
    """Go on with the update; returns the exit code: 0 when there is nothing left to do here, or `LATER`."""
    end_with_parent()
    leave_no_image()
    os.nice(NICE)
    home, line = home_of(), Line(sys.stdout)
    config = read_config(config_path)
    record = Record(config.state)
    order = record.wanted
    if home is None or order is None:
        return 0
    slots = Slots(home)
    job = Job(record, slots, _publishers(config), hub_of(config, order), config_path, line.progress, at)
    line.state = lambda: record.kept.state
    return run(job, line)


def run(job: Job, line: Line) -> int:
    """The same with a job that was made."""
    try:
        try:
            advance(job)
        except FINAL as error:
            back(job.record, job.slots, str(error), job.at)
    except (EdgequiltError, OSError) as error:
        line.tell(reason=str(error), after_s=float(getattr(error, "after_s", 0.0)))
        return LATER
    return 0


class Line:
    """What it says of itself."""

    def __init__(self, out: IO[str]) -> None:
        self._out, self._told_at = out, -1e9
        self.state: Callable[[], str] = str
        self._said = ""

    def progress(self, done: int, of: int) -> None:
        """So many bytes of the present state are done."""
        state, now = self.state(), time.monotonic()
        if state != self._said or now - self._told_at >= TOLD_EVERY_S:
            self._said, self._told_at = state, now
            self.tell(state=state, done=done, of=of)

    def tell(self, **fields: object) -> None:
        """One line."""
        print(json.dumps(fields), file=self._out, flush=True)


def _publishers(config: Config) -> Trust:
    return Trust(read_public_key(path, "publisher") for path in config.publisher_keys)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
