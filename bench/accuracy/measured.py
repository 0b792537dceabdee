"""The runs of a group: its bundle, its rows, and each case with each seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.accuracy import digits, sources
from bench.accuracy.bundles import kept
from bench.accuracy.cases import Group
from bench.accuracy.trial import opened
from bench.slots import minilm
from console.errors import UsageError
from edge.data.row import Row

Found = list[dict[str, Any]]


def measured(group: Group, data: Path, model: Path | None, work: Path, seeds: int) -> Found:
    """The runs of a group, each told as soon as it is there."""
    folder = work / f"{group.data}-{group.bundle}-{group.quant}"
    folder.mkdir(parents=True, exist_ok=True)
    bundle, (train, test) = prepared(group, data, model, folder)
    found: Found = []
    with opened(bundle, train, test, folder / "cache") as bench:
        for case in group.cases:
            for rows in case.rows:
                for seed in range(min(seeds, case.seeds)):
                    run = bench.run(rows, seed, case.asked)
                    where = {"data": group.data, "bundle": f"{group.quant}, {group.bundle}", "name": case.name}
                    found.append({**where, "test rows": len(test), **run})
                    said = f"{100 * run['accuracy']:.1f} % in {run['seconds']:.0f} s"
                    print(f"{group.data} {found[-1]['bundle']}: {case.name}, {rows} rows: {said}", flush=True)
    return found


def prepared(group: Group, data: Path, model: Path | None, folder: Path) -> tuple[Path, tuple[list[Row], list[Row]]]:
    """The bundle of a group, and its rows."""
    if group.data == "mnist":
        pictures, labels = sources.mnist(data)
        if not (folder / "vit").exists():
            right = digits.make(pictures, labels, folder / "vit")
            print(f"mnist: {100 * right:.1f} % of upright digits are right")
        names = tuple("0123456789")
        bundle = kept(str(folder / "vit"), names, group.quant, folder, sequence=None)
        return bundle, digits.shifted(pictures, labels)
    encoder = model or minilm()
    if encoder is None:
        raise UsageError("expected the package of all-MiniLM-L6-v2, found none; give a folder with --model")
    if group.data == "sst2":
        rows, names = sources.sst2(data), ("negative", "positive")
    else:
        names = sources.intents_of(data)
        rows = sources.clinc150(data, names)
    targets = "auto" if model is not None else group.targets
    return kept(str(encoder), names, group.quant, folder, targets=targets), rows
