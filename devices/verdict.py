"""What a format buys on a board, in words: speed, memory only, or memory at a price."""

from __future__ import annotations

from typing import Literal

from devices.speed import FORMATS, LEVEL, Cpu, product_ns

Verdict = Literal["fast", "saves memory only", "slow"]
SIDE = 1024  # of the square weight that formats are compared at
BITS = {"fp16": 16, "int8": 8, "int8-blocks": 9, "int4": 5, "nf4": 4.5, "fp4": 4.5}  # with scales, blocks of 32 and 64
FASTER, SLOWER = 0.9, 3.0  # times of fp32


def verdict(fmt: str, rows: int, cpu: Cpu, level: int = LEVEL) -> Verdict:
    """What a format buys at so many rows, beside fp32, which counts as fast.

    Fast takes at most 0.9 of the time of fp32, slow more than 3 times it.

    Raises:
        ValueError: an unknown format.
    """
    if fmt == "fp32":
        return "fast"
    stored = SIDE * SIDE * BITS.get(fmt, 8) / 8
    there = product_ns(fmt, rows, SIDE, SIDE, cpu, int(stored), level)
    ratio = there / product_ns("fp32", rows, SIDE, SIDE, cpu, 4 * SIDE * SIDE)
    if ratio <= FASTER:
        return "fast"
    return "saves memory only" if ratio <= SLOWER else "slow"


def sentence(fmt: str, rows: int, cpu: Cpu, level: int = LEVEL) -> str:
    """What a report says of a format on a board.

    >>> from devices.profile import load
    >>> from devices.speed import cpu_of
    >>> sentence("int4", 1, cpu_of(load("raspberry-pi-4-2gb")), level=4)
    'int4 saves memory only at 1 row (no dot products)'
    """
    found = verdict(fmt, rows, cpu, level)
    integer = fmt in ("int8-dynamic", "int8-static") or (fmt in ("int4", "int8-blocks") and level == 4)
    why = " (no dot products)" if found != "fast" and integer and not cpu.multiplies_int8 else ""
    said = found if found == "saves memory only" else f"is {found}"
    return f"{fmt} {said} at {rows} row{'s' if rows != 1 else ''}{why}"


def formats_line(rows: int, cpu: Cpu) -> str:
    """Every format but fp32, by what it buys at so many rows.

    >>> from devices.speed import GENERIC
    >>> formats_line(1, GENERIC).startswith("fast int8-dynamic, int8-static; saves memory only ")
    True
    """
    by: dict[str, list[str]] = {}
    for fmt in FORMATS[1:]:
        by.setdefault(verdict(fmt, rows, cpu), []).append(fmt)
    order: tuple[Verdict, ...] = ("fast", "saves memory only", "slow")
    return "; ".join(f"{name} {', '.join(by[name])}" for name in order if name in by)
