"""A front at rest, by gradients and by differences, before the same tail and with the same draws.

all-MiniLM-L6-v2 on rows of SST-2 with factors in query and value of every block, those behind the border of rank 8, and
a head that begins in closed form. The front is the first attention; tail and head always learn by gradients. Both
halves are one model in torch and what crosses is not coded: autograd gives the gradient of the border, and what the
front makes of that is `edge.split.differences`, as on a board. The loss is that of all rows that were learned from,
after the last step; the cosine is that of the estimate with the front's own gradient, the mean over steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.learning import texts
from bench.learning.splits import batches
from bench.splitting import corpus, models
from bench.splitting.local import BETAS, features_of, judge
from bench.splitting.models import SCALE, Slotted
from bench.splitting.rounds import begun
from edge.gradients import GRAD, Gradients
from edge.split.differences import Differences
from wire.discriminant import solve
from wire.kinds.head import Head, gather
from wire.kinds.lora import Lora

ROWS, BATCH, TOKENS, RANK, RATE = 512, 16, 32, 8, 0.001
FRONT, BORDER, TARGETS = "encoder.layer.0.attention", "border", "query|value"


@dataclass(frozen=True)
class Way:
    """How a front learns: "rest", "gradients" or "differences"; its rank; along how many directions."""

    learns: str
    rank: int
    directions: int = 0


@dataclass(frozen=True)
class Trial:
    """An encoder over texts with classes, and which of them may be learned from."""

    model: Slotted
    classes: NDArray[np.int64]
    pool: NDArray[np.int64]
    rows: int = ROWS
    batch: int = BATCH


@dataclass
class Front:
    """The first attention, as far as `Differences` knows a chain: it runs again on what it was given last."""

    model: Slotted
    manifest: Any = field(default_factory=lambda: SimpleNamespace(slots=(), segments=(SimpleNamespace(name="front"),)))
    last: tuple[Any, ...] = ()  # what it was given, in place and by name, and what it made

    def __post_init__(self) -> None:
        self.module = self.model.model.get_submodule(FRONT)
        self.module.register_forward_hook(self._seen, with_kwargs=True)
        self.slots = [name for name in self.model.slots if name.startswith(f"{FRONT}.")]
        self.names = [f"{slot}/{factor}" for slot in self.slots for factor in "AB"]

    def _seen(self, module: Any, given: Any, named: Any, made: Any) -> None:
        self.last = (given, named, made[0])

    def up(
        self, values: Sequence[dict[str, NDArray[Any]]], bucket: str, shared: Mapping[str, NDArray[Any]], *_: object
    ) -> None:
        """What it makes of the last batch with other factors."""
        there = [self.model.there(np.asarray(shared[name], np.float32)) for name in self.names]
        self.model.fed = dict(zip(self.slots, zip(there[0::2], there[1::2], strict=True), strict=True))
        given, named, _made = self.last
        with torch.no_grad():
            values[0][BORDER] = self.module(*given, **named)[0].numpy()

    def estimated(self, look: Differences, own: Sequence[Tensor], back: Tensor) -> list[Tensor]:
        """Gradients of its factors from the gradient of what it made of the last batch."""
        shared, sums = {name: one.detach().numpy() for name, one in zip(self.names, own, strict=True)}, Gradients()
        chain: Any = self
        look.add(chain, [{}], "", shared, [{GRAD + BORDER: back.numpy()}], sums)
        return [self.model.there(sums.by_input[name]) for name in self.names]


def sst2(source: Path, data: Path) -> Trial:
    """MiniLM over the rows of SST-2."""
    rows = corpus.sst2(data)
    model = models.encoder(source, rows.sentences, rows.labels, TARGETS, TOKENS)
    return Trial(model, rows.labels, rows.of(texts.TRAIN))


def ways_of(ranks: Sequence[int], directions: Sequence[int]) -> list[Way]:
    """All; a front at rest is the same at every rank, since its factors carry nothing.

    >>> [(way.learns, way.rank, way.directions) for way in ways_of([8], [16])]
    [('rest', 8, 0), ('gradients', 8, 0), ('differences', 8, 16)]
    """
    learning = [[Way("gradients", rank), *(Way("differences", rank, k) for k in directions)] for rank in ranks]
    return [Way("rest", ranks[0]), *(way for ways in learning for way in ways)]


def compared(trial: Trial, ways: Sequence[Way], seeds: int, steps: int, rate: float) -> list[dict[str, Any]]:
    """A line for each way: the loss with every seed, and how much of what gradients gain that is, on average."""
    model, front, classes = trial.model, Front(trial.model), int(trial.classes.max()) + 1
    losses: dict[Way, list[float]] = {way: [] for way in ways}
    cosines: dict[Way, list[float]] = {way: [] for way in ways}
    for seed in range(seeds):
        own = np.random.default_rng([seed, 99]).permutation(trial.pool)[: trial.rows]
        head = solve(gather(features_of(model, own), trial.classes[own], classes))
        drawn, whole = batches(own, steps, trial.batch, (seed, 0)), begun(model, seed)
        for way in ways:
            start = {name: one.prefix(way.rank if name in front.slots else RANK) for name, one in whole.items()}
            lora, after, found = learn(front, way, start, head, drawn, rate, seed)
            losses[way].append(judge(model, lora, after, own)[0])
            cosines[way] += found
    values = {way: way.rank * sum(sum(model.slots[name]) for name in front.slots) for way in ways}
    return [
        {
            "front": way.learns,
            "rank": way.rank,
            "numbers": values[way],
            "directions": way.directions or None,
            "loss": losses[way],
            "gain": gain(way, losses),
            "cosine": float(np.mean(cosines[way])) if cosines[way] else None,
        }
        for way in ways
    ]


def gain(way: Way, losses: Mapping[Way, Sequence[float]]) -> float | None:
    """Of what gradients gain over rest at its rank, on average over seeds; None of a front at rest.

    >>> gain(Way("differences", 1, 8), {Way("rest", 8): [4.0], Way("gradients", 1): [2.0],
    ...     Way("differences", 1, 8): [3.5]})
    0.25
    """
    if way.learns == "rest":
        return None
    rest = next(float(np.mean(found)) for one, found in losses.items() if one.learns == "rest")
    return (rest - float(np.mean(losses[way]))) / (rest - float(np.mean(losses[Way("gradients", way.rank)])))


def learn(
    front: Front, way: Way, start: Mapping[str, Lora], head: Head, drawn: NDArray[np.int64], rate: float, seed: int
) -> tuple[dict[str, Lora], Head, list[float]]:
    """Factors and head after some steps, and the cosine of each estimate with the front's gradient.

    Args:
        front: of a model.
        way: how it learns.
        start: factors of every slot.
        head: to begin with.
        drawn: rows of each step, [steps, rows].
        rate: of learning.
        seed: of the directions.
    """
    model, cosines, look = front.model, list[float](), Differences(seed, 0, front.names, way.directions)
    fed = {name: (_leaf(model, one.a), _leaf(model, one.b)) for name, one in start.items()}
    top = [_leaf(model, head.weight), _leaf(model, head.bias)]
    ordered = [*front.slots, *(name for name in fed if name not in front.slots)]
    leaves, count = [*(factor for name in ordered for factor in fed[name]), *top], 2 * len(front.slots)
    optimizer = torch.optim.Adam(leaves, lr=rate, betas=BETAS)
    for rows in drawn:
        loss, counted = model.losses(rows, fed, top)
        *slopes, back = torch.autograd.grad(loss / counted[1], [*leaves, front.last[2]])
        own: Sequence[Tensor | None] = slopes[:count]
        if way.learns == "differences":
            own = front.estimated(look, leaves[:count], back)
            cosines.append(cosine(own, slopes[:count]))
        elif way.learns == "rest":
            own = [None] * count
        for leaf, slope in zip(leaves, [*own, *slopes[count:]], strict=True):
            leaf.grad = slope
        optimizer.step()
    made = {name: Lora(a.detach().numpy(), b.detach().numpy(), SCALE) for name, (a, b) in fed.items()}
    return made, Head(top[0].detach().numpy(), top[1].detach().numpy()), cosines


def cosine(some: Sequence[Any], others: Sequence[Any]) -> float:
    """Of all entries together."""
    a, b = (torch.cat([one.flatten() for one in both]).double() for both in (some, others))
    return float(a @ b / (a.norm() * b.norm()))


def _leaf(model: Slotted, array: NDArray[Any]) -> Tensor:
    return model.there(np.array(array, np.float32)).requires_grad_()
