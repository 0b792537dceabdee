"""Graphs for one plan: built, written, measured. Boards with the same plan share one stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from export.activations.given import activations_for, refuse_none
from export.apart import apart
from export.buckets import Size, bucket, same_cuts
from export.build import RETURNED, Piece, build
from export.chain import Chain, Link
from export.formats.rewrite import Formats
from export.half_checks import refuse_whole
from export.measure import Measurer, Peak, candidates_for
from export.predict import predict
from export.prepare import Prepared
from export.scale_checks import ones, refuse_no_scales
from export.stage_feeds import checking_values, spread_ids
from export.table_files import TableFile, opened, read_by, write_tables
from export.tables_out import Taken
from export.write import write_graphs
from wire.files import file_digest
from wire.manifest import Bucket, Options

GOLDEN = "golden.safetensors"


Chosen = str | tuple[tuple[str, str], ...]


def chosen(quant: str, formats: Mapping[str, str]) -> Chosen:
    """Formats of weights as a part of a key; those of `quant` where there are none."""
    return tuple(sorted(formats.items())) if formats else quant


@dataclass(frozen=True)
class Key:
    """What makes two boards share their graphs.

    Attributes:
        mode: of the boards.
        quant: what was asked for; of a chain of several formats one that is not float32.
        micro_batch: items per run.
        positions: of the cuts, as nodes.
        formats: of the segments where they are not `quant`: one, or as pairs of weight and format; one for all segments
            or one for each.
        shares: number of segments of each board of a chain; empty for one board.
        seven_bits: weights that integer activations are multiplied with stay within seven bits, for one of the boards.
        half: backward graphs round the activations of their forward half.
        beside: micro-batch and tokens of further buckets.
        borders: where fronts end, as nodes, with the names of what crosses there.
        front: how many segments are made, of a board that holds the front only; 0 for all.
        back_from: segments that begin before this node run forward only.
    """

    mode: str
    quant: str
    micro_batch: int
    positions: tuple[int, ...]
    formats: tuple[Chosen, ...] = ()
    shares: tuple[int, ...] = ()
    seven_bits: bool = False
    half: bool = False
    beside: tuple[Size, ...] = ()
    borders: tuple[tuple[int, str], ...] = ()
    front: int = 0
    back_from: int = 0


@dataclass
class Stage:
    """Finished graphs in a folder, with what was found out about them.

    Attributes:
        sequence: tokens of a text.
        beside: the same segments for other buckets, in files of their own that read the same files of weights.
        left_out: why there are no graphs for a bucket, by its name.
        own: how many segments have graphs that nobody else judges one by one; None for all.
    """

    key: Key
    folder: Path
    pieces: list[Piece]
    links: list[Link]
    checks: dict[str, Any] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)  # by file name
    predicted: dict[str, dict[str, int]] = field(default_factory=dict)  # parts of each file's peak, in bytes
    tables: list[TableFile] = field(default_factory=list)
    sequence: int | None = None
    suffix: str = ""
    beside: list[Stage] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    own: int | None = None
    golden: Path = field(init=False)

    def __post_init__(self) -> None:
        self.golden = self.folder / GOLDEN

    @property
    def bucket(self) -> Bucket:
        """What its graphs are made for."""
        return bucket(self.key.micro_batch, self.sequence)

    def file(self, piece: Piece, kind: str) -> Path:
        """Where a graph is."""
        return self.folder / f"{piece.segment.name}.{kind}{self.suffix}.onnx"

    def with_buckets(self, beside: Sequence[Stage], left_out: Mapping[str, str]) -> Stage:
        """The same with other further buckets."""
        out = copy(self)
        out.beside, out.left_out = list(beside), dict(left_out)
        return out

    def shares(self) -> list[Stage]:
        """What each board of a chain gets of it; itself for one board."""
        out, first = [], 0
        for k, count in enumerate(self.key.shares):
            own = slice(first, first + count)
            share = replace(self, pieces=self.pieces[own], links=self.links[own])
            read = {str(value.name) for piece in share.pieces for value in piece.segment.model.graph.inputs}
            share.tables = read_by(self.tables, read)
            share.golden = self.folder / f"board{k}" / GOLDEN
            share.beside = [replace(b, pieces=b.pieces[own], links=b.links[own]) for b in self.beside]
            out.append(share)
            first += count
        return out or [self]


def build_stage(prepared: Prepared, key: Key, folder: Path) -> Stage:
    """Build all graphs of a plan and write them into `folder`.

    Raises:
        NoGradientRule: mode "train", and an operator cannot be differentiated.
        StorageError: the folder cannot be written.
    """
    stage = _built(prepared, key, folder)
    for batch, sequence in key.beside:
        try_beside(prepared, stage, batch, sequence)
    all_of = [stage, *stage.beside]
    for one, links in zip(all_of, write_pieces(all_of, "shipped", folder), strict=True):
        one.links = links
    taken = prepared.taken(key.micro_batch)
    quant = _beside_tables(stage, taken)
    stage.tables = write_tables(taken.sources, quant, prepared.kept_tables, folder, prepared.table_files)
    for other in stage.beside:
        other.tables = stage.tables
    return stage


def joined(front: Stage, tail: Stage, at: int, key: Key) -> Stage:
    """A front and what a tail runs after it, as one chain.

    Args:
        front: finished, in a folder of its own.
        tail: the same, of the whole model.
        at: the number of the tail's first segment behind the border.
        key: of the front, with the shares of both.
    """
    pieces, links = [*front.pieces, *tail.pieces[at:]], [*front.links, *tail.links[at:]]
    read = {str(value.name) for piece in pieces for value in piece.segment.model.graph.inputs}
    tables = read_by(tail.tables, read)
    return replace(front, key=key, pieces=pieces, links=links, tables=tables, own=len(front.pieces))


def _built(prepared: Prepared, key: Key, folder: Path) -> Stage:
    formats: list[Formats] = [f if isinstance(f, str) else dict(f) for f in key.formats or (key.quant,)]
    quant = formats[0] if len(formats) == 1 else formats
    frozen, learns = prepared.frozen(key.micro_batch), key.front > 0  # a front does nothing else
    serves = prepared.serves(key.mode) and not learns
    integers = None if learns else activations_for(prepared, formats, key.micro_batch, key.seven_bits, folder)
    pieces = build(
        frozen,
        key.positions,
        key.mode,
        quant,
        prepared.stock,
        serves,
        integers,
        prepared.scale_inputs,
        key.half,
        dict(key.borders),
        key.front,
        prepared.head.features_output if key.borders and not key.front and prepared.head is not None else "",
        key.back_from,
    )
    if prepared.scale_inputs:
        refuse_no_scales(pieces)
    if key.half:
        refuse_whole(pieces)
    if integers is not None:
        refuse_none(pieces)
    return Stage(key, folder, pieces, [], sequence=prepared.sequence)


def try_beside(prepared: Prepared, stage: Stage, batch: int, sequence: int | None) -> None:
    """Build the graphs of a further bucket, if the model can be cut there as it is in the stage; else say why not."""
    own, named = prepared.at(sequence), bucket(batch, sequence).name
    key = stage.key
    positions = same_cuts(prepared.frozen(key.micro_batch), key.positions, own.frozen(batch))
    if positions is None:
        stage.left_out[named] = "its graph cannot be cut where that of the plan is"
        return
    other = _built(own, replace(key, micro_batch=batch, positions=positions, beside=()), stage.folder)
    if [_boundary(piece) for piece in other.pieces] != [_boundary(piece) for piece in stage.pieces]:
        stage.left_out[named] = "its segments read or make other tensors than those of the plan"
        return
    other.suffix = f".{named}"
    stage.beside.append(other)


def _boundary(piece: Piece) -> tuple[object, ...]:
    """What must be the same in all buckets of a segment."""
    segment, models = piece.segment, piece.shipped.items()
    names = [(kind, [v.name for v in m.graph.inputs], [v.name for v in m.graph.outputs]) for kind, m in models]
    return (segment.entering, segment.leaving, segment.differentiable, segment.adapters, names)


def _beside_tables(stage: Stage, taken: Taken) -> str:
    """What is asked for of the weights of the first segment that reads a table."""
    count, formats = len(stage.pieces), stage.key.formats or (stage.key.quant,)
    for piece, quant in zip(stage.pieces, formats * count if len(formats) == 1 else formats, strict=True):
        if isinstance(quant, str) and any(value.name in taken.ids for value in piece.segment.model.graph.inputs):
            return quant
    return stage.key.quant


def write_pieces(stages: Sequence[Stage], which: str, folder: Path) -> list[list[Link]]:
    """Write the graphs of every segment for all buckets, and one file of weights per segment that all of them read.

    Args:
        stages: of one plan, a bucket each.
        which: "shipped" or "exact".
        folder: where to.

    Returns:
        The links of each stage.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pieces in zip(*(stage.pieces for stage in stages), strict=True):
        named = {
            f"{piece.segment.name}.{kind}{stage.suffix}": model
            for stage, piece in zip(stages, pieces, strict=True)
            for kind, model in getattr(piece, which).items()
        }
        write_graphs(named, folder, f"{pieces[0].segment.name}.weights.bin")
    return [[_link(piece, getattr(piece, which), stage.suffix, folder) for piece in stage.pieces] for stage in stages]


def _link(piece: Piece, models: Mapping[str, ir.Model], suffix: str, folder: Path) -> Link:
    name = piece.segment.name
    paths = {kind: folder / f"{name}.{kind}{suffix}.onnx" for kind in models}
    first: dict[str, Any] = {f"{kind}_options": candidates_for(path)[0] for kind, path in paths.items()}
    link = Link(name, paths["forward"], paths.get("backward"))
    first |= {kind: paths.get(kind) for kind in ("serve", "scales", RETURNED)}
    return replace(link, **first)


def measure_stage(prepared: Prepared, stage: Stage, measurer: Measurer, rank: int) -> None:
    """Try session options on every graph in fresh processes; the best become the options of the links.

    Graphs of further buckets are measured with those that are best for the same graph of the plan's. What each graph
    takes under its options is predicted as well.

    Raises:
        VerificationError: a graph does not run.
    """
    _measure(prepared, stage, measurer, rank)
    for other in stage.beside:
        other.links = [_as(link, best) for link, best in zip(other.links, stage.links, strict=True)]
        _measure(prepared.at(other.sequence), other, measurer, rank)


def _as(link: Link, best: Link) -> Link:
    """A link with the options of another one."""
    return replace(
        link,
        forward_options=best.forward_options,
        backward_options=best.backward_options,
        serve_options=best.serve_options,
        scales_options=best.scales_options,
        returned_options=best.returned_options,
    )


def _measure(prepared: Prepared, stage: Stage, measurer: Measurer, rank: int) -> None:
    found = apart(lambda: _measured(prepared, stage, measurer, rank))
    for key, peak in found["known"].items():
        measurer.known[key] = _peak(peak)
    stage.peaks = {name: measurer.known[key] for name, key in found["files"].items()}
    stage.predicted = found["predicted"]
    stage.links = [_with_options(link, stage.peaks) for link in stage.links]


def _measured(prepared: Prepared, stage: Stage, measurer: Measurer, rank: int) -> dict[str, Any]:
    chain = Chain(stage.links, opened(stage.tables))
    given = checking_values(prepared, stage.key.micro_batch, rank)
    given |= spread_ids(prepared, given) | ones(stage.pieces)
    fed = chain.feeds_of(chain.backward(chain.forward(given)))
    chain.close()
    settled = {path: options for link in stage.links for _, path, options in link.graphs()} if stage.suffix else {}
    predicted = {}
    for path, values in fed.items():
        tried = (settled[path],) if path in settled else None
        options = measurer.best(path, values, candidates=tried).options
        predicted[path.name] = predict(path, options, measurer.kind, rank)
    known = {key: asdict(peak) for key, peak in measurer.known.items()}
    return {"known": known, "predicted": predicted, "files": {path.name: file_digest(path) for path in fed}}


def _peak(figures: dict[str, Any]) -> Peak:
    return Peak(**{**figures, "options": Options(**figures["options"])})


def _with_options(link: Link, peaks: dict[str, Peak]) -> Link:
    forward = peaks[link.forward.name].options
    backward = forward if link.backward is None else peaks[link.backward.name].options
    serve = forward if link.serve is None else peaks[link.serve.name].options
    scales = forward if link.scales is None else peaks[link.scales.name].options
    returned = forward if link.returned is None else peaks[link.returned.name].options
    others = replace(link, serve_options=serve, scales_options=scales, returned_options=returned)
    return replace(others, forward_options=forward, backward_options=backward)
