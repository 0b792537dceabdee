"""Cross entropy of logits, in float64: what forward-only trainers differentiate, and what is shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log softmax(logits)[label] of every row: logits [n, classes], labels [n] -> [n].

    >>> cross_entropy(np.zeros((1, 4), np.float32), np.array([2])).round(4).tolist()
    [1.3863]
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    logs = np.log(np.exp(shifted).sum(axis=1))
    losses: NDArray[np.float64] = logs - shifted[np.arange(len(labels)), labels]
    return losses
