"""Heads from summed statistics: gathered at adapters as they are, solved, judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bench.learning.local import Factors, stacked
from bench.learning.trunk import SIDE, Kept, Trunk
from wire.discriminant import UNSEEN_BIAS, solve
from wire.kinds.head import Head, Statistics

HEADS = ("lda", "means")


def solved(kind: str, statistics: Statistics) -> Head:
    """The head of a kind: linear discriminant analysis, or the nearest class mean."""
    if kind == "lda":
        return solve(statistics)
    seen = statistics.count > 0
    means = np.where(seen[:, None], statistics.sum / np.maximum(statistics.count, 1)[:, None], 0.0)
    bias = np.where(seen, -0.5 * (means**2).sum(1), UNSEEN_BIAS)
    return Head(means.T.astype(np.float32), bias.astype(np.float32))


class Judge:
    """Features, statistics and accuracy of a data set's rows in many models."""

    def __init__(self, trunk: Trunk, kept: Kept, labels: NDArray[np.int64], tokens: int) -> None:
        self.trunk, self.kept, self.tokens = trunk, kept, tokens
        self.labels, self.classes = labels, int(labels.max()) + 1

    def features(self, models: Sequence[Factors], rows: NDArray[np.int64]) -> Tensor:
        """[models, n, 384], in the order of the rows."""
        a, b = stacked(models, self.trunk.device)
        order = np.argsort(self.kept.lengths[rows], kind="stable")
        found = torch.empty((len(models), len(rows), SIDE), device=self.trunk.device)
        step = max(1, self.tokens // (len(models) * self.kept.hidden.shape[1]))
        with torch.no_grad():
            for own in np.split(order, range(step, len(order), step)):
                hidden, lengths = self.kept.rows(rows[own])
                many = (hidden.expand(len(models), *hidden.shape), lengths.expand(len(models), *lengths.shape))
                found[:, torch.as_tensor(own, device=found.device)] = self.trunk.upper(*many, a, b)
        return found

    def statistics(self, features: Tensor, rows: NDArray[np.int64]) -> Statistics:
        """Of the features [n, 384] of some rows; sums over boards are sums over all of their rows."""
        x = features.double()
        one = functional.one_hot(torch.from_numpy(self.labels[rows]).to(x.device), self.classes).double()
        return Statistics(*(own.cpu().numpy() for own in (one.sum(0), one.T @ x, x.T @ x)))

    def right(self, features: Tensor, rows: NDArray[np.int64], head: Head) -> float:
        """The accuracy of a head on some rows, whose features [n, 384] are given."""
        weight, bias = (torch.from_numpy(own).to(features.device) for own in (head.weight, head.bias))
        guessed = (features @ weight + bias).argmax(1)
        return float((guessed == torch.from_numpy(self.labels[rows]).to(features.device)).float().mean())
