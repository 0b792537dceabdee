"""How far onnxruntime's kernels come by what a core could do: one constant each, with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A constant of a kernel and where it comes from."""

    value: float
    source: str


def _zen(value: float, what: str) -> Measured:
    return Measured(value, f"measured: onnxruntime 1.31.1, one core of an AMD EPYC (Zen 4, 3.66 GHz), {what}")


# Of [2048, 2048] unless said otherwise. Shares are of a core's peak; cycles are per weight.
KERNELS = {
    "product": _zen(0.85, "fp32 at 128 rows: 98 of 117 Gflop/s"),
    "integer product": _zen(0.8, "MatMulInteger at 128 rows: 379 of 468 Gop/s"),
    "activation cycles": _zen(1.0, "rounding and scaling of activations around MatMulInteger at 128 rows"),
    "lookup cycles": _zen(1.2, "MatMulBnb4 at 1 row: 2.9 ms, of which fp32 0.85 and writing floats 0.6"),
    "scalar cycles": _zen(9.0, "MatMulNBits of 8 bits, level 0, at 1 row: 11.1 ms (block 32), 9.3 ms (block 128)"),
    "panel cycles": _zen(0.5, "MatMulNBits of 4 bits, level 0, at 16 rows: 2.15 ms"),
    "unpacked row": _zen(0.127, "MatMulNBits of 4 bits, level 0, at 1 row: 0.57 ms"),
    "4 bits, row": _zen(0.1, "MatMulNBits of 4 bits, level 4, at 1 row: 0.17 ms"),
    "8 bits, row": _zen(0.055, "MatMulNBits of 8 bits, level 4, at 1 row: 0.40 ms (block 32), 0.25 ms (block 128)"),
    "blocks, rows": _zen(0.3, "MatMulNBits, level 4, at 16 and 128 rows: 117 to 210 Gop/s"),
    "row latency ns": Measured(100, "unverified: one miss of the caches per row of a table"),
    "4 bits, table cycles": Measured(2.0, "unverified: GatherBlockQuantized is a scalar loop"),
}
