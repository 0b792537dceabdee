"""How much of an adapter the data support, from gradients of single rows at the start.

`edge.trainers.admission` has the criteria (arXiv 2105.08947, 1710.03667); here they meet a bundle. A bounded number of
rows is run one by one through the backward graphs, with the largest tier that is offered. Smaller tiers are parts of
it (A's columns are the beginning of the larger one's), so one measurement serves all. What is kept of it is, for each
tier, the products of the rows' gradients with each other, [rows, rows].

Adam steps by m / sqrt(v): descent along gradients that are divided by the fourth root of v, in coordinates that are
multiplied by it. So gradients are measured in these coordinates, with v as a step's batch will have it: the square of
the mean and the variance over the batch. The damping is 1 / (rate x steps). n rows show at most n - 1 effective
parameters, which is why what was measured is a lower bound where it comes close.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.admission import (
    Admission,
    Float64,
    Tier,
    admit,
    best_time,
    effective_of_gradients,
    forward_steps,
    risk,
)
from edge.trainers.interface import Array
from edge.training.learned import Factors, resting
from edge.training.task import Task
from edge.training.tiers import Offer, Scaling, scale_of
from wire.manifest import Manifest
from wire.philox import key_of, words

ROWS = 64
ROWS_OF_A_CHAIN = 16  # of several segments, which are loaded again for every row
LIMIT_BYTES = 32 << 20  # gradients held at once


@dataclass(frozen=True)
class Plan:
    """How training would go: what the damping and the steps are computed from.

    Attributes:
        rate: of the optimizer.
        steps: that will be taken.
        batch: rows of a step.
        adaptive: whether the optimizer is Adam's kind.
        guarded: whether rows kept back end it early.
        directions: of forward-only trainers; 0: gradients.
        seed: of the rows that are measured.
        factors: which of A and B learn.
    """

    rate: float
    steps: int
    batch: int
    adaptive: bool = True
    guarded: bool = True
    directions: int = 0
    seed: int = 0
    factors: Factors = "both"


@dataclass(frozen=True)
class Support:
    """What the data support.

    Attributes:
        offer: the largest tier; None: none of them.
        admission: all tiers as they were judged.
        steps: how many are worth taking with that tier, of those that were planned.
        effective: parameters of the tier that count; 0 without one.
        risk: R, see `edge.trainers.admission`.
        sentences: the same in words.
    """

    offer: Offer | None
    admission: Admission
    steps: int
    effective: float
    risk: float
    sentences: tuple[str, ...]


def supported(task: Task, manifest: Manifest, tiers: Sequence[Offer], plan: Plan, scaling: Scaling = "lora") -> Support:
    """Measure and judge.

    Args:
        task: at the start of the largest tier; needs gradients.
        manifest: of its bundle.
        tiers: what is offered, none of them the head alone.
        plan: how training would go.
        scaling: of the tiers' factors.

    Raises:
        BadData: no rows, no gradients, or some that are not finite.
    """
    chosen = measured_rows(task, manifest, plan.seed)
    gradients = row_gradients(task, chosen, resting(manifest, plan.factors))
    if plan.adaptive:
        gradients = {name: preconditioned(g, plan.batch) for name, g in gradients.items()}
    largest = max(tiers, key=lambda o: o.parameters)
    judged = {
        offer.name: (offer, _tier(offer, products(gradients, manifest, offer, largest, scaling), len(task), plan))
        for offer in tiers
    }
    found = admit([tier for _, tier in judged.values()], len(task), plan.steps, guarded=plan.guarded)
    offer = judged[found.tier.name][0] if found.tier is not None else None
    tier = found.tier or Tier("", 0, plan.steps, 0.0)
    effective = tier.effective or 0.0
    words_of = (f"Measured on gradients of {len(chosen)} of {len(task):,} rows.", *found.sentences)
    steps = min(plan.steps, tier.steps)
    return Support(offer, found, steps, effective, risk(effective, len(task)), words_of)


def measured_rows(task: Task, manifest: Manifest, seed: int) -> list[int]:
    """Which rows are measured: a drawn part, so many that their gradients stay within bounds."""
    size = sum(array.nbytes for array in task.start().values())
    most = min(ROWS if len(manifest.segments) == 1 else ROWS_OF_A_CHAIN, max(8, LIMIT_BYTES // max(1, size)))
    order = np.argsort(words(key_of("measured", seed), 0, len(task)), kind="stable")
    return sorted(int(i) for i in order[:most])


def row_gradients(task: Task, chosen: Sequence[int], rests: Container[str] = ()) -> dict[str, Array]:
    """The gradient of each row's loss at the start, by array: [rows, ...]; without those of arrays that rest.

    Raises:
        BadData: no rows, no gradients, or some that are not finite.
    """
    arrays, found = task.start(), dict[str, list[Array]]()
    for row in chosen:
        ask = task.rows([row]).gradients
        if ask is None:
            raise BadData("expected a backward graph to measure with, found none; --force trains without")
        for part in ask(arrays):
            for name, gradient in part.by_input.items():
                found.setdefault(name, []).append(gradient)
    stacked = {name: np.stack(each) for name, each in found.items() if name in arrays and name not in rests}
    if not stacked:
        raise BadData("expected rows to measure gradients of, found none; give the board data")
    if not any(each.any() for each in stacked.values()):
        raise BadData("expected gradients at the start, found 0 at every row; solve a head first (--kinds head)")
    odd = [name for name, each in stacked.items() if not np.isfinite(each).all()]
    if odd:
        raise BadData(f"expected finite gradients at the start, found others at {odd[0]}; look for broken rows")
    return stacked


def preconditioned(gradients: Array, batch: int) -> Array:
    """Gradients [rows, ...] in the coordinates in which Adam descends: divided by the fourth root of v."""
    mean, spread = gradients.mean(axis=0), gradients.var(axis=0)
    root = np.sqrt(np.sqrt(mean * mean + spread / np.float32(batch)))
    return np.asarray(np.divide(gradients, root, out=np.zeros_like(gradients), where=root > 0))


def products(
    gradients: Mapping[str, Array], manifest: Manifest, offer: Offer, largest: Offer, scaling: Scaling
) -> Float64:
    """Inner products of the rows' gradients in a tier, [rows, rows], from those of the largest.

    Of an array of factors the first directions are the tier's; with another scale its gradients are larger by that.
    """
    parts = list[Array]()
    times = scale_of(scaling, offer.rank) / scale_of(scaling, largest.rank)
    for slot in manifest.slots_of("lora") if offer.rank else ():
        for name, axis in ((slot.a, 2), (slot.b, 1)):
            if name in gradients:
                parts.append(np.float32(times) * gradients[name].take(range(offer.rank), axis=axis))
    for slot in manifest.slots_of("bias") if offer.biases else ():
        if slot.bias in gradients:
            parts.append(gradients[slot.bias])
    rows = len(next(iter(gradients.values())))
    total = np.zeros((rows, rows))
    for part in parts:
        flat = part.reshape(rows, -1).astype(np.float64)
        total += flat @ flat.T
    return total


def coordinates(of_products: Float64) -> Float64:
    """Rows [rows, rows] with these inner products: all that the criteria look at."""
    values, vectors = np.linalg.eigh(of_products)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def worthwhile_steps(gradients: NDArray[np.float64], rows: int, plan: Plan) -> int:
    """After how many steps descent begins to fit noise: `best_time` in the directions of the gradients.

    The mean gradient, less what is noise in it, over the curvature says how far the best parameters are away; the
    noise is that of a model that is right. A rule of thumb, as the theory is of linear models.

    Args:
        gradients: [n, directions], of single rows at the start.
        rows: that will be trained on.
        plan: rate and steps.

    Returns:
        At least 1.
    """
    n, mean = len(gradients), gradients.mean(axis=0)
    _, s, vt = np.linalg.svd(gradients - mean, full_matrices=False)
    curvature = s**2 / n
    known = curvature > 1e-12 * max(float(curvature.max(initial=0.0)), 1e-300)
    if not known.any():
        return plan.steps
    pull = np.maximum((vt @ mean)[known] ** 2 - curvature[known] / n, 0.0)
    away = pull / (curvature[known] + 1 / (plan.rate * plan.steps)) ** 2
    time = best_time(rows * curvature[known], float(np.mean(away)), 1.0)
    return max(1, math.ceil(min(rows * time / plan.rate, 1e9)))


def _tier(offer: Offer, of_products: Float64, rows: int, plan: Plan) -> Tier:
    found = coordinates(of_products)
    effective = effective_of_gradients(found, 1 / (plan.rate * plan.steps))
    steps = min(worthwhile_steps(found, rows, plan), plan.steps)
    if plan.directions:
        steps = forward_steps(steps, offer.parameters, plan.directions)
    return Tier(offer.name, offer.parameters, steps, effective)
