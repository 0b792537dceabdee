"""Bias adapters (BitFit: Ben Zaken et al., arXiv 2106.10199): a change of a bias, [out].

In a file: `SLOT/bias/delta` float32 [out]. It is linear, so the weighted mean is exact. PEFT has no counterpart:
it is added to the bias of the module.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def name(slot: str) -> str:
    """Tensor name of a slot.

    >>> name("layer.0.query")
    'layer.0.query/bias/delta'
    """
    return f"{slot}/bias/delta"


def mean(deltas: list[NDArray[np.float32]], weights: list[float]) -> NDArray[np.float64]:
    """The weighted mean of changes [out] in float64; weights sum to 1.

    >>> mean([np.array([1.0, 0.0], np.float32), np.array([3.0, 2.0], np.float32)], [0.5, 0.5]).tolist()
    [2.0, 1.0]
    """
    total: NDArray[np.float64] = np.sum(
        [w * d.astype(np.float64) for w, d in zip(weights, deltas, strict=True)], axis=0
    )
    return total
