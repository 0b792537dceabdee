"""Runs of a task: trunk and data kept once, runs of the same rounds side by side."""

from __future__ import annotations

import json
import multiprocessing
import platform
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.learning import rounds
from bench.learning.heads import HEADS, Judge, solved
from bench.learning.local import Learner
from bench.learning.pack import Pack
from bench.learning.plans import Task, everywhere, runs_of, task_of
from bench.learning.recipes import Recipe
from bench.learning.rounds import Run
from bench.learning.trunk import Kept, Trunk


class Bench:
    """A pack on a device."""

    def __init__(self, pack: Pack, device: str, tokens: int, threads: int, thin: int = 1) -> None:
        self.pack, self.tokens, self.thin = pack, tokens, thin
        # before the device is opened, which no fork survives
        self.pool = ProcessPoolExecutor(threads, mp_context=multiprocessing.get_context("fork"))
        self.pool.submit(int).result()
        torch.set_float32_matmul_precision("high")  # TF32 where the device has it
        self.trunk = Trunk(pack, device)
        self.kept = cache(lambda data: Kept(pack, data, self.trunk))
        self.machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} processor"

    def run(self, name: str, recipes: Mapping[str, Recipe], seeds: Iterable[int], part: str) -> list[dict[str, Any]]:
        """The accuracy of every recipe, and of a head only, on a part of a task's rows."""
        task = task_of(self.pack, name, self.thin)
        return self.finished(task, runs_of(task, recipes, seeds), part)

    def finished(self, task: Task, runs: list[Run], part: str) -> list[dict[str, Any]]:
        """What runs come to."""
        kept, labels = self.kept(task.data), task.labels
        learner, judge = (
            Learner(self.trunk, kept, labels, self.tokens),
            Judge(self.trunk, kept, labels, self.tokens),
        )
        rows = task.parts[part]
        kept.ensure(np.unique(np.concatenate([rows, *(run.rows for run in runs)])))
        found = self._head_only(task, runs, judge, rows)
        groups: dict[tuple[int, ...], list[Run]] = {}
        for run in runs:
            groups.setdefault((run.recipe.rounds, run.steps, run.recipe.refresh, run.method is None), []).append(run)
        for same in groups.values():
            started = time.perf_counter()
            rounds.learn(same, learner, judge, self.pool)
            for run, own in zip(same, rounds.judged(same, judge, rows), strict=True):
                found += everywhere(task, _told(task, run, own))
            print(f"{task.name}: {len(same)} runs in {time.perf_counter() - started:.0f} s", flush=True)
        return _alone_joined(found)

    def _head_only(self, task: Task, runs: list[Run], judge: Judge, rows: Any) -> list[dict[str, Any]]:
        found = []
        for run in {run.seed: run for run in runs if run.name != "alone"}.values():
            own = np.sort(run.rows)
            features = judge.features([run.factors.prefix(1)], np.append(own, rows))[0]
            sums = judge.statistics(features[: len(own)], own)
            right = {kind: judge.right(features[len(own) :], rows, solved(kind, sums)) for kind in HEADS}
            told = {"task": task.name, "split": run.split, "seed": run.seed, "name": "head-only", "accuracy": right}
            found += everywhere(task, told)
        return found


def _told(task: Task, run: Run, right: dict[str, float]) -> dict[str, Any]:
    where = {"task": task.name, "split": run.split, "seed": run.seed, "name": run.name}
    return {**where, "board": run.board, "recipe": asdict(run.recipe), "accuracy": right}


def _alone_joined(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Boards alone as one line: their mean."""
    alone: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    others = []
    for one in found:
        if one["name"] == "alone":
            alone.setdefault((one["split"], one["seed"], json.dumps(one["recipe"])), []).append(one)
        else:
            others.append(one)
    means = [
        {**own[0], "accuracy": {kind: float(np.mean([one["accuracy"][kind] for one in own])) for kind in HEADS}}
        for own in alone.values()
    ]
    return others + means
