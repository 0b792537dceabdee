"""A Llama of 110 million parameters that learns within a Pi Zero 2 W's memory: `python -m bench.board_llama`.

Random weights (bench/small_llama.py), int4, LoRA of rank 8 on query and value of the upper half of the blocks, texts of
64 tokens, two in a step. Bundles are exported for the board as `edgequilt export` does it, and kept under --bundles:

    whole     --mode train --scale-inputs             one segment if it fits
    apart     --mode train --trunk apart              what lies below the lowest slot is cut off and kept per text
    forward   --mode train-forward --scale-inputs     for trainers of forward passes alone
    segments  --mode train --scale-inputs --budget 150MiB

Each way (inference, backprop, spry, qzo; forward-only trainers along one direction, two passes) is a fresh process with
a worker's imports, malloc settings and thread. Its memory is all of the process, runtime included; its seconds are of
the processor, which other work on the machine disturbs least. With --torch the same step of torch + PEFT in float32
follows. Ends with 1 where a process took more than the budget of its bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

from bench.board.figures import HEADER, Figures, as_json, cells, figures_of
from bench.small_llama import make_llama
from bench.training.children import Taken, Variant, remember, take_turns
from bench.training.given import draw
from console.table import mib, table
from edge.trunk import trunk_of
from export.cli import export
from export.measure import environment, machine
from wire.bundle import MANIFEST, open_bundle
from wire.files import write_atomic
from wire.manifest import Manifest

BOARD, RANK, SEQUENCE, TIMEOUT_S = "raspberry-pi-zero-2w", 8, 64, 900
TRAIN, SCALES = ("--mode", "train"), "--scale-inputs"
EXPORTS = {
    "whole": (*TRAIN, SCALES),
    "apart": (*TRAIN, "--trunk", "apart"),
    "forward": ("--mode", "train-forward", SCALES),
    "segments": (*TRAIN, SCALES, "--budget", "150MiB"),
}
THEIRS = "torch + PEFT, fp32"


def main(argv: Sequence[str] | None = None) -> int:
    """Export, measure, print, write."""
    options = _parser().parse_args(argv)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model = _model(options)
    found: list[Figures] = []
    for name in options.only:
        bundle = kept(name, model, options)
        manifest = open_bundle(bundle, None).manifest
        for way in ways_of(manifest):
            found.append(measured(name, way, bundle, manifest, options))
            print(table(list(HEADER), [cells(found[-1], found)]), flush=True)
    print(f"\n{machine()}\n{table(list(HEADER), [cells(one, found) for one in found])}")
    report: dict[str, Any] = {
        "machine": machine(),
        "load": os.getloadavg(),
        "rows": options.rows,
        "found": [as_json(one, found) for one in found],
    }
    if options.torch:
        report["torch"] = torch_beside(
            model, open_bundle(kept(options.only[0], model, options), None).manifest, options
        )
        told = report["torch"]
        print(
            f"{THEIRS}: {mib(told['peak_bytes'])} ({mib(told['base_bytes'])} of imports), {told['step_s']:.2f} s a step"
        )
    write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    return 0 if all(one.holds for one in found) else 1


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description="A decoder that learns within a board's memory.")
    p.add_argument("--model", type=Path, help="folder of a decoder (default: bench.small_llama's, made if needed)")
    p.add_argument("--only", nargs="+", choices=EXPORTS, default=list(EXPORTS), help="which bundles")
    p.add_argument("--steps", type=int, default=5, help="of each process; the first is not timed")
    p.add_argument("--rounds", type=int, default=2, help="of fresh processes")
    p.add_argument("--rows", type=int, default=2, help="texts of a step")
    p.add_argument("--bundles", type=Path, default=Path("build/bench/board"), help="where bundles are kept")
    p.add_argument("--torch", action="store_true", help="the same step of torch + PEFT, too")
    p.add_argument("--out", type=Path, default=Path("build/bench/board-llama.json"))
    return p


def _model(options: argparse.Namespace) -> Path:
    """The folder of the model."""
    folder: Path = options.model or options.bundles / "model"
    if not (folder / "config.json").is_file():
        make_llama(folder)
    return folder


def kept(name: str, model: Path, options: argparse.Namespace) -> Path:
    """The bundle of a name, exported if it is not there.

    Raises:
        RuntimeError: the export ended with something else than 0.
    """
    folder: Path = options.bundles / name / BOARD
    if not (folder / MANIFEST).is_file():
        line = [str(model), "--task", "text-generation", "--quant", "int4", "--sequence", str(SEQUENCE)]
        line += ["--rank", str(RANK), "--device", BOARD, *EXPORTS[name], "--out", str(options.bundles / name)]
        if code := export(line):
            raise RuntimeError(f"expected an export of {name}, found exit code {code}")
    return folder


def ways_of(manifest: Manifest) -> tuple[str, ...]:
    """What the graphs of a bundle can be used for; with its trunk apart also from a cache."""
    kinds = {graph.kind for segment in manifest.segments for graph in segment.graphs}
    backward = ("backprop", *(("backprop, cached",) if trunk_of(manifest) else ()))
    return ("inference", *(backward if "backward" in kinds else ()), "spry", *(("qzo",) if "scales" in kinds else ()))


def measured(name: str, way: str, bundle: Path, manifest: Manifest, options: argparse.Namespace) -> Figures:
    """A way's figures, from fresh processes.

    Raises:
        RuntimeError: one of them failed; its last line is in it.
    """
    found = []
    with tempfile.TemporaryDirectory() as work:
        for k in range(options.rounds):
            trainer, _, cached = way.partition(", ")
            line = [sys.executable, "-m", "bench.board.child", str(bundle), trainer, "--rank", str(RANK)]
            line += ["--steps", str(options.steps), "--rows", str(options.rows)]
            line += ["--cache", str(Path(work) / f"cache{k}")] if cached else []
            done = subprocess.run(
                line, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"{name}, {way}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
            found.append(json.loads(done.stdout.splitlines()[-1]))
    return figures_of(name, way, manifest.plan.budget_bytes, found)


def torch_beside(model: Path, manifest: Manifest, options: argparse.Namespace) -> dict[str, Any]:
    """Peak and seconds of torch's step over as many drawn rows."""
    vocabulary, taken = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"], Taken()
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(given, **draw(manifest, options.rows, SEQUENCE, vocabulary, RANK))  # type: ignore[arg-type]  # names
        variant = Variant(THEIRS, "bench.training.theirs", (str(model), str(given)), as_worker=False)
        remember(variant, taken)
        take_turns([variant], options.steps - 1, {THEIRS: taken})
    return {"peak_bytes": taken.peak_bytes[0], "base_bytes": taken.base_bytes[0], "step_s": taken.cpu_median_s}


if __name__ == "__main__":
    raise SystemExit(main())
