"""The bundles of a run: one per board to train with, one for the server agent to evaluate with."""

from __future__ import annotations

from pathlib import Path

from console.progress import progress
from devices.plan import Board
from devices.profile import load, require_agent
from export.pipeline import ExportRequest, export_model, steps_of
from sim.fleet import SERVER
from sim.task import Task
from wire.keys import new_key, write_key


def export_bundles(task: Task, out: Path, quiet: bool) -> tuple[dict[str, Path], Path]:
    """Export the task's model for its boards and for the server.

    Args:
        task: model, labels, boards with their ranks.
        out: gets `bundles/NAME/` and `keys/`.
        quiet: without progress.

    Returns:
        The folder of each bundle by board, and the publisher's public key file.

    Raises:
        EdgequiltError: as export.pipeline.export_model.
    """
    key = new_key("publisher", "publisher")
    _, public = write_key(key, out / "keys")
    boards = [_board(name, "train", rank) for name, rank in task.recipe.rank_of.items()]
    request = ExportRequest(
        source=str(task.model),
        task=task.kind,
        labels=task.labels,
        boards=(*boards, _board(SERVER, "serve", max(task.recipe.ranks))),
        key=key,
        out=out / "bundles",
        sequence=task.recipe.sequence,
        targets=task.recipe.adapter_targets,
        name=task.name,
    )
    with progress("exporting for three boards and the server", steps_of(request), quiet=quiet) as bar:
        made = export_model(request, bar)
    return {bundle.manifest.plan.device: bundle.folder for bundle in made}, public


def _board(name: str, mode: str, rank: int) -> Board:
    profile = load(name)
    require_agent(profile)
    return Board(name, profile.budget_bytes, mode, "int8", rank)
