"""The gate: a version that is worse than the one in use, on rows that boards kept back, is not rolled out."""

from __future__ import annotations

from dataclasses import dataclass

from console.table import percent
from wire.scores import Score


@dataclass(frozen=True)
class Decision:
    """What was decided and why; accuracies are macro accuracies over summed counts, None without rows."""

    released: bool
    candidate: float | None
    parent: float | None
    sentence: str


def total(scores: list[Score]) -> Score | None:
    """The sum of scores of one version over boards and ranks; None of none."""
    if not scores:
        return None
    result = scores[0]
    for score in scores[1:]:
        result = result + score
    return result


def decide(candidate: list[Score], parent: list[Score], tolerance: float = 0.0) -> Decision:
    """Compare the scores of two versions on the same rows.

    Args:
        candidate: scores of the new version, one or more per board.
        parent: scores of the version that is in use, by the same boards.
        tolerance: by how much the macro accuracy may fall (0.01 is one point).
    """
    new, old = total(candidate), total(parent)
    if new is None or old is None or sum(new.count) == 0:
        return Decision(False, None, None, "no board had rows to judge it by, so the version in use stays in use")
    if new.count != old.count:
        return Decision(
            False,
            new.macro_accuracy,
            old.macro_accuracy,
            "the two versions were judged on different rows, so the version in use stays in use",
        )
    better = new.macro_accuracy >= old.macro_accuracy - tolerance
    found = (
        f"macro accuracy {percent(new.macro_accuracy)} after {percent(old.macro_accuracy)} "
        f"on {sum(new.count)} rows that boards kept back"
    )
    sentence = f"{found}: released" if better else f"{found}: worse, so the version in use stays in use"
    return Decision(better, new.macro_accuracy, old.macro_accuracy, sentence)
