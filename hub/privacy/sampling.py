"""Who is asked: drawn by the hub, in secret and whatever boards hold, or samples amplify nothing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from console.errors import HubError
from hub.privacy.settings import PrivacyConfig

EMPTY_SHARE = 0.01  # of delta: a draw of nobody is seen, and must be rarer than this
_RANDOM = secrets.SystemRandom()


def drawn(boards: Sequence[str], told: PrivacyConfig) -> tuple[list[str], float]:
    """The boards that are asked, and the number n that their sum is divided by, which does not depend on the draw.

    Raises:
        HubError: nobody could be drawn, or poisson sampling would too often draw nobody.
    """
    expected = told.rate * len(boards)
    if told.sampling == "all":
        return list(boards), float(len(boards))
    if told.sampling == "fixed":
        count = max(1, round(expected))
        return sorted(_RANDOM.sample(list(boards), count)), float(count)
    nobody = (1.0 - told.rate) ** len(boards)
    if nobody > EMPTY_SHARE * told.delta:
        raise HubError(
            f"expected a draw that hardly ever chooses nobody, found that {told.rate:g} of {len(boards)} boards does "
            f"so with probability {nobody:.1g}; raise privacy.rate, or sample a fixed number"
        )
    return [name for name in boards if _RANDOM.random() < told.rate], expected
