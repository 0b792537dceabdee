"""A run from model to result: export, fleet, rounds, comparisons, invariants.

Each step is a function over the files that the step before left; `run` is the order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.progress import progress
from edge.data import Data, Row, open_data
from edge.model import Model, load
from edge.outbox import read_receipts
from hub.making.export_adapter import export_adapter
from hub.serving.control import ask
from sim import audit
from sim.baselines import Effort, first_adapter, learn_alone
from sim.bundles import export_bundles
from sim.fleet import SERVER, Fleet, closing_home
from sim.processes import Processes
from sim.result import BoardResult, Result, judge
from sim.story import Story, play
from sim.task import Task, unadapted_weights
from wire.envelope import Trust
from wire.keys import read_public_key
from wire.kinds.head import gather

Features = tuple[NDArray[np.float32], NDArray[np.int64]]
ABOVE_ALONE, ABOVE_UNADAPTED = 0.25, 0.10


@dataclass
class Comparisons:
    """What the fleet is compared with, and what the audit needs: all computed in this process."""

    alone: dict[str, float] = field(default_factory=dict)
    pooled: list[Features] = field(default_factory=list)
    centralised: float = 0.0
    unadapted: float | None = None


class Stopped(Exception):  # not an error: the run is being left
    """Raised inside the comparisons when the run ends early."""


def run(task: Task, out: Path, seed: int, quiet: bool) -> Result:
    """Do it all.

    Raises:
        EdgequiltError: what could not be done.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "export"):
        bundles, publisher = export_bundles(task, out, quiet)
    effort = Effort(task.recipe.rounds, task.recipe.steps, task.recipe.batch, task.recipe.learning_rate, seed)
    stop = Event()
    with Processes(out / "logs") as processes, ThreadPoolExecutor(1) as beside:
        try:
            with timed(seconds, "fleet up"):
                fleet = _start(task, out / "fleet", bundles, publisher, processes, quiet)
            compared = beside.submit(compare, task, bundles, publisher, effort, stop)
            with timed(seconds, "rounds"):
                story = play(fleet, Story(task.recipe.boards, task.recipe.ranks), effort.rounds, _settings(effort))
            with timed(seconds, "comparisons"):
                comparisons = _waited(compared, processes, quiet)
            boards = _boards(task, fleet, story, comparisons, bundles, publisher)
            ignored = _settled(fleet)
        finally:
            stop.set()
    with timed(seconds, "audit and adapter"):
        result = _result(task, story, boards, comparisons, seconds, seed)
        with closing_home(fleet.hub) as home:
            receipts = {name: read_receipts(fleet.state(name)) for name in (*task.recipe.boards, SERVER)}
            invariants = (
                audit.receipted_is_kept(home, receipts),
                audit.within_budget(boards),
                audit.aggregate_is_exact(home),
                audit.head_is_pooled(home, story.statistics_rounds[0], comparisons.pooled),
                audit.signatures_hold(home, len(bundles), ignored),
            )
            export_adapter(home, str(story.released), None, str(task.model), out / "adapter")
    result = replace(result, invariants=invariants)
    text, vision = (ABOVE_ALONE, None) if task.scenario == "text" else (None, ABOVE_UNADAPTED)
    return replace(result, learning=judge(result, text, vision) if task.judged else ())


def compare(task: Task, bundles: dict[str, Path], publisher: Path, effort: Effort, stop: Event) -> Comparisons:
    """Each board alone, all rows on one machine, and the features from which the pooled head is solved again."""
    found = Comparisons()
    everything: list[Row] = []
    advance = _stopper(stop)
    largest = task.recipe.boards[int(np.argmax(task.recipe.ranks))]
    for board in task.recipe.boards:
        model = load(bundles[board], publisher)
        rows, test = _rows(model, task, task.data[board]).train, _test(model, task)
        start = first_adapter(model.runner.manifest, task.recipe.rank_of[board], task.recipe.scale)
        features = model.runner.forward([r.sample for r in rows], start, lambda n: advance("rows")).features
        found.pooled.append((features, np.array([r.label for r in rows], np.int64)))
        first = gather(*found.pooled[-1], len(task.labels))
        found.alone[board] = learn_alone(model.runner, start, rows, test, effort, advance, first).accuracy
        everything += rows
        if board == largest and task.head is not None:
            found.unadapted = _unadapted(model, task)
        model.close()
    model = load(bundles[largest], publisher)
    start = first_adapter(model.runner.manifest, max(task.recipe.ranks), task.recipe.scale)
    together = replace(effort, steps=effort.steps * len(task.recipe.boards))
    features, classes = (np.concatenate([pair[i] for pair in found.pooled]) for i in (0, 1))
    first = gather(features, classes, len(task.labels))  # no direction carries anything yet: the same at every rank
    found.centralised = learn_alone(
        model.runner, start, everything, _test(model, task), together, advance, first
    ).accuracy
    model.close()
    return found


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a step took."""
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _start(
    task: Task, folder: Path, bundles: dict[str, Path], publisher: Path, processes: Processes, quiet: bool
) -> Fleet:
    fleet = Fleet(folder, publisher, processes, quiet)
    fleet.prepare()
    configs = {SERVER: fleet.join(SERVER, bundles[SERVER], task.test, 0.0)}
    for board in task.recipe.boards:
        configs[board] = fleet.join(board, bundles[board], task.data[board], task.recipe.holdout_fraction)
    fleet.start(configs)
    return fleet


def _settings(effort: Effort) -> dict[str, Any]:
    return {
        "steps": effort.steps,
        "batch": effort.batch,
        "learning_rate": effort.learning_rate,
        "seed": effort.seed,
    }


def _stopper(stop: Event) -> Callable[[str], None]:
    def advance(words: str) -> None:
        if stop.is_set():
            raise Stopped

    return advance


def _waited(compared: Future[Comparisons], processes: Processes, quiet: bool) -> Comparisons:
    with progress("finishing the comparisons: each board alone, all rows on one machine", quiet=quiet):
        while not compared.done():
            processes.check()
            time.sleep(0.2)
    return compared.result()


def _rows(model: Model, task: Task, path: Path) -> Data:
    manifest = model.runner.manifest
    return open_data(path, manifest, task.recipe.holdout_fraction)


def _test(model: Model, task: Task) -> tuple[Any, ...]:
    manifest = model.runner.manifest
    return open_data(task.test, manifest, 0.0).all


def _unadapted(model: Model, task: Task) -> float:
    head, rows = unadapted_weights(task), _test(model, task)
    assert head is not None  # noqa: S101  # asked for only where there is one
    features = model.runner.forward([r.sample for r in rows]).features
    right = (features @ head[0] + head[1]).argmax(axis=1) == np.array([r.label for r in rows])
    return float(right.mean())


def _boards(
    task: Task, fleet: Fleet, story: Story, compared: Comparisons, bundles: dict[str, Path], publisher: Path
) -> tuple[BoardResult, ...]:
    found = []
    for board in task.recipe.boards:
        manifest, status = load_manifest(bundles[board], publisher), fleet.status(board)
        labels = open_data(task.data[board], manifest, 0.0).all
        found.append(
            BoardResult(
                name=board,
                rank=manifest.plan.rank,
                rows=len(labels),
                classes=len({row.label for row in labels}),
                segments=len(manifest.segments),
                budget_bytes=manifest.plan.budget_bytes,
                predicted_bytes=manifest.plan.predicted_bytes,
                peak_bytes=status["worker_peak_bytes"],
                seconds_per_step=story.seconds_per_step[board],
                bytes_up=status["bytes_up"],
                bytes_down=status["bytes_down"],
                alone=compared.alone[board],
            )
        )
    return tuple(found)


def load_manifest(bundle: Path, publisher: Path) -> Any:
    """The manifest of a checked bundle."""
    from wire.bundle import open_bundle

    return open_bundle(bundle, Trust([read_public_key(publisher, "publisher")])).manifest


def _settled(fleet: Fleet) -> list[str]:
    """Let the last receipts reach the agents before anything is stopped; returns why the hub ignored messages."""
    time.sleep(1.0)
    return list(ask(fleet.hub, {"request": "status"})["ignored_because"])


def _result(
    task: Task,
    story: Story,
    boards: tuple[BoardResult, ...],
    compared: Comparisons,
    seconds: dict[str, float],
    seed: int,
) -> Result:
    return Result(
        scenario=task.scenario,
        model=task.name,
        boards=boards,
        joint=story.joint,
        candidate=story.candidate,
        head_only=story.head_only,
        centralised=compared.centralised,
        unadapted=compared.unadapted,
        test_rows=sum(1 for line in (task.test).read_text().splitlines() if line.strip()),
        by_round=tuple(story.by_round),
        gate=story.gate,
        released=story.released,
        invariants=(),
        learning=(),
        seconds=seconds,
        seed=seed,
    )
