"""Graphs for one plan: built, written, measured. Boards with the same plan share one stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from export.activations.given import activations_for, refuse_none
from export.apart import apart
from export.build import Piece, build
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
from wire.manifest import Options

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
    """

    mode: str
    quant: str
    micro_batch: int
    positions: tuple[int, ...]
    formats: tuple[Chosen, ...] = ()
    shares: tuple[int, ...] = ()
    seven_bits: bool = False
    half: bool = False


@dataclass
class Stage:
    """Finished graphs in a folder, with what was found out about them."""

    key: Key
    folder: Path
    pieces: list[Piece]
    links: list[Link]
    checks: dict[str, Any] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)  # by file name
    predicted: dict[str, dict[str, int]] = field(default_factory=dict)  # parts of each file's peak, in bytes
    tables: list[TableFile] = field(default_factory=list)
    golden: Path = field(init=False)

    def __post_init__(self) -> None:
        self.golden = self.folder / GOLDEN

    def shares(self) -> list[Stage]:
        """What each board of a chain gets of it; itself for one board."""
        out, first = [], 0
        for k, count in enumerate(self.key.shares):
            own = slice(first, first + count)
            share = replace(self, pieces=self.pieces[own], links=self.links[own])
            read = {str(value.name) for piece in share.pieces for value in piece.segment.model.graph.inputs}
            share.tables = read_by(self.tables, read)
            share.golden = self.folder / f"board{k}" / GOLDEN
            out.append(share)
            first += count
        return out or [self]


def build_stage(prepared: Prepared, key: Key, folder: Path) -> Stage:
    """Build all graphs of a plan and write them into `folder`.

    Raises:
        NoGradientRule: mode "train", and an operator cannot be differentiated.
        StorageError: the folder cannot be written.
    """
    formats: list[Formats] = [f if isinstance(f, str) else dict(f) for f in key.formats or (key.quant,)]
    quant = formats[0] if len(formats) == 1 else formats
    frozen, serves = prepared.frozen(key.micro_batch), prepared.serves(key.mode)
    integers = activations_for(prepared, formats, key.micro_batch, key.seven_bits, folder)
    pieces = build(
        frozen, key.positions, key.mode, quant, prepared.stock, serves, integers, prepared.scale_inputs, key.half
    )
    if prepared.scale_inputs:
        refuse_no_scales(pieces)
    if key.half:
        refuse_whole(pieces)
    if integers is not None:
        refuse_none(pieces)
    stage = Stage(key, folder, pieces, [])
    stage.links = write_pieces(pieces, "shipped", folder)
    taken = prepared.taken(key.micro_batch)
    quant = _beside_tables(stage, taken)
    stage.tables = write_tables(taken.sources, quant, prepared.kept_tables, folder, prepared.table_files)
    return stage


def _beside_tables(stage: Stage, taken: Taken) -> str:
    """What is asked for of the weights of the first segment that reads a table."""
    count, formats = len(stage.pieces), stage.key.formats or (stage.key.quant,)
    for piece, quant in zip(stage.pieces, formats * count if len(formats) == 1 else formats, strict=True):
        if isinstance(quant, str) and any(value.name in taken.ids for value in piece.segment.model.graph.inputs):
            return quant
    return stage.key.quant


def write_pieces(pieces: list[Piece], which: str, folder: Path) -> list[Link]:
    """Write the graphs of every segment, `which` is "shipped" or "exact", and one file of weights per segment.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for piece in pieces:
        name = piece.segment.name
        models = {f"{name}.{kind}": model for kind, model in getattr(piece, which).items()}
        write_graphs(models, folder, f"{name}.weights.bin")
        paths = {kind: folder / f"{name}.{kind}.onnx" for kind in getattr(piece, which)}
        first: dict[str, Any] = {f"{kind}_options": candidates_for(path)[0] for kind, path in paths.items()}
        link = Link(name, paths["forward"], paths.get("backward"))
        links.append(replace(link, serve=paths.get("serve"), scales=paths.get("scales"), **first))
    return links


def measure_stage(prepared: Prepared, stage: Stage, measurer: Measurer, rank: int) -> None:
    """Try session options on every graph in fresh processes; the best become the options of the links.

    What each graph takes under its best options is predicted as well.

    Raises:
        VerificationError: a graph does not run.
    """
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
    predicted = {}
    for path, values in fed.items():
        options = measurer.best(path, values).options
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
    others = replace(link, serve_options=serve, scales_options=scales)
    return replace(others, forward_options=forward, backward_options=backward)
