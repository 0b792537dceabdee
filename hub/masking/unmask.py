"""From masked updates and what boards revealed to the sum (Bonawitz et al., CCS 2017, figure 4, round 4).

    sum of x_u = sum of y_u - sum of PRG(b_u) over survivors u
                 - what survivors u added for each that dropped out, v: PRG(s_uv) if u < v, -PRG(s_uv) else

Secrets that come out of the shares are compared with what their boards had published, so a wrong share is seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from console.errors import HubError
from wire.masks import pairwise, shamir
from wire.masks.agreement import public_of
from wire.masks.device import adds, pair_seed, place_of
from wire.masks.fixed_point import decode
from wire.masks.told import Told
from wire.messages import MaskKeys, MaskReveal


@dataclass(frozen=True)
class Revealed:
    """All that opens a sum.

    Attributes:
        told: its terms.
        keys: what the boards of the roster published.
        maskers: who masked against one another.
        survivors: whose masked updates there are.
        reveals: what some of those said.
    """

    told: Told
    keys: Mapping[str, MaskKeys]
    maskers: tuple[str, ...]
    survivors: tuple[str, ...]
    reveals: Mapping[str, MaskReveal]


def opened(revealed: Revealed, vectors: Iterator[bytes], size: int) -> NDArray[np.float64]:
    """The sum over the survivors, [size].

    Args:
        revealed: what opens it.
        vectors: the masked updates, one after another.
        size: numbers of each.

    Raises:
        HubError: a secret is not the one that was published.
    """
    total = np.zeros(size, np.uint64)
    for vector in vectors:
        total += np.frombuffer(vector, "<u8")
    plus, minus = masks(revealed)
    return decode(pairwise.add(total, minus, plus), revealed.told.fraction_bits)


def masks(revealed: Revealed) -> tuple[list[bytes], list[bytes]]:
    """The seeds of the masks that are in the sum: those that were added, and those that were taken away."""
    plus = [_seed(revealed, name) for name in revealed.survivors]
    minus: list[bytes] = []
    for dropped in sorted(set(revealed.maskers) - set(revealed.survivors)):
        secret = _secret(revealed, dropped)
        for name in revealed.survivors:
            seed = pair_seed(secret, revealed.keys[name].masking)
            (plus if adds(name, dropped) else minus).append(seed)
    return plus, minus


def _seed(revealed: Revealed, name: str) -> bytes:
    seed = _joined(revealed, {giver: r.seeds[name] for giver, r in revealed.reveals.items()})
    return _right(seed, hashlib.sha256(seed).digest() == revealed.keys[name].commitment, name)


def _secret(revealed: Revealed, name: str) -> bytes:
    secret = _joined(revealed, {giver: r.keys[name] for giver, r in revealed.reveals.items()})
    return _right(secret, public_of(secret) == revealed.keys[name].masking, name)


def _joined(revealed: Revealed, shares: Mapping[str, bytes]) -> bytes:
    enough = sorted(shares)[: revealed.told.threshold]
    return shamir.join({place_of(revealed.keys, giver): shares[giver] for giver in enough})


def _right(secret: bytes, holds: bool, name: str) -> bytes:
    if not holds:
        raise HubError(
            f"expected shares that give the secret which {name} committed to, found others: it or one that revealed "
            f"shared wrongly; open another round without boards that you do not trust"
        )
    return secret
