"""Many runs side by side, round by round: heads, local work, one adapter out of many."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.learning.heads import HEADS, Judge, solved
from bench.learning.local import Factors, Learner, Work, chunks
from bench.learning.recipes import Recipe
from bench.learning.splits import batches
from bench.learning.trunk import SCALE, SIDE, SLOTS
from hub.aggregation.method import Method
from hub.aggregation.methods import METHODS
from hub.aggregation.shares import by_samples
from wire.discriminant import solve
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.ladder import emit, refactor, slot_key, spare_columns

HUB_RANK = 16
MODELS = 64  # whose features are held at once


class Send(Protocol):
    """How updates travel, with what is remembered of earlier ones."""

    def through(self, sent: Factors, trained: list[Factors]) -> tuple[list[Factors], Send]:
        """The updates of a round as they arrive, and what is remembered now."""


@dataclass
class Run:
    """A way of learning on a split of a task's rows.

    Attributes:
        name: a method's, or "alone" or "centralised".
        split: kind of split.
        seed: of rows, split and batches.
        boards: rows of each board.
        ranks: of each board.
        recipe: rates and rounds.
        board: which one, of "alone".
        factors: the adapter so far.
        send: how updates travel; None: whole.
    """

    name: str
    split: str
    seed: int
    boards: list[NDArray[np.int64]]
    ranks: tuple[int, ...]
    recipe: Recipe
    board: int = 0
    factors: Factors = field(init=False)
    heads: dict[int, Head] = field(default_factory=dict)
    moments: Any = None
    send: Send | None = None

    def __post_init__(self) -> None:
        keys = [slot_key(f"learning-{self.seed}", slot, 1) for slot in SLOTS]
        a = np.stack([spare_columns(SIDE, self.rank, key) for key in keys])
        self.factors = Factors(a.astype(np.float32), np.zeros((len(SLOTS), self.rank, SIDE), np.float32))
        if self.method is None:
            self.moments = ([], 0)

    @property
    def method(self) -> Method | None:
        """Of aggregation; None of one model that is trained on and on."""
        return METHODS.get(self.name)

    @property
    def rank(self) -> int:
        """Of the adapter as a whole."""
        return HUB_RANK if self.method else max(self.ranks)

    @property
    def steps(self) -> int:
        """Of each board in a round; one model for all of the rows does the steps of all boards."""
        return self.recipe.steps * (self.recipe.boards if self.name == "centralised" else 1)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Of all boards."""
        return np.concatenate(self.boards)


def learn(runs: Sequence[Run], learner: Learner, judge: Judge, pool: Executor) -> None:
    """All rounds of runs whose recipes have as many rounds and steps."""
    rounds, refresh = runs[0].recipe.rounds, runs[0].recipe.refresh
    drawn = [
        [
            batches(rows, rounds * run.steps, run.recipe.batch, (run.seed, len(run.boards), run.board + k))
            for k, rows in enumerate(run.boards)
        ]
        for run in runs
    ]
    for number in range(rounds):
        if number % refresh == 0:
            refreshed(runs, judge, pool, first=number == 0)
        works = []
        for run, own in zip(runs, drawn, strict=True):
            at = slice(number * run.steps, (number + 1) * run.steps)
            works += [_work(run, number, rank, rows[at]) for rank, rows in zip(run.ranks, own, strict=True)]
        trained = iter(zip(works, learner.train(works), strict=True))
        many = []
        for run in runs:
            done = [next(trained) for _ in run.boards]
            if run.method is None:
                run.moments, run.factors = done[0][0].moments, done[0][1]
            else:
                many.append((run, [factors for _, factors in done]))
        jobs = [_sum_of(run, done, number) for run, done in many]
        for (run, _), (factors, send) in zip(many, pool.map(combined, jobs, chunksize=4), strict=True):
            run.factors, run.send = factors, send


def judged(runs: Sequence[Run], judge: Judge, rows: NDArray[np.int64]) -> list[dict[str, float]]:
    """The accuracy of each run on some rows, by head, with heads from statistics at the adapter as it is now."""
    found = []
    for run in runs:
        features = judge.features([run.factors], np.append(run.rows, rows))[0]
        ours, theirs = features[: len(run.rows)], features[len(run.rows) :]
        statistics = judge.statistics(ours, run.rows)
        found.append({kind: judge.right(theirs, rows, solved(kind, statistics)) for kind in HEADS})
    return found


def refreshed(runs: Sequence[Run], judge: Judge, pool: Executor, *, first: bool) -> None:
    """New heads for every run, at each rank that its boards have; at `first` nobody's adapter does anything yet."""
    groups: dict[bytes, list[Run]] = {}
    for run in runs:
        groups.setdefault(np.sort(run.rows).tobytes(), []).append(run)
    for same in groups.values():
        rows = np.sort(same[0].rows)
        if first:
            sums = judge.statistics(judge.features([same[0].factors.prefix(1)], rows)[0], rows)
            head = solve(sums)
            for run in same:
                run.heads = dict.fromkeys(run.ranks, head)
            continue
        for own in chunks([(run, rank) for run in same for rank in sorted(set(run.ranks))], MODELS):
            features = judge.features([run.factors.prefix(rank) for run, rank in own], rows)
            sums_of = [judge.statistics(one, rows) for one in features]
            for (run, rank), head in zip(own, pool.map(solve, sums_of, chunksize=4), strict=True):
                run.heads[rank] = head


def _work(run: Run, number: int, rank: int, rows: NDArray[np.int64]) -> Work:
    """A board's part of a round; the rate falls to a tenth over all rounds."""
    rate = run.recipe.rate * (1 - 0.9 * number / run.recipe.rounds)
    trains = run.method.trains(number) if run.method else "both"
    head = run.heads[rank]
    return Work(run.factors.prefix(rank), rows, head.weight, head.bias, rate, trains, run.moments)


@dataclass(frozen=True)
class Sum:
    """What is needed for one adapter out of many: a method's name, what was sent, what came back, and how it counts."""

    method: str
    sent: Factors
    trained: list[Factors]
    shares: list[float]
    keys: list[int]
    server_rate: float
    send: Send | None = None


def _sum_of(run: Run, trained: list[Factors], number: int) -> Sum:
    shares = by_samples([len(rows) for rows in run.boards]).values.tolist()
    keys = [slot_key(f"learning-{run.seed}", slot, number + 2) for slot in SLOTS]
    return Sum(run.name, run.factors, trained, shares, keys, run.recipe.server_rate, run.send)


def combined(own: Sum) -> tuple[Factors, Send | None]:
    """One adapter out of many, slot by slot, as the hub makes it; as there, one that is not finite is refused."""
    if not all(np.isfinite(x.a).all() and np.isfinite(x.b).all() for x in own.trained):
        return own.sent, own.send
    send = own.send
    if send is not None:
        arrived, send = send.through(own.sent, own.trained)
        own = replace(own, trained=arrived)
    with np.errstate(all="ignore"):
        try:
            made = _made(own)
        except np.linalg.LinAlgError:
            return own.sent, send
    finite = np.isfinite(made.a).all() and np.isfinite(made.b).all()
    return (made if finite else own.sent), send


def _made(own: Sum) -> Factors:
    method, rank = METHODS[own.method], own.sent.a.shape[2]
    a, b = np.empty_like(own.sent.a), np.empty_like(own.sent.b)
    for i, key in enumerate(own.keys):
        sent = Lora(own.sent.a[i], own.sent.b[i], SCALE)
        state = method.init(sent)
        for share, factors in zip(own.shares, own.trained, strict=True):
            state = method.apply(state, Lora(factors.a[i], factors.b[i], SCALE), share)
        made = method.finish(state, rank, SCALE, key, 1.0)
        a[i], b[i] = stepped(sent, made.a, made.b, own.server_rate, key)
    return Factors(a, b)


def stepped(sent: Lora, a: Any, b: Any, rate: float, key: int) -> tuple[Any, Any]:
    """The aggregate, or `rate` times as far from what was sent: in the factor that learned, or in product space."""
    if rate == 1.0:
        return a, b
    if np.array_equal(a.astype(np.float32), sent.a):
        return a, sent.b + rate * (b - sent.b)
    if np.array_equal(b.astype(np.float32), sent.b):
        return sent.a + rate * (a - sent.a), b
    left = np.concatenate([sent.a * (1 - rate), a * rate], axis=1) * sent.scale
    return emit(refactor(left, np.concatenate([sent.b, b]), sent.rank), sent.rank, sent.scale, key)
