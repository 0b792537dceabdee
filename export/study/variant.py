"""What is compared: a format, perhaps with choices beside it, as `int4+hqq+zeros` or `nf4+nested`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from console.errors import UsageError
from export.activations.methods import Method
from export.formats.grid import Grid
from export.formats.registry import FORMATS
from quant.blocks import SIZES

FP32 = "fp32"
DYNAMIC, STATIC = "int8-dynamic", "int8-static"
ACTIVATIONS = (DYNAMIC, STATIC)  # they round what weights are multiplied with as well
EVERY = (*FORMATS, *ACTIVATIONS)
INTEGERS, CODES = ("int8-blocks", "int4"), ("nf4", "fp4")
METHODS: dict[str, Method] = {"minmax": "minmax", "entropy": "entropy", "percentile": "percentile"}


@dataclass(frozen=True)
class Variant:
    """A format with its settings; `name` is what the user wrote."""

    name: str
    format: str
    grid: Grid = field(default_factory=Grid)
    method: Method = "minmax"

    @property
    def calibrates(self) -> bool:
        """Whether it looks at input before it is made."""
        return self.format == STATIC or self.grid.scales == "gptq"


def variants(text: str | None) -> tuple[Variant, ...]:
    """Those of a list with commas, fp32 before them all; every format that is known where nothing is said.

    A format's name may be followed by `+hqq` (scales by half-quadratic steps), `+gptq` (with error feedback on
    calibration input), `+zeros` (zero points), `+nested` (8-bit scales of NF4 and FP4), `+128` or another size of
    blocks, and `+entropy` or `+percentile` (how the ranges of int8-static are found).

    >>> [v.name for v in variants("int4, int4+zeros+64")]
    ['fp32', 'int4', 'int4+zeros+64']

    Raises:
        UsageError: something that is not known, or that a format does not have.
    """
    names = EVERY if text is None else tuple(part.strip() for part in text.split(","))
    return tuple(dict.fromkeys([Variant(FP32, FP32), *map(_variant, names)]))


def _variant(name: str) -> Variant:
    fmt, *choices = name.split("+")
    if fmt not in EVERY:
        raise UsageError(f"expected --formats among {', '.join(EVERY)}, found {fmt!r}")
    found = Variant(name, fmt)
    for choice in choices:
        found = _with(found, choice)
    return found


def _with(found: Variant, choice: str) -> Variant:
    fmt, grid = found.format, found.grid
    if choice in ("hqq", "gptq") and fmt in INTEGERS:
        return replace(found, grid=replace(grid, scales="hqq" if choice == "hqq" else "gptq"))
    if choice == "zeros" and fmt in INTEGERS:
        return replace(found, grid=replace(grid, zero_points=True))
    if choice == "nested" and fmt in CODES:
        return replace(found, grid=replace(grid, nested_scales=True))
    if choice.isdigit() and int(choice) in SIZES and fmt in (*INTEGERS, *CODES):
        return replace(found, grid=replace(grid, block=int(choice)))
    if choice in METHODS and fmt == STATIC:
        return replace(found, method=METHODS[choice])
    raise UsageError(f"expected {_choices(fmt)} after '{fmt}', found '+{choice}'")


def _choices(fmt: str) -> str:
    """What can follow a format's name."""
    sizes = [str(size) for size in SIZES]
    choices = ["hqq", "gptq", "zeros", *sizes] if fmt in INTEGERS else ["nested", *sizes] if fmt in CODES else []
    choices = list(METHODS) if fmt == STATIC else choices
    return ", ".join(f"+{choice}" for choice in choices) or "nothing"
