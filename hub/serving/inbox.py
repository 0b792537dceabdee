"""Updates that arrive in pieces, kept in memory until they are whole; a device sends again after a crash.

Bounded: so many updates per device, so many bytes in all. What must go is what was touched longest ago: its device
is told, at its next commit, that its beginning is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wire.chunks import Assembly
from wire.messages import Begin, Chunk

PER_DEVICE = 3
LIMIT_BYTES = 256 << 20


@dataclass
class Partial:
    """An update that is on its way."""

    begin: Begin
    assembly: Assembly
    committed: bool = False


@dataclass
class Inbox:
    """All partial updates, the one touched longest ago first."""

    per_device: int = PER_DEVICE
    limit_bytes: int = LIMIT_BYTES
    partials: dict[tuple[str, str], Partial] = field(default_factory=dict)

    def begin(self, begin: Begin) -> None:
        """Make room for an update; a repeated beginning of the same job keeps what has arrived."""
        key = (begin.sender.device, begin.update)
        known = self.partials.pop(key, None)
        if known is None or (known.begin.bytes, known.begin.chunk_bytes) != (begin.bytes, begin.chunk_bytes):
            known = Partial(begin, Assembly(begin.update, begin.bytes, begin.chunk_bytes))
        known.begin = begin
        self._make_room(begin)
        self.partials[key] = known

    def add(self, device: str, chunk: Chunk) -> Partial | None:
        """Take a chunk; returns the update that it completed, if its commit is already here."""
        partial = self._touch(device, chunk.blob)
        if partial is None or not partial.assembly.add(chunk):
            return None
        whole = len(partial.assembly.parts) == partial.assembly.total
        return partial if partial.committed and whole else None

    def commit(self, device: str, update: str) -> Partial | None:
        """Remember that all was sent; None if not even its beginning is known."""
        partial = self._touch(device, update)
        if partial is not None:
            partial.committed = True
        return partial

    def drop(self, device: str, update: str) -> None:
        """Forget an update."""
        self.partials.pop((device, update), None)

    def keep_rounds(self, numbers: set[int]) -> None:
        """Forget what belongs to other rounds: nobody waits for it any more."""
        self.partials = {k: p for k, p in self.partials.items() if p.begin.round in numbers}

    @property
    def bytes(self) -> int:
        """What the partial updates may come to."""
        return sum(p.begin.bytes for p in self.partials.values())

    def _touch(self, device: str, update: str) -> Partial | None:
        partial = self.partials.pop((device, update), None)
        if partial is not None:
            self.partials[device, update] = partial
        return partial

    def _make_room(self, begin: Begin) -> None:
        own = [key for key in self.partials if key[0] == begin.sender.device]
        for key in own[: max(0, len(own) - self.per_device + 1)]:
            del self.partials[key]
        while self.partials and self.bytes + begin.bytes > self.limit_bytes:
            del self.partials[next(iter(self.partials))]
