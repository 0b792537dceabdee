"""The formats by name."""

from __future__ import annotations

from console.errors import UsageError
from export.formats.blocks import IntegerBlocks
from export.formats.codes import FourBitCodes
from export.formats.format import Format
from export.formats.fp16 import Fp16
from export.formats.grid import Grid
from export.formats.int8 import Int8
from export.formats.layout import Layout

STORED: dict[str, Format] = {
    f.name: f
    for f in (
        Fp16(),
        Int8(),
        IntegerBlocks("int8-blocks", 8),
        IntegerBlocks("int4", 4),
        FourBitCodes("nf4"),
        FourBitCodes("fp4"),
    )
}
FORMATS = ("fp32", *STORED)
AUTO = "auto"  # chosen weight by weight (`export.choice`)
# products of integers, which the tools make of whole graphs (`export.activations`): not where there are slots
ACTIVATIONS = ("int8-dynamic", "int8-static")
INSTEAD = "int8"  # what their weights are elsewhere
FLOAT32, INT8 = "float32", "int8"
TRAIN_ACTIVATIONS = (FLOAT32, INT8)  # of the forward half of backward graphs (`export.activations.half`)
QUANTS = (AUTO, *FORMATS, *ACTIVATIONS)


def stored_as(asked: str, layout: Layout, grid: Grid) -> tuple[Format | None, str]:
    """The format that a weight gets where one is asked for, None for fp32, and why it is another.

    Raises:
        UsageError: nothing has that name.
    """
    if asked not in (*FORMATS, *ACTIVATIONS):
        raise UsageError(f"expected one of the formats {', '.join(FORMATS)}, found {asked!r}")
    reason, name = "", asked
    if asked in ACTIVATIONS:
        reason, name = "activations stay float in a graph with slots", INSTEAD
    while name != "fp32":
        found = STORED[name]
        refusal = found.refuses(layout, grid)
        if not refusal:
            return found, reason and f"{reason}; {name} instead"
        reason, name = reason or refusal, found.instead
    return None, reason
