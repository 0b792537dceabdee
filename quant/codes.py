"""NF4 and FP4: 4-bit codes into a table of sixteen numbers, with a scale per block.

    w'[i] = table[code[i]] scale[i // block]        i counts the entries of [out, in] row by row

Dettmers, Pagnoni, Holtzman and Zettlemoyer, "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314,
section 3: NF4, whose numbers are quantiles of a Gaussian scaled to -1 and 1, and double quantization of the scales:

    scale'[j] = step[j // 256] tree[code[j]] + offset

with the dynamic tree of Dettmers, Lewis, Shleifer and Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
arXiv 2110.02861, section 1.3. FP4 has a sign, two bits of exponent and one of mantissa; its numbers are those of
bitsandbytes, which are also those of the runtime's MatMulBnb4 and not those of other formats of that name.

Blocks run on from row to row, and the last one may be short. What chooses the codes is `quant.bnb`; here is what
reads them, which boards need too: no runtime knows double quantization, so scales are restored before they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from quant.matrix import Float32, UInt8

Kind = Literal["nf4", "fp4"]

# what both bitsandbytes and MatMulBnb4 take
SIZES = (32, 64, 128, 256)
SCALES_AT_ONCE = 256  # scales that share a step
BLOCKS_AT_ONCE = 1 << 16

# attribute quant_type of MatMulBnb4
QUANT_TYPES: dict[Kind, int] = {"fp4": 0, "nf4": 1}

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_FP4 = (0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12)
TABLES: dict[Kind, Float32] = {
    "nf4": np.array(_NF4, np.float32),
    "fp4": np.array([*_FP4, *(-x for x in _FP4)], np.float32),
}


@dataclass(frozen=True, eq=False)
class Codes:
    """A weight in codes, as MatMulBnb4 reads it.

    Attributes:
        values: uint8 [ceil(rows columns / 2)], two codes to a byte, the first in the high half.
        scales: float32 [ceil(rows columns / block)], the largest magnitude of each block.
        shape: (rows, columns) of the weight, [out, in].
        kind: which table.
        block: entries that share a scale.
    """

    values: UInt8
    scales: Float32
    shape: tuple[int, int]
    kind: Kind
    block: int

    @property
    def bytes(self) -> int:
        """Bytes of both."""
        return self.values.nbytes + self.scales.nbytes


@dataclass(frozen=True, eq=False)
class Nested:
    """Scales of 8 bits.

    Attributes:
        values: uint8 [scales], codes into the dynamic tree.
        steps: float32 [ceil(scales / 256)].
        offset: float32 [], the mean of the scales.
    """

    values: UInt8
    steps: Float32
    offset: Float32

    @property
    def bytes(self) -> int:
        """Bytes of all three."""
        return self.values.nbytes + self.steps.nbytes + self.offset.nbytes


def dequantize_codes(codes: Codes) -> Float32:
    """The weight that codes and scales stand for, float32 [rows, columns].

    >>> dequantize_codes(Codes(np.array([0xF0], np.uint8), np.array([3.0], np.float32), (1, 2), "nf4", 32)).tolist()
    [[3.0, -3.0]]
    """
    count, table = codes.shape[0] * codes.shape[1], TABLES[codes.kind]
    out = np.empty(2 * len(codes.values), np.float32)
    # in blocks: the codes of a large table, one to a byte and as indices, would be more than the table
    for start in range(0, len(codes.scales), BLOCKS_AT_ONCE):
        scales = codes.scales[start : start + BLOCKS_AT_ONCE]
        first, last = start * codes.block, (start + len(scales)) * codes.block
        packed = codes.values[first // 2 : last // 2]
        part = out[first : first + 2 * len(packed)]
        part[0::2], part[1::2] = table[packed >> np.uint8(4)], table[packed & np.uint8(15)]
        part *= np.repeat(scales, codes.block)[: len(part)]
    return out[:count].reshape(codes.shape)


def restore_scales(nested: Nested) -> Float32:
    """Scales of 32 bits from those of 8, float32 [scales].

    >>> restore_scales(Nested(np.array([255, 127], np.uint8), np.ones(1, np.float32), np.float32(2))).tolist()
    [3.0, 2.0]
    """
    steps = np.repeat(nested.steps, SCALES_AT_ONCE)[: len(nested.values)]
    return np.asarray(dynamic_tree()[nested.values] * steps + nested.offset, np.float32)


def dynamic_tree(signed: bool = True) -> Float32:
    """The 256 numbers of the dynamic tree, rising, closer together near 0: -0.993 to 1, or 0 to 1.

    Seven decades; the decade 10^-k has 2^(6-k) numbers of either sign, or 2^(7-k) where there is no sign: the middles
    of equal parts of [0.1, 1].

    >>> tree = dynamic_tree()
    >>> len(tree), float(tree[127]), float(tree[-1]), bool(np.all(np.diff(tree) > 0))
    (256, 0.0, 1.0, True)
    >>> tree = dynamic_tree(signed=False)
    >>> len(tree), float(tree[0]), float(tree[-1]), bool(np.all(np.diff(tree) > 0))
    (256, 0.0, 1.0, True)
    """
    positive: list[float] = []
    for decade in range(7):
        ends = np.linspace(0.1, 1.0, 2 ** (decade if signed else decade + 1) + 1)
        positive += [10.0 ** (decade - 6) * middle for middle in (ends[:-1] + ends[1:]) / 2]
    negative = [-x for x in positive] if signed else []
    return np.array(sorted([*negative, 0.0, *positive, 1.0]), np.float32)
