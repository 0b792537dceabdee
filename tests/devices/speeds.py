"""A core that kernels were measured on, and bytes of a weight by format."""

from __future__ import annotations

from devices.speed import Cpu
from devices.verdict import BITS

ZEN = Cpu(frozenset({"avx2", "avx512_vnni"}), 3_660_000_000, 14_500_000_000, 2, 32)


def stored(fmt: str, weights: int) -> int:
    """Bytes of so many weights, scales included."""
    return int(weights * (32 if fmt == "fp32" else BITS.get(fmt, 8)) / 8)
