"""What a cached trunk saves: `python -m bench.trunk [--model FOLDER] [--turns N] [--rows N] [--out FILE.json]`.

One encoder (all-MiniLM-L6-v2 where its package is installed, else random weights of its shape) in int8, rank 8 on query
and value of the upper half of its blocks, as two bundles: in one segment, and with its trunk apart. In one process on
one thread, in turns: a training step of 16 rows, a validation pass of 32 and the answer for one row, of the bundle in
one segment, of the other without a cache, with a cache that has every row, and with one that has room for half of them.
Medians over turns of the ratio to the bundle in one segment in the same turn, of processor time, which other work on
the machine disturbs least. Then how far gradients are from those without a cache, in float16 and float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

from bench.slots import minilm, random_minilm
from console.progress import progress
from console.table import size, table
from devices.memory import MIB
from devices.plan import Board
from edge.runner import Ready, Runner
from edge.trunk import Trunk, keep
from export.pipeline import ExportRequest, export_model, steps_of
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.files import write_atomic
from wire.keys import new_key
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.manifest import Manifest

RANK, STEP, PASS, SEQUENCE = 8, 16, 32, 64
BUDGET_BYTES = 400 * MIB
LABELS = ("a", "b", "c", "d")
WAYS = ("one segment", "apart", "apart, cached", "apart, half cached")
WORDS = ("the", "film", "plot", "is", "never", "good", "bad", "slow", "warm", "and", "but", "of", "with", "one")


@dataclass
class Way:
    """A bundle that is run in one of the ways."""

    runner: Runner
    training: Ready
    passing: Ready
    asked: Ready
    trunk: Trunk | None = None


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What a cached trunk saves.")
    parser.add_argument("--model", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("build/bench/trunk.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        bundles = exported(str(options.model or minilm() or random_minilm(work)), work)
        texts = sentences(options.rows)
        ways = opened(bundles, texts, work)
        adapter = drawn(ways[WAYS[0]].runner.manifest)
        rows = [*timed(ways, adapter, options.turns), *distances(bundles["apart"], texts[:STEP], adapter, work)]
        kept = {way: own.trunk.kept() for way, own in ways.items() if own.trunk is not None}
    header = ["what", *WAYS]
    print(table(header, [[row["what"], *(row[way] for way in WAYS)] for row in rows if WAYS[1] in row]))
    for row in rows:
        if "cosine" in row:
            print(
                f"kept in {row['what']}: cosine {row['cosine']:.8f}, largest error {row['largest']:.1e} of the largest"
            )
    for way, found in kept.items():
        print(f"{way}: {found.rows} rows, {size(found.file_bytes)}, {found.hits} found, {found.misses} made")
    memory = {name: measured for name, (_, measured) in bundles.items()}
    print("worker as measured by the export: " + ", ".join(f"{n} {size(b)}" for n, b in memory.items()))
    report = {
        "rows": rows,
        "worker_bytes": memory,
        "kept": {
            way: {"rows": k.rows, "bytes": k.file_bytes, "hits": k.hits, "misses": k.misses} for way, k in kept.items()
        },
    }
    write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    return 0


def exported(model: str, work: Path) -> dict[str, tuple[Path, int]]:
    """The two bundles, and what their workers take in bytes."""
    boards = tuple(Board(trunk, BUDGET_BYTES, "train", "int8", RANK, trunk=trunk) for trunk in ("within", "apart"))
    request = ExportRequest(
        model, "feature-extraction", LABELS, boards, new_key("publisher", "bench"), work / "out", sequence=SEQUENCE
    )
    with progress("exporting", steps_of(request)) as bar:
        made = export_model(request, bar)
    return {bundle.folder.name: (bundle.folder, bundle.measured_bytes) for bundle in made}


def sentences(count: int) -> list[str]:
    """Texts of 8 to 50 words, no two the same."""
    generator = np.random.default_rng(1)
    return [" ".join(generator.choice(WORDS, generator.integers(8, 51))) + f" {k}" for k in range(count)]


def opened(bundles: dict[str, tuple[Path, int]], texts: list[str], work: Path) -> dict[str, Way]:
    """The four ways."""
    ways = {}
    for way in WAYS:
        runner = Runner(open_bundle(bundles["within" if way == WAYS[0] else "apart"][0], None))
        ways[way] = Way(runner, runner.ready(texts, training=True), runner.ready(texts[:PASS]), runner.ready(texts[:1]))
    ways[WAYS[2]].trunk = keep(ways[WAYS[2]].runner.chain, work / "whole", 1 << 30)
    row = row_bytes(ways[WAYS[2]])
    ways[WAYS[3]].trunk = keep(ways[WAYS[3]].runner.chain, work / "half", 4096 + 256 * 48 + len(texts) // 2 * row)
    return ways


def row_bytes(way: Way) -> int:
    """What a row takes, known after a first pass."""
    adapter = drawn(way.runner.manifest)
    way.runner.gradients(way.training, adapter, [(k, 0) for k in range(len(way.training))])
    return 0 if way.trunk is None else way.trunk.boundary.row_bytes


def drawn(manifest: Manifest) -> Adapter:
    """An adapter that changes something everywhere."""
    generator = np.random.default_rng(2)

    def normal(*shape: int) -> NDArray[np.float32]:
        return generator.normal(0, 0.05, shape).astype(np.float32)

    lora = {s.name: Lora(normal(s.features_in, RANK), normal(RANK, s.features_out), 2.0) for s in manifest.slots}
    head = Head(normal(lora[manifest.slots[-1].name].b.shape[1], len(LABELS)), normal(len(LABELS)))
    return Adapter(manifest.model.id, "0" * 64, lora, heads={0: head})


def timed(ways: dict[str, Way], adapter: Adapter, turns: int) -> list[dict[str, Any]]:
    """A row per kind of pass: milliseconds in one segment, and the ratios of the other ways to it."""
    generator, seconds = np.random.default_rng(3), dict[str, dict[str, list[float]]]()
    for turn in range(turns + 1):
        chosen = [(int(k), int(k) % len(LABELS)) for k in generator.permutation(len(ways[WAYS[0]].training))[:STEP]]
        passes: dict[str, Callable[[Way], object]] = {
            f"training step, {STEP} rows": lambda way: way.runner.gradients(way.training, adapter, chosen),  # noqa: B023  # called in this turn
            f"validation, {PASS} rows": lambda way: way.runner.forward(way.passing, adapter),
            "one answer": lambda way: way.runner.forward(way.asked, adapter),
        }
        for what, act in passes.items():
            for name, way in ways.items():
                act(way)  # the pass before was of another kind, and has left another session open
                started = time.process_time()
                act(way)
                if turn:
                    seconds.setdefault(what, {}).setdefault(name, []).append(time.process_time() - started)
    out = []
    for what, own in seconds.items():
        base = own[WAYS[0]]
        ratios = {name: f"{statistics.median(np.divide(times, base)):.2f}" for name, times in own.items()}
        out.append({"what": what, **ratios, WAYS[0]: f"{1000 * statistics.median(base):.0f} ms"})
    return out


def distances(bundle: tuple[Path, int], texts: list[str], adapter: Adapter, work: Path) -> list[dict[str, Any]]:
    """How far gradients over a cache are from those without."""
    rows = [(k, k % len(LABELS)) for k in range(len(texts))]
    out = []
    for exact in (False, True):
        runner = Runner(open_bundle(bundle[0], None))
        ready = runner.ready(texts, training=True)
        plain = runner.gradients(ready, adapter, rows)
        keep(runner.chain, work / f"exact{exact}", 1 << 30, exact=exact)
        found = runner.gradients(ready, adapter, rows)
        one, two = (np.concatenate([g.by_input[n].ravel() for n in sorted(g.by_input)]) for g in (plain, found))
        cosine = float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
        largest = max(float(np.abs(found.by_input[n] - g).max() / np.abs(g).max()) for n, g in plain.by_input.items())
        out.append({"what": "float32" if exact else "float16", "cosine": cosine, "largest": largest})
    return out


if __name__ == "__main__":
    raise SystemExit(main())
