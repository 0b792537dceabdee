"""Updates that arrive in pieces, kept as files until they are whole, within bounds.

Bounded: so many updates per device, so many bytes in all, so many days. What must go is what was touched longest ago:
its device is told, at its next commit, that its beginning is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from console.errors import StorageError
from hub.store.partials import Key, Partial, Partials
from wire.messages import Begin, Chunk

PER_DEVICE = 3
OF_TAILS = 32  # one for each board whose tail a device has
LIMIT_BYTES = 256 << 20
AGE_S = 7 * 86400.0
FULL_S = 10.0  # after a full disk: so long nothing is asked for again


class Kept(NamedTuple):
    """What the bounds need to know of a partial update."""

    round: int
    bytes: int
    at_s: float


@dataclass
class Inbox:
    """All partial updates; `kept` has the one touched longest ago first."""

    store: Partials
    clock: Callable[[], float]
    per_device: int = PER_DEVICE
    limit_bytes: int = LIMIT_BYTES
    kept: dict[Key, Kept] = field(default_factory=dict)
    full_at_s: float = float("-inf")

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """See what is kept: at a start, and from time to time where others keep updates in the same place."""
        self.kept = {key: Kept(round_, size, at_s) for key, round_, size, at_s in self.store.entries()}

    def begin(self, begin: Begin) -> None:
        """Make room for an update and expect it; a repeated beginning keeps what has arrived."""
        key = (begin.sender.device, begin.update)
        self.kept.pop(key, None)
        self._make_room(begin)
        self._write(lambda: self.store.put(begin))
        self.kept[key] = Kept(begin.round, begin.bytes, self.clock())

    def add(self, device: str, chunk: Chunk) -> bool:
        """Take a chunk; returns whether it completed an update whose commit is already here."""
        key = (device, chunk.blob)
        kept = self.kept.pop(key, None)
        if kept is not None:
            self.kept[key] = kept._replace(at_s=self.clock())
        return bool(self._write(lambda: self.store.add(device, chunk)))

    def commit(self, device: str, update: str) -> Partial | None:
        """Remember that all was sent; None if not even its beginning is known."""
        self.store.commit(device, update)
        return self._touched(device, update)

    def drop(self, device: str, update: str) -> None:
        """Forget an update."""
        self.kept.pop((device, update), None)
        self.store.drop(device, update)

    def keep_rounds(self, numbers: set[int]) -> None:
        """Forget what belongs to other rounds, since nobody waits for it any more, and what is too old."""
        oldest = self.clock() - AGE_S
        for key, kept in list(self.kept.items()):
            if kept.round not in numbers or kept.at_s < oldest:
                self.drop(*key)

    @property
    def bytes(self) -> int:
        """What the partial updates may come to."""
        return sum(kept.bytes for kept in self.kept.values())

    @property
    def is_full(self) -> bool:
        """Whether a piece could not be written just now: what is asked for again would be in vain."""
        return self.clock() < self.full_at_s + FULL_S

    def _touched(self, device: str, update: str) -> Partial | None:
        found = self.store.get(device, update)
        self.kept.pop((device, update), None)
        if found is not None:
            self.kept[device, update] = Kept(found.begin.round, found.begin.bytes, self.clock())
        return found

    def _write(self, write: Callable[[], bool | None]) -> bool | None:
        try:
            return write()
        except StorageError:
            self.full_at_s = self.clock()
            raise

    def _make_room(self, begin: Begin) -> None:
        own = [key for key in self.kept if key[0] == begin.sender.device]
        most = OF_TAILS if begin.kind == "tail" else self.per_device
        for key in own[: max(0, len(own) - most + 1)]:
            self.drop(*key)
        while self.kept and self.bytes + begin.bytes > self.limit_bytes:
            self.drop(*next(iter(self.kept)))
