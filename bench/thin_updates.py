"""Thin updates: what boards learn together for how many bytes: `EDGEQUILT_DATA=FOLDER python -m bench.thin_updates`.

Boards, tasks, recipes and heads are those of `bench.learning`; method `stacking`. Every way of sending sees the same
rows and batches. Ways: a codec of `wire.thin`, and what becomes of what it loses:

* product: as boards do it (`wire.thin.feedback`), made good in B and remembered as a product;
* within: made good in B, and then forgotten;
* factors: remembered as factors and added to the factors of the next version, whatever they are by then;
* plain: forgotten.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from bench.learning import pack, recipes
from bench.learning.__main__ import TOKENS, _packed
from bench.learning.bench import Bench
from bench.learning.local import Factors
from bench.learning.plans import runs_of, task_of
from bench.learning.table import words
from bench.learning.trunk import SCALE, SLOTS
from console.table import table
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.files import write_atomic
from wire.kinds.lora import Lora
from wire.kinds.thin_file import Thin, Told
from wire.thin.coding import Sending, rebuilt, thinned
from wire.thin.table import codec_of, joined

MODEL, METHOD, WHOLE = "thin", "stacking", "none"
BAR = 0.005  # of accuracy
CODECS = ("fp16", "int8", "int4", "top:0.2", "top:0.1", "top:0.05", "top:0.02", "top:0.01")
LOSSES = ("product", "within", "factors", "plain")


@dataclass
class Ways:
    """A codec, what becomes of its losses, and how many bytes went so far."""

    codec: str
    losses: str
    lost: list[Adapter] = field(default_factory=list)
    size_bytes: int = 0

    def through(self, sent: Factors, trained: list[Factors]) -> tuple[list[Factors], Ways]:
        """The updates of a round as they arrive, and what is remembered."""
        lost = self.lost or [Adapter(MODEL) for _ in trained]
        arrived, remembered, size = [], [], self.size_bytes
        for own, before in zip(trained, lost, strict=True):
            rank = own.a.shape[2]
            there, data, after = self._one(_adapter(sent.prefix(rank)), _adapter(own), before)
            arrived.append(_factors(there))
            remembered.append(after)
            size += len(data)
        return arrived, replace(self, lost=remembered, size_bytes=size)

    def _one(self, sent: Adapter, update: Adapter, before: Adapter) -> tuple[Adapter, bytes, Adapter]:
        if self.codec == WHOLE:
            return update, to_bytes(update), before
        if self.losses in ("product", "within"):
            made, after = thinned(update, sent, codec_of(self.codec), "both", before)
            after = after if self.losses == "product" else Adapter(MODEL)
        else:
            made, after = _naive(update, sent, self.codec, before)
            after = after if self.losses == "factors" else Adapter(MODEL)
        data = to_bytes(made)
        return rebuilt(read_adapter(data, "an update"), sent), data, after


def _naive(update: Adapter, sent: Adapter, codec: str, before: Adapter) -> tuple[Adapter, Adapter]:
    """Factors coded as they are, and what is lost of each."""
    code, after = Sending(codec_of(codec)), Adapter(MODEL)
    for slot in sorted(update.lora):
        new, old, rest = update.lora[slot], sent.lora[slot], before.lora.get(slot)
        wanted = [new.a - old.a, new.b - old.b]
        wanted = wanted if rest is None else [wanted[0] + rest.a, wanted[1] + rest.b]
        left = [one - code(one) for one in wanted]
        after.lora[slot] = Lora(left[0], left[1], 1.0)
    told = Told(codec, update.rank)
    return replace(update, lora={}, thin=Thin(told, joined(code.pieces, code.codec))), after


def _adapter(own: Factors) -> Adapter:
    return Adapter(MODEL, lora={slot: Lora(own.a[i], own.b[i], SCALE) for i, slot in enumerate(SLOTS)})


def _factors(own: Adapter) -> Factors:
    return Factors(np.stack([own.lora[s].a for s in SLOTS]), np.stack([own.lora[s].b for s in SLOTS]))


def ways_of(codecs: Sequence[str], losses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Codecs and what becomes of their losses; whole updates and halves have none worth a word."""
    yield WHOLE, "-"
    for codec in codecs:
        yield from [(codec, "plain")] if codec == "fp16" else [(codec, one) for one in losses]


def ran(bench: Bench, name: str, ways: Sequence[tuple[str, str]], seeds: range) -> list[dict[str, Any]]:
    """Accuracy and bytes of every way on every split with every seed."""
    task, recipe = task_of(bench.pack, name, bench.thin), recipes.read()[name][METHOD]
    runs, told = [], []
    for codec, losses in ways:
        for run in runs_of(task, {METHOD: recipe}, seeds):
            run.send = Ways(codec, losses)
            runs.append(run)
            told.append({"codec": codec, "losses": losses})
    found = [one for one in bench.finished(task, runs, "test") if one["name"] == METHOD]
    for one, way, run in zip(found, told, runs, strict=True):
        send = cast("Ways", run.send)
        one.update(way, bytes_per_round=send.size_bytes / recipe.rounds, recipe=asdict(recipe))
    return found


def printed(found: list[dict[str, Any]], head: str = "lda") -> str:
    """A table per task and split: accuracy, bytes of all boards in a round, and what it is to whole updates."""
    pieces = []
    for task, split in dict.fromkeys((one["task"], one["split"]) for one in found):
        here = [one for one in found if (one["task"], one["split"]) == (task, split)]
        rows, base = [], _of(here, WHOLE, "-")
        whole = {one["seed"]: one["accuracy"][head] for one in base}
        for codec, losses in dict.fromkeys((one["codec"], one["losses"]) for one in here):
            own = _of(here, codec, losses)
            right = np.array([one["accuracy"][head] for one in own])
            gap = np.mean([one["accuracy"][head] - whole[one["seed"]] for one in own])
            size = np.mean([one["bytes_per_round"] for one in own])
            ratio = np.mean([one["bytes_per_round"] for one in base]) / size
            within = "yes" if gap >= -BAR else "no"
            rows.append([codec, losses, words(right), f"{100 * gap:+.2f}", within, f"{size:,.0f}", f"{ratio:.1f}"])
        header = ["codec", "losses", "accuracy %", "points to none", "within 0.5", "bytes a round", "times less"]
        pieces.append(f"{task}, {split}\n{table(header, rows)}")
    return "\n\n".join(pieces)


def _of(found: list[dict[str, Any]], codec: str, losses: str) -> list[dict[str, Any]]:
    return [one for one in found if (one["codec"], one["losses"]) == (codec, losses)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    p = argparse.ArgumentParser(description="What boards learn together for how many bytes.")
    p.add_argument("--only", nargs="*", default=["clinc10"], help="tasks: sst2, clinc10, clinc150")
    p.add_argument("--codecs", nargs="*", default=CODECS)
    p.add_argument("--losses", nargs="*", choices=LOSSES, default=LOSSES)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--device", choices=tuple(TOKENS), default="cpu")
    p.add_argument("--threads", type=int, default=1, help="of the hub's arithmetic")
    p.add_argument("--pack", type=Path, help="what `bench.learning --prepare` wrote, instead of a folder of data sets")
    p.add_argument("--few", type=int, default=1, help="take only every so many rows: whether it works, not how well")
    p.add_argument("--out", type=Path, default=Path("build/bench/thin-updates.json"))
    options = p.parse_args(argv)
    packed, _ = (pack.read(options.pack), []) if options.pack else _packed(None)
    torch.set_num_threads(options.threads)
    started, found = time.perf_counter(), list[dict[str, Any]]()
    bench = Bench(packed, options.device, TOKENS[options.device], options.threads, options.few)
    for task in options.only:
        found += ran(bench, task, list(ways_of(options.codecs, options.losses)), range(options.seeds))
        report = {"runs": found, "device": bench.machine, "seconds": time.perf_counter() - started}
        write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    print(printed(found))
    print(f"\n{bench.machine}, {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
