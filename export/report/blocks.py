"""A segment's graph as a few blocks: runs of nodes of one module, alike neighbours as one.

A block is for the eye. Modules come from what exporters leave in a graph (scopes, node names, names of weights);
a graph without any is divided by position.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from console.errors import BadData
from export.report.modules import module_of, prefix, weights_of
from export.values import reads
from wire.record import LARGEST

ENTRY = -1  # the place of what enters the segment
ENOUGH = 6  # blocks of a segment: fewer, and the next level of modules is looked at
MOST, LEAST = 14, 8  # parts of a graph without names, and nodes of each
ALIKE = 3  # neighbours from this number on are drawn as one
SMALL, CONSTANTS = 3, 1024  # a run of fewer nodes with fewer bytes of weights belongs to its neighbour


@dataclass(frozen=True)
class Block:
    """Neighbouring nodes of one module. `first`, `last`: the modules of the first and last of `alike` blocks."""

    first: str
    last: str
    nodes: int
    operators: tuple[tuple[str, int], ...]  # of one of the alike blocks, most frequent first
    weight_bytes: int
    slots: int
    alike: int = 1


@dataclass(frozen=True)
class Skip:
    """Tensors that are made in block `source` (or enter: -1) and read in blocks that do not follow at once."""

    source: int
    targets: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Blocks:
    """A segment for the eye. A target of `len(blocks)` is the segment's end."""

    blocks: tuple[Block, ...]
    skips: tuple[Skip, ...]


@dataclass
class _Run:
    module: str
    nodes: list[ir.Node] = field(default_factory=list)


def read_blocks(path: Path, slots: Iterable[str]) -> Blocks:
    """The blocks of a graph in a file.

    Args:
        path: an ONNX file; its weights are not read.
        slots: names of the graph inputs that mark a slot, one per slot.

    Raises:
        BadData: it is not an ONNX graph.
    """
    try:
        graph = ir.load(path).graph
        if not graph.outputs:  # an empty file is a valid message of protobuf
            raise ValueError("no outputs")
        return blocks_of(graph, frozenset(slots))
    except Exception as error:  # protobuf and onnx_ir raise many kinds for a damaged file
        said = " ".join(str(error).split())[:200]
        raise BadData(f"expected an ONNX graph in {path}, found something else ({said}); export it again") from error


def blocks_of(graph: ir.Graph, slots: frozenset[str]) -> Blocks:
    """The blocks of a graph, and what skips blocks."""
    runs = _runs(list(graph))
    single = [_block(run, slots) for run in runs]
    groups = _alike(single)
    place = {node: group for group, members in enumerate(groups) for i in members for node in runs[i].nodes}
    merged = tuple(_merged([single[i] for i in members]) for members in groups)
    return Blocks(merged, _skips(graph, place, len(merged)))


def _runs(nodes: Sequence[ir.Node]) -> list[_Run]:
    """Runs of one module, at the coarsest level that gives enough of them."""
    paths = [module_of(node) for node in nodes]
    if not any(paths):
        return _by_position(nodes)
    parents = {path.partition(".")[0] for path in paths if re.search(r"\.\d+(\.|$)", path)}
    found: list[_Run] = []
    for level in (1, 2, 3):
        finer = _joined(nodes, [prefix(path, level, parents) for path in paths])
        if len(finer) > MOST and found:
            break
        found = finer
        if len(found) >= ENOUGH:
            break
    return found


def _joined(nodes: Sequence[ir.Node], modules: Sequence[str]) -> list[_Run]:
    runs: list[_Run] = []
    for node, module in zip(nodes, modules, strict=True):
        if not runs or (module and module != runs[-1].module):
            runs.append(_Run(module))
        runs[-1].nodes.append(node)
    kept: list[_Run] = []
    for run in runs:
        short = len(run.nodes) < SMALL and _bytes(run.nodes) < CONSTANTS
        if kept and (short or run.module == kept[-1].module):
            kept[-1].nodes += run.nodes
        else:
            kept.append(run)
    return kept


def _by_position(nodes: Sequence[ir.Node]) -> list[_Run]:
    step = max(LEAST, -(-len(nodes) // MOST))
    return [
        _Run(f"nodes {at} to {min(at + step, len(nodes)) - 1}", list(nodes[at : at + step]))
        for at in range(0, len(nodes), step)
    ]


def _bytes(nodes: Sequence[ir.Node]) -> int:
    """Bytes of all weights that some nodes read; a damaged file may claim any shape."""
    weights = {value for node in nodes for value in weights_of(node)}
    return min(LARGEST, sum(value.const_value.nbytes for value in weights if value.const_value is not None))


def _block(run: _Run, slots: frozenset[str]) -> Block:
    operators = Counter(node.op_type for node in run.nodes)
    marked = {value.name for node in run.nodes for value in node.inputs if value is not None and value.name in slots}
    module = run.module or "unnamed"
    return Block(module, module, len(run.nodes), tuple(operators.most_common()), _bytes(run.nodes), len(marked))


def _alike(blocks: Sequence[Block]) -> list[list[int]]:
    """Indexes in groups: neighbours that differ in their number only, from three on."""
    groups: list[list[int]] = []
    for i, block in enumerate(blocks):
        if groups and _same(blocks[groups[-1][-1]], block):
            groups[-1].append(i)
        else:
            groups.append([i])
    return [part for group in groups for part in ([group] if len(group) >= ALIKE else [[i] for i in group])]


def _same(first: Block, second: Block) -> bool:
    a, b = (block.first.rpartition(".") for block in (first, second))
    numbered = a[2].isdigit() and b[2].isdigit() and a[0] == b[0]
    return numbered and replace(first, first="", last="") == replace(second, first="", last="")


def _merged(members: Sequence[Block]) -> Block:
    one = members[0]
    return replace(
        one,
        last=members[-1].last,
        nodes=sum(block.nodes for block in members),
        weight_bytes=sum(block.weight_bytes for block in members),
        slots=sum(block.slots for block in members),
        alike=len(members),
    )


def _skips(graph: ir.Graph, place: dict[ir.Node, int], end: int) -> tuple[Skip, ...]:
    """One record per source block, of everything that does not go to the next block."""
    found: dict[int, tuple[set[int], list[str]]] = {}

    def note(value: ir.Value, target: int) -> None:
        maker = value.producer()
        source = ENTRY if maker is None else place[maker]
        if target > source + 1:
            targets, names = found.setdefault(source, (set(), []))
            targets.add(target)
            names.append(value.name or "")

    for node in graph:
        for value in reads(node):
            if value.producer() in place or (value.is_graph_input() and not value.is_initializer()):
                note(value, place[node])
    for value in graph.outputs:
        if value.producer() in place:
            note(value, end)
    return tuple(
        Skip(source, tuple(sorted(targets)), tuple(dict.fromkeys(names)))
        for source, (targets, names) in sorted(found.items())
    )
