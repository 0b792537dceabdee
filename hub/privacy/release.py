"""What a private round publishes: the mean of clipped changes with noise on each number, then cut to a ladder.

The noise is on the product, before anything is cut off: what is done to a noised mean costs nothing more
(post-processing), what is done before may not depend on data in another way than the mean does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from console.errors import HubError
from hub.aggregation import biases, stacking
from hub.aggregation.method import Array, Emitted
from hub.aggregation.stacking import Stack
from hub.contributions import Contribution
from hub.model import Model
from hub.privacy.clipping import clipped, length
from hub.privacy.noise import Noise, noise_of
from hub.privacy.promise import secret_key
from hub.privacy.settings import Private
from hub.registry import Home
from hub.round import Round
from hub.versions import Made, Trained, read_biases, read_ladder
from wire.ladder import emit, refactor, slot_key


def release(
    home: Home, model: Model, parent: Made, found: Sequence[Contribution], state: Round, private: Private, number: int
) -> Trained:
    """What is published of some updates; each is read twice, one is in memory at a time.

    Raises:
        HubError: the secret of the round's noise is not in the ledger: nothing may be published.
    """
    noise, version = _noise(home, state, private), parent.version
    ladder, sent = read_ladder(version, home.blobs), read_biases(version, home.blobs)
    shares = clipped([length(one.read(), ladder, sent) for one in found], private.clip, private.divisor)
    stacks, offsets = {name: stacking.init(whole) for name, whole in ladder.items()}, dict[str, biases.Mean]()
    for one, share in zip(found, shares.values, strict=True):
        adapter = one.read()
        for name, factors in adapter.lora.items():
            stacks[name] = stacking.apply(stacks[name], factors, float(share))
        offsets = biases.apply(offsets, adapter.bias, float(share))
    kinds = state.settings.get("kinds", ["lora"])
    lora = {}
    if "lora" in kinds:
        keys = {name: slot_key(model.id, name, number) for name in stacks}
        lora = {n: _slot(s, noise, n, version.rank, version.scale, keys[n]) for n, s in stacks.items()}
    return Trained(lora, _biases(model, biases.finish(offsets, sent), noise) if "bias" in kinds else {})


def _slot(stack: Stack, noise: Noise, name: str, rank: int, scale: float, key: int) -> Emitted:
    """The best ladder of a slot's product with noise."""
    full = min(stack.sent.a.shape[0], stack.sent.b.shape[1])
    whole = stacking.finish(stack, full, 1.0)
    product: Array = (whole.u * whole.s) @ whole.vt
    noised = product + noise.normal(f"slot {name}", product.shape)
    found = refactor(noised, np.eye(noised.shape[1]), rank)
    return Emitted(*emit(found, rank, scale, key), found.tail, float(np.linalg.norm(noised)))


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
    return noise_of(secret, [row["digest"] for row in home.ledger.updates(state.number, "adapter")], private.deviation)
