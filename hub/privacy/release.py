"""What a private round publishes: the mean of clipped changes with noise on each number, then cut to a ladder.

The noise is on the product, before anything is cut off: what is done to a noised mean costs nothing more
(post-processing), what is done before may not depend on data in another way than the mean does. Where A stays as it
was drawn, the version is linear in B, and the noise is on B alone (Sun et al., arXiv 2403.12313, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import HubError
from hub.aggregation import biases, factors, ffa, stacking
from hub.aggregation.factors import Sums
from hub.aggregation.method import Array, Emitted
from hub.aggregation.stacking import Stack
from hub.making.contributions import KINDS, Contribution
from hub.making.model import Model
from hub.making.versions import Made, Trained, read_biases, read_ladder
from hub.privacy.clipping import clipped, length, of_b, of_product
from hub.privacy.noise import Noise, noise_of
from hub.privacy.promise import secret_key
from hub.privacy.settings import Private
from hub.rounds.state import Round
from hub.store.registry import Home
from wire.kinds.lora import Lora
from wire.ladder import emit, refactor, slot_key
from wire.messages import Version


@dataclass(frozen=True)
class Way:
    """Where the noise of a method is; its mean, before anything is cut off, is linear in what is clipped.

    Attributes:
        of: the length of what a board changed of a slot, which is clipped.
        init: the sum over boards of a slot, from what was sent.
        apply: the sum with one more board.
        slot: the sum with noise, as it is published.
    """

    of: Callable[[Lora, Lora], float]
    init: Callable[[Lora], Any]
    apply: Callable[[Any, Lora, float], Any]
    slot: Callable[[Any, Noise, str, Version, int], Emitted]


def release(
    home: Home, model: Model, parent: Made, found: Sequence[Contribution], state: Round, private: Private, number: int
) -> Trained:
    """What is published of some updates; each is read twice, one is in memory at a time.

    Raises:
        HubError: the secret of the round's noise is not in the ledger: nothing may be published.
    """
    way, noise, version = WAYS[state.recipe.method], _noise(home, state, private), parent.version
    ladder, sent = read_ladder(version, home.blobs), read_biases(version, home.blobs)
    lengths = [length(one.read(), ladder, sent, way.of) for one in found]
    shares = clipped(lengths, private.clip, private.divisor)
    sums, offsets = {name: way.init(whole) for name, whole in ladder.items()}, dict[str, biases.Mean]()
    for one, share in zip(found, shares.values, strict=True):
        adapter = one.read()
        for name, trained in adapter.lora.items():
            sums[name] = way.apply(sums[name], trained, float(share))
        offsets = biases.apply(offsets, adapter.bias, float(share))
    kinds = state.settings.get("kinds", ["lora"])
    lora = {}
    if "lora" in kinds:
        lora = {n: way.slot(s, noise, n, version, slot_key(model.id, n, number)) for n, s in sums.items()}
    return Trained(lora, _biases(model, biases.finish(offsets, sent), noise) if "bias" in kinds else {})


def _of_product(stack: Stack, noise: Noise, name: str, version: Version, key: int) -> Emitted:
    """The best ladder of a slot's product with noise on each of its numbers."""
    full = min(stack.sent.a.shape[0], stack.sent.b.shape[1])
    whole = stacking.finish(stack, full, 1.0)
    product: Array = (whole.u * whole.s) @ whole.vt
    noised = product + noise.normal(f"slot {name}", product.shape)
    found = refactor(noised, np.eye(noised.shape[1]), version.rank)
    return Emitted(*emit(found, version.rank, version.scale, key), found.tail, float(np.linalg.norm(noised)))


def _of_b(finish: Callable[[Sums, int, float, int, float], Emitted]) -> Callable[..., Emitted]:
    """A as it was sent, and B with noise: as many numbers as B has, instead of as many as the product."""

    def slot(sums: Sums, noise: Noise, name: str, version: Version, key: int) -> Emitted:
        made = finish(sums, version.rank, version.scale, key, 1.0)
        return replace(made, b=made.b + noise.normal(f"slot {name}", made.b.shape) / version.scale)

    return slot


WAYS = {
    "stacking": Way(of_product, stacking.init, stacking.apply, _of_product),
    "ffa": Way(of_b, factors.init, factors.apply, _of_b(ffa.finish)),
    "nested-ffa": Way(of_b, factors.init, factors.apply, _of_b(ffa.means_of_b)),
}


def _biases(model: Model, made: Mapping[str, NDArray[np.float32]], noise: Noise) -> dict[str, NDArray[np.float32]]:
    """Every bias that there is, with noise: which ones boards brought shows in none."""
    zeros = {name: np.zeros(size, np.float32) for name, size in model.biases}
    return {
        name: np.asarray(delta + noise.normal(f"bias {name}", delta.shape), np.float32)
        for name, delta in (zeros | dict(made)).items()
    }


def _noise(home: Home, state: Round, private: Private) -> Noise:
    secret = home.ledger.get(secret_key(state.number))
    if not secret:
        raise HubError(f"expected the secret of round {state.number} in the ledger, found none; open another round")
    rows = [row for row in home.ledger.updates(state.number) if row["kind"] in KINDS]
    return noise_of(secret, [row["digest"] for row in rows], private.deviation)
