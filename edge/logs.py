"""Where the agent's log goes: to standard error always, and to a file of bounded size where no journal takes that."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

FILE = "agent.log"  # in the state folder; the one before is FILE.1
LIMIT_BYTES = 1 << 20  # of each of the two
LONGEST = 4096  # characters of one line


class Lines(logging.Formatter):
    """One line per record, of bounded length; with the date where the file outlives the day."""

    def __init__(self, date: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", date)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        text = super().format(record)
        return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def log_to_stderr(level: int) -> None:
    """The program's log, on standard error only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines("%H:%M:%S"))
    root = logging.getLogger("edgequilt")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


def log_to_file(state: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Keep the log in the state folder too, unless standard error is the journal's (JOURNAL_STREAM).

    A disk that takes nothing more does not stop the agent.
    """
    if _journal_has_it(environment):
        return
    from logging.handlers import RotatingFileHandler  # where a journal is, the core does without

    try:
        handler = RotatingFileHandler(state / FILE, maxBytes=LIMIT_BYTES, backupCount=1, encoding="utf-8", delay=True)
    except OSError as error:
        logging.getLogger("edgequilt.agent").warning("no log file in %s: %s", state, error.strerror)
        return
    handler.setFormatter(Lines("%Y-%m-%dT%H:%M:%S%z"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk, say: standard error has it
    logging.getLogger("edgequilt").addHandler(handler)


def _journal_has_it(environment: Mapping[str, str]) -> bool:
    """Whether standard error is the stream that the variable names (systemd.exec(5)); a shell's child inherits it."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        told = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(told.st_dev), str(told.st_ino))
