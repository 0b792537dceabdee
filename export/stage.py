"""Graphs for one plan: built, written, verified, measured. Boards with the same plan share one stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import feeds
from export.activations.dynamic import FORMAT as DYNAMIC
from export.activations.given import activations_for, refuse_none
from export.activations.graphs import takes
from export.activations.static import FORMAT as STATIC
from export.apart import apart
from export.build import Piece, build, reports_of, twin
from export.chain import Chain, Graph, Link
from export.drawn import draw_inputs
from export.formats.rewrite import Formats
from export.measure import Measurer, Peak, candidates_for, kernels
from export.oracle.check import check_nodes
from export.predict import predict
from export.prepare import Prepared
from export.table_files import TableFile, opened, read_by, write_tables
from export.tables_out import Taken
from export.variants import Both, check_variant
from export.verify import check_gradients, check_loss, check_outputs, check_smaller, check_twins
from export.write import write_golden, write_graphs
from wire.files import file_digest
from wire.manifest import Options

SEED = 20
GOLDEN = "golden.safetensors"
GOLDEN_RANK = 2
CHECK_RANK = 4
FLOAT_BITS = 32


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
    """

    mode: str
    quant: str
    micro_batch: int
    positions: tuple[int, ...]
    formats: tuple[Chosen, ...] = ()
    shares: tuple[int, ...] = ()
    seven_bits: bool = False


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
    pieces = build(frozen, key.positions, key.mode, quant, prepared.stock, serves, integers)
    if integers is not None:
        refuse_none(pieces)
    stage = Stage(key, folder, pieces, [])
    stage.links = _write(pieces, "shipped", folder)
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


def _write(pieces: list[Piece], which: str, folder: Path) -> list[Link]:
    folder.mkdir(parents=True, exist_ok=True)
    links = []
    for piece in pieces:
        name = piece.segment.name
        models = {f"{name}.{kind}": model for kind, model in getattr(piece, which).items()}
        write_graphs(models, folder, f"{name}.weights.bin")
        paths = {kind: folder / f"{name}.{kind}.onnx" for kind in getattr(piece, which)}
        first = {f"{kind}_options": candidates_for(path)[0] for kind, path in paths.items()}
        links.append(Link(name, paths["forward"], paths.get("backward"), serve=paths.get("serve"), **first))
    return links


def verify_stage(prepared: Prepared, stage: Stage) -> None:
    """Every check of `export.verify` on the written graphs, in a child process.

    The figures go into `stage.checks`, a golden input and output into the stage's folder.

    Raises:
        VerificationError: one of them fails.
    """
    stage.checks = apart(lambda: _checked(prepared, stage))


def _checked(prepared: Prepared, stage: Stage) -> dict[str, Any]:
    batch, tables = stage.key.micro_batch, opened(stage.tables)
    chain = exact = Chain(stage.links, tables)
    if not _is_float(stage):
        exact = Chain(_write(stage.pieces, "exact", stage.folder / "exact"), prepared.taken(batch).exact())
    pairs, states = [(p.input, p.output) for p in prepared.captured.states], prepared.states(batch)
    checks: dict[str, Any] = {"chain_error": 0.0}
    for seed in (None, SEED):
        runs = prepared.samples(batch, seed)
        expected, got = prepared.reference(runs, states), exact.runs(runs, pairs, states)
        checks["chain_error"] = max(checks["chain_error"], check_outputs(got, expected))
        if exact is not chain and seed is None:
            checks |= check_loss(chain.runs(runs, pairs, states)[-1], got[-1], prepared.judged, stage.key.quant)
    if any(link.serve is not None for link in stage.links):
        served = Chain([link.served() for link in stage.links], tables)
        got, expected = served.runs(runs, pairs, states), chain.runs(runs, pairs, states)
        if any(takes(piece.reports, "serve") for piece in stage.pieces):
            lost = check_loss(got[-1], exact.runs(runs, pairs, states)[-1], prepared.judged, stage.key.quant)
            checks |= {f"serve_{name}": value for name, value in lost.items()}
        else:
            checks["serve_error"] = check_outputs(got, expected)
    if exact is not chain:
        _check_sizes(stage)
        checks["dequantized_error"] = _check_twins(prepared, stage, chain)
        checks |= _check_nodes(prepared, stage, chain)
        checks |= check_variant(prepared, Both(stage.pieces, exact, chain, prepared.stock.grid), batch)
    if stage.key.mode == "train":
        groups = {piece.segment.name: piece.segment.adapters for piece in stage.pieces if piece.segment.adapters}
        checks["gradient_error"] = check_gradients(chain, checking_values(prepared, batch, CHECK_RANK), groups)
    _write_golden(prepared, stage)
    return checks


def _check_sizes(stage: Stage) -> None:
    """Files of weights against those of the exact graphs, where any weight has another format."""
    if any(r.format != "fp32" for piece in stage.pieces for reports in piece.reports.values() for r in reports):
        stored, plain = (
            sum(path.stat().st_size for path in folder.glob("segment*.weights.bin"))
            for folder in (stage.folder, stage.folder / "exact")
        )
        check_smaller(stored, plain, stage.key.quant)


def _is_float(stage: Stage) -> bool:
    """Whether every weight and every table is in float32, whatever was asked for."""
    formats = {report.format for report in reports_of(stage.pieces)}
    return formats <= {"fp32"} and all(file.record.bits == FLOAT_BITS for file in stage.tables)


def _check_twins(prepared: Prepared, stage: Stage, chain: Chain) -> float:
    values = chain.backward(chain.forward(checking_values(prepared, stage.key.micro_batch, CHECK_RANK)))
    worst, grid, formats = 0.0, prepared.stock.grid, {report.format for report in reports_of(stage.pieces)}
    for piece, link in zip(stage.pieces, stage.links, strict=True):
        twins = {
            f"twin.{kind}": twin(piece.exact[kind], piece.shipped[kind], piece.reports[kind], grid)
            for kind in piece.exact
        }
        write_graphs(twins, stage.folder, "twin.weights.bin")
        for kind, path, options in link.graphs():
            if takes(piece.reports, kind):
                continue  # it rounds activations, too: see `export.activations.oracle`
            other = Graph(stage.folder / f"twin.{kind}.onnx")
            worst = max(worst, check_twins(chain.graph(path, options), other, values, path.stem, formats))
        for kind in twins:
            (stage.folder / f"{kind}.onnx").unlink()
        (stage.folder / "twin.weights.bin").unlink()
    return worst


def _check_nodes(prepared: Prepared, stage: Stage, chain: Chain) -> dict[str, Any]:
    """Every quantized node of every graph, with every kernel that the session options choose between."""
    values = chain.backward(chain.forward(checking_values(prepared, stage.key.micro_batch, CHECK_RANK)))
    fed = chain.feeds_of(values)
    tried = [(path, given, options) for path, given in fed.items() for options in kernels(candidates_for(path))]
    integers = bool({DYNAMIC, STATIC} & {report.format for report in reports_of(stage.pieces)})
    found = [check_nodes(*one, integers=integers) for one in tried]
    error: dict[str, float] = {}
    for kind, one in (pair for checks in found for pair in checks.error.items()):
        error[kind] = max(error.get(kind, 0.0), one)
    unjudged = sorted({node for checks in found for node in checks.unjudged})
    named: dict[str, Any] = {"nodes_unjudged": ", ".join(unjudged)} if unjudged else {}
    named |= {"integer_steps": max(checks.steps for checks in found)} if integers else {}
    return {"node_error": error, "nodes_judged": sum(checks.count for checks in found), **named}


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
    given |= _all_over(prepared, given)
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
    return replace(link, forward_options=forward, backward_options=backward, serve_options=serve)


def _all_over(prepared: Prepared, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Token ids at even distances, so that a run touches as much of an embedding table as any can."""
    if prepared.head is None or "input_ids" not in given:
        return {}
    ids = given["input_ids"]
    vocabulary = feeds.vocabulary_of(prepared.captured.preprocess)
    spread = np.linspace(0, vocabulary - 1, ids.size).astype(np.int64)
    return {"input_ids": spread.reshape(ids.shape), "attention_mask": np.ones_like(ids)}


def checking_values(prepared: Prepared, batch: int, rank: int) -> dict[str, NDArray[Any]]:
    """Real input, states, an adapter and a head that are not zero, labels and weights."""
    graph, states = prepared.whole(batch).graph, {pair.input for pair in prepared.captured.states}
    others = [str(value.name) for value in graph.inputs if value.name not in states]
    values = {**prepared.samples(batch, None)[-1], **draw_inputs(graph, SEED + 4, others)}
    values |= feeds.adapter(prepared.sites, rank, SEED + 1)
    if prepared.head is not None:
        values |= feeds.head(prepared.head, prepared.classes, SEED + 2)
        values |= feeds.targets(batch, prepared.classes, SEED + 3)
    return values


def _write_golden(prepared: Prepared, stage: Stage) -> None:
    """What is fed, and what the shipped chain computes from it with its final options; states begin with zeros.

    Each board of a chain gets what enters its segments and what leaves them.
    """
    given = checking_values(prepared, stage.key.micro_batch, GOLDEN_RANK) | prepared.states(stage.key.micro_batch)
    values = Chain(stage.links, opened(stage.tables)).forward(given)
    for share in stage.shares():
        share.golden.parent.mkdir(exist_ok=True)
        fed, fetched = golden_names(prepared, share)
        write_golden(share.golden, {n: values[n] for n in fed if n in values}, {n: values[n] for n in fetched})


def golden_names(prepared: Prepared, stage: Stage) -> tuple[list[str], list[str]]:
    """What enters some segments, and what leaves them: boundaries with other boards and the model's own, no states.

    Rows of a table do not enter, their ids do.
    """
    ids = prepared.taken(stage.key.micro_batch).ids
    states = {name for pair in prepared.captured.states for name in (pair.input, pair.output)}
    inputs = {str(v.name) for piece in stage.pieces for v in piece.shipped["forward"].graph.inputs}
    read = {ids.get(name, name) for name in inputs}
    made = {name for piece in stage.pieces for name in piece.segment.leaving}
    outputs = {str(value.name) for value in prepared.frozen(stage.key.micro_batch).graph.outputs}
    leaving = made & (outputs | {*stage.pieces[-1].segment.leaving})
    return sorted(read - made - states), sorted(leaving - states)
