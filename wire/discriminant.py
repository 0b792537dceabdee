"""One head for everybody from summed statistics: linear discriminant analysis in closed form.

Fisher's discriminant with a pooled covariance (Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning",
2nd edition, section 4.3), shrunk towards a multiple of the identity (Friedman, JASA 1989) by D / (N + D), with a
uniform prior. Shrunk all the way it is the nearest class mean. Counts, class sums and the Gram matrix add over boards,
so the head of the sums is the head of the pooled rows under any split. float64 throughout: the Gram matrix minus the
class means cancels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wire.kinds.head import Head, Statistics

Array = NDArray[np.float64]

LOGIT_SCALE = 0.3  # at full scale the softmax is saturated and nothing can be trained against it
UNSEEN_BIAS = -1e4  # a class without rows is never chosen, and its probability is exactly 0


def solve(statistics: Statistics, logit_scale: float = LOGIT_SCALE, shrinkage: float | None = None) -> Head:
    """The head of some rows: weight [features, classes], bias [classes], logits = x weight + bias.

    Classes without rows get weight 0 and a bias of -10,000.

    Args:
        statistics: sums over the rows.
        logit_scale: what logits are multiplied by.
        shrinkage: 0 to 1, how much of the covariance is a multiple of the identity; None: D / (N + D). With 1 the
            nearest class mean decides.
    """
    weight, bias = solve64(statistics, shrinkage)
    seen = statistics.count > 0
    bias = np.where(seen, logit_scale * bias, UNSEEN_BIAS)
    return Head((logit_scale * weight).astype(np.float32), bias.astype(np.float32))


def solve64(statistics: Statistics, shrinkage: float | None = None) -> tuple[Array, Array]:
    """Weight [features, classes] and bias [classes] in float64, unscaled; 0 for classes without rows."""
    classes, features = statistics.sum.shape
    weight, bias = np.zeros((features, classes)), np.zeros(classes)
    seen = statistics.count > 0
    if not seen.any():
        return weight, bias
    means = statistics.sum[seen] / statistics.count[seen, None]
    within = _within(statistics, means, seen, shrinkage)
    weight[:, seen] = np.linalg.solve(within, means.T)
    bias[seen] = -0.5 * np.sum(means.T * weight[:, seen], axis=0)
    return weight, bias


def _within(statistics: Statistics, means: Array, seen: NDArray[np.bool_], shrinkage: float | None) -> Array:
    """The shrunk covariance within classes, [features, features]."""
    features, rows = means.shape[1], float(statistics.count.sum())
    spread = (statistics.gram - (means * statistics.count[seen, None]).T @ means) / rows
    spread = (spread + spread.T) / 2
    scale = np.trace(spread) / features
    size = np.trace(statistics.gram) / rows / features
    if scale <= 1e-12 * size or scale <= 0:  # one row per class has no spread: the nearest mean decides
        return np.asarray(np.eye(features) * max(size, 1e-12))
    shrinkage = features / (rows + features) if shrinkage is None else shrinkage
    return np.asarray((1 - shrinkage) * spread + shrinkage * scale * np.eye(features))
