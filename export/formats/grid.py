"""What is chosen about formats beside their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from console.errors import UsageError
from quant.blocks import SIZES

Scales = Literal["rounding", "hqq", "gptq"]
SCALES: tuple[Scales, ...] = ("rounding", "hqq", "gptq")


@dataclass(frozen=True)
class Grid:
    """Settings of formats in blocks.

    Attributes:
        block: weights that share a scale; None for 32 in integers and 64 in NF4 and FP4.
        scales: how those of integers are chosen: by rounding, by half-quadratic steps (`quant.hqq`), or with error
            feedback on calibration input (`quant.gptq`).
        zero_points: whether integers have them.
        nested_scales: whether scales of NF4 and FP4 are 8-bit codes themselves.
    """

    block: int | None = None
    scales: Scales = "rounding"
    zero_points: bool = False
    nested_scales: bool = False

    def __post_init__(self) -> None:
        if self.block is not None and self.block not in SIZES:
            raise UsageError(
                f"expected a --block of {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, found {self.block}; larger "
                "ones gave zeros in some releases of onnxruntime"
            )
        if self.scales not in SCALES:
            raise UsageError(f"expected --scales {', '.join(SCALES[:-1])} or {SCALES[-1]}, found {self.scales!r}")

    @property
    def integer_block(self) -> int:
        """Of integers."""
        return self.block or 32

    @property
    def code_block(self) -> int:
        """Of NF4 and FP4: blocks of 16 are none for bitsandbytes."""
        return max(self.block or 64, 32)
