"""Noise on the input of a chain of quantized segments, and of the same chain in fp32.

Where the model reads floats, noise is put on them. Token ids cannot be a little wrong: there it is put on the first
float tensor, the rows that the largest table gives for them, in a copy of that segment's graph; a table may lie
outside, and its rows are then what enters. How much is too much is decided by `quant.amplification`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import VerificationError
from export.build import Piece
from export.chain import Chain, Values
from export.copies import copied, find, typed
from export.edit import Edit, redirect
from export.gradient.dims import shape_of
from export.report.variant import Noise, noise_of
from export.values import is_weight
from quant.amplification import DRAWS, ROUNDED_SIZES, SIZES, changes, noised, summed
from quant.rows import Tables

Array = NDArray[Any]

NOISE, CLEAN = "noise", "noise/to"  # an input of a graph that is measured, and what it is added to
ROUNDING = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul"}
)
INT8_ACCURACY = 4  # the accuracy_level of MatMulNBits at which it rounds its input


@dataclass(frozen=True)
class Entrance:
    """Where noise is put.

    Attributes:
        names: float inputs of the model, or the one value inside a graph.
        segment: that makes the value; empty for inputs of the model.
        shape: of the value.
    """

    names: tuple[str, ...]
    segment: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Feed:
    """What chains are checked with: runs in order, pairs of states, and the states before the first run.

    `rows` are those that are samples, where the rest only fills the micro-batch; None where rows are not counted.
    """

    runs: Sequence[Values]
    pairs: Sequence[tuple[str, str]]
    states: Values
    rows: int | None = None


def entrance(pieces: Sequence[Piece], run: Mapping[str, Array], tables: Tables | None = None) -> Entrance | None:
    """Where noise can enter: float inputs of a run, else rows of the largest table that ids of the run look up.

    Tables that lie outside are looked up as well. None where there is neither, or where the shipped graph does not have
    those rows.
    """
    # an input of zeros and ones is a mask or a flag, which is not a little wrong either
    floats = tuple(n for n, value in run.items() if value.dtype.kind == "f" and not np.isin(value, (0, 1)).all())
    if floats:
        return Entrance(floats)
    outside = {} if tables is None else tables.counts()
    looked = []
    for piece in pieces:
        graph = piece.exact["forward"].graph
        looked += [(outside.get(str(value.name), 0), value, piece) for value in graph.inputs]
        looked += [(_looked_up(node, run), node.outputs[0], piece) for node in graph]
    rows, found, piece = max(looked, key=lambda one: one[0])
    if not rows:
        return None
    name, shape = str(found.name), shape_of(found)
    dims = tuple(dim for dim in shape or () if isinstance(dim, int))
    shipped = piece.shipped["forward"].graph
    made = find(shipped, name) is not None
    return Entrance((name,), piece.segment.name, dims) if made and len(dims) == len(shape or ()) else None


def _looked_up(node: ir.Node, run: Mapping[str, Array]) -> int:
    """Rows of the float table that a node looks ids of the run up in; 0 where it does not."""
    if node.op_type != "Gather" or node.domain or node.attributes.get_int("axis", 0) != 0:
        return 0
    table, ids = node.inputs
    if table is None or ids is None or not is_weight(table) or table.dtype != ir.DataType.FLOAT:
        return 0
    shape = shape_of(table)
    rows = shape[0] if shape and len(shape) == 2 else 0
    return rows if isinstance(rows, int) and _comes_from(ids, run) else 0


def _comes_from(value: ir.Value, run: Mapping[str, Array]) -> bool:
    """Whether a value is made of what is fed."""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        if current.is_graph_input() and current.name in run:
            return True
        maker = current.producer()
        more = [] if maker is None else [v for v in maker.inputs if v is not None and v not in seen]
        waiting.extend(more)
        seen.update(more)
    return False


@contextmanager
def opened(chain: Chain, where: Entrance) -> Iterator[Chain]:
    """The same chain with an input `noise` that is added to a value inside a segment, and with that value as output."""
    if not where.segment:
        yield chain
        return
    with copied(chain, where.segment, lambda graph: _add_noise(graph, where)) as noisy:
        yield noisy


def _add_noise(graph: ir.Graph, where: Entrance) -> None:
    value = typed(graph, where.names[0], where.shape)
    noise = ir.val(NOISE, ir.DataType.FLOAT, list(where.shape))
    graph.inputs.append(noise)
    edit = Edit(graph, f"/{NOISE}")
    maker = value.producer()
    # an input cannot be an output: it passes through a node
    clean = value if maker is not None else edit.op("Identity", value, like=value)
    total = edit.op("Add", value, noise, like=value)
    if maker is None:
        edit.put_before(graph[0])
    else:
        edit.put_after(maker)
    redirect(value, total, keep=edit.nodes)
    clean.name = CLEAN
    graph.outputs.append(clean)


def rounds_activations(pieces: Sequence[Piece]) -> bool:
    """Whether a shipped forward graph rounds what it is fed to 8 bits on the way."""
    nodes = (node for piece in pieces for node in piece.shipped["forward"].graph)
    return any(
        node.op_type in ROUNDING
        or node.op_type.startswith("QLinear")
        or (node.op_type == "MatMulNBits" and node.attributes.get_int("accuracy_level", 0) == INT8_ACCURACY)
        for node in nodes
    )


class Bench:
    """A chain in fp32 and one of a variant, run on the same input without and with noise."""

    def __init__(self, exact: Chain, variant: Chain, where: Entrance, feed: Feed) -> None:
        self.where, self.feed = where, feed
        self.chains = (exact, variant)
        zeros = {NOISE: np.zeros(where.shape, np.float32)} if where.segment else {}
        self.clean = self._outputs([{**run, **zeros} for run in feed.runs])
        # both nets get the same noise, as large as it should be beside what fp32 has there
        inside = [values.get(CLEAN) for values in self.clean[0]]
        self.before = [
            {name: run[name] if value is None else value for name in where.names}
            for run, value in zip(feed.runs, inside, strict=True)
        ]

    def ratios(self, judged: Sequence[str], size: float, draw: int) -> dict[str, list[Array]]:
        """Change of each output over change of the input, for fp32 and for the variant: float64 [n] each.

        Raises:
            VerificationError: see `_compared`.
        """
        after = [
            {name: noised(x, size, name, draw, at) for name, x in given.items()} for at, given in enumerate(self.before)
        ]
        runs = [self._fed(*both) for both in zip(self.feed.runs, self.before, after, strict=True)]
        noisy = self._outputs(runs)
        out: dict[str, list[Array]] = {}
        for name in judged:
            found = []
            for at, given in enumerate(self.before):
                into = (_together(given), _together(after[at]))
                pairs = [(self.clean[which][at][name], noisy[which][at][name]) for which in (0, 1)]
                found.append(_compared(into, pairs, f"{name} with noise of {100 * size:g} % on {', '.join(given)}"))
            out[name] = [np.concatenate(each) for each in zip(*found, strict=True)]
        return out

    def _fed(self, run: Values, before: Values, after: Values) -> Values:
        if not self.where.segment:
            return {**run, **after}
        return {**run, NOISE: after[self.where.names[0]] - before[self.where.names[0]]}

    def _outputs(self, runs: Sequence[Values]) -> list[list[Values]]:
        return [chain.runs(runs, self.feed.pairs, self.feed.states) for chain in self.chains]


def _together(values: Values) -> Array:
    """Several arrays [rows, ...] as one [rows, numbers]; where their rows differ, as one row."""
    rows = {len(value) if value.ndim else 1 for value in values.values()}
    count = rows.pop() if len(rows) == 1 else 1
    return np.concatenate([value.reshape(count, -1).astype(np.float64) for value in values.values()], axis=1)


def _compared(into: tuple[Array, Array], outputs: Sequence[tuple[Array, Array]], what: str) -> tuple[Array, ...]:
    """The ratios of samples for which there are any: neither input nor outputs are zero, and fp32 stays finite.

    Raises:
        VerificationError: the variant does not stay finite where fp32 does.
    """
    by_row = all(out.ndim and len(out) == len(into[0]) for out, _ in outputs)
    moved = changes(*into, by_row=by_row)
    exact, variant = (changes(*pair, by_row=by_row) for pair in outputs)
    told = (moved > 0) & np.isfinite(exact) & ~np.isnan(variant)
    if not np.isfinite(variant[told]).all():
        raise VerificationError(
            f"expected a finite {what}, as in fp32, found NaN or infinity in the quantized graphs; "
            "export with --quant fp32"
        )
    return exact[told] / moved[told], variant[told] / moved[told]


def measure(benches: Sequence[Bench], judged: Sequence[str], *, rounded: bool) -> Noise | None:
    """Amplification in fp32 and in the variant at every size, of the output for which it grew most.

    `rounded`: the variant rounds activations, see `rounds_activations`.

    None where no output is ever different from zero.

    Raises:
        VerificationError: with noise the variant computes no numbers where fp32 does.
    """
    sizes = ROUNDED_SIZES if rounded else SIZES
    trials = {s: [bench.ratios(judged, s, draw) for bench in benches for draw in range(DRAWS)] for s in sizes}
    found: list[Noise] = []
    for name in judged:
        joined = [[np.concatenate([t[name][which] for t in trials[size]]) for size in sizes] for which in (0, 1)]
        if all(len(ratios) for ratios in joined[0]):
            exact, variant = ([summed(*one) for one in zip(sizes, ratios, strict=True)] for ratios in joined)
            found.append(noise_of(benches[0].where.names, name, exact, variant, rounded=rounded))
    return max(found, key=lambda noise: noise.growth, default=None)
