"""The rows of a running board: its data as it lies there now, and the labels that somebody corrected.

A file must be right as a whole. Of a folder, into which samples keep coming, what is broken is left out and told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from console.errors import BadData
from edge.data.corrected import rows_of_corrections, uncorrected
from edge.data.corrections import read_corrections
from edge.data.formats import format_of, rows_of
from edge.data.problems import Problems
from edge.data.row import Data, Row, is_held_out
from edge.data.wanted import Found, Wanted, wanted_by
from wire.manifest import Manifest

TOLD = 5  # problems that a status names


@dataclass(frozen=True)
class Counted:
    """Rows, and what is wrong with the others: a few sentences, and how many there are."""

    rows: int
    problems: tuple[str, ...] = ()
    problems_in_all: int = 0


def board_data(path: Path, manifest: Manifest, holdout: float, corrections: Path | None = None) -> Data:
    """The rows to learn from and those kept back.

    Args:
        path: of the data.
        manifest: of the bundle.
        holdout: share of rows to keep back.
        corrections: folder of corrected labels; None: there are none.

    Raises:
        StorageError: it cannot be read.
        BadData: a file is broken, naming everything in it that is; or there is no row at all.
    """
    wanted = wanted_by(manifest)
    classes = wanted.classes
    kept: tuple[list[Row], list[Row]] = ([], [])
    problems = Problems(path, format_of(path, wanted).parts)
    for found in _rows(path, wanted, problems, corrections, thorough=True):
        kept[is_held_out(found.key, found.label, holdout)].append(Row(found.sample, classes[found.label]))
    if not path.is_dir() or not any(kept):
        problems.refuse()
    if not any(kept):
        raise BadData(f"expected rows in {path}, found none; {format_of(path, wanted).hint}")
    return Data(tuple(kept[0]), tuple(kept[1]))


def count_board(path: Path, manifest: Manifest, corrections: Path | None = None) -> Counted:
    """How many rows there are, after all checks that need neither numpy nor Pillow, and without keeping any.

    Raises:
        StorageError: it cannot be read.
        BadData: a file is broken, or it holds nothing; a folder may.
    """
    wanted = wanted_by(manifest)
    form = format_of(path, wanted)
    problems = Problems(path, form.parts)
    rows = sum(1 for _ in _rows(path, wanted, problems, corrections, thorough=False))
    if not path.is_dir():
        problems.refuse()
        if not rows:
            raise BadData(f"expected rows in {path}, found none; {form.hint}")
    return Counted(rows, tuple(problems.sentences[:TOLD]), problems.count)


def _rows(
    path: Path, wanted: Wanted, problems: Problems, corrections: Path | None, *, thorough: bool
) -> Iterator[Found]:
    corrections = None if wanted.passages else corrections  # labels, of a bundle that was here before
    known = {} if corrections is None else read_corrections(corrections)
    rows = rows_of(path, wanted, problems, thorough=thorough)
    yield from uncorrected(rows, known) if known else rows
    if corrections is not None:
        yield from rows_of_corrections(corrections, known, wanted)
