"""What the planner predicts for a worker with a front as one segment, with backward graphs and without.

The numbers are those of `edgequilt export --split` with int8, rank 8 and micro-batches of 8 texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.splitting.models import BLOCK
from console.table import MIB
from devices.plan import Board, needs
from devices.units import Unit
from export.prepare import Wanted, prepare
from export.targets import EVERY_BLOCK

MODES = {"train": "with backward graphs, MiB", "train-forward": "forward only, MiB"}
FORMAT, RANK, BATCH, CLASSES = "int8", 8, 8, 2


def predicted(source: Path, tokens: Sequence[int]) -> list[dict[str, Any]]:
    """A line for each length of texts and each front: bytes in MiB, in both modes."""
    return [line for length in tokens for line in _of(source, length)]


def _of(source: Path, tokens: int) -> Iterator[dict[str, Any]]:
    wanted = Wanted(str(source), "feature-extraction", CLASSES, tokens, EVERY_BLOCK, micro_batches=(BATCH,))
    with tempfile.TemporaryDirectory() as work:
        prepared = prepare(wanted, (FORMAT,), tuple(MODES), Path(work))
        units = {mode: prepared.cost(BATCH, mode).units for mode in MODES}
    for name, end in borders(units["train"]):
        sizes = {MODES[mode]: round(front_bytes(units[mode], mode, end) / MIB, 1) for mode in MODES}
        yield {"tokens": tokens, "front": name, **sizes}


def borders(units: Sequence[Unit]) -> Iterator[tuple[str, int]]:
    """Where the first attention and each block but the last end, by name and unit.

    >>> names = ["table", "layer.0.attention", "layer.0.intermediate", "layer.0.output", "layer.1.attention", "head"]
    >>> list(borders([Unit(name, {}, 0, 0, 0) for name in names]))
    [('first attention', 2), ('1 block', 4)]
    """
    blocks = [BLOCK.search(unit.name) for unit in units]
    yield "first attention", next(k for k, unit in enumerate(units) if ".0.intermediate" in unit.name)
    for count in range(1, max(int(block[1]) for block in blocks if block) + 1):
        end = next(k for k, block in enumerate(blocks) if block and int(block[1]) == count)
        yield ("1 block" if count == 1 else f"{count} blocks"), end


def front_bytes(units: Sequence[Unit], mode: str, end: int) -> int:
    """The predicted peak of a worker with the units before `end`."""
    board = Board("board", 0, mode, FORMAT, RANK)
    return needs(units, board, (), BATCH, span=(0, end))[0].total
