"""Runs, each in a process that keeps its task: what was measured before them lies in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.splitting import table
from bench.splitting.recipes import Recipe
from bench.splitting.rounds import Run, learn
from bench.splitting.tasks import Task, task_of
from wire.activations import Coding
from wire.files import write_atomic

HEAD_ROWS = 256  # from which a head is solved to begin with


@dataclass(frozen=True)
class Job:
    """One run."""

    task: str
    recipe: Recipe
    method: str
    seed: int
    coding: Coding
    rate: float


@dataclass(frozen=True)
class Desk:
    """Where data sets are, and where what is made of them goes."""

    data: Path
    build: Path
    device: str = "cpu"

    def place(self, task: str, seed: int, rows: int) -> Path:
        """The file of what was measured of a task's slots."""
        return self.build / f"splitting-{task}-{seed}-{rows}.json"

    def prepare(self, name: str, recipe: Recipe, seeds: Sequence[int]) -> None:
        """Measure importance where that was not done yet."""
        self.build.mkdir(parents=True, exist_ok=True)
        absent = [seed for seed in seeds if not self.place(name, seed, recipe.proxy_rows).is_file()]
        if not absent:
            return
        task = task_of(name, recipe, self.data, self.build)
        for seed in absent:
            rows = task.parts(seed).train
            found = task.importance(rows[:: max(1, len(rows) // recipe.proxy_rows)])
            write_atomic(self.place(name, seed, recipe.proxy_rows), json.dumps(found).encode())

    def importance(self, job: Job) -> dict[str, float]:
        """What was measured."""
        found: dict[str, float] = json.loads(self.place(job.task, job.seed, job.recipe.proxy_rows).read_bytes())
        return found


def run(desk: Desk, job: Job) -> dict[str, Any]:
    """One run, from its first round to its test."""
    started, task = time.monotonic(), _task(desk, job.task, json.dumps(asdict(job.recipe)), job.recipe)
    parts, made = task.parts(job.seed), Run(job.task, job.method, job.seed, job.coding, job.rate)
    head = task.head(parts.train[:HEAD_ROWS])
    learn(made, task.model, task.recipe, task.rows.labels, parts, desk.importance(job), head)
    shown, took = table.quality(job.task, made.test), time.monotonic() - started
    print(f"{job.task} {job.method} seed {job.seed} {job.coding} {job.rate:g}: {shown:.2f} in {took:.0f} s", flush=True)
    return asdict(made)


_TASKS: dict[tuple[str, str], Task] = {}


def _task(desk: Desk, name: str, said: str, recipe: Recipe) -> Task:
    torch.set_num_threads(1)
    if (name, said) not in _TASKS:
        _TASKS[name, said] = task_of(name, recipe, desk.data, desk.build)
        _TASKS[name, said].model.model.to(desk.device)
    return _TASKS[name, said]
