"""Importance as HSplitLoRA has it: gradient times weight, per cost, with a memory that depends on the training stage.

Lin, Zhang, Chen and others, "HSplitLoRA: A Heterogeneous Split Parameter-Efficient Fine-Tuning Framework for Large
Language Models", arXiv 2505.02795, important weight identification. The paper gives the parts and what they depend on;
the forms of (2) and (3) are ours:

    (1) s_j     = mean |W_j * dL/dW_j|                        the product of gradient and weight
    (2) phi_j   = |s_j - I_j| / (s_j + I_j)                   how much it fluctuates, 0 to 1
    (3) b_j     = b(t) + (1 - b(t)) phi_j / 2,  b(t) = LEAST + (1 - LEAST) / (1 + t)
    (4) I_j     = b_j s_j + (1 - b_j) I_j                     t counts what was measured before
    (5) R_j     = I_j / cost_j                                resource-normalised

The first measurement is taken as it is, later ones count less and less, and more again where they differ from what was
known. (2) has no unit, so dividing by a cost that does not change may come before (4) or, as here, after it: a cost is
a board's, and the average is everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

LEAST = 0.2  # what a measurement counts at least, late in training


def product(weight: ArrayLike, gradient: ArrayLike) -> float:
    """Step (1): the mean of |weight * gradient| over the entries of two arrays of one shape.

    >>> product([[1.0, -2.0]], [[0.5, 0.25]])
    0.5
    """
    return float(np.abs(np.asarray(weight, np.float64) * np.asarray(gradient, np.float64)).mean())


def share(before: float, measured: float, stage: int) -> float:
    """Steps (2) and (3): what a measurement counts, beside what was known.

    Args:
        before: I, of `stage` measurements.
        measured: s.
        stage: t.

    >>> share(0.0, 3.0, 0), round(share(3.0, 3.0, 1), 6), round(share(1.0, 3.0, 1), 6)
    (1.0, 0.6, 0.7)
    """
    plain = LEAST + (1 - LEAST) / (1 + stage)
    both = before + measured
    fluctuation = abs(measured - before) / both if both > 0 else 0.0
    return plain + (1 - plain) * fluctuation / 2


def averaged(before: float, measured: float, stage: int) -> float:
    """Step (4): the average after one more measurement.

    >>> averaged(0.0, 3.0, 0), averaged(3.0, 3.0, 5)
    (3.0, 3.0)
    """
    counts = share(before, measured, stage)
    return counts * measured + (1 - counts) * before


def normalised(averages: Mapping[str, float], costs: Mapping[str, float]) -> dict[str, float]:
    """Step (5): importance per cost (bytes, operations or seconds, more than 0), for those whose cost is known.

    >>> normalised({"a": 6.0, "b": 1.0}, {"a": 3.0})
    {'a': 2.0}
    """
    return {name: value / costs[name] for name, value in averages.items() if name in costs}
