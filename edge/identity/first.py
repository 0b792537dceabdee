"""An agent's first start: a configuration that says `[claim]` becomes whole before anything else is looked at."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from console.errors import TransportError, UsageError
from console.toml import read_toml
from edge.identity.ask_child import ask_child
from edge.identity.record import read_identity
from wire.backoff import full_jitter

log = logging.getLogger("edgequilt.agent")
FIRST_S, LAST_S = 2.0, 300.0


def claim_first(config: Path, stop: threading.Event, each: Callable[[], None] = lambda: None) -> None:
    """Claim what the token file of a configuration names, unless that is done; then the file is removed.

    While the hub cannot be reached this waits and tries again, until `stop`.

    Args:
        config: agent.toml; its folder takes keys and certificates.
        stop: ends the waiting.
        each: called before each attempt, of which there is one in seven minutes at least.

    Raises:
        UsageError: the table `[claim]` is not what it should be.
        EdgequiltError: the hub refuses the token, or the folder cannot be written.
    """
    table = read_toml(config).get("claim")
    if table is None:
        return
    name = table.get("token_file") if isinstance(table, dict) else None
    if not isinstance(name, str) or set(table) != {"token_file"}:
        raise UsageError(f'expected token_file = "PATH" and nothing else under [claim] in {config}, found {table!r}')
    token_file, folder, attempt = config.parent / name, config.parent.resolve(), 0
    while read_identity(folder) is None and not stop.is_set():
        attempt += 1
        each()
        if not _claimed(token_file, folder, stop):
            stop.wait(full_jitter(attempt, FIRST_S, LAST_S))
    if not stop.is_set():
        _remove(token_file)


def _claimed(token_file: Path, folder: Path, stop: threading.Event) -> bool:
    try:
        found = ask_child("claim", str(token_file), str(folder), stop=stop)
    except TransportError as error:
        log.info("the hub cannot be asked yet: %s", error)
        return False
    log.info("this board is %s of %s now", found["name"], found["fleet"])
    return True


def _remove(path: Path) -> None:
    """The token is worth nothing any more; still, whoever finds the card need not find it."""
    with contextlib.suppress(FileNotFoundError):
        size = path.stat().st_size
        with contextlib.suppress(OSError), path.open("r+b") as file:
            file.write(b"\0" * size)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.unlink()
        except OSError as error:
            log.warning("the token file %s could not be removed (%s); remove it", path, error.strerror)
