"""What sampling at a temperature sees of a format: distances of softmax(logits / T) from fp32's.

Of distributions p (fp32) and q (the format) over the vocabulary, the mean over positions of

    same token   sum p q                 two independent draws are equal; of fp32 with itself sum p^2
    distance     sum |p - q| / 2         total variation: 1 - distance is the most that coupled draws can agree
    divergence   sum p log(p / q)        Kullback-Leibler, in nats
    perplexity   exp(mean -log q[next])  of the text at this temperature

The temperatures of 0.1 to 1.0 and the question are those of Roy, "Understanding the Impact of Post-Training
Quantization on Large Language Models" (arXiv 2309.05210).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_ENTRIES = 1 << 22  # of a block of positions: float64 of a few of them is in memory at a time
TEMPERATURES = tuple(round(0.1 * i, 1) for i in range(1, 11))

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class AtTemperature:
    """Means over positions at one temperature, see above. `same_token_of_fp32` is sum p^2."""

    temperature: float
    same_token: float
    same_token_of_fp32: float
    distance: float
    divergence_nats: float
    perplexity: float


class Temperatures:
    """Sums over positions, by format and temperature."""

    def __init__(self, formats: Sequence[str], temperatures: Sequence[float]) -> None:
        self.temperatures = tuple(temperatures)
        self._sums = {(name, t): np.zeros(5) for name in formats for t in self.temperatures}
        self._positions = 0

    def add(self, reference: NDArray[Any], got: Mapping[str, NDArray[Any]], targets: NDArray[np.int64]) -> None:
        """Add some positions.

        Args:
            reference: logits of fp32 [positions, vocabulary].
            got: those of each format.
            targets: the tokens that follow in the text [positions].
        """
        step = max(1, BLOCK_ENTRIES // reference.shape[-1])
        for start in range(0, len(reference), step):
            part = slice(start, start + step)
            for t in self.temperatures:
                log_p = log_softmax(reference[part], t)
                p = np.exp(log_p)
                for name, logits in got.items():
                    self._sums[name, t] += _compare(log_p, p, log_softmax(logits[part], t), targets[part])
        self._positions += len(reference)

    def of(self, name: str) -> tuple[AtTemperature, ...]:
        """The means of a format, in the order of temperatures."""
        if not self._positions:
            return ()
        return tuple(_means(t, self._sums[name, t] / self._positions) for t in self.temperatures)


def _means(temperature: float, means: Float64) -> AtTemperature:
    same, own, distance, divergence, entropy = (float(value) for value in means)
    return AtTemperature(temperature, same, own, distance, divergence, _exp(entropy))


def log_softmax(logits: NDArray[Any], temperature: float = 1.0) -> Float64:
    """Of [positions, vocabulary], in float64.

    >>> np.exp(log_softmax(np.array([[0.0, np.log(3.0)]]))).round(2).tolist()
    [[0.25, 0.75]]
    """
    z = logits.astype(np.float64) / temperature
    z -= z.max(axis=-1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return np.asarray(z)


def _compare(log_p: Float64, p: Float64, log_q: Float64, targets: NDArray[np.int64]) -> Float64:
    q = np.exp(log_q)
    # where p is 0 the product is 0 whatever the logarithms are
    divergence = np.where(p > 0, p * (log_p - log_q), 0.0).sum()
    entropy = -log_q[np.arange(len(targets)), targets].sum()
    return np.array([(p * q).sum(), (p * p).sum(), np.abs(p - q).sum() / 2, divergence, entropy])


def _exp(nats: float) -> float:
    """exp, infinite where no float holds it: a sure and wrong guess at a low temperature."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
