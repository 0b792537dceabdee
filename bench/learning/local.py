"""Local work of many models at once: gradients of both factors by backpropagation, Adam, the head held still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bench.learning.trunk import SIDE, SLOTS, Kept, Trunk
from hub.aggregation.method import Trains

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8
Floats = NDArray[np.float32]


@dataclass
class Factors:
    """The factors of every slot: a [slots, 384, r], b [slots, r, 384]."""

    a: Floats
    b: Floats

    def prefix(self, rank: int) -> Factors:
        """The first directions."""
        return Factors(self.a[:, :, :rank], self.b[:, :rank])


@dataclass
class Work:
    """What a model does between two rounds.

    Attributes:
        start: the factors it begins with.
        rows: of its batches, [steps, batch].
        weight: of the head, [384, classes].
        bias: of the head, [classes].
        rate: of learning.
        trains: which factors.
        moments: those of Adam before, and after how many steps; None: it begins anew.
    """

    start: Factors
    rows: NDArray[np.int64]
    weight: Floats
    bias: Floats
    rate: float
    trains: Trains = "both"
    moments: tuple[list[Tensor], int] | None = None


class Learner:
    """Trains models over the rows of a data set, so many at once that `tokens` tokens go through the encoder."""

    def __init__(self, trunk: Trunk, kept: Kept, labels: NDArray[np.int64], tokens: int) -> None:
        self.trunk, self.kept, self.tokens = trunk, kept, tokens
        self.labels = torch.from_numpy(labels).to(trunk.device)

    def train(self, works: Sequence[Work]) -> list[Factors]:
        """The factors of each model after its steps; `moments` of the works are brought up to date."""
        found: list[Factors] = []
        size = works[0].rows.shape[1] * self.kept.hidden.shape[1]
        for own in chunks(works, max(1, self.tokens // size)):
            found += self._chunk(own)
        return found

    def _chunk(self, works: Sequence[Work]) -> list[Factors]:
        device = self.trunk.device
        factors = stacked([work.start for work in works], device)
        head = torch.from_numpy(np.stack([work.weight for work in works])).to(device)
        bias = torch.from_numpy(np.stack([work.bias for work in works])).to(device)[:, None]
        rate = [
            torch.tensor([work.rate * (work.trains in {"both", side}) for work in works], device=device)[
                :, None, None, None
            ]
            for side in "ab"
        ]
        moments, before = _moments(works, factors)
        for step in range(len(works[0].rows)):
            rows = np.stack([work.rows[step] for work in works])
            hidden, lengths = self.kept.rows(rows)
            for one in factors:
                one.requires_grad_()
            logits = torch.baddbmm(bias, self.trunk.upper(hidden, lengths, *factors), head)
            wanted = self.labels[torch.from_numpy(rows).to(device)]
            loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum") / rows.shape[1]
            slopes = torch.autograd.grad(loss, factors)
            with torch.no_grad():
                factors = _adam(factors, slopes, moments, rate, before + step + 1)
        for i, work in enumerate(works):
            if work.moments is not None:
                work.moments = [m[i : i + 1] for m in moments], before + len(works[0].rows)
        a, b = (one.detach().cpu().numpy() for one in factors)
        ranks = [work.start.a.shape[2] for work in works]
        return [Factors(x[:, :, :r].copy(), y[:, :r].copy()) for x, y, r in zip(a, b, ranks, strict=True)]


def stacked(given: Sequence[Factors], device: torch.device) -> list[Tensor]:
    """Factors of many models, filled up with zeros, which no gradient reaches: [models, slots, 384, r] and its like."""
    widest = max([1, *(own.a.shape[2] for own in given)])
    a = np.zeros((len(given), len(SLOTS), SIDE, widest), np.float32)
    b = np.zeros((len(given), len(SLOTS), widest, SIDE), np.float32)
    for x, y, own in zip(a, b, given, strict=True):
        x[:, :, : own.a.shape[2]], y[:, : own.b.shape[1]] = own.a, own.b
    return [torch.from_numpy(a).to(device), torch.from_numpy(b).to(device)]


def chunks(given: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Pieces of at most `size`."""
    for at in range(0, len(given), size):
        yield given[at : at + size]


def _moments(works: Sequence[Work], factors: list[Tensor]) -> tuple[list[Tensor], int]:
    """First and second moments of A and of B, and how many steps they have seen; all works have seen as many."""
    found = [work.moments for work in works if work.moments is not None and work.moments[1] > 0]
    if not found:
        return [torch.zeros_like(one) for one in factors for _ in range(2)], 0
    return [torch.cat([own[0][i] for own in found]) for i in range(4)], found[0][1]


def _adam(
    factors: list[Tensor], slopes: Sequence[Tensor], moments: list[Tensor], rate: list[Tensor], step: int
) -> list[Tensor]:
    """Factors after a step of Adam (Kingma, Ba, arXiv 1412.6980); moments change in place."""
    found = []
    for i, (one, slope) in enumerate(zip(factors, slopes, strict=True)):
        first, second = moments[2 * i], moments[2 * i + 1]
        first.mul_(BETA1).add_(slope, alpha=1 - BETA1)
        second.mul_(BETA2).addcmul_(slope, slope, value=1 - BETA2)
        size = (second / (1 - BETA2**step)).sqrt_().add_(EPSILON)
        found.append(one.detach() - rate[i] * (first / (1 - BETA1**step)) / size)
    return found
