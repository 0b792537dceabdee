"""What a rank is worth: the more directions an adapter has, the less the next one adds.

Singular values of what adapters learn fall off: AdaLoRA (Zhang et al., arXiv 2303.10512, section 3) keeps few of a
matrix, LoRA (Hu et al., arXiv 2106.09685, section 7.2) finds rank 1 to 8 near rank 64. Where no spectrum is measured,
each doubling of 1 + rank is worth the same, and the largest rank of a plan all of the importance of its weight.
"""

from __future__ import annotations

import math

from devices.ranks import LARGEST_RANK


def gain(share: int, rank: int) -> int:
    """What an adapter of some rank covers of the importance of its weight, in the same parts.

    >>> [gain(1000, rank) for rank in (0, 1, 2, 4, 8, 16, 32)]
    [0, 245, 388, 568, 776, 1000, 1000]
    """
    return round(share * min(1.0, math.log2(1 + rank) / math.log2(1 + LARGEST_RANK)))
