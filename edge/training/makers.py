"""Trainers from a wish: with which optimizer, over which arrays, at which rate."""

from __future__ import annotations

import math

from console.errors import BadData
from edge.trainers.adam8 import Adam8
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Arrays, Optimizer, Trainer
from edge.trainers.qzo import Qzo
from edge.trainers.spry import Spry
from edge.training.learned import resting
from edge.training.wish import Wish
from wire.adamw import Hyperparameters
from wire.directions import Units
from wire.manifest import Manifest
from wire.optimizers import Adam32, Sgd
from wire.philox import key_of

RATES = {"adamw": 1e-3, "adam8": 1e-3, "sgd": 1e-2}
QZO_RATE = 1e-2  # in the logarithm of a scale
BETA2 = 0.99  # sessions are short


def trainer_of(name: str, wish: Wish, manifest: Manifest, arrays: Arrays) -> Trainer:
    """The trainer of some arrays.

    Raises:
        BadData: there is nothing that it could train.
    """
    arrays = {n: array for n, array in arrays.items() if n not in resting(manifest, wish.factors)}
    if name == "backprop":
        return Backprop(tuple(arrays), optimizer_of(wish), wish.clip or math.inf)
    key = key_of_run(manifest, wish)
    if name == "qzo":
        moved = {one.weight: [one.input] for one in manifest.scales if one.input in arrays}
        rate = QZO_RATE if wish.rate is None else wish.rate
        return Qzo(key, moved, directions=wish.directions, rate=rate)
    units = units_of(manifest, arrays)
    if not units:
        raise BadData("expected factors or biases for a forward-only trainer, found none; take --trainer ridge")
    return Spry(key, units, directions=wish.directions, optimizer=optimizer_of(wish))


def key_of_run(manifest: Manifest, wish: Wish) -> int:
    """The key of a run's directions."""
    return key_of("train", manifest.model.id, wish.seed)


def optimizer_of(wish: Wish) -> Optimizer:
    """The optimizer, at the rate that was asked for or its own."""
    rate = RATES[wish.optimizer] if wish.rate is None else wish.rate
    if wish.optimizer == "sgd":
        return Sgd(rate, momentum=0.9)
    settings = Hyperparameters(rate, beta2=BETA2)
    return Adam8(settings) if wish.optimizer == "adam8" else Adam32(settings)


def units_of(manifest: Manifest, arrays: Arrays) -> Units:
    """Arrays that belong together: a slot's factors, a bias. A head has a closed form and is not among them."""
    units = {}
    for slot in manifest.slots:
        names = [name for name in (slot.a, slot.b, slot.bias) if name and name in arrays]
        if names:
            units[f"{slot.name}/{slot.kind}"] = names
    return units
