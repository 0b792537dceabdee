"""Scale adapters: factors F of a quantized model's scales D, which become D F; the codes stay as they are.

Shang et al., "Fine-tuning Quantized Neural Networks with Zeroth-order Optimization" (QZO), arXiv 2505.13430; steps are
relative (`edge.trainers.qzo`), so F does not depend on D:

    c = sum_i s_i v_i over the pairs (i, s_i) of a step        F <- F (1 + c) where c >= 0, else F / (1 - c)

In a file F is arrays, `WEIGHT/scales/factor` float32 as the scales or 1 long per axis; or, where that is smaller, the
pairs that make it of ones: `scales/counter` uint64 [n] and `scales/scalar` float32 [n], whose signs v anybody rebuilds
(`wire.directions`; each weight is a unit of its own). Both are the same bits. Factors belong to a weight's format and
stored bytes, of which they name the digest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from wire.directions import Array, Arrays, Pairs, Units, combined
from wire.philox import key_of
from wire.record import DIGEST, matching

PAIR_BYTES = 12  # of a counter and a scalar in a file


@dataclass(frozen=True)
class Belongs:
    """The weight that factors belong to: its format, the digest of its stored bytes, and the shape of F."""

    format: str
    digest: str = field(metadata=matching(DIGEST))
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """The pairs that make factors of ones, in the order of the steps; `key` is the round's, 128 bits."""

    key: int
    board: int
    per_step: int
    pairs: tuple[tuple[int, float], ...]

    def steps(self) -> list[Pairs]:
        """Pairs by step.

        >>> Replay(1, 0, 2, ((0, 0.5), (1, 0.25), (2, 1.0))).steps()
        [[(0, 0.5), (1, 0.25)], [(2, 1.0)]]
        """
        return [list(self.pairs[at : at + self.per_step]) for at in range(0, len(self.pairs), self.per_step)]


@dataclass(frozen=True)
class ScaleFactors:
    """Factors by weight, either as they are (`arrays`) or as what makes them (`replay`)."""

    belongs: Mapping[str, Belongs]
    arrays: Mapping[str, Array] | None = None
    replay: Replay | None = None

    @cached_property
    def factors(self) -> dict[str, Array]:
        """F of every weight. Check the shapes first: of what a stranger wrote they may be of any size."""
        if self.arrays is not None:
            return dict(self.arrays)
        return {} if self.replay is None else replayed(self.belongs, self.replay)

    @property
    def count(self) -> int:
        """Numbers in all factors."""
        return sum(math.prod(one.shape) for one in self.belongs.values())


def round_key(key: int) -> int:
    """The key of a round's directions of scales: not that of other trainers of the round."""
    return key_of(f"{key:032x}", "qzo")


def stepped(arrays: Arrays, key: int, board: int, units: Units, pairs: Pairs) -> dict[str, Array]:
    """Scales, or factors of them, after one step; float32 sums, products and quotients only: the same bits everywhere.

    >>> one = {"a": np.ones(64, np.float32)}
    >>> sorted(set(stepped(one, 1, 0, {"a": ["a"]}, [(0, 1.0)])["a"].tolist()))
    [0.5, 2.0]
    """
    made = dict(arrays)
    for array, c in combined(key, board, pairs, units, arrays).items():
        size = np.float32(1) + np.abs(c)
        made[array] = np.where(c >= 0, arrays[array] * size, arrays[array] / size)
    return made


def replayed(belongs: Mapping[str, Belongs], replay: Replay) -> dict[str, Array]:
    """The factors that pairs make of ones."""
    arrays: dict[str, Array] = {weight: np.ones(one.shape, np.float32) for weight, one in belongs.items()}
    units = {weight: [weight] for weight in belongs}
    for pairs in replay.steps():
        arrays = stepped(arrays, round_key(replay.key), replay.board, units, pairs)
    return arrays


def compact(scales: ScaleFactors, replay: Replay) -> ScaleFactors:
    """The smaller of both forms: the first steps of a replay that make exactly these arrays, or the arrays.

    A run that stopped early keeps the arrays of an earlier step; one that began with other factors than 1 keeps arrays.
    """
    wanted, units = scales.factors, {weight: [weight] for weight in scales.belongs}
    arrays: dict[str, Array] = {weight: np.ones(one.shape, np.float32) for weight, one in scales.belongs.items()}
    taken: Pairs = []
    for pairs in [[], *replay.steps()]:
        arrays = stepped(arrays, round_key(replay.key), replay.board, units, pairs) if pairs else arrays
        taken += pairs
        if len(taken) * PAIR_BYTES >= scales.count * 4:
            return scales
        if all(np.array_equal(arrays[weight], wanted[weight]) for weight in wanted):
            return ScaleFactors(scales.belongs, None, Replay(replay.key, replay.board, replay.per_step, tuple(taken)))
    return scales


def problems_of(scales: ScaleFactors, there: Sequence[tuple[str, str, str, tuple[int, ...]]]) -> list[str]:
    """What keeps factors from a model whose weights have (name, format, digest, shape of scales) `there`."""
    known = {weight: (fmt, digest, shape) for weight, fmt, digest, shape in there}
    problems = []
    for weight, own in scales.belongs.items():
        if weight not in known:
            problems.append(f"the scales of {weight} cannot be moved here (export with --scale-inputs)")
            continue
        fmt, digest, shape = known[weight]
        if fmt != own.format:
            problems.append(f"the scales of {weight} were learned in {own.format}, and here it is {fmt}")
        elif digest != own.digest:
            problems.append(f"the scales of {weight} were learned on other {fmt} numbers than these")
        elif len(own.shape) != len(shape) or any(d not in (1, s) for d, s in zip(own.shape, shape, strict=True)):
            problems.append(f"the scales of {weight} are {list(shape)}, not {list(own.shape)}")
    return problems
