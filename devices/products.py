"""Which nodes a weight's product becomes by its format (docs/quantization.md), as work that a table knows."""

from __future__ import annotations

from dataclasses import dataclass

from wire.work import Work


@dataclass(frozen=True)
class Nodes:
    """What is done at every run whatever the rows (restoring the weight), and what is done with the rows."""

    per_run: tuple[Work, ...]
    per_rows: tuple[Work, ...]

    @property
    def all(self) -> tuple[Work, ...]:
        """Both."""
        return (*self.per_run, *self.per_rows)


def product_nodes(
    fmt: str, rows: int, features_in: int, features_out: int, *, operator: str = "MatMul", written: bool = False
) -> Nodes:
    """The nodes of [rows, in] times a weight [in, out].

    Args:
        fmt: one of `devices.speed.FORMATS`.
        rows: of the activations.
        features_in: of the weight; of a convolution those of one output value.
        features_out: of the weight.
        operator: `MatMul`, or a convolution.
        written: whether blocks are restored to floats too, as backward graphs have it.

    >>> [work.operator for work in product_nodes("int8", 4, 8, 8).all]
    ['DequantizeLinear', 'FusedMatMul']
    """
    shape, weights = (rows, features_in, features_out), (features_in * features_out,)
    convolves = operator != "MatMul"
    floats = (Work(operator if convolves else "FusedMatMul", "fp32", shape),)
    if fmt == "fp32":
        return Nodes((), (Work(operator, "fp32", shape),))
    if fmt in ("int8-dynamic", "int8-static"):
        rounded = Work("QuantizeLinear", "int8", (rows * features_in,))
        product = Work("Conv" if convolves else "MatMulInteger", "int8", shape)
        scaled = Work("Add", "fp32", (rows * features_out,))
        return Nodes((), (rounded, product, scaled))
    if fmt in ("int4", "int8-blocks") and not (written or convolves):
        return Nodes((), (Work("MatMulNBits", "int4" if fmt == "int4" else "int8", shape),))
    if fmt in ("nf4", "fp4") and not (written or convolves):
        return Nodes((), (Work("MatMulBnb4", "nf4", shape),))
    restored = {
        "fp16": Work("Cast", "fp16", weights),
        "int4": Work("DequantizeLinear", "blocks", weights),
        "int8-blocks": Work("DequantizeLinear", "blocks", weights),
        # two numbers of a byte are looked up, and scaled
        "nf4": Work("Gather", "fp32", weights, count=2),
        "fp4": Work("Gather", "fp32", weights, count=2),
    }.get(fmt, Work("DequantizeLinear", "int8", weights))
    return Nodes((restored,), floats)
