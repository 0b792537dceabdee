"""What a round of training makes of the sum of its boards: the mean of B, or one step along shared directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from console.errors import HubError
from hub.aggregation import ffa
from hub.aggregation.factors import Sums
from hub.aggregation.methods import method_of
from hub.making import versions
from hub.making.model import Model
from hub.making.optimising import optimise, width
from hub.masking.secure import Secure
from hub.rounds.state import Round
from hub.serving.asked import asked_of
from hub.store.registry import Home
from wire.adapter import Adapter
from wire.forward_gradients import job_board, job_key, rebuilt
from wire.kinds.lora import Lora
from wire.ladder import slot_key
from wire.masks import of_b, of_scalars

Arrays = dict[str, Any]


def trained(
    home: Home, model: Model, state: Round, secure: Secure, arrays: Arrays, parent: versions.Made, number: int
) -> versions.Trained:
    """The slots of the next version, from the parts of the sum.

    Raises:
        HubError: the boards count for nothing.
    """
    if not float(arrays[of_b.WEIGHT]) > 0:
        raise HubError("expected boards that count for something, found a weight of 0 in all; nothing was made")
    if of_scalars.SCALARS in arrays:
        return _step(home, model, state, secure, arrays, parent, number)
    return _mean_of_b(home, model, arrays, parent, number)


def _mean_of_b(home: Home, model: Model, arrays: Arrays, parent: versions.Made, number: int) -> versions.Trained:
    """The mean of B as hub.aggregation.ffa makes it, of the sum of its changes."""
    old, weight, lora = parent.version, float(arrays[of_b.WEIGHT]), {}
    for name, sent in versions.read_ladder(old, home.blobs).items():
        at = len(arrays[of_b.HELD])
        held, b = np.zeros(sent.rank), np.zeros(sent.b.shape)
        held[:at], b[:at] = arrays[of_b.HELD], arrays[name]
        b += held[:, None] * sent.b.astype(np.float64)
        sums = Sums(sent, np.zeros(sent.a.shape), b, held, weight, frozenset())
        lora[name] = ffa.means_of_b(sums, old.rank, old.scale, slot_key(model.id, name, number), weight)
    return versions.Trained(lora)


def _step(
    home: Home, model: Model, state: Round, secure: Secure, arrays: Arrays, parent: versions.Made, number: int
) -> versions.Trained:
    """One step along the mean derivatives, as every board would make it; then as if one board had sent it."""
    old, sent = parent.version, versions.read_ladder(parent.version, home.blobs)
    mean = np.asarray(arrays[of_scalars.SCALARS] / float(arrays[of_b.WEIGHT]), np.float32)
    moved = stepped(home, state, secure, list(map(float, mean)), sent)
    method, lora = method_of(state.recipe.method), {}
    keys = {name: slot_key(model.id, name, number) for name in moved}
    for name, factors in moved.items():
        whole = method.apply(method.init(sent[name]), factors, 1.0)
        lora[name] = method.finish(whole, width(state.recipe, old.rank), old.scale, keys[name], 1.0)
    made, remembered = optimise(lora, old, state.recipe, len(secure.survivors), keys, home.blobs)
    return replace(versions.Trained(made), optimiser=remembered)


def stepped(home: Home, state: Round, secure: Secure, mean: list[float], sent: dict[str, Lora]) -> dict[str, Lora]:
    """The factors of a board of the round's rank after one step along mean derivatives."""
    replay = asked_of(state, home.config.adapter.rank, lambda digest, rank: Adapter(state.model)).replay
    if replay is None:
        raise HubError(f"expected the optimizer of round {state.number}, found none; open another round")
    began = {name: whole.prefix(secure.told.width) for name, whole in sent.items()}
    key, board = job_key(state.model, state.versions[0]), job_board(state.settings["shared"])
    return rebuilt(began, [list(enumerate(mean))], key, board, replay.optimizer)
