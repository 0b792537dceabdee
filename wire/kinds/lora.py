"""LoRA (Hu et al., arXiv 2106.09685, section 4.1): W + scale A B with A [in, r], B [r, out].

In a file: `SLOT/lora/A`, `SLOT/lora/B` float32, `SLOT/lora/scale` float32 []. PEFT keeps the transposes:
`base_model.model.MODULE.lora_A.weight` [r, in], `...lora_B.weight` [out, r], and alpha = scale r.
Sums in product space, exactly, by stacking (wire.ladder).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lora:
    """The factors of one slot: a [in, r], b [r, out], scale."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    @property
    def rank(self) -> int:
        """Number of columns of A."""
        return int(self.a.shape[1])

    def product(self) -> NDArray[np.float64]:
        """The product scale A B in float64, [in, out]."""
        return self.scale * (self.a.astype(np.float64) @ self.b.astype(np.float64))

    def prefix(self, rank: int) -> Lora:
        """The first `rank` directions."""
        return Lora(self.a[:, :rank], self.b[:rank], self.scale)


def names(slot: str) -> tuple[str, str, str]:
    """Tensor names of a slot.

    >>> names("layer.0.query")
    ('layer.0.query/lora/A', 'layer.0.query/lora/B', 'layer.0.query/lora/scale')
    """
    return f"{slot}/lora/A", f"{slot}/lora/B", f"{slot}/lora/scale"


def peft_names(module: str) -> tuple[str, str]:
    """PEFT's names of A and B.

    >>> peft_names("encoder.layer.0.attention.self.query")[0]
    'base_model.model.encoder.layer.0.attention.self.query.lora_A.weight'
    """
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"


def concatenate(rungs: list[Lora]) -> Lora:
    """Put the pieces of a ladder, in order, together again."""
    return Lora(
        np.concatenate([r.a for r in rungs], axis=1),
        np.concatenate([r.b for r in rungs], axis=0),
        rungs[0].scale,
    )
