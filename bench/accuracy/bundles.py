"""Bundles for a data set, as `edgequilt export --mode train --trunk apart --scale-inputs` makes them."""

from __future__ import annotations

from pathlib import Path

from console.progress import progress
from devices.plan import Board
from export.pipeline import ExportRequest, export_model, steps_of
from wire.bundle import MANIFEST
from wire.keys import new_key

PLENTY = 8 << 30  # the budget: nothing is cut for memory


def kept(
    model: str,
    labels: tuple[str, ...],
    quant: str,
    out: Path,
    *,
    rank: int = 8,
    sequence: int | None = 32,
    kinds: tuple[str, ...] = ("lora", "bias"),
    targets: str = "auto",
) -> Path:
    """The bundle of a model in a folder, exported if it is not there.

    Args:
        model: a folder that save_pretrained wrote.
        labels: the classes.
        quant: format of the weights.
        out: gets a folder per format.
        rank: the largest.
        sequence: tokens of a text; None: no text.
        kinds: of adapters.
        targets: which layers get them.
    """
    target = out / quant
    if (target / MANIFEST).is_file():
        return target
    board = Board(quant, PLENTY, "train", quant, rank, trunk="apart")
    request = ExportRequest(
        model,
        "feature-extraction",
        labels,
        (board,),
        new_key("publisher", "bench"),
        out,
        sequence=sequence,
        targets=targets,
        kinds=kinds,
        serve_graph=False,
        scale_inputs=quant != "fp32",
    )
    with progress(f"exporting {quant}", steps_of(request)) as bar:
        return export_model(request, bar)[0].folder
