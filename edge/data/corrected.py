"""A board's data with the labels that somebody corrected: a sample has one label, and the corrected one counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edge.data.corrections import Correction
from edge.data.wanted import Found, Wanted
from wire.files import digest, file_digest


def uncorrected(rows: Iterable[Found], corrections: Mapping[str, Correction]) -> Iterator[Found]:
    """Rows whose sample nobody corrected. Files are read only where one of the same size was."""
    sizes = {one.size for one in corrections.values() if one.file is not None}
    for row in rows:
        if _name(row, sizes) not in corrections:
            yield row


def rows_of_corrections(folder: Path, corrections: Mapping[str, Correction], wanted: Wanted) -> Iterator[Found]:
    """Corrections as rows, as far as they are of this model: of its labels, of the samples that it takes, and there."""
    for name, one in corrections.items():
        column = "text" if one.text is not None else "image" if one.image is not None else "sound"
        if column not in wanted.columns or wanted.unknown(one.label) is not None:
            continue
        if one.file is None:
            yield Found(f"corrected {name[:12]}", one.text, one.label, str(one.text))
        elif (folder / one.file).is_file():
            yield Found(f"corrected {name[:12]}", folder / one.file, one.label, one.file)


def _name(row: Found, sizes: set[int]) -> str:
    """The SHA-256 of a row's sample, as far as it can be that of a correction."""
    if isinstance(row.sample, str):
        return digest(row.sample.encode())
    if isinstance(row.sample, Path) and row.sample.is_file() and row.sample.stat().st_size in sizes:
        return file_digest(row.sample)
    return ""
