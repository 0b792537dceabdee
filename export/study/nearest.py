"""Accuracy of features: the nearest class mean, for models that have no head for the labels of a data file.

Every second item gives its class a mean, of the features that a new head would read (`export.head`: pooled, of unit
length); the others are classified by the largest cosine with a mean. Each format has means of its own features, as a
board has that learns in that format. Prototypes as in Snell, Swersky and Zemel (NeurIPS 2017), section 2, with cosines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.sources.captured import Values
from export.study.calls import Call
from export.study.judge import Features
from export.study.rows import Quality, Share
from export.verify import pooled_features


class NearestMean:
    """Cosines with fp32 and, of one output [batch, tokens, features] or [batch, features], the accuracy."""

    def __init__(self, formats: Sequence[str], names: Sequence[str], output: str) -> None:
        self.output = output
        self._features = Features(formats, names)
        self._pooled: dict[str, list[NDArray[np.float64]]] = {name: [] for name in formats}
        self._classes: list[int] = []

    def add(self, call: Call, outputs: Mapping[str, Values]) -> None:
        """Add a call."""
        self._features.add(call, outputs)
        self._classes += call.targets.tolist()
        for name, values in outputs.items():
            self._pooled[name] += list(_pooled(np.asarray(values[self.output]), call)[: call.items])

    def of(self, name: str) -> Quality:
        """Cosines and accuracy."""
        features, classes = np.array(self._pooled[name]), np.array(self._classes)
        return replace(self._features.of(name), accuracy=nearest_mean(features, classes))


def _pooled(output: NDArray[Any], call: Call) -> NDArray[np.float64]:
    if output.ndim == 3:
        return pooled_features(output, call.feeds)
    features = output.astype(np.float64)
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


def nearest_mean(features: NDArray[np.float64], classes: NDArray[np.int64]) -> Share | None:
    """How many of every second item are nearest to the mean of their own class; None where that says nothing.

    Means are of the items between them. Items of a class without a mean are not asked.

    Args:
        features: [items, features].
        classes: [items].

    >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
    >>> nearest_mean(x, np.array([0, 0, 1, 1]))
    Share(hits=1, of=2)
    """
    known = np.unique(classes[0::2])
    asked = np.isin(classes, known) & (np.arange(len(classes)) % 2 == 1)
    if len(known) < 2 or not asked.any():
        return None
    means = np.stack([features[0::2][classes[0::2] == k].mean(axis=0) for k in known])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    nearest = known[np.argmax(features[asked] @ means.T, axis=1)]
    return Share(int((nearest == classes[asked]).sum()), int(asked.sum()))
