"""The change of a linear head that gives some inputs other answers and moves all others least, in closed form.

Mitchell et al., "Fast Model Editing at Scale" (MEND), ICLR 2022, arXiv 2110.11309, edit with factors of the gradient
at a layer, which a net of theirs bends. For a layer whose inputs and wanted outputs are known, as they are for the
last one, the best change needs no net and no gradient: least squares with the second moment of the inputs as weights,
as in Meng et al., "Locating and Editing Factual Associations in GPT" (ROME), arXiv 2202.05262, equation 2, and "Mass
Editing Memory in a Transformer", arXiv 2210.07229, equation 14. With inputs X [k, D], wanted changes of their outputs
T [k, C], the moment M = E[x xT] of calibration inputs, and S = M + spread I,

    W = argmin |X W - T|^2 + strength tr(WT S W) = S^-1 XT (X S^-1 XT + strength I)^-1 T

so it comes as two factors, A = S^-1 XT [D, k] and B [k, C]. tr(WT M W) is the mean square by which outputs of
calibration inputs move. The spread is what is believed of inputs that calibration has not seen: a large one changes
whatever resembles X, a small one only what is unlike all of calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Moment:
    """M = Q diag(values) QT: values [D], vectors Q [D, D]."""

    values: Float64
    vectors: Float64

    @property
    def mean(self) -> float:
        """The mean of its values: the size of a spread that counts as much as the data."""
        return float(np.mean(self.values))


def moment(inputs: NDArray[np.float32]) -> Moment:
    """The second moment of inputs [n, D]; of none it is 0."""
    x = inputs.astype(np.float64)
    values, vectors = np.linalg.eigh(x.T @ x / max(1, len(x)))
    return Moment(np.maximum(values, 0.0), vectors)


def solve(known: Moment, inputs: Float64, targets: Float64, spread: float, strength: float) -> tuple[Float64, Float64]:
    """The factors of the change.

    Args:
        known: of calibration inputs.
        inputs: X [k, D].
        targets: T [k, C].
        spread: above 0.
        strength: as a share of the mean diagonal of X S^-1 XT; 0 meets the targets exactly, where X has full rank.

    Returns:
        A [D, k] and B [k, C].

    >>> a, b = solve(moment(np.eye(2, dtype=np.float32)), np.array([[1.0, 0.0]]), np.array([[3.0]]), 0.5, 0.0)
    >>> (a @ b).round(9).tolist()
    [[3.0], [0.0]]
    """
    turned = inputs @ known.vectors
    a = known.vectors @ (turned / (known.values + spread)).T
    gram = inputs @ a
    ridge = strength * float(np.trace(gram)) / max(1, len(gram))
    return a, np.linalg.solve(gram + ridge * np.eye(len(gram)), targets)


def least_change(logits: Float64, label: int, margin: float) -> Float64:
    """The smallest change of logits [C] with which a label leads all others by a margin: a projection, exact.

    Those above some level come down to it and the label goes up by as much as they come down in all.

    >>> least_change(np.array([0.0, 3.0, 3.0]), 0, 0.0).tolist()
    [2.0, -1.0, -1.0]
    >>> least_change(np.array([2.0, 0.0]), 0, 1.0).tolist()
    [0.0, 0.0]
    """
    others = np.sort(np.delete(logits, label))[::-1]
    change = np.zeros(len(logits))
    if not len(others) or logits[label] >= others[0] + margin:
        return change
    count = np.arange(1, len(others) + 1)
    levels = (logits[label] + np.cumsum(others) - margin) / (count + 1)
    level = float(levels[int(np.count_nonzero(others > levels)) - 1])
    change[:] = np.minimum(level - logits, 0.0)
    change[label] = level + margin - logits[label]
    return change
