"""Which items to calibrate with: the first pivots of a QR factorization with column pivoting.

Businger and Golub, "Linear least squares solutions by Householder transformations", Numerische Mathematik 7,
1965, section 4: at each step the column with the largest remaining norm is taken and projected out of the others.
Items are the columns here: first the one with the largest features, then always the one that the chosen ones
explain least. A handful then spans the ranges that many would: it does not repeat what it has seen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# residual norms below this share of the largest norm are rounding, and their order means nothing
NEGLIGIBLE = 1e-10


def choose_items(features: npt.ArrayLike, count: int) -> list[int]:
    """The items to keep, in the order in which they were taken.

    Args:
        features: [items, features], such as a layer's activations; not centred, since ranges are what counts.
        count: how many, 8 to 64 as a rule.

    Returns:
        `count` different indices. Where all further items are combinations of the chosen ones, those follow in the
        order given.

    Raises:
        ValueError: features are no finite matrix, or there are fewer than `count` items.

    >>> choose_items([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]], 2)
    [1, 2]
    """
    f = np.array(features, np.float64)
    if f.ndim != 2:
        raise ValueError(f"expected features [items, features], found shape {f.shape}")
    if not np.all(np.isfinite(f)):
        raise ValueError("expected finite features, found NaN or infinity")
    if not len(f):
        raise ValueError("expected at least one item, found none")
    if not 0 < count <= len(f):
        raise ValueError(f"expected to choose 1 to {len(f)} items, found {count}")
    left = np.arange(len(f))
    chosen: list[int] = []
    floor = NEGLIGIBLE * float(np.max(np.linalg.norm(f, axis=1)))
    while len(chosen) < count:
        # norms anew at each step: downdating them is cheaper, and loses digits
        norms = np.linalg.norm(f[left], axis=1)
        best = int(np.argmax(norms))
        if norms[best] <= floor:
            return chosen + [int(i) for i in left[: count - len(chosen)]]
        direction = f[left[best]] / norms[best]
        chosen.append(int(left[best]))
        left = np.delete(left, best)
        f[left] -= np.outer(f[left] @ direction, direction)
    return chosen
