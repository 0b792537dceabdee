"""Combinations of operator, bits and block that a release of onnxruntime gets wrong on a processor, or does not run.

Most of them say nothing: a graph loads, runs and returns zeros or noise. So they are refused before anything is built.
What was measured was measured with the wheels of 1.22.1, 1.23.2, 1.24.4, 1.26.0, 1.28.0 and 1.31.1 on x86-64, and a
release between two that differ counts as the wrong one (tests/export/test_broken.py measures again with two of them).
What is right but no faster than float32, such as MatMulNBits of accuracy level 4 without integer dot products, is in
`devices.verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass

from console.errors import UnsupportedModel
from devices.runtimes import OLDEST, release_of
from export.formats.grid import Grid

Release = tuple[int, int]

LEVELS = ("disable", "basic", "extended", "all")  # optimizations of a session, the fewest first
NEVER = (1 << 16, 0)


@dataclass(frozen=True)
class Use:
    """How an operator is used.

    Attributes:
        op: its type.
        bits: of a weight.
        block: weights that share a scale; 0 for a whole row or tensor.
        zeros: zero points: "none", "whole" or "float".
        count: blocks in a row; None where it may be any number.
        stored: type of the tensor that holds the weight.
        turned: whether rows of the weight are output channels, of a product.
    """

    op: str
    bits: int
    block: int
    zeros: str = "none"
    count: int | None = None
    stored: str = "uint8"
    turned: bool = True


@dataclass(frozen=True)
class Broken:
    """What goes wrong, where.

    Attributes:
        op: type of the operator.
        what: the combination in words.
        happens: what it does, by release where that differs.
        source: measured where, or reported where.
        bits: with which; empty for all.
        blocks: smallest and largest that are fine; None where they do not matter.
        zeros: with which zero points; empty for all.
        stored: in tensors of this type; empty for all.
        odd: only where the number of blocks in a row is odd.
        turned: only in this orientation; None for both.
        since: the first release that is not known to be fine.
        before: the first release that is known to be fine again.
        level: the fewest optimizations under which it happens.
    """

    op: str
    what: str
    happens: str
    source: str
    bits: tuple[int, ...] = ()
    blocks: tuple[int, int] | None = None
    zeros: tuple[str, ...] = ()
    stored: str = ""
    odd: bool = False
    turned: bool | None = None
    since: Release = (0, 0)
    before: Release = NEVER
    level: str = "disable"

    def concerns(self, use: Use, runtime: str, level: str) -> bool:
        """Whether a release gets a use wrong under these optimizations."""
        block = self.blocks is None or not self.blocks[0] <= use.block <= self.blocks[1]
        odd = not self.odd or use.count is None or use.count % 2 == 1
        kind = use.op == self.op and self.stored in {"", use.stored} and self.turned in {None, use.turned}
        fits = (not self.bits or use.bits in self.bits) and (not self.zeros or use.zeros in self.zeros)
        when = self.since <= release_of(runtime) < self.before
        return kind and block and odd and fits and when and LEVELS.index(level) >= LEVELS.index(self.level)


SOURCE = "measured"
BROKEN = (
    Broken(
        "MatMulNBits",
        "blocks outside 16 to 256",
        "noise in 1.22 to 1.24, zeros or noise in 1.26, not loaded by 1.28",
        "measured; onnxruntime #28551; MLAS has kernels for 16, 32, 64, 128 and 256",
        blocks=(16, 256),
        zeros=("none", "whole"),
    ),
    Broken(
        "MatMulNBits",
        "blocks outside 16 to 256 with float zero points",
        "not loaded",
        "measured; fine up to 1.26",
        blocks=(16, 256),
        zeros=("float",),
        since=(1, 27),
    ),
    Broken(
        "MatMulNBits",
        "2 bits",
        "not loaded",
        "measured; fine from 1.24 on",
        bits=(2,),
        zeros=("none", "whole"),
        before=(1, 24),
    ),
    Broken(
        "MatMulNBits",
        "2 bits with float zero points",
        "not loaded, or stops when it runs",
        "measured; fine in 1.28",
        bits=(2,),
        zeros=("float",),
        before=(1, 28),
    ),
    Broken(
        "MatMulNBits",
        "8 bits and float activations",
        "stops when it runs",
        "measured with 1.22.1; onnxruntime #24769; fine from 1.23 on",
        bits=(8,),
        before=(1, 23),
    ),
    Broken("MatMulNBits", "8 bits with float zero points", "stops when it runs", SOURCE, bits=(8,), zeros=("float",)),
    Broken(
        "GatherBlockQuantized",
        "weights in bytes, which need the attribute `bits`",
        "not loaded",
        "measured with 1.22.1; onnxruntime #25214",
        stored="uint8",
        before=(1, 23),
    ),
    Broken(
        "GatherBlockQuantized",
        "4 bits in bytes with zero points and an odd number of blocks in a row",
        "rows with the zero points of others",
        "measured up to 1.26, fine in 1.28; onnxruntime #26506",
        bits=(4,),
        zeros=("whole",),
        stored="uint8",
        odd=True,
        before=(1, 28),
    ),
    Broken("GatherBlockQuantized", "2 bits", "not loaded", "measured; fine in 1.28", bits=(2,), before=(1, 28)),
    Broken("MatMulBnb4", "blocks outside 16 to 256", "stops when it runs", SOURCE, blocks=(16, 256)),
    Broken("MatMulBnb4", "a weight [in, out] (transB=0)", "noise", SOURCE, turned=False),
    Broken(
        "DequantizeLinear",
        "8 bits per column of [in, out], or per tensor, before a plain MatMul",
        "activations rounded to 8 bits",
        "measured with 1.26 and later; fine up to 1.24",
        bits=(8,),
        blocks=(1, 1 << 30),
        turned=False,
        since=(1, 25),
        level="extended",
    ),
    Broken(
        "DequantizeLinear",
        "4 bits in blocks of [in, out] before a plain MatMul",
        "activations rounded to 8 bits",
        SOURCE,
        bits=(4,),
        turned=False,
        level="extended",
    ),
)


def refuse(
    op: str,
    bits: int,
    block: int,
    zeros: str,
    runtime: str | None = None,
    *,
    count: int | None = None,
    stored: str = "uint8",
    turned: bool = True,
    level: str = "basic",
) -> None:
    """Stop what a release of onnxruntime gets wrong.

    Args:
        op: type of the operator.
        bits: of a weight.
        block: weights that share a scale.
        zeros: zero points: "none", "whole" or "float".
        runtime: the release, such as `1.23.2`; None for the oldest that agents run on.
        count: blocks in a row, if it is known.
        stored: type of the tensor that holds the weight.
        turned: whether rows of the weight are output channels.
        level: optimizations of the session; exports go as far as "basic".

    Raises:
        UnsupportedModel: it is in the table.
    """
    release = runtime or OLDEST
    use = Use(op, bits, block, zeros, count, stored, turned)
    for broken in BROKEN:
        if broken.concerns(use, release, level):
            raise UnsupportedModel(
                f"expected a format that onnxruntime {release} computes right, found {op} with {broken.what}, whose "
                f"outcome is: {broken.happens} ({broken.source}); choose another --quant or --block, or a board with a "
                "newer onnxruntime"
            )


def refuse_format(name: str, grid: Grid, runtime: str | None = None) -> None:
    """Stop a format with settings that one of its operators cannot have in a release of onnxruntime.

    Raises:
        UnsupportedModel: it is in the table.
    """
    zeros = "whole" if grid.zero_points else "none"
    if name in {"int4", "int8-blocks"}:
        bits = 4 if name == "int4" else 8
        refuse("MatMulNBits", bits, grid.integer_block, zeros, runtime)
        refuse("DequantizeLinear", bits, grid.integer_block, "whole", runtime, stored="uint4" if bits == 4 else "uint8")
    if name == "int4":
        refuse("GatherBlockQuantized", 4, grid.integer_block, "whole", runtime, stored="uint4")
    if name in {"nf4", "fp4"}:
        refuse("MatMulBnb4", 4, grid.code_block, "none", runtime)
