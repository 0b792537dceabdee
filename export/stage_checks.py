"""Every check of `export.verify` on the written graphs of a stage, and the golden values that come of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from export.activations.dynamic import FORMAT as DYNAMIC
from export.activations.graphs import takes
from export.activations.static import FORMAT as STATIC
from export.apart import apart
from export.bucket_checks import check_parts, input_shapes, split_rows
from export.build import learning, reports_of, twin
from export.chain import Chain, Graph
from export.half_checks import check_half, unrounded
from export.measure import candidates_for, kernels
from export.oracle.check import check_nodes
from export.prepare import Prepared
from export.returned_checks import check_returned
from export.scale_checks import check_scales
from export.stage import Stage, write_pieces
from export.stage_feeds import SEED, checking_values
from export.table_files import opened
from export.variants import Both, check_variant
from export.verify import check_gradients, check_loss, check_outputs, check_smaller, check_twins
from export.write import write_golden, write_graphs

GOLDEN_RANK = 2
CHECK_RANK = 4
FLOAT_BITS = 32


def verify_stage(prepared: Prepared, stage: Stage) -> None:
    """Every check of `export.verify` on the written graphs, in a child process.

    The figures go into `stage.checks`, a golden input and output into the stage's folder.

    Raises:
        VerificationError: one of them fails.
    """
    stage.checks = apart(lambda: all_checks(prepared, stage))


def all_checks(prepared: Prepared, stage: Stage) -> dict[str, Any]:
    """Of graphs that round activations the twins that do not are held to everything; then one to the other."""
    floats = unrounded(stage) if stage.key.half else stage
    checks = _checked(prepared, floats)
    if floats is not stage:
        checks |= check_half(stage, floats, checking_values(prepared, stage.key.micro_batch, CHECK_RANK))
    for other in stage.beside:
        checks.setdefault("buckets", {})[other.bucket.name] = _checked_beside(prepared, floats, other)
    return checks


def _checked(prepared: Prepared, stage: Stage) -> dict[str, Any]:
    batch, chain, exact = stage.key.micro_batch, Chain(stage.links, opened(stage.tables)), _exact(prepared, stage)
    pairs, states = [(p.input, p.output) for p in prepared.captured.states], prepared.states(batch)
    checks = _check_graphs(prepared, stage, chain, exact)
    if exact is not None:
        runs = prepared.samples(batch, None)
        got, expected = (one.runs(runs, pairs, states)[-1] for one in (chain, exact))
        checks |= check_loss(got, expected, prepared.judged, stage.key.quant)
        _check_sizes(stage)
        checks |= check_variant(prepared, Both(stage.pieces, exact, chain, prepared.stock.grid), batch)
    _write_golden(prepared, stage)
    return checks


def _checked_beside(prepared: Prepared, stage: Stage, other: Stage) -> dict[str, Any]:
    """A further bucket: what it computes by itself, and beside the plan's where it gets the same rows."""
    own, floats = prepared.at(other.sequence), unrounded(other) if other.key.half else other
    whole, part = (Chain(one.links, opened(one.tables)) for one in (stage, floats))
    checks = _check_graphs(own, floats, part, _exact(own, floats))
    if floats is not other:
        checks |= check_half(other, floats, checking_values(own, other.key.micro_batch, CHECK_RANK))
    shutil.rmtree(_exact_folder(other), ignore_errors=True)
    if prepared.captured.states or {DYNAMIC, STATIC} & formats_of(stage):
        return checks  # rows depend on those before them, or on those beside them
    large, small = stage.key.micro_batch, other.key.micro_batch
    given = checking_values(prepared, large, CHECK_RANK)
    shapes = input_shapes(prepared.whole(large)), input_shapes(own.whole(small))
    parts = split_rows(given, shapes, large, small)
    if parts is not None:
        names = [name for group in learning(stage.pieces).values() for name in group]
        checks["bucket_error"] = check_parts(whole, part, given, parts, names, formats_of(stage))
    return checks


def _exact(prepared: Prepared, stage: Stage) -> Chain | None:
    """The same in float32; None where the stage is."""
    if _is_float(stage):
        return None
    (links,) = write_pieces([stage], "exact", _exact_folder(stage))
    return Chain(links, prepared.taken(stage.key.micro_batch).exact())


def _exact_folder(stage: Stage) -> Path:
    return stage.folder / f"exact{stage.suffix}"


def _check_graphs(prepared: Prepared, stage: Stage, chain: Chain, exact: Chain | None) -> dict[str, Any]:
    """What the graphs of one bucket compute: against the original, without slots, node by node, and their gradients."""
    batch = stage.key.micro_batch
    plain = chain if exact is None else exact
    pairs, states = [(p.input, p.output) for p in prepared.captured.states], prepared.states(batch)
    checks: dict[str, Any] = {"chain_error": 0.0}
    for seed in (None, SEED):
        runs = prepared.samples(batch, seed)
        expected, got = prepared.reference(runs, states), plain.runs(runs, pairs, states)
        checks["chain_error"] = max(checks["chain_error"], check_outputs(got, expected))
    if any(link.serve is not None for link in stage.links):
        served = Chain([link.served() for link in stage.links], chain.tables)
        got, expected = served.runs(runs, pairs, states), chain.runs(runs, pairs, states)
        if any(takes(piece.reports, "serve") for piece in stage.pieces):
            lost = check_loss(got[-1], plain.runs(runs, pairs, states)[-1], prepared.judged, stage.key.quant)
            checks |= {f"serve_{name}": value for name, value in lost.items()}
        else:
            outputs = {str(value.name) for value in prepared.frozen(batch).graph.outputs}
            given = [{n: v for n, v in run.items() if n in outputs} for run in expected]  # a boundary may be a mask
            checks["serve_error"] = check_outputs(got, given)
    if exact is not None:
        checks["dequantized_error"] = _check_twins(prepared, stage, chain)
        checks |= _check_nodes(prepared, stage, chain)
        checks |= check_scales(stage, chain, checking_values(prepared, batch, CHECK_RANK), prepared.stock.grid)
    if stage.key.mode == "train":
        values = checking_values(prepared, batch, CHECK_RANK)
        backward = [piece for piece in stage.pieces if "backward" in piece.exact]
        checks["gradient_error"] = check_gradients(chain, values, learning(backward))
        if prepared.head is not None:
            checks |= check_returned(chain, values, prepared.head, formats_of(stage))
    return checks


def _check_sizes(stage: Stage) -> None:
    """Files of weights against those of the exact graphs, where any weight has another format."""
    if any(r.format != "fp32" for piece in stage.pieces for reports in piece.reports.values() for r in reports):
        stored, plain = (
            sum(path.stat().st_size for path in folder.glob("*.weights.bin"))
            for folder in (stage.folder, _exact_folder(stage))
        )
        check_smaller(stored, plain, stage.key.quant)


def formats_of(stage: Stage) -> set[str]:
    """Formats of the weights in its graphs."""
    return {report.format for report in reports_of(stage.pieces)}


def _is_float(stage: Stage) -> bool:
    """Whether every weight and every table is in float32, whatever was asked for."""
    return formats_of(stage) <= {"fp32"} and all(file.record.bits == FLOAT_BITS for file in stage.tables)


def _check_twins(prepared: Prepared, stage: Stage, chain: Chain) -> float:
    values = chain.backward(chain.forward(checking_values(prepared, stage.key.micro_batch, CHECK_RANK)))
    worst, grid, formats = 0.0, prepared.stock.grid, formats_of(stage)
    for piece, link in zip(stage.pieces[: stage.own], stage.links[: stage.own], strict=True):
        twins = {
            f"twin.{kind}": twin(piece.exact[kind], piece.shipped[kind], piece.reports[kind], grid)
            for kind in piece.exact
        }
        write_graphs(twins, stage.folder, "twin.weights.bin")
        for kind, path, options in link.graphs():
            if kind == "scales" or takes(piece.reports, kind):
                continue  # it rounds activations, too: see `export.activations.oracle`; scales: `check_scales`
            other = Graph(stage.folder / f"twin.{kind}.onnx")
            worst = max(worst, check_twins(chain.graph(path, options), other, values, path.stem, formats))
        for kind in twins:
            (stage.folder / f"{kind}.onnx").unlink()
        (stage.folder / "twin.weights.bin").unlink()
    return worst


def _check_nodes(prepared: Prepared, stage: Stage, chain: Chain) -> dict[str, Any]:
    """Every quantized node of every graph, with every kernel that the session options choose between."""
    values = chain.backward(chain.forward(checking_values(prepared, stage.key.micro_batch, CHECK_RANK)))
    scaled = {link.scales for link in chain.links}  # nodes that read moved scales store no weight
    own = chain.beside(stage.links[: stage.own])
    fed = {path: given for path, given in own.feeds_of(values).items() if path not in scaled}
    tried = [(path, given, options) for path, given in fed.items() for options in kernels(candidates_for(path))]
    integers = bool({DYNAMIC, STATIC} & formats_of(stage))
    found = [check_nodes(*one, integers=integers) for one in tried]
    error: dict[str, float] = {}
    for kind, one in (pair for checks in found for pair in checks.error.items()):
        error[kind] = max(error.get(kind, 0.0), one)
    unjudged = sorted({node for checks in found for node in checks.unjudged})
    named: dict[str, Any] = {"nodes_unjudged": ", ".join(unjudged)} if unjudged else {}
    named |= {"integer_steps": max(checks.steps for checks in found)} if integers else {}
    return {"node_error": error, "nodes_judged": sum(checks.count for checks in found), **named}


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
