"""The rounds of a run, in the order of the recipe: statistics, training, statistics again, the gate.

A closed-form head makes every class known to everybody after one round; adapters are trained against it while it
is frozen; as they move the features the head goes stale, so it is solved once more before the gate judges.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.serving.control import Row, ask
from sim.fleet import SERVER, Fleet


@dataclass
class Story:
    """What happened: round numbers, versions and accuracies on the common test set (on the server agent)."""

    boards: tuple[str, ...]
    ranks: tuple[int, ...]
    by_round: list[tuple[str, float]] = field(default_factory=list)
    statistics_rounds: list[int] = field(default_factory=list)
    seconds_per_step: dict[str, float] = field(default_factory=dict)
    head_only: float = 0.0
    joint: dict[int, float] = field(default_factory=dict)
    candidate: dict[int, float] = field(default_factory=dict)
    gate: str = ""
    released: int = -1


def play(fleet: Fleet, story: Story, rounds: int, settings: Row) -> Story:
    """Open the rounds one after the other.

    Args:
        fleet: all devices online.
        story: with its boards and ranks; filled in and returned.
        rounds: how many rounds of training.
        settings: of each: steps, batch, learning_rate; the seed grows by one per round.
    """
    top = (max(story.ranks),)
    first = fleet.round("statistics", story.boards, "statistics: every class becomes known")
    story.statistics_rounds.append(first["round"])
    version = first["version"]["version"]
    story.head_only = score(fleet, version, top)[top[0]]
    story.by_round.append(("head", story.head_only))
    for turn in range(rounds):
        words = f"training round {turn + 1} of {rounds}"
        asked = {**settings, "seed": settings["seed"] + turn}
        found = fleet.round("train", story.boards, words, settings=asked)
        _note_speed(story, found)
        story.by_round.append((f"train {turn + 1}", score(fleet, found["version"]["version"], top)[top[0]]))
    last = fleet.round("statistics", story.boards, "statistics again, and the gate")
    story.statistics_rounds.append(last["round"])
    story.candidate = score(fleet, last["version"]["version"], story.ranks)
    story.by_round.append(("head again", story.candidate[top[0]]))
    story.gate = last["sentence"]
    story.released = ask(fleet.hub, {"request": "status"})["released"]["version"]
    story.joint = story.candidate if last["released"] else score(fleet, story.released, story.ranks)
    return story


def score(fleet: Fleet, version: int, ranks: tuple[int, ...]) -> dict[int, float]:
    """Accuracy of a version on the test set at each rank, as the server agent measures it."""
    found = fleet.round(
        "evaluate",
        [SERVER],
        f"version {version} on the test set",
        versions=[str(version)],
        settings={"split": "all", "ranks": list(ranks)},
    )
    return {row["rank"]: row["accuracy"] for row in found["scores"][SERVER]}


def _note_speed(story: Story, found: Row) -> None:
    for device, seat in found["per_device"].items():
        seconds = float(seat["metrics"]["seconds_per_step"])
        story.seconds_per_step[device] = min(seconds, story.seconds_per_step.get(device, seconds))
