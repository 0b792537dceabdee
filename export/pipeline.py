"""The way of a model: capture, slots and head, plan, cut, quantize, differentiate, verify, measure, write."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from console.errors import StorageError
from console.progress import Progress
from devices.memory import WORKER_BASE_BYTES
from devices.plan import Board, Decision, needs
from export.describe import GOLDEN, blobs, describe
from export.measure import Measurer
from export.prepare import Prepared, prepare
from export.stage import Key, Stage, build_stage, golden_values, measure_stage, verify_stage
from export.verify import check_budget
from export.write import copy_synced, describe_files, replacing, seal_bundle, write_golden
from wire.keys import PrivateKey
from wire.manifest import Manifest

STEPS_PER_BOARD = 4  # build, verify, measure, write


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks for; `labels` in the order of the logits, one bundle per board under `out`."""

    source: str
    task: str
    labels: tuple[str, ...]
    boards: tuple[Board, ...]
    key: PrivateKey
    out: Path
    sequence: int | None = 64
    targets: str = "auto"
    name: str = ""


@dataclass(frozen=True)
class ExportedBundle:
    """A bundle that is complete and on disk. `measured_bytes` is what a worker takes at its largest segment."""

    folder: Path
    manifest: Manifest
    measured_bytes: int

    @property
    def file_bytes(self) -> int:
        """All blobs together."""
        return sum(file.bytes for file in self.manifest.files)


def steps_of(request: ExportRequest) -> int:
    """How many steps `export_model` advances its bar by."""
    return 2 + STEPS_PER_BOARD * len(request.boards)


def export_model(request: ExportRequest, bar: Progress) -> list[ExportedBundle]:
    """Export one model for some boards.

    Args:
        request: see there.
        bar: told of every step, see `steps_of`.

    Returns:
        One bundle per board, in the order of the request. Either all are written or none.

    Raises:
        UnsupportedModel, DoesNotFit, VerificationError, StorageError, UsageError: nothing is left behind.
    """
    with _work_folder(request.out) as name:
        work = Path(name)
        bar.say("capturing the model")
        formats = tuple(dict.fromkeys(board.quant for board in request.boards))
        classes = len(request.labels)
        prepared = prepare(
            request.source, request.task, classes, request.sequence, request.targets, formats, work / "source"
        )
        bar.advance()
        bar.say("planning")
        planned = [(board, *prepared.decide(board)) for board in request.boards]
        bar.advance()
        stages = _stages(prepared, planned, work, bar)
        measured = [_measured(prepared, stages[_key(*p)], p[0], p[1]) for p in planned]
        bundles = []
        for (board, decision, positions), most in zip(planned, measured, strict=True):
            bar.say(f"writing {board.name}")
            stage = stages[_key(board, decision, positions)]
            bundles.append(_write(request, prepared, stage, board, decision, most))
            bar.advance()
        return bundles


Planned = tuple[Board, Decision, tuple[int, ...]]


def _key(board: Board, decision: Decision, positions: tuple[int, ...]) -> Key:
    return Key(board.mode, board.quant, decision.micro_batch, positions)


def _stages(prepared: Prepared, planned: list[Planned], work: Path, bar: Progress) -> dict[Key, Stage]:
    """Every different plan once: built, verified, measured."""
    measurer = Measurer(work)
    stages: dict[Key, Stage] = {}
    for board, decision, positions in planned:
        key = _key(board, decision, positions)
        if key in stages:
            bar.advance(STEPS_PER_BOARD - 1)
            continue
        bar.say(f"building graphs for {board.name}")
        stage = stages[key] = build_stage(prepared, key, work / f"stage{len(stages)}")
        bar.advance()
        bar.say(f"verifying graphs for {board.name}")
        verify_stage(prepared, stage)
        bar.advance()
        bar.say(f"measuring graphs for {board.name}")
        rank = max(d.rank for b, d, p in planned if _key(b, d, p) == key)
        measure_stage(prepared, stage, measurer, rank)
        bar.advance()
    return stages


def _measured(prepared: Prepared, stage: Stage, board: Board, decision: Decision) -> int:
    """What the worker takes at its largest segment, checked against the budget.

    Raises:
        VerificationError: a segment takes more than the board has.
    """
    units = prepared.cost(decision.micro_batch, board.mode).units
    ranked = Board(board.name, board.budget_bytes, board.mode, board.quant, decision.rank)
    held = needs(units, ranked, decision.cuts, decision.micro_batch)
    most = WORKER_BASE_BYTES
    for link, need in zip(stage.links, held, strict=True):
        for _, path, _ in link.graphs():
            beside = need.adapters + need.stored
            what = f"{path.stem} of {board.name}"
            most = max(most, check_budget(stage.peaks[path.name], beside, board.budget_bytes, what))
    return most


def _write(
    request: ExportRequest, prepared: Prepared, stage: Stage, board: Board, decision: Decision, measured_bytes: int
) -> ExportedBundle:
    target = request.out / board.name
    with replacing(target) as folder:
        names = []
        for path in blobs(prepared, stage):
            copy_synced(path, folder / path.name)
            names.append(path.name)
        write_golden(folder / GOLDEN, *golden_values(prepared, stage))
        files = describe_files(folder, [*names, GOLDEN])
        name = request.name or prepared.captured.name
        manifest = describe(prepared, stage, board, decision, name=name, labels=request.labels, files=files)
        seal_bundle(folder, manifest, request.key)
    return ExportedBundle(target, manifest, measured_bytes)


def _work_folder(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for everything in between, on the same disk as the bundles, gone at the end.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".export-", dir=out)
    except OSError as error:
        raise StorageError(f"expected to write below {out}, cannot ({error.strerror}); choose another --out") from error
