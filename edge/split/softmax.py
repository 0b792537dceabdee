"""Softmax regression on features, in numpy: the head of a board that keeps its labels, or has no tail to ask.

With logits z = F W + b, p = softmax(z), y the labels' one-hot rows and w the weights of the rows, the loss is
L = sum w_i (-log p_i[y_i]), dL/dz = w (p - y), dL/dW = F' dL/dz, dL/db = sum dL/dz, dL/dF = dL/dz W' (Bishop, "Pattern
Recognition and Machine Learning", 4.3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wire.kinds.head import Head

Array = NDArray[np.float32]
WEIGHT, BIAS = "head.weight", "head.bias"  # what learns, among the arrays of a front


@dataclass(frozen=True)
class Turned:
    """Of a micro-batch: the summed loss, and the gradients of the head and of the features."""

    loss: float
    weight: Array
    bias: Array
    features: Array


def blank(features: int, classes: int) -> Head:
    """A head that knows nothing."""
    return Head(np.zeros((features, classes), np.float32), np.zeros(classes, np.float32))


def turned(features: Array, head: Head, labels: NDArray[np.int64], weights: Array) -> Turned:
    """Loss and gradients.

    Args:
        features: [batch, features].
        head: [features, classes] and [classes].
        labels: [batch].
        weights: [batch]; 0 for rows that only fill up.

    >>> head = Head(np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
    >>> made = turned(np.eye(2, dtype=np.float32), head, np.array([0, 1]), np.array([1, 0], np.float32))
    >>> round(made.loss, 4), made.weight.tolist(), made.bias.tolist()
    (0.6931, [[-0.5, 0.5], [0.0, 0.0]], [-0.5, 0.5])
    """
    logits = features.astype(np.float64) @ head.weight + head.bias
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    loss = float(-(logs[rows, labels] * weights).sum())
    slope = np.exp(logs)
    slope[rows, labels] -= 1
    slope *= weights[:, None]
    made = features.T.astype(np.float64) @ slope, slope.sum(axis=0), slope @ head.weight.T.astype(np.float64)
    weight, bias, of_features = (np.asarray(part, np.float32) for part in made)
    return Turned(loss, weight, bias, of_features)
