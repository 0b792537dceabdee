"""What a run trains and with which trainer: memory and graphs, then the data, each with its sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from console.errors import BadData, Declined
from devices.budget import training_budget_bytes
from edge.memory import available_bytes, memory
from edge.trainers.admission import Tier, admit
from edge.training.auto import Choice, choose, directions_needed, facts_of
from edge.training.heads import RECIPES, Recipe, Solved
from edge.training.makers import RATES
from edge.training.support import Plan, supported
from edge.training.task import Task
from edge.training.tiers import Offer, offers, start
from edge.training.wish import Wish
from wire.adapter import Adapter
from wire.manifest import Manifest


class Say(Protocol):
    """Who is told sentences."""

    def __call__(self, *words: str) -> None:
        """Some of them, in order."""


SURE = 2.0  # standard deviations of guessing, by which a head must be better than guessing


@dataclass(frozen=True)
class Decision:
    """How a run begins.

    Attributes:
        trainer: backprop, spry, qzo or ridge.
        offer: the tier; the head alone for ridge.
        adapter: where it starts, with a head.
        directions: of forward-only trainers.
        micro_batch: rows of a graph's run; None: what the bundle says.
        steps: how many are worth taking where nothing else ends a run early; None: as many as were asked for.
    """

    trainer: str
    offer: Offer
    adapter: Adapter
    directions: int
    micro_batch: int | None
    steps: int | None


@dataclass(frozen=True)
class Means:
    """What a decision is made from.

    Attributes:
        manifest: of the bundle.
        rows: to train on.
        kept_back: rows beside them to judge by.
        steps: that will be taken.
        task: for a trainer and an adapter, what would be learned.
        solve: for an adapter and recipes, the head in closed form; None where there is no place for a head.
    """

    manifest: Manifest
    rows: int
    kept_back: int
    steps: int
    task: Callable[[str, Adapter], Task]
    solve: Callable[[Adapter, Sequence[Recipe]], Solved] | None = None


def decide(means: Means, begun: Adapter | None, wish: Wish, say: Say) -> Decision:
    """Choose trainer, tier and start.

    Args:
        means: bundle and data.
        begun: an adapter to go on from.
        wish: what was asked for.
        say: told why, in sentences.

    Raises:
        BadData: the data or the adapter do not fit the bundle.
        Declined: the data do not support what was asked for; the sentence has the numbers.
        DoesNotFit: no trainer fits the memory that is free.
        UsageError: a kind that does not exist.
    """
    tiers = _tiers(means, begun, wish)
    choice = _choice(means, tiers, wish)
    say(*choice.reasons)
    largest, solved = max(choice.tiers, key=lambda o: o.parameters, default=None), None
    first = _started(means, largest, begun, wish)
    if means.solve is not None and (first.head is None or choice.trainer == "ridge"):
        solved = means.solve(first, RECIPES if wish.trainer != "ridge" else ("ridge",))
        say(*solved.sentences)
        first = replace(first, heads={**first.heads, first.rank: solved.head})
    if largest is None:
        return _head_alone(means, begun, tiers, solved, wish, say)
    if wish.force:
        return Decision(choice.trainer, largest, first, choice.directions, choice.micro_batch, None)
    found, worth = _supported(means, first, choice, wish, say)
    if found is None:
        return _head_alone(means, begun, tiers, solved, wish, say)
    if found is not largest:
        smaller = _started(means, found, begun, wish)
        first = smaller if first.head is None else replace(smaller, heads={smaller.rank: first.head})
    # in trials more steps than `worth` still helped rows kept back: without any, at least a pass is taken
    cap = None if _guarded(means, wish) or wish.steps is not None else min(means.steps, max(worth, a_pass(means, wish)))
    directions = choice.directions
    if directions and wish.trainer == "auto":  # those of the largest tier are more than a smaller one needs
        directions = directions_needed(found.parameters, means.steps)
    return Decision(choice.trainer, found, first, directions, choice.micro_batch, cap)


def free_bytes() -> int | None:
    """The memory that training may use on this machine, what this process holds already included."""
    available = available_bytes()
    return None if available is None else training_budget_bytes(available + memory().get("anon_bytes", 0))


def _tiers(means: Means, begun: Adapter | None, wish: Wish) -> tuple[Offer, ...]:
    """The tiers that keep what was begun: none below its rank, unless a smaller one is asked for."""
    held = 0 if begun is None else begun.rank
    kinds = wish.kinds if means.solve is not None else tuple(k for k in wish.kinds if k != "head")
    rank = wish.rank or max(held, means.manifest.plan.rank) or None
    least = held if wish.rank is None else min(held, wish.rank)
    return tuple(o for o in offers(means.manifest, kinds, rank, wish.factors) if o.head or o.rank >= least)


def _started(means: Means, offer: Offer | None, begun: Adapter | None, wish: Wish) -> Adapter:
    if offer is None:
        return begun or Adapter(means.manifest.model.id)
    return start(means.manifest, offer, seed=wish.seed, scaling=wish.scaling, begun=begun)


def a_pass(means: Means, wish: Wish) -> int:
    """Steps of a pass over the rows."""
    return -(-means.rows // wish.batch)


def _guarded(means: Means, wish: Wish) -> bool:
    """Whether rows kept back end a run early."""
    return means.kept_back > 0 and wish.patience > 0


def _choice(means: Means, tiers: tuple[Offer, ...], wish: Wish) -> Choice:
    if wish.trainer == "auto":
        return choose(facts_of(means.manifest, tiers, means.rows, means.steps, free_bytes()))
    deep = tuple(o for o in tiers if not o.head)
    if wish.trainer == "ridge":
        return Choice("ridge", (), None, 0, ())
    if not deep:
        raise BadData(
            f"expected factors or biases for --trainer {wish.trainer}, found places for a head alone; take --trainer "
            "ridge, or export with --mode train"
        )
    return Choice(wish.trainer, deep, wish.micro_batch, wish.directions, ())


def _supported(means: Means, adapter: Adapter, choice: Choice, wish: Wish, say: Say) -> tuple[Offer | None, int]:
    """The largest tier that the data support, and how many steps are worth taking with it."""
    if choice.trainer != "backprop":  # without gradients nothing can be measured: all parameters count
        tiers = {o.name: o for o in choice.tiers}
        judged = [Tier(o.name, o.parameters, 1) for o in choice.tiers]
        found = admit(judged, means.rows, means.steps, guarded=_guarded(means, wish))
        say(*found.sentences)
        return (None if found.tier is None else tiers[found.tier.name]), means.steps
    rate = RATES[wish.optimizer] if wish.rate is None else wish.rate
    rate *= 0.5 if wish.schedule == "linear" else 1.0  # what a line to 0 comes to over all steps
    adaptive, guarded = wish.optimizer != "sgd", _guarded(means, wish)
    plan = Plan(rate, means.steps, wish.batch, adaptive, guarded, seed=wish.seed, factors=wish.factors)
    support = supported(means.task(choice.trainer, adapter), means.manifest, choice.tiers, plan, wish.scaling)
    say(*support.sentences)
    if support.offer is not None:
        say(f"About {support.steps:,} of {means.steps:,} steps are worth taking before noise is fitted.")
    return support.offer, support.steps


def _head_alone(
    means: Means, begun: Adapter | None, tiers: tuple[Offer, ...], solved: Solved | None, wish: Wish, say: Say
) -> Decision:
    """The head in closed form, where that is better than guessing.

    Raises:
        Declined: it is not, or no head is to learn.
    """
    offer = next((o for o in tiers if o.head), None)
    if offer is None or solved is None:
        raise Declined(
            "expected data that support a tier, found too few rows for every one of them; collect more, let a head "
            "learn with --kinds head, or take --force"
        )
    if not wish.force and not better_than_guessing(solved):
        raise Declined(
            f"expected a head that is better than guessing, found {solved.right} of {solved.kept_back} rows kept back "
            f"right where the most frequent class has {solved.guessed}; collect more rows, or take --force"
        )
    say("Train the head alone.")
    base = _started(means, None, begun, wish)
    return Decision("ridge", offer, replace(base, heads={**base.heads, base.rank: solved.head}), 0, None, None)


def better_than_guessing(solved: Solved) -> bool:
    """Whether a head is, by two standard deviations of guessing; where no row was kept back it is believed."""
    if not solved.kept_back:
        return True
    share = solved.guessed / solved.kept_back
    return bool(solved.right > solved.guessed + SURE * np.sqrt(solved.kept_back * share * (1 - share)))
