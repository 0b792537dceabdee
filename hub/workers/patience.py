"""What one worker must wait for because another one has it: a chunk for its beginning, a commit for the last chunks.

Messages of one update go to whichever worker is next. So a chunk may be read before its beginning, and a commit before
chunks that another worker still has in its queue. Asking the device at once would have it send nearly every update
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wire import messages as m

CHUNK_S = 2.0
COMMIT_S = 1.0  # without progress
ANNOUNCED_S = 0.1
HELD_BYTES = 64 << 20


@dataclass
class _Commit:
    commit: m.Commit
    until_s: float
    here: int = 0  # chunks, at the last look


class Patience:
    """Chunks and commits of one model that wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._chunks: dict[tuple[str, str], list[tuple[float, m.Chunk]]] = {}
        self._commits: dict[tuple[str, str], _Commit] = {}
        self._bytes = 0

    def hold_chunk(self, device: str, chunk: m.Chunk) -> None:
        """Keep a chunk for a beginning that may come; not more than there is room for."""
        if self._bytes + len(chunk.data) <= HELD_BYTES:
            self._bytes += len(chunk.data)
            self._chunks.setdefault((device, chunk.blob), []).append((self._clock() + CHUNK_S, chunk))

    def hold_commit(self, commit: m.Commit, *, announces: bool) -> None:
        """Keep a commit; a later one of the same update takes its place.

        Args:
            commit: what came.
            announces: its beginning is here, and no chunk: they will be sent when they are asked for.
        """
        key = (commit.sender.device, commit.update)
        self._commits[key] = _Commit(commit, self._clock() + (ANNOUNCED_S if announces else COMMIT_S))

    def chunks(self, expected: Callable[[str, str], bool]) -> Iterator[tuple[str, m.Chunk]]:
        """Held chunks whose beginning has come; those that waited too long are forgotten.

        Each is forgotten as it is given: if taking one fails, the others are still held.
        """
        for key, held in list(self._chunks.items()):
            come = expected(*key)
            while held and (come or held[0][0] <= self._clock()):
                _, chunk = held.pop(0)
                self._bytes -= len(chunk.data)
                if come:
                    yield key[0], chunk
            if not held:
                del self._chunks[key]

    def commits(self, here: Callable[[str, str], int]) -> Iterator[m.Commit]:
        """Commits that need not wait any longer: of their chunks so many are `here`, and none came of late."""
        for key, held in list(self._commits.items()):
            if self._clock() < held.until_s:
                continue
            count = here(*key)
            if count > held.here:
                held.here, held.until_s = count, self._clock() + COMMIT_S
                continue
            del self._commits[key]
            yield held.commit

    def drop(self, device: str, update: str) -> None:
        """It is complete."""
        self._commits.pop((device, update), None)
