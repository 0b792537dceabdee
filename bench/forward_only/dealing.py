"""How well forward gradients point, and what dealing units to boards does, on a net whose gradient is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.trainers.directions import size
from edge.trainers.interface import Factors, Rows
from edge.trainers.spry import Spry, average_units, deal, estimate, gradient, shared_gradient
from tests.edge.trainers.problems import Array, Problem, flat, net
from wire.optimizers import Sgd
from wire.philox import key_of

DRAWS = 24
BOARDS, ROUNDS, EPOCH, RATE = 4, 6, 8, 0.05  # rounds of so many steps of each board


def cosines(folder: Path) -> list[dict[str, Any]]:
    """The mean cosine with the true gradient for nets of several sizes and several numbers of directions."""
    out = []
    for inner in (8, 80, 640):
        problem = net(1, inner)
        slopes, p = flat(problem.gradient(problem.start)), size(problem.units, problem.start)
        for many in (1, 4, 16, 64):
            found = [_cosine(_gradient(problem, key_of("cosine", draw), many), slopes) for draw in range(DRAWS)]
            theory = float(np.sqrt(many / (p + many - 1)))
            measured = float(np.mean(found))
            row: dict[str, Any] = {"parameters": p, "directions": many, "cosine": measured, "theory": theory}
            # along one direction the cosine is |z| / sqrt(P), z normal, whose mean is 0.8 of theory's
            off = abs(measured / theory - 1)
            out.append({**row, "off": off, "bar": "met" if many < 4 or off <= 0.2 else "missed"})
    return out


def _gradient(problem: Problem, key: int, many: int) -> dict[str, Array]:
    spry = Spry(key, problem.units, directions=many)
    pairs, _ = estimate(problem.loss, problem.start, problem.units, key, 0, range(many), 1e-3)
    return gradient(pairs, spry, problem.start)


def _cosine(found: Mapping[str, Array], slopes: np.ndarray) -> float:
    g = flat(found)
    return float(g @ slopes / np.linalg.norm(g) / np.linalg.norm(slopes))


def dealt(folder: Path) -> list[dict[str, Any]]:
    """Four boards with the same rows and as many forward passes each: the last loss, and the first step's cosine."""
    out = []
    problem = net(2, 80)
    units = {name: [name] for name in problem.start}
    slopes = flat(problem.gradient(problem.start))
    for many in (8,):
        for how in ("all to all", "dealt"):
            own = deal(list(units), BOARDS) if how == "dealt" else [list(units)] * BOARDS
            held = [{name: units[name] for name in names} for names in own]
            for taken in ("per iteration", "per epoch"):
                runs = [_run(problem, held, taken, many, seed, slopes) for seed in range(3)]
                losses, pointing = zip(*runs, strict=True)
                row: dict[str, Any] = {
                    "units": how,
                    "steps": taken,
                    "directions": many,
                    "parameters": flat(problem.start).size,
                }
                row |= {"first loss": problem.loss(problem.start), "last loss": float(np.mean(losses))}
                passes = 2 * many * BOARDS * ROUNDS * EPOCH
                gained = (problem.loss(problem.start) - float(np.mean(losses))) / passes
                out.append({**row, "cosine": float(np.mean(pointing)), "gain per 1000 passes": 1000 * gained})
    return out


def _run(
    problem: Problem, held: list[dict[str, list[str]]], taken: str, many: int, seed: int, slopes: np.ndarray
) -> tuple[float, float]:
    """The loss after all rounds, and the cosine of what the first round changed."""
    arrays, first = dict(problem.start), 0.0
    for number in range(ROUNDS):
        boards = [
            Spry(key_of("deal", seed, number), own, board=k, directions=many, optimizer=Sgd(RATE))
            for k, own in enumerate(held)
        ]
        before = arrays
        arrays = _together(problem, boards, arrays) if taken == "per iteration" else _apart(problem, boards, arrays)
        if number == 0:
            first = _cosine({n: before[n] - arrays[n] for n in arrays}, slopes)
    return problem.loss(arrays), first


def _together(problem: Problem, boards: list[Spry], arrays: dict[str, Array]) -> dict[str, Array]:
    for step in range(EPOCH):
        counters = range(step * boards[0].directions, (step + 1) * boards[0].directions)
        parts = [(b, estimate(problem.loss, arrays, b.units, b.key, b.board, counters, b.epsilon)[0]) for b in boards]
        g = shared_gradient(parts, arrays)
        arrays = {n: a - np.float32(RATE) * g[n] if n in g else a for n, a in arrays.items()}
    return arrays


def _apart(problem: Problem, boards: list[Spry], arrays: dict[str, Array]) -> dict[str, Array]:
    updates = []
    for board in boards:
        own, state = dict(arrays), board.begin(arrays)
        for _ in range(EPOCH):
            made = board.step(own, state, Rows(problem.loss))
            own, state = made.arrays, made.state
        updates.append(Factors({n: own[n] for n in board.trained()}, board.trained()))
    return average_units(updates, [1.0] * len(updates), arrays)
