"""Accuracy on real data: `EDGEQUILT_DATA=FOLDER python -m bench.accuracy [--only DATA ...] [--quick] [--out FILE]`.

The folder has `sst2/train.tsv` and `dev.tsv`, `clinc150/data_full.json`, `mnist/images.idx3.gz` and `labels.idx1.gz`;
what is not there is said and left out. Every run is one of `edgequilt train`, with the settings that it has by itself
but for those in `cases.py`, and with `--force`: rows are drawn by a seed, a tenth of them is kept back, and the
adapter is judged on a test set that no run sees. Tables have the mean over seeds, and the least and the most.

Texts go through all-MiniLM-L6-v2 (or `--model`), in bundles with adapters in the upper half of its blocks or in the
last; digits through a small vision transformer that is made here from upright ones, for turned and inverted ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.accuracy import cases
from bench.accuracy.measured import Found, measured
from bench.accuracy.tables import printed
from wire.files import write_atomic

NEEDED = {
    "sst2": ("sst2/train.tsv", "sst2/dev.tsv"),
    "clinc150": ("clinc150/data_full.json",),
    "mnist": ("mnist/images.idx3.gz", "mnist/labels.idx1.gz"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Export, train, judge, print, write."""
    p = argparse.ArgumentParser(description="Accuracy on real data.")
    p.add_argument("--only", nargs="*", choices=tuple(NEEDED), default=tuple(NEEDED))
    p.add_argument("--model", type=Path, help="a folder that save_pretrained wrote (default: all-MiniLM-L6-v2)")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (default: 2)")
    p.add_argument("--bundles", type=Path, help="a folder to keep bundles in (default: none are kept)")
    p.add_argument("--quick", action="store_true", help="one short run of each trainer")
    p.add_argument("--out", type=Path, default=Path("build/bench/accuracy.json"))
    options = p.parse_args(argv)
    given = os.environ.get("EDGEQUILT_DATA")
    if not given:
        raise SystemExit("expected a folder of data sets in EDGEQUILT_DATA, found none; set it")
    data, skipped = Path(given), list[str]()
    for name in options.only:
        absent = [file for file in NEEDED[name] if not (data / file).is_file()]
        if absent:
            skipped.append(f"{name} is left out: {data} has no {' and no '.join(absent)}")
    print("".join(f"{words}\n" for words in skipped), end="")
    left = {words.split(" ", 1)[0] for words in skipped}
    asked = cases.quick() if options.quick else cases.groups()
    wanted = [group for group in asked if group.data in options.only and group.data not in left]
    with tempfile.TemporaryDirectory() as folder:
        work = options.bundles or Path(folder)
        jobs = [(group, data, options.model, work, 1 if options.quick else options.seeds) for group in wanted]
        found = together(jobs, options.jobs, options.out, skipped)
    print(printed(found))
    return 0


def together(jobs: list[Any], processes: int, out: Path, skipped: list[str]) -> Found:
    """The runs of all groups, in their order; what is done so far is in the file after every group."""
    done: dict[int, Found] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, processes), mp_context=context) as pool:
        running = {pool.submit(measured, *job): place for place, job in enumerate(jobs)}
        for future in as_completed(running):
            done[running[future]] = future.result()
            found = [run for place in sorted(done) for run in done[place]]
            report = {"runs": found, "skipped": skipped}
            write_atomic(out, json.dumps(report, indent=1).encode() + b"\n")
    return [run for place in sorted(done) for run in done[place]]


if __name__ == "__main__":
    sys.exit(main())
