"""What boards learn together, method by method: `EDGEQUILT_DATA=FOLDER python -m bench.learning [--out FILE]`.

Five boards of ranks 2, 4, 4, 8 and 16 share 3,000 rows of a task, all-MiniLM-L6-v2 has a LoRA at query and value of
its upper three blocks, and gradients are those of torch. Every method of `hub.aggregation.methods` learns by the
recipe that `learning_recipes.toml` has for it, against boards alone, a head only (closed form, from summed
statistics), and one model that sees all rows; each is judged on test rows with a head that is summed again after the
last round. `--choose` tries recipes on the validation part and prints the file.

`--prepare FILE` packs what is needed, `--pack FILE` runs from it on another machine; `--device cuda` runs on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from bench.learning import choose, pack, recipes, table
from bench.learning.bench import Bench
from bench.learning.heads import HEADS
from wire.files import write_atomic

TOKENS = {"cpu": 4096, "cuda": 400_000}


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare, choose, or run and print."""
    p = argparse.ArgumentParser(description="What boards learn together.")
    p.add_argument("--only", nargs="*", help="tasks: sst2, clinc10, clinc150 (default: all)")
    p.add_argument("--methods", nargs="*", help="default: all")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--device", choices=tuple(TOKENS), default="cpu")
    p.add_argument("--threads", type=int, default=1, help="of the hub's arithmetic")
    p.add_argument("--prepare", type=Path, help="write what a run needs to a file, and stop")
    p.add_argument("--pack", type=Path, help="what --prepare wrote, instead of a folder of data sets")
    p.add_argument("--choose", type=Path, help="try recipes on the validation part and write the best to a file")
    p.add_argument("--thin", type=int, default=1, help="take only every so many rows: whether it works, not how well")
    p.add_argument("--recipes", type=Path, default=recipes.FROZEN)
    p.add_argument("--show", type=Path, nargs="*", help="print what earlier runs wrote with --out, the last one counts")
    p.add_argument("--out", type=Path, default=Path("build/bench/learning.json"))
    options = p.parse_args(argv)
    if options.show:
        print(table.printed(_earlier(options.show), HEADS[:1]))
        return 0
    packed, skipped = _packed(options.pack)
    print("".join(f"{words}\n" for words in skipped), end="")
    if options.prepare:
        pack.write(packed, options.prepare)
        return 0
    torch.set_num_threads(options.threads)
    tasks = [task for task in packed.tasks() if task in (options.only or packed.tasks())]
    started = time.perf_counter()
    found: list[dict[str, Any]] = []
    bench = Bench(packed, options.device, TOKENS[options.device], options.threads, options.thin)
    if options.choose:
        for task in tasks:
            found += choose.tried(bench, task, options.methods)
            write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")
            write_atomic(options.choose, choose.best(found).encode())
        return 0
    frozen = recipes.read(options.recipes)
    for task in tasks:
        wanted = {name: own for name, own in frozen[task].items() if name in (options.methods or frozen[task])}
        found += bench.run(task, wanted, range(options.seeds), "test")
        report = {"runs": found, "skipped": skipped, "seconds": time.perf_counter() - started, "device": bench.machine}
        write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    print(table.printed(found, HEADS[:1]))
    print(f"\n{bench.machine}, {time.perf_counter() - started:.0f} s")
    return 0


def _earlier(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The runs of files; a run that several have is that of the last."""
    runs = [run for path in paths for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    return list({(run["task"], run["split"], run["seed"], run["name"]): run for run in runs}.values())


def _packed(path: Path | None) -> tuple[pack.Pack, list[str]]:
    if path:
        return pack.read(path), []
    from bench.learning import prepare  # a machine that was given a pack need not have tokenizers

    given = os.environ.get("EDGEQUILT_DATA")
    if not given:
        raise SystemExit("expected a folder of data sets in EDGEQUILT_DATA, found none; set it")
    return prepare.build(Path(given))


if __name__ == "__main__":
    sys.exit(main())
