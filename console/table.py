"""Plain text tables, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

MIB = 1024 * 1024


def mib(size_bytes: float | None) -> str:
    """A size in MiB with one decimal.

    >>> mib(3 * 1024 * 1024)
    '3.0 MiB'
    >>> mib(None)
    '-'
    """
    return "-" if size_bytes is None else f"{size_bytes / MIB:.1f} MiB"


def percent(share: float | None) -> str:
    """A share as per cent.

    >>> percent(0.7812)
    '78.1 %'
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under a header; columns that hold numbers are aligned to the right.

    >>> print(table(["board", "MiB"], [["zero", 7], ["four", 21]]))
    board  MiB
    -----  ---
    zero     7
    four    21
    """
    cells = [[str(c) for c in row] for row in rows]
    widths = [max(len(str(h)), *(len(row[i]) for row in cells)) if cells else len(str(h)) for i, h in enumerate(header)]
    right = [
        bool(cells) and all(row[i][:1].isdigit() or row[i] in ("-", "") or row[i][:1] == "-" for row in cells)
        for i in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([line([str(h) for h in header]), rule, *(line(row) for row in cells)])
