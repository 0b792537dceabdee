"""What became of one weight."""

from __future__ import annotations

from dataclasses import dataclass

from export.formats.layout import Layout


@dataclass(frozen=True)
class WeightReport:
    """What became of one weight: its format, its bytes, what was lost, or why it has not what was asked for.

    `layout` is what it is where it has a format: graphs may read one weight differently.
    """

    name: str
    format: str
    bytes_before: int
    bytes_after: int
    relative_error: float | None = None
    sqnr_db: float | None = None
    reason: str = ""
    layout: Layout | None = None
