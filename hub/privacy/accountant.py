"""What private rounds spend: the one door to Google's dp-accounting, by Renyi differential privacy.

Mironov, "Renyi Differential Privacy", arXiv 1702.07476; Poisson sampling: Mironov, Talwar, Zhang, arXiv 1908.10530;
samples of fixed size: Wang, Balle, Kasiviswanathan, arXiv 1808.00087. The library is imported when it is first asked:
it brings scipy along, and most hubs make no private round.

Neighbours differ by one board: it takes part or not. A sample of fixed size knows another relation only, one board
exchanged for another; there the sum changes by up to 2 clip, so the noise counts half.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hub.privacy.settings import Private


def epsilon(rounds: Sequence[Private], delta: float) -> float:
    """The epsilon that some rounds spend together at a delta; 0 of none.

    Raises:
        ValueError: rounds sampled by poisson and of fixed size together: no relation of neighbours fits both.
    """
    if not rounds:
        return 0.0
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    kinds = {one.sampling for one in rounds}
    if {"poisson", "fixed"} <= kinds:
        raise ValueError("poisson and fixed samples know different neighbours")
    relation = dp_accounting.NeighboringRelation
    exchanged = "fixed" in kinds
    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of orders that it leaves out, which only costs epsilon
    accountant = RdpAccountant(neighboring_relation=relation.REPLACE_ONE if exchanged else relation.ADD_OR_REMOVE_ONE)
    for event, count in Counter(_event(dp_accounting, one, exchanged) for one in rounds).items():
        accountant.compose(event, count)
    left = delta - sum(_nobody(one) for one in rounds)
    return float(accountant.get_epsilon(left)) if left > 0 else math.inf


def _nobody(one: Private) -> float:
    """The probability that a round is not held because nobody was drawn, which shows that a board was not."""
    return (1.0 - one.divisor / one.population) ** one.population if one.sampling == "poisson" else 0.0


def _event(library: Any, one: Private, exchanged: bool) -> Any:
    gaussian = library.GaussianDpEvent(one.noise / 2 if exchanged else one.noise)
    if one.sampling == "poisson":
        return library.PoissonSampledDpEvent(one.divisor / one.population, gaussian)
    if one.sampling == "fixed":
        return library.SampledWithoutReplacementDpEvent(one.population, round(one.divisor), gaussian)
    return gaussian
