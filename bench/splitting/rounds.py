"""Rounds of a split fleet: plan, local steps, one adapter out of many slot by slot, and a new plan where it is due.

A tail keeps a copy of its adapters for every board, so a board's round through front and tail is its round through
the whole model (SplitFed, Thapa et al., arXiv 2004.12088): both run here as one graph, with the border coded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.learning.splits import batches, split
from bench.splitting.boards import FLOAT_BYTES, Board, boards_of, within
from bench.splitting.crossing import row_bytes
from bench.splitting.local import Trained, judge, train
from bench.splitting.models import SCALE, Slotted
from bench.splitting.recipes import Recipe
from devices.ranks import LARGEST_RANK
from hub.aggregation.methods import METHODS
from hub.aggregation.shares import by_samples
from wire.activations import Coding
from wire.importance.moved import THRESHOLD, moved
from wire.importance.standing import Known, after
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.ladder import slot_key, spare_columns

AGGREGATED = {"planned": "stacking", "uniform": "stacking", "hetlora": "hetlora", "hetlora-tail": "hetlora"}
NAME = "splitting"


@dataclass
class Run:
    """One method on one task with one seed; filled in by `learn`.

    Attributes:
        method: of `bench.splitting.recipes.METHODS`.
        curve: of each round the mean loss and the share that is right on the validation rows.
        adapter_bytes: of all boards up and down, round by round.
        crossing_bytes: of all borders both ways, round by round.
        plans: how often ranks were chosen.
    """

    task: str
    method: str
    seed: int
    coding: Coding
    rate: float
    curve: list[tuple[float, float]] = field(default_factory=list)
    test: tuple[float, float] = (0.0, 0.0)
    adapter_bytes: list[int] = field(default_factory=list)
    crossing_bytes: list[int] = field(default_factory=list)
    borders: list[int] = field(default_factory=list)
    ranks: list[dict[str, int]] = field(default_factory=list)
    plans: int = 1


@dataclass(frozen=True)
class Parts:
    """Rows of a run: to learn from, to judge every round, to judge at the end."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def learn(
    run: Run,
    model: Slotted,
    recipe: Recipe,
    classes: NDArray[np.int64],
    parts: Parts,
    importance: Mapping[str, float],
    head: Head | None,
) -> None:
    """All rounds.

    Args:
        run: which; it is filled in.
        model: with its rows.
        recipe: of the task.
        classes: of all rows, by which they lie unevenly on boards.
        parts: rows.
        importance: measured before the first round.
        head: to begin with; None for a decoder.
    """
    boards = boards_of(run.method, model, recipe.budgets, importance)
    lone = run.method == "centralised"
    own = [parts.train] if lone else _dealt(parts.train, classes, recipe.boards, run.seed)
    steps = recipe.steps * (recipe.boards if lone else 1)
    drawn = [batches(rows, recipe.rounds * steps, recipe.batch, (run.seed, k)) for k, rows in enumerate(own)]
    state = begun(model, run.seed)
    weights = by_samples([len(rows) for rows in own]).values.tolist()
    known, planned_by, moments = Known(), dict(importance), None
    run.borders, run.ranks = [b.border for b in boards], [b.ranks for b in boards]
    for number in range(recipe.rounds):
        rate = run.rate * (1 - 0.9 * number / recipe.rounds)
        done = []
        for board, rows in zip(boards, drawn, strict=True):
            model.border, model.coding = board.border, run.coding
            start = {name: state[name].prefix(rank) for name, rank in board.ranks.items()}
            part = rows[number * steps : (number + 1) * steps]
            done.append(train(model, start, head, part, rate, moments))
        run.adapter_bytes.append(sum(2 * FLOAT_BYTES * b.values(model.slots) for b in boards if not lone))
        run.crossing_bytes.append(0 if lone else _crossed(done, model.width, run.coding))
        if lone:
            state, head, moments = done[0].lora, done[0].head, done[0].state
        else:
            state = _combined(run, boards, state, done, weights, number)
            head = _mean_head(done, weights)
            known, boards, planned_by = _replanned(run, model, recipe, known, boards, planned_by, done)
        run.curve.append(judge(model, state, head, parts.validation))
    run.test = judge(model, state, head, parts.test)


def _dealt(rows: NDArray[np.int64], classes: NDArray[np.int64], boards: int, seed: int) -> list[NDArray[np.int64]]:
    """Rows on boards, classes unevenly (Dirichlet 0.3)."""
    return [rows[own] for own in split("dirichlet", classes[rows], boards, seed)]


def begun(model: Slotted, seed: int) -> dict[str, Lora]:
    """Version 0: seeded directions that carry nothing."""
    keys = {name: slot_key(f"{NAME}-{seed}", name, 1) for name in model.slots}
    return {
        name: Lora(
            spare_columns(size[0], LARGEST_RANK, keys[name]).astype(np.float32),
            np.zeros((LARGEST_RANK, size[1]), np.float32),
            SCALE,
        )
        for name, size in model.slots.items()
    }


def _crossed(done: Sequence[Trained], width: int, coding: Coding) -> int:
    """Activations up and gradients down, a row per token."""
    return sum(2 * one.tokens * row_bytes(width, coding) for one in done)


def _combined(
    run: Run,
    boards: Sequence[Board],
    sent: dict[str, Lora],
    done: Sequence[Trained],
    weights: Sequence[float],
    number: int,
) -> dict[str, Lora]:
    """Slot by slot over those who hold it, weights renormalised; a slot that nobody has stays."""
    method, out = METHODS[AGGREGATED.get(run.method, "mean")], dict(sent)
    for name, whole in sent.items():
        held = [(one.lora[name], weight) for one, weight in zip(done, weights, strict=True) if name in one.lora]
        total = sum(weight for _, weight in held)
        if not held:
            continue
        # where all boards have one rank, the first directions are all there are
        began = whole.prefix(held[0][0].rank) if method.equal_ranks else whole
        state: Any = method.init(began)
        for lora, weight in held:
            state = method.apply(state, lora, weight / total)
        made = method.finish(state, began.rank, SCALE, slot_key(f"{NAME}-{run.seed}", name, number + 2), 1.0)
        out[name] = Lora(made.a.astype(np.float32), made.b.astype(np.float32), SCALE)
    return out


def _mean_head(done: Sequence[Trained], weights: Sequence[float]) -> Head | None:
    pairs = [(one.head, weight) for one, weight in zip(done, weights, strict=True) if one.head is not None]
    if not pairs:
        return None
    weight = sum(w * head.weight for head, w in pairs)
    bias = sum(w * head.bias for head, w in pairs)
    return Head(np.asarray(weight, np.float32), np.asarray(bias, np.float32))


def _replanned(
    run: Run,
    model: Slotted,
    recipe: Recipe,
    known: Known,
    boards: list[Board],
    planned_by: dict[str, float],
    done: Sequence[Trained],
) -> tuple[Known, list[Board], dict[str, float]]:
    """What boards tell, averaged as the hub does; ranks anew where that moved from what they were planned by.

    What rows told before the first round and what boards tell are no one scale: the first report is what later ones
    are held against.
    """
    if run.method != "planned":
        return known, boards, planned_by
    told: dict[str, list[float]] = {}
    for one in done:
        for name, value in one.told.items():
            told.setdefault(name, []).append(value)
    first = not known.stage
    known = after(known, told, known.stage + 1)
    if first:
        return known, boards, dict(known.products)
    if moved(planned_by, known.products) <= THRESHOLD:
        return known, boards, planned_by
    run.plans += 1
    mean = sum(known.products.values()) / len(known.products)
    whole = {name: known.products.get(name, mean) for name in model.slots}
    # borders stay: another one would need another bundle, other ranks do not
    made = [within(model, budget, b.border, whole) for budget, b in zip(recipe.budgets, boards, strict=True)]
    return known, made, dict(known.products)
