"""What boards add up that step once along the same directions: derivatives, one number for each direction.

From one start, the derivative of the mean loss of all boards along a direction is the weighted mean of the boards' own
derivatives; so the step of the mean is that of pooled data (as DeComFL, Li et al., arXiv 2405.15861, has boards share
seeds). After a step of their own, boards would stand at different places: one step is all that can be summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wire.masks.layout import Layout
from wire.masks.of_b import ROWS, WEIGHT, weights
from wire.masks.told import Told

SCALARS = "scalars"


def layout(directions: int) -> Layout:
    """The vector for so many directions.

    >>> layout(8).size
    11
    """
    return Layout(((SCALARS, (directions,)), (WEIGHT, ()), (ROWS, ())))


def arrays(scalars: Sequence[float], rows: int, told: Told) -> dict[str, NDArray[np.float64]]:
    """What one board adds to the sum: its derivatives by counter, cut to [-clip, clip], times its weight."""
    weight, counted = weights(rows, told)
    found = weight * np.clip(np.asarray(scalars, np.float64), -told.clip, told.clip)
    return {SCALARS: found, WEIGHT: np.asarray(weight), ROWS: np.asarray(counted)}
