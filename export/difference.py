"""How far two arrays are apart, whatever their type: masks are boolean, and masked scores are minus infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def relative_difference(got: NDArray[Any], expected: NDArray[Any], scale: float | None = None) -> float:
    """max |got - expected| / scale; by default the scale is max(1, max |expected|) over what is finite.

    Entries that are equal, infinities among them, differ by nothing. NaN, another shape, or infinity on one side
    only make the answer NaN, which is within no bar.

    >>> import numpy as np
    >>> relative_difference(np.array([1.0, -np.inf]), np.array([1.5, -np.inf]))
    0.3333333333333333
    >>> relative_difference(np.array([True]), np.array([False])), relative_difference(np.ones(2), np.ones(3))
    (1.0, nan)
    """
    if got.shape != expected.shape:
        return float("nan")
    g, e = got.astype(np.float64), expected.astype(np.float64)
    if scale is None:
        scale = max(1.0, float(np.abs(e[np.isfinite(e)]).max(initial=0)))
    apart = g != e
    if not np.isfinite(g[apart]).all() or not np.isfinite(e[apart]).all():
        return float("nan")
    return float(np.abs(g[apart] - e[apart]).max(initial=0)) / scale
