"""The way of a model: capture, slots and head, plan, cut, quantize, differentiate, verify, measure, write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from numpy.typing import NDArray

from console.progress import Progress
from devices.enough import KnownBoard
from devices.fleet import BoardChain, Fleet
from devices.fronts import BoardSplit
from devices.plan import Board
from devices.runtimes import opset_of
from devices.split.fleet_plan import FleetPlan
from export import across, split
from export.activations.given import Calibration
from export.describe import blobs, describe
from export.formats.broken import refuse_format
from export.formats.grid import Grid
from export.formats.registry import FLOAT32
from export.planned import check_plan, noted, ranked, with_ranks
from export.prepare import Prepared, Wanted, prepare
from export.settle import Settled, Stages, settle
from export.targets import AUTO, EVERY_BLOCK
from export.variants import refuse_growth
from export.write import copy_synced, describe_files, replacing, seal_bundle, storing
from wire.keys import PrivateKey
from wire.manifest import Manifest


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks for; one bundle per board under `out`, and one per board of every chain and of every split.

    `labels` are the classes of a head that is put on, in the order of its logits; without any the model has its
    own outputs. `known` are boards that a refusal may name, see `devices.fleet.known_boards`.
    `micro_batches` and `shorter` (texts of fewer tokens) ask for further buckets, see `Wanted`.
    `plan`: that the boards are of, see `export.planned`.
    `strict`: graphs that amplify noise much more than fp32 are refused, not only reported.
    """

    source: str
    task: str
    labels: tuple[str, ...]
    boards: tuple[Board, ...]
    key: PrivateKey
    out: Path
    sequence: int | None = 64
    targets: str = "auto"
    name: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    chains: tuple[BoardChain, ...] = ()
    splits: tuple[BoardSplit, ...] = ()
    plan: FleetPlan | None = None
    kinds: tuple[str, ...] = ("lora",)
    serve_graph: bool | None = None
    scale_inputs: bool = False
    known: tuple[KnownBoard, ...] | None = None
    sample: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    grid: Grid = field(default_factory=Grid)
    calibration: Calibration | None = None
    strict: bool = False
    tables_out: bool = False
    features: str = ""
    features_axis: int | None = None
    train_activations: str = FLOAT32
    micro_batches: tuple[int, ...] = ()
    shorter: tuple[int, ...] = ()

    @property
    def everyone(self) -> tuple[Board, ...]:
        """All boards, those of chains and splits too."""
        return Fleet(self.boards, self.chains, self.splits).everyone

    @property
    def wanted(self) -> Wanted:
        """What of it concerns the model alone."""
        return Wanted(
            self.source,
            self.task,
            len(self.labels),
            self.sequence,
            EVERY_BLOCK if self.splits and self.targets == AUTO and self.plan is None else self.targets,
            self.kinds,
            self.serve_graph,
            self.scale_inputs,
            self.sizes,
            self.states,
            self.sample,
            self.keep,
            self.grid,
            self.tables_out,
            self.calibration,
            self.features,
            self.features_axis,
            self.train_activations,
            self.micro_batches,
            self.shorter,
        )


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
    return 2 + len(request.boards) + len(request.chains) + len(request.splits) + len(request.everyone)


def export_model(request: ExportRequest, bar: Progress) -> list[ExportedBundle]:
    """Export one model for some boards.

    Args:
        request: see there.
        bar: told of every step, see `steps_of`.

    Returns:
        One bundle per board, those of chains last, in the order of the request. Nothing is written before all
        graphs have passed.

    Raises:
        UnsupportedModel, DoesNotFit, VerificationError, StorageError, UsageError: nothing is left behind.
    """
    opset_of((board.name, board.onnxruntime_max) for board in request.everyone)
    for board in request.everyone:
        for name in (board.quant, *request.keep.values()):
            refuse_format(name, request.grid, board.onnxruntime_max)
    with storing(request.out), _work_folder(request.out) as work:
        bar.say("capturing the model")
        formats = tuple(dict.fromkeys(board.quant for board in request.everyone))
        modes = tuple(board.mode for board in request.everyone)
        prepared = prepare(request.wanted, formats, modes, work / "source")
        bar.advance()
        return export_prepared(request, prepared, work, bar)


def export_prepared(request: ExportRequest, prepared: Prepared, work: Path, bar: Progress) -> list[ExportedBundle]:
    """Export what is captured already.

    Args:
        request: its `source` and `task` were read to make `prepared`.
        prepared: the model.
        work: a folder for everything in between, on the same disk as the bundles.
        bar: as for `export_model`.

    Raises:
        DoesNotFit, VerificationError, StorageError, UnsupportedModel: no bundle is written.
    """
    bar.say("planning")
    request = _as_planned(request, prepared)
    for board in request.boards:
        prepared.decide(board, request.known)  # refuse what cannot fit before anything is built
    for chain in request.chains:
        across.decide(prepared, chain, request.known)
    for parted in request.splits:
        split.decide(prepared, parted, request.known)
    bar.advance()
    stages = Stages(prepared, work, bar)
    settled = []
    for board in request.boards:
        settled.append(settle(prepared, board, stages))
        bar.advance()
    for chain in request.chains:
        settled += across.settle_chain(prepared, chain, stages)
        bar.advance()
    for parted in request.splits:
        settled += split.settle_split(prepared, parted, stages)
        bar.advance()
    for one in settled if request.strict else ():
        refuse_growth(one.stage.checks, one.board.quant, one.board.name)
    return write_bundles(request, prepared, settled, bar)


def write_bundles(
    request: ExportRequest, prepared: Prepared, settled: Sequence[Settled], bar: Progress
) -> list[ExportedBundle]:
    """Write and sign bundles whose graphs are made.

    Raises:
        StorageError: no bundle is written.
    """
    bundles = []
    with ExitStack() as whole:  # all of them take their places when the last one is written, or none does
        for one in settled:
            bar.say(f"writing {one.folder}")
            target = request.out / one.folder
            manifest = _write(request, prepared, one, whole.enter_context(replacing(target)))
            bundles.append(ExportedBundle(target, manifest, one.measured_bytes))
            bar.advance()
    return bundles


def _as_planned(request: ExportRequest, prepared: Prepared) -> ExportRequest:
    """A request whose boards have the ranks of its plan.

    Raises:
        BadData: the plan is of another model.
    """
    if request.plan is None:
        return request
    mode = request.everyone[0].mode  # cuts are the same in all; not every model has numbers of "train"
    units, sites = prepared.cost(request.plan.micro_batch, mode).units, prepared.sites
    check_plan(request.plan, units, sites, prepared.classes)
    boards = tuple(ranked(board, request.plan, sites) for board in request.boards)
    splits = tuple(with_ranks(one, request.plan, sites) for one in request.splits)
    return replace(request, boards=boards, splits=splits)


def _write(request: ExportRequest, prepared: Prepared, settled: Settled, folder: Path) -> Manifest:
    names = []
    for path in blobs(prepared, settled.stage):
        copy_synced(path, folder / path.name)
        names.append(path.name)
    manifest = describe(
        prepared,
        settled.stage,
        settled.board,
        settled.decision,
        name=request.name or prepared.captured.name,
        labels=request.labels or prepared.captured.labels,
        files=describe_files(folder, names),
        measured_bytes=settled.measured_bytes,
        chain=settled.chain,
        split=settled.split,
        noted=noted(settled.board.name, request.plan),
    )
    seal_bundle(folder, manifest, request.key)
    return manifest


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder for everything in between, on the same disk as the bundles, gone at the end whenever that comes."""
    folder = out / f".export-{token_hex(4)}"
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
