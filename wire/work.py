"""What a graph does at one run, in plain numbers: kinds of nodes, how large, how many (docs/probe.md).

Who exports a graph counts this, and a board's latency table says what each takes there. A kind is the operator of
onnxruntime that was measured for it; others that work alike are counted as it.

    products       MatMul, FusedMatMul (the second factor transposed), MatMulInteger, MatMulNBits, MatMulBnb4,
                   Conv, DepthwiseConv        shape (rows, features in, features out)
    all others     DequantizeLinear, Cast, QuantizeLinear, Add (any arithmetic), Erf (any function), Softmax,
                   LayerNormalization, ReduceMean (any reduction), Transpose (any copy), Gather    shape (elements,)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from wire.record import at_least

PRODUCTS = frozenset({"MatMul", "FusedMatMul", "MatMulInteger", "MatMulNBits", "MatMulBnb4", "Conv", "DepthwiseConv"})


@dataclass(frozen=True)
class Work:
    """Nodes that are alike.

    Attributes:
        operator: see the top.
        format: of what it reads: fp32, fp16, int8, int4, nf4, blocks.
        shape: see the top; of a convolution rows are places of the output, and features in are those of one value.
        count: how many such nodes there are.
        batch: how many such products one node makes.
    """

    operator: str
    format: str
    shape: tuple[int, ...] = field(metadata=at_least(0))
    count: int = field(default=1, metadata=at_least(1))
    batch: int = field(default=1, metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and weights of a product, 1 and elements of anything else.

        >>> Work("MatMul", "fp32", (8, 16, 4)).size, Work("Add", "fp32", (8, 16)).size
        ((8, 64), (1, 128))
        """
        if self.operator in PRODUCTS and self.shape:
            return self.shape[0], math.prod(self.shape[1:])
        return 1, math.prod(self.shape)
