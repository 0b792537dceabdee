"""Split fleets against their baselines: `EDGEQUILT_DATA=FOLDER python -m bench.splitting [--out FILE]`.

Five boards of unequal budgets hold fronts of a model, a server the tail. E2E restaurant descriptions with a small GPT-2
(random weights, a fixed number of steps on other text), SST-2 with all-MiniLM-L6-v2. `planned` is HSplitLoRA as
edgequilt has it: borders and ranks by importance, measured on rows first and told by boards later, sums in product
space. Against it: `uniform` (the same without importance), `hetlora` (arXiv 2401.06432: one rank per board, zero-padded
means by norm; without self-pruning), `hetlora-tail` (with the largest rank behind the fronts), `equal` (SplitLoRA: the
smallest board's border and rank for all, means of factors), `centralised` (one LoRA that sees all rows). Every method
learns by `splitting_recipes.toml`; `--choose` tries its rates on the validation rows with a seed of its own.

`--prepare` makes the decoder and measures importance, so that another machine needs torch and transformers alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from bench.splitting import recipes, table
from bench.splitting.desk import Desk, Job, run
from bench.splitting.recipes import Recipe
from wire.activations import CODINGS, EXACT
from wire.files import write_atomic

CHOOSING = 99  # a seed that no shown run has


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print, or choose rates."""
    p = argparse.ArgumentParser(description="Split fleets against their baselines.")
    p.add_argument("--only", nargs="*", help="tasks: e2e, sst2 (default: both)")
    p.add_argument("--methods", nargs="*", default=list(recipes.METHODS))
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--recipes", type=Path, default=recipes.FROZEN)
    p.add_argument("--quick", action="store_true", help="two rounds of two steps: whether it works, not how well")
    p.add_argument("--choose", action="store_true", help="print the rate of every method that is best on validation")
    p.add_argument("--rates", nargs="*", type=float, default=list(recipes.RATES), help="of which --choose takes one")
    p.add_argument("--prepare", action="store_true", help="make what runs need beside the output, and stop")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once (default: 1)")
    p.add_argument("--show", type=Path, nargs="*", help="print what earlier runs wrote with --out")
    p.add_argument("--out", type=Path, default=Path("build/bench/splitting.json"))
    options = p.parse_args(argv)
    if options.show:
        found = [one for path in options.show for one in json.loads(path.read_text(encoding="utf-8"))["found"]]
        print(_chosen(found) if options.choose else table.printed(found))
        return 0
    data = os.environ.get("EDGEQUILT_DATA")
    if not data:
        raise SystemExit("expected a folder of data sets in EDGEQUILT_DATA, found none; set it")
    known = {name: _quick(own) if options.quick else own for name, own in recipes.read(options.recipes).items()}
    known = {name: own for name, own in known.items() if not options.only or name in options.only}
    seeds = [CHOOSING] if options.choose else list(range(options.seeds))
    desk = Desk(Path(data), options.out.parent, options.device)
    for name, recipe in known.items():
        desk.prepare(name, recipe, [CHOOSING, *range(options.seeds)])
    if options.prepare:
        return 0
    jobs = [job for name, recipe in known.items() for job in _jobs(name, recipe, options.methods, seeds, options)]
    found = []
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for one in pool.map(partial(run, desk), jobs):
            found.append(one)
            write_atomic(options.out, json.dumps({"found": found}).encode())
    print(_chosen(found) if options.choose else table.printed(found))
    return 0


def _quick(recipe: Recipe) -> Recipe:
    return replace(recipe, rounds=2, steps=2, rows=200, validation_rows=32, test_rows=32, proxy_rows=8)


def _jobs(
    name: str, recipe: Recipe, methods: Sequence[str], seeds: Sequence[int], options: argparse.Namespace
) -> list[Job]:
    """Every method with every seed, the planned one with every coding; or every method with every rate."""
    if options.choose:
        return [Job(name, recipe, m, seed, EXACT, rate) for seed in seeds for m in methods for rate in options.rates]
    pairs = [(m, coding) for m in methods for coding in (CODINGS if m == "planned" else (EXACT,))]
    return [Job(name, recipe, m, seed, coding, recipe.rates[m]) for seed in seeds for m, coding in pairs]


def _chosen(found: Sequence[dict[str, Any]]) -> str:
    """For the file: of every method the rate with the least loss on validation rows."""
    lines = []
    for task in dict.fromkeys(one["task"] for one in found):
        own = [one for one in found if one["task"] == task]
        lines.append(f"[{task}.rates]")
        for method in dict.fromkeys(one["method"] for one in own):
            best = min((one for one in own if one["method"] == method), key=lambda one: float(one["curve"][-1][0]))
            lines.append(f"{method} = {best['rate']}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
