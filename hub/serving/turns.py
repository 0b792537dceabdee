"""Who may send now: so many bytes at once, and everybody else in line.

A fleet that ends its training together would else send all of its updates at once, and what the hub has not taken yet
waits in the broker's memory, or is dropped there and sent again. So boards announce what is longer than a chunk and
wait to be asked for it; how much is on its way does not depend on how many they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from hub.store.partials import Key

LIMIT_BYTES = 8 << 20
UNDER_WAY_S = 2.0  # so long after a piece others may still be in the broker: asked again, they would come twice
SILENT_S = 10.0  # whoever was asked and sends nothing for so long has lost its turn


class Turn(NamedTuple):
    """What was asked for, and when something of it last came."""

    bytes: int
    heard_at_s: float


@dataclass
class Turns:
    """A table without I/O: `may_send`, `heard` and `following` are told what happened and when."""

    limit_bytes: int = LIMIT_BYTES
    asked: dict[Key, Turn] = field(default_factory=dict)
    line: dict[Key, int] = field(default_factory=dict)  # bytes, the one that came first first

    def may_send(self, key: Key, size: int, now_s: float) -> bool:
        """Whether to ask for so many bytes of an update at once; else it is in line, or on its way."""
        turn = self.asked.get(key)
        if turn is not None and now_s - turn.heard_at_s < UNDER_WAY_S:
            return False
        first = next(iter(self.line), key)
        if turn is not None or (first == key and self._fits(size)):
            self.line.pop(key, None)
            self.asked[key] = Turn(size, now_s)
            return True
        self.line[key] = size
        return False

    def heard(self, key: Key, now_s: float) -> None:
        """A piece of an update came."""
        turn = self.asked.get(key)
        if turn is not None:
            self.asked[key] = turn._replace(heard_at_s=now_s)

    def following(self, awaits: Callable[[Key], bool], now_s: float) -> list[Key]:
        """Whom to ask now, since others are done or silent; `awaits` says which updates are still to come."""
        self.asked = {k: turn for k, turn in self.asked.items() if now_s - turn.heard_at_s < SILENT_S and awaits(k)}
        found = []
        for key, size in list(self.line.items()):
            awaited = awaits(key)
            if awaited and not self._fits(size):
                break
            del self.line[key]
            if awaited:
                self.asked[key] = Turn(size, now_s)
                found.append(key)
        return found

    def _fits(self, size: int) -> bool:
        """An update that is larger than all turns together goes alone."""
        return not self.asked or sum(turn.bytes for turn in self.asked.values()) + size <= self.limit_bytes
