"""A filter by direction: updates that point away from the middle of all are left out, what remains is clipped.

As FLAME does (Nguyen et al.: "FLAME: Taming Backdoors in Federated Learning", arXiv 2101.02281, algorithm 1): filter by
cosine, then clip to the median length. Instead of clusters of directions there is one reference and a smallest cosine
with it, as in FLTrust (Cao et al., arXiv 2012.13995, section 4); the hub has no rows to train a reference of its own,
so the reference is the geometric median of the directions, one vote per board (Pillutla et al., arXiv 1912.13445).
"""

from __future__ import annotations

import numpy as np

from console.errors import HubError
from hub.aggregation.method import Array
from hub.aggregation.robust.clipping import passed
from hub.aggregation.robust.geometric_median import centre
from hub.aggregation.robust.rule import Bounds, Rule, lengths
from hub.aggregation.shares import Shares, shortened, trusted


def cosines(gram: Array) -> Array:
    """The cosine of each change with the middle of all directions, [n]; 0 where there is no direction."""
    found = lengths(gram)
    scale = np.divide(1.0, found, out=np.zeros_like(found), where=found > 0)
    units = gram * scale[:, None] * scale[None, :]
    at = centre(units, np.ones(len(gram)))
    middle = units @ at
    length = np.sqrt(max(float(at @ middle), 0.0))
    return middle / length if length > 0 else np.zeros_like(middle)


def cosine(gram: Array, shares: Shares, bounds: Bounds) -> Shares:
    """Those whose cosine is at least `bounds.cosine`, none of them longer than their median.

    Raises:
        HubError: none is left.
    """
    kept = cosines(gram) >= bounds.cosine
    if not (shares.values[kept] > 0).any():
        raise HubError(
            f"expected changes whose cosine with the middle of all is at least {bounds.cosine:g}, found none of "
            f"{len(gram)}; lower robust_cosine, or look at the updates of this round"
        )
    found = lengths(gram)
    within = np.where(kept, passed(found, float(np.median(found[kept]))), 1.0)
    return shortened(trusted(shares, kept.astype(np.float64)), within)


RULE = Rule("cosine", True, lambda bounds: 3, cosine)
