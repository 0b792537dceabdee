"""What is compared: a format, perhaps with choices beside it, as `int4+hqq+zeros` or `nf4+nested`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from console.errors import UsageError
from export.formats.grid import Grid
from export.formats.registry import FORMATS
from quant.blocks import SIZES

FP32 = "fp32"
INTEGERS, CODES = ("int8-blocks", "int4"), ("nf4", "fp4")
WORDS = "hqq, zeros, nested or a block's size"


@dataclass(frozen=True)
class Variant:
    """A format with its settings; `name` is what the user wrote."""

    name: str
    format: str
    grid: Grid = field(default_factory=Grid)


def variants(text: str | None) -> tuple[Variant, ...]:
    """Those of a list with commas, fp32 before them all; every format that is known where nothing is said.

    A format's name may be followed by `+hqq` (scales by half-quadratic steps), `+zeros` (zero points), `+nested`
    (8-bit scales of NF4 and FP4) and `+128` or another size of blocks.

    >>> [v.name for v in variants("int4, int4+zeros+64")]
    ['fp32', 'int4', 'int4+zeros+64']

    Raises:
        UsageError: something that is not known, or that a format does not have.
    """
    names = FORMATS if text is None else tuple(part.strip() for part in text.split(","))
    return tuple(dict.fromkeys([Variant(FP32, FP32), *map(_variant, names)]))


def _variant(name: str) -> Variant:
    fmt, *choices = name.split("+")
    if fmt not in FORMATS:
        raise UsageError(f"expected --formats among {', '.join(FORMATS)}, found {fmt!r}")
    grid = Grid()
    for choice in choices:
        grid = _with(grid, fmt, choice)
    return Variant(name, fmt, grid)


def _with(grid: Grid, fmt: str, choice: str) -> Grid:
    if choice == "hqq" and fmt in INTEGERS:
        return replace(grid, scales="hqq")
    if choice == "zeros" and fmt in INTEGERS:
        return replace(grid, zero_points=True)
    if choice == "nested" and fmt in CODES:
        return replace(grid, nested_scales=True)
    if choice.isdigit() and int(choice) in SIZES and fmt in (*INTEGERS, *CODES):
        return replace(grid, block=int(choice))
    raise UsageError(
        f"expected {WORDS} ({', '.join(map(str, SIZES))}) after a '+' that {fmt} has, found {choice!r}; "
        f"hqq and zeros go with {' and '.join(INTEGERS)}, nested with {' and '.join(CODES)}"
    )
