"""What a private hub does not do, because its promise would not hold; each with its reason."""

from __future__ import annotations

from console.errors import UsageError, join
from hub.privacy.settings import PrivacyConfig
from hub.rounds.selection import Selection
from hub.rounds.state import Round

LINEAR = ("stacking", "ffa", "nested-ffa")  # before truncation the mean of changes: its sensitivity is clip / n


def refuse(state: Round, told: PrivacyConfig) -> None:
    """Check that a round may be held by a hub that promises privacy.

    Args:
        state: the round that is about to be opened.
        told: what is promised.

    Raises:
        UsageError: all that does not go together with the promise.
    """
    if state.kind == "evaluate":
        return  # its scores are for whoever runs the hub; nothing is published
    found = reasons(state) + _of_selection(state, told)
    if found:
        raise UsageError(
            f"expected a round for which privacy.noise = {told.noise:g} promises something, but {join(found)}; change "
            f"the round, or see docs/privacy.md"
        )


def reasons(state: Round) -> list[str]:
    """Why nothing can be promised of a round, whoever is asked."""
    recipe = state.recipe
    if state.kind == "statistics":
        return ["sums of a round of statistics are published without noise (as a head)"]
    checks = {
        'weights by what boards declare have no bound (set weights = "uniform")': recipe.weights != "uniform",
        f"the robust rule {recipe.robust} weighs boards by what others sent, so one board moves more than its share": (
            recipe.robust != "none"
        ),
        f"the method {recipe.method} is not linear in the changes of boards": recipe.method not in LINEAR,
        f"the optimiser {recipe.optimiser} may remember rounds that had no noise": recipe.optimiser != "plain",
        "a server rate other than 1 stretches the changes but not the noise": not (
            recipe.optimiser != "plain" or recipe.takes_the_mean
        ),
        "the gate decides by scores without noise (release by hand, with --no-gate)": state.candidate,
        "the statistics that are to follow are published without noise": bool(state.then),
        "factors of scales are not clipped": state.settings.get("trainer") == "qzo",
        "a round of several versions asks a board more than once, and the accountant counts once": state.laps != 1,
        "who answers first decides who is in it (leave out --over and --mode buffered)": bool(state.goal),
        "a trained head is averaged by declared rows of each class": bool(state.settings.get("head")),
    }
    return [reason for reason, holds in checks.items() if holds]


def _of_selection(state: Round, told: PrivacyConfig) -> list[str]:
    """Why who is asked may depend on what boards hold, or is not the draw that is accounted for."""
    if told.sampling != "all" and state.selection != Selection():
        return [f"boards that are named or selected are no draw (privacy.sampling is {told.sampling})"]
    if state.selection.rule == "need":
        return ["boards that are asked by need are asked by what they hold, so one board moves others out of the round"]
    return []
