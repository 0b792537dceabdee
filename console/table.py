"""Plain text tables, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

MIB = 1024 * 1024
LONGEST_NUMBER = 30  # characters, with its unit and its bounds; what is longer is a sentence


def mib(size_bytes: float | None) -> str:
    """A size in MiB with one decimal.

    >>> mib(3 * 1024 * 1024)
    '3.0 MiB'
    >>> mib(None)
    '-'
    """
    return "-" if size_bytes is None else f"{size_bytes / MIB:.1f} MiB"


def size(size_bytes: float | None) -> str:
    """A size in MiB; a smaller one in KiB or bytes, where a boundary tensor would be 0.0 MiB.

    >>> size(3 * 1024 * 1024), size(49152), size(700), size(None)
    ('3.0 MiB', '48.0 KiB', '700 B', '-')
    """
    if size_bytes is None or abs(size_bytes) >= MIB:
        return mib(size_bytes)
    return f"{size_bytes / 1024:.1f} KiB" if abs(size_bytes) >= 1024 else f"{size_bytes:.0f} B"


def shown(text: object) -> str:
    r"""A text of foreign origin as one harmless line: what a terminal would act on is spelled out.

    >>> shown("layer.0"), shown("red \x1b[31m\n")
    ('layer.0', 'red \\x1b[31m\\n')
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def percent(share: float | None) -> str:
    """A share as per cent.

    >>> percent(0.7812)
    '78.1 %'
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def is_number(cell: str) -> bool:
    """Whether a cell is a number, with or without a unit, or stands for one that is not there.

    >>> is_number("82.7 MiB"), is_number("-0.3"), is_number("-"), is_number("segment0")
    (True, True, True, False)
    >>> is_number("1 of 2 devices answered; not released")
    False
    """
    return cell in ("-", "") or (cell.lstrip("+-")[:1].isdigit() and len(cell) <= LONGEST_NUMBER)


def many(count: int, noun: str) -> str:
    """So many of something, of which more than one end in s.

    >>> many(1, "row"), many(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


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
    right = [bool(cells) and all(is_number(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([line([str(h) for h in header]), rule, *(line(row) for row in cells)])
