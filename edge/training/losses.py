"""Cross entropy of logits, in float64: what forward-only trainers differentiate, and what is shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.training.task import Score


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


def score_of(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Score:
    """Mean loss and right answers: logits [n, classes], labels [n].

    >>> score_of(np.eye(3, dtype=np.float32), np.array([0, 1, 0])).right
    2
    """
    right = int(np.sum(logits.argmax(axis=1) == labels))
    return Score(float(np.mean(cross_entropy(logits, labels))), right, len(labels))
