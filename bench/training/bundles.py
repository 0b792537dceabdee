"""Bundles that train, made as `edgequilt export --mode train` makes them, at a micro-batch that is given."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.training.given import is_causal
from console.progress import progress
from devices.plan import Board
from export.formats.registry import FLOAT32
from export.pipeline import ExportRequest, export_prepared, steps_of
from export.prepare import prepare
from wire.bundle import MANIFEST
from wire.keys import new_key

RANK = 8
LABELS = ("a", "b", "c", "d")
TARGETS = r"attention\.self\.(query|value)$|self_attn\.(q_proj|v_proj)$"
PLENTY = 8 << 30  # the budget: nothing is cut


@dataclass(frozen=True)
class Recipe:
    """What is exported: a model, its micro-batch and tokens, the format of its weights, activations of the way out."""

    model: Path
    batch: int
    sequence: int
    quant: str
    activations: str = FLOAT32

    @property
    def name(self) -> str:
        """A folder's.

        >>> Recipe(Path("m"), 2, 64, "int8").name
        'int8-2x64'
        """
        rounded = "a" if self.activations != FLOAT32 else ""
        return f"{self.quant}{rounded}-{self.batch}x{self.sequence}"


def make(recipe: Recipe, out: Path) -> Path:
    """Export one bundle; the command chooses the micro-batch by the board's budget, here it is the recipe's."""
    board = Board(recipe.name, PLENTY, "train", recipe.quant, RANK)
    causal = is_causal(recipe.model)
    request = ExportRequest(
        str(recipe.model),
        "text-generation" if causal else "feature-extraction",
        () if causal else LABELS,
        (board,),
        new_key("publisher", "bench"),
        out,
        sequence=recipe.sequence,
        targets=TARGETS,
        serve_graph=False,
        train_activations=recipe.activations,
    )
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder, progress(f"exporting {recipe.name}", steps_of(request)) as bar:
        work = Path(folder)
        prepared = prepare(request.wanted, (recipe.quant,), ("train",), work / "source")
        prepared.captured = replace(prepared.captured, batches=(recipe.batch,))
        return export_prepared(request, prepared, work, bar)[0].folder


def kept(recipe: Recipe, out: Path, *, fresh: bool = False) -> Path:
    """The bundle of a recipe in a folder, exported if it is not there or is to be made again."""
    target = out / recipe.name
    if fresh and target.exists():
        shutil.rmtree(target)
    return target if (target / MANIFEST).is_file() else make(recipe, out)
