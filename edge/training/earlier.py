"""Rows of earlier runs in a training run: mixed in before it, offered to after it (`edge.data.replay`).

What is worth keeping is judged by the features of the model without an adapter: they are the same in every run, so
rows that came in years apart can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.data.replay import Replay, mixed
from edge.data.row import Data, Row
from edge.runner import Runner
from wire.files import file_digest

BLOCK_ROWS = 256  # whose features are in memory at once
SHARE = 0.25


@dataclass(frozen=True)
class Earlier:
    """A folder of rows kept, and the share that they get of a run's rows.

    Attributes:
        replay: the folder.
        share: of all rows to learn from, 0 to below 1.
    """

    replay: Replay
    share: float = SHARE

    def into(self, data: Data) -> Data:
        """The data with rows of earlier runs among those to learn from, but for texts and files that are in it."""
        kept = self.replay.rows()
        sizes = {row.sample.stat().st_size for row in kept if isinstance(row.sample, Path)}
        there = {_name(row, sizes) for row in data.all}
        return Data(
            mixed(data.train, [row for row in kept if _name(row, sizes) not in there], self.share), data.holdout
        )

    def offer(self, runner: Runner, rows: Sequence[Row]) -> int:
        """Offer the rows that a run learned from, without those that were mixed in; how many the folder has taken.

        Raises:
            BadData: a sample cannot be kept.
            StorageError: the folder cannot be written; it holds the rows of before then.
        """
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            self.replay.weigh(block, runner.forward([row.sample for row in block]).features)
        return self.replay.write()


def _name(row: Row, sizes: set[int]) -> tuple[str, int] | None:
    """A text, or the SHA-256 of a file of one of these sizes, with its label; arrays in memory have none."""
    sample = row.sample
    if isinstance(sample, Path):
        return (file_digest(sample), row.label) if sample.stat().st_size in sizes else None
    return (sample, row.label) if isinstance(sample, str) else None
