"""The cache of a training run: activations below the lowest slot, beside the checkpoint, gone when the run is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from console.table import size
from edge.runner import Runner
from edge.training.conduct import Ended
from edge.trunk import Kept, Trunk, keep, trunk_of


class Cache:
    """What a run keeps of its bundle's trunk; nothing where the bundle has none.

    Args:
        runner: of the bundle.
        path: of the file.
        quota_bytes: which it never exceeds; 0 for no cache.
    """

    def __init__(self, runner: Runner, path: Path, quota_bytes: int) -> None:
        self.path = path
        self.trunk: Trunk | None = None
        if quota_bytes and trunk_of(runner.manifest):
            self.trunk = keep(runner.chain, path, quota_bytes)

    def told(self, ended: Ended) -> Ended:
        """The end of a run with what the cache did."""
        if self.trunk is None:
            return ended
        kept = self.trunk.kept()
        sentences = tuple(f"Of the cache: {words}." for words in kept.said)
        return replace(ended, cache=kept, sentences=(*ended.sentences, *sentences))

    def remove(self) -> None:
        """After a run that nobody has to go on with."""
        if self.trunk is not None:
            self.trunk.close()
            if self.trunk.slab.owned:
                self.path.unlink(missing_ok=True)


def in_words(kept: Kept) -> str:
    """What a cache did, in a line.

    >>> in_words(Kept(64, 4 << 20, 784, 128, ()))
    '64 samples in 4.0 MiB, found 784 times, made 128 times'
    """
    return f"{kept.rows} samples in {size(kept.file_bytes)}, found {kept.hits} times, made {kept.misses} times"
