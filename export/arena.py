"""Where a run's buffers lie, and which pages it touches: onnxruntime's arena and the C library's malloc, replayed.

Memory counts by touched pages, so what a process takes above its live bytes is decided by where each buffer is
put: an arena never gives a page back, and hands a freed chunk of up to twice the size to a smaller buffer. Both
allocators are deterministic; replaying them says to the page what a factor could only guess.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from devices.malloc import MAPPED_FROM_BYTES

PAGE_BYTES = 4096

# onnxruntime/core/framework/bfc_arena.cc: kMinAllocationSize, initial_chunk_size_bytes, max_dead_bytes_per_chunk
ARENA_UNIT_BYTES = 256
FIRST_REGION_BYTES = 1 << 20
HANDLE_BYTES = 8  # one per unit of a region: AllocationRegion::handles_
DEAD_BYTES = 128 << 20

# glibc, malloc/malloc.c: MALLOC_ALIGNMENT
HEAP_UNIT_BYTES = 16
GAP_BYTES = 64 + 16  # onnxruntime asks for multiples of 64; before them lies the header


@dataclass(eq=False)
class Chunk:
    """A stretch of a region, in use or free, with its neighbours."""

    region: int
    start: int
    size: int
    used: bool = False
    before: Chunk | None = None
    after: Chunk | None = None


class Space:
    """Regions of chunks: best fit, free neighbours are merged, pages that were ever touched are known."""

    def __init__(self) -> None:
        self._free: list[tuple[tuple[int, int, int], Chunk]] = []  # by size, then address: later regions lie lower
        self._touched: dict[int, list[tuple[int, int]]] = {}

    def fit(self, size: int) -> Chunk | None:
        """The smallest free chunk that holds `size`; it is no longer free."""
        position = bisect_left(self._free, size, key=lambda entry: entry[0][0])
        return self._free.pop(position)[1] if position < len(self._free) else None

    def add(self, chunk: Chunk) -> None:
        """One more free chunk."""
        insort(self._free, ((chunk.size, -chunk.region, chunk.start), chunk), key=lambda entry: entry[0])

    def remove(self, chunk: Chunk) -> None:
        """A free chunk is free no longer."""
        self._free = [entry for entry in self._free if entry[1] is not chunk]

    def split(self, chunk: Chunk, size: int) -> Chunk:
        """Free what a chunk has beyond `size`; the rest."""
        rest = Chunk(chunk.region, chunk.start + size, chunk.size - size, before=chunk, after=chunk.after)
        if chunk.after is not None:
            chunk.after.before = rest
        chunk.after, chunk.size = rest, size
        self.add(rest)
        return rest

    def release(self, chunk: Chunk) -> Chunk:
        """Free a chunk and merge it with free neighbours; the merged one."""
        chunk.used = False
        after, before = chunk.after, chunk.before
        if after is not None and not after.used:
            self._merge(chunk, after)
        if before is not None and not before.used:
            self.remove(before)
            before.size, before.after = before.size + chunk.size, chunk.after
            if chunk.after is not None:
                chunk.after.before = before
            chunk = before
        self.add(chunk)
        return chunk

    def _merge(self, chunk: Chunk, after: Chunk) -> None:
        self.remove(after)
        chunk.size, chunk.after = chunk.size + after.size, after.after
        if after.after is not None:
            after.after.before = chunk

    def touch(self, chunk: Chunk, size: int) -> None:
        """Mark the pages of the first `size` bytes of a chunk."""
        begin, end = chunk.start // PAGE_BYTES, -(-(chunk.start + size) // PAGE_BYTES)
        kept = []
        for one in self._touched.get(chunk.region, ()):
            if one[1] < begin or one[0] > end:
                kept.append(one)
            else:
                begin, end = min(begin, one[0]), max(end, one[1])
        self._touched[chunk.region] = [*kept, (begin, end)]

    @property
    def touched_bytes(self) -> int:
        """All pages that were touched and not given back."""
        return PAGE_BYTES * sum(end - begin for spans in self._touched.values() for begin, end in spans)


class Arena:
    """onnxruntime's arena for the processor: regions double, chunks are handed on, nothing is given back."""

    def __init__(self) -> None:
        self._space = Space()
        self._region_bytes = FIRST_REGION_BYTES
        self._regions = 0
        self._handles_bytes = 0
        self.peak_bytes = 0

    def take(self, size: int) -> Chunk | None:
        """Memory for a buffer, all of it touched; None for an empty one."""
        if size == 0:
            return None
        rounded = -(-size // ARENA_UNIT_BYTES) * ARENA_UNIT_BYTES
        chunk = self._space.fit(rounded) or self._extend(rounded)
        if chunk.size >= 2 * rounded or chunk.size - rounded >= DEAD_BYTES:
            self._space.split(chunk, rounded)
        chunk.used = True
        self._space.touch(chunk, size)
        self.peak_bytes = max(self.peak_bytes, self._space.touched_bytes + self._handles_bytes)
        return chunk

    def give(self, chunk: Chunk | None) -> None:
        """Free a buffer. Its pages stay."""
        if chunk is not None:
            self._space.release(chunk)

    def _extend(self, rounded: int) -> Chunk:
        grown = rounded > self._region_bytes
        while rounded > self._region_bytes:
            self._region_bytes *= 2
        chunk = Chunk(self._regions, 0, self._region_bytes)
        self._regions += 1
        self._handles_bytes += chunk.size // ARENA_UNIT_BYTES * HANDLE_BYTES
        if not grown:
            self._region_bytes *= 2
        return chunk


class Heap:
    """glibc's malloc with a fixed limit (`devices.malloc`): from there on each buffer is a mapping of its own.

    A mapping is gone when it is freed. What is smaller shares one heap, which is taken to keep its pages.
    """

    def __init__(self) -> None:
        self._space = Space()
        self._top: Chunk | None = None  # the last chunk
        self._mapped_bytes = 0
        self.peak_bytes = 0

    def take(self, size: int) -> Chunk | None:
        """Memory for a buffer, all of it touched; None for an empty one."""
        if size == 0:
            return None
        rounded = -(-(size + GAP_BYTES) // HEAP_UNIT_BYTES) * HEAP_UNIT_BYTES
        if rounded >= MAPPED_FROM_BYTES:
            chunk = Chunk(-1, 0, -(-rounded // PAGE_BYTES) * PAGE_BYTES, used=True)
            self._mapped_bytes += chunk.size
        else:
            chunk = self._space.fit(rounded) or self._grow(rounded)
            if chunk.size - rounded >= GAP_BYTES:
                rest = self._space.split(chunk, rounded)
                self._top = rest if self._top is chunk else self._top
            chunk.used = True
            self._space.touch(chunk, rounded)
        self.peak_bytes = max(self.peak_bytes, self._mapped_bytes + self._space.touched_bytes)
        return chunk

    def give(self, chunk: Chunk | None) -> None:
        """Free a buffer."""
        if chunk is None:
            return
        if chunk.region < 0:
            self._mapped_bytes -= chunk.size
            return
        merged = self._space.release(chunk)
        self._top = merged if merged.after is None else self._top

    def _grow(self, rounded: int) -> Chunk:
        """The free top made larger, or a new chunk above it."""
        top = self._top
        if top is not None and not top.used:
            self._space.remove(top)
            top.size = rounded
            return top
        chunk = Chunk(0, 0 if top is None else top.start + top.size, rounded, before=top)
        if top is not None:
            top.after = chunk
        self._top = chunk
        return chunk
