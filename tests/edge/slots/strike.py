"""Faults at states of an update: {error, later, killed, hung} x {enter, leave}, in programs that are really struck."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from console.errors import BadData, StorageError
from tests.fuse import Fuse, Instant
from wire.files import write_atomic

INSTANTS: dict[str, Instant] = {"enter": "before", "leave": "after"}
KINDS = ("error", "later", "killed", "hung")


@dataclass(frozen=True)
class Fault:
    """What strikes: at which side of a state, and how often at most. It is a file, since it outlives programs."""

    kind: str
    state: str
    when: str
    times: int = 1


class StateFuse(Fuse):
    """Strikes where the file says, until it says no more."""

    def __init__(self, path: Path) -> None:
        super().__init__(0)
        self._path = path

    def at(self, when: str, state: str) -> None:
        """What `edge.slots` calls at each state."""
        self.burn(INSTANTS[when], state)

    def strikes(self, when: Instant, what: str) -> bool:
        """Whether it is this side of this state, and not too often."""
        self.fault = Fault(**json.loads(self._path.read_text())) if self._path.exists() else Fault("", "", "enter", 0)
        return (self.fault.state, INSTANTS[self.fault.when]) == (what, when) and self.fault.times > 0

    def strike(self) -> None:
        """Note it, and do it."""
        fault = self.fault
        put(self._path, Fault(fault.kind, fault.state, fault.when, fault.times - 1))
        if fault.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind == "hung":
            time.sleep(3600)
        raise (BadData if fault.kind == "error" else StorageError)(f"struck at {fault.when} of {fault.state}")


def put(path: Path, fault: Fault) -> None:
    """Have it strike."""
    write_atomic(path, json.dumps(asdict(fault)).encode())
