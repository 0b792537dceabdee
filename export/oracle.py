"""Every quantized node of a written graph against numpy: what its stored bytes say it must return.

    node                                                          judged by
    MatMulNBits, MatMulBnb4, GatherBlockQuantized                 its output
    DequantizeLinear of stored numbers, Cast of stored halves     the product, convolution or look-up that reads it;
                                                                  its own output where something else does
    Gather of stored integers or halves, then Cast, Sub, Mul      the last of them

The graph runs in onnxruntime with the inputs and outputs of these nodes fetched: under the options that it is shipped
with, and with optimizations off, since a value that is fetched is one that nothing is fused over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import VerificationError
from export.expected import Sample, convolution, looked_up, product, rounded_product, same
from export.fetched import fetch, groups
from export.gradient.present import present
from export.stored import HALVES, INTEGERS, Stored, bnb4, constant, nbits, number, optional, plain, restored, table
from wire.manifest import Options

MICROSOFT = "com.microsoft"
ROUNDING = ("Cast", "Sub", "Mul")  # what follows the look-up of stored integers

Array = NDArray[Any]
# of the values that are needed, in their order, and the output that was found
Judge = Callable[[list[Array], Array], Sample]


@dataclass(frozen=True)
class Claim:
    """One node: what must be known to say what it returns, and how to say it."""

    node: ir.Node
    weight: Stored
    needs: tuple[ir.Value, ...]
    output: ir.Value
    judge: Judge

    @property
    def kind(self) -> str:
        """Operator and format in words."""
        return f"{self.node.op_type} of {self.weight.format}"


@dataclass(frozen=True)
class NodeChecks:
    """What was found.

    Attributes:
        judged: number of nodes by kind.
        error: the largest difference from numpy relative to a node's largest output, by kind.
        unjudged: nodes that read stored integers and were not judged.
    """

    judged: dict[str, int] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    unjudged: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Nodes that were judged."""
        return sum(self.judged.values())

    @property
    def worst(self) -> float:
        """The largest error of any of them."""
        return max(self.error.values(), default=0.0)


def check_nodes(path: Path, feeds: Mapping[str, Array], options: Options) -> NodeChecks:
    """Hold every node of a quantized format against float64 arithmetic on the bytes of its weight.

    Args:
        path: a written graph; its weights lie beside it.
        feeds: every input by its name.
        options: what the graph is shipped with.

    Raises:
        VerificationError: a node returns something else; names node, weight and format.
    """
    graph = ir.load(path).graph
    found, unjudged = claims(graph)
    error: dict[str, float] = {}
    both = [options] if options.graph_optimization == "disable" else [options, _unoptimized(options)]
    for positions in groups([(*claim.needs, claim.output) for claim in found]):
        own = [found[position] for position in positions]
        names = list(dict.fromkeys(str(v.name) for claim in own for v in (*claim.needs, claim.output)))
        for chosen in both:
            values = fetch(path, names, feeds, chosen)
            for claim in own:
                sample = claim.judge([values[str(v.name)] for v in claim.needs], values[str(claim.output.name)])
                hold(claim, sample, path.name)
                error[claim.kind] = max(error.get(claim.kind, 0.0), sample.error())
    return NodeChecks(dict(Counter(claim.kind for claim in found)), error, tuple(unjudged))


def _unoptimized(options: Options) -> Options:
    return replace(options, graph_optimization="disable")


def hold(claim: Claim, sample: Sample, file: str) -> None:
    """Raises VerificationError if a node of a file returned anything that is out of its bound."""
    misses = sample.misses()
    if not misses.any():
        return
    what = f"{claim.node.op_type} {claim.node.name or claim.output.name} of {file}"
    weight = f"{claim.weight.name} ({claim.weight.format})"
    if not sample.found.any():
        raise VerificationError(
            f"expected {what} to read {weight}, found an output of zeros only, as runtimes return for formats that "
            "they have no kernel for; choose another format with --quant or another --block, or another onnxruntime"
        )
    worst = np.unravel_index(int(np.argmax(np.where(misses, _distance(sample), -1))), misses.shape)
    raise VerificationError(
        f"expected {what} over {weight} to return what its bytes say, {sample.expected[worst]:.6g} within "
        f"{sample.allowed[worst]:.2g}, found {sample.found[worst]:.6g}, and {int(misses.sum())} of {misses.size} "
        "judged entries are off; choose another format with --quant, and report this model"
    )


def _distance(sample: Sample) -> Array:
    return np.nan_to_num(np.abs(sample.found - sample.expected), nan=np.inf, posinf=np.inf)


def claims(graph: ir.Graph) -> tuple[list[Claim], list[str]]:
    """What can be said about a graph's nodes, in their order; and those that nothing can be said about."""
    found: list[Claim] = []
    unjudged: list[str] = []
    covered: set[ir.Node] = set()
    for node in graph:
        own, reached = _claims_of(node)
        found += own
        covered |= reached
    for node in graph:
        stored = [v for v in node.inputs if constant(v) is not None and present(v).dtype in INTEGERS]
        if stored and node not in covered:
            unjudged.append(f"{node.op_type} {node.name or node.outputs[0].name}")
    return found, unjudged


def _claims_of(node: ir.Node) -> tuple[list[Claim], set[ir.Node]]:
    """The claims that a stored weight at this node allows, and the nodes that they say something about."""
    makers = {(MICROSOFT, "MatMulNBits"): _nbits, (MICROSOFT, "MatMulBnb4"): _bnb4}
    makers[MICROSOFT, "GatherBlockQuantized"] = _rows
    maker = makers.get((node.domain, node.op_type))
    if maker is not None:
        claim = maker(node)
        return ([], set()) if claim is None else ([claim], {node})
    weight = restored(node.outputs[0]) if node.outputs else None
    if weight is not None:
        return _readers(node, weight), {node}
    if node.op_type == "Gather" and not node.domain and _is_table(node):
        return _look_up(node)
    return [], set()


def _nbits(node: ir.Node) -> Claim | None:
    weight = nbits(node)
    if weight is None:
        return None
    bias, block = optional(node, 5), number(node, "block_size")
    needs = (present(node.inputs[0]), *([] if bias is None else [bias]))

    def judge(values: list[Array], y: Array) -> Sample:
        added = values[1] if bias is not None else None
        if number(node, "accuracy_level") == 4:
            return rounded_product(values[0], y, weight, block, added)
        return product(values[0], y, weight, True, 1.0, added)

    return Claim(node, weight, needs, node.outputs[0], judge)


def _bnb4(node: ir.Node) -> Claim | None:
    weight = bnb4(node)
    if weight is None:
        return None
    needs = (present(node.inputs[0]),)
    return Claim(node, weight, needs, node.outputs[0], lambda values, y: product(values[0], y, weight, True))


def _rows(node: ir.Node) -> Claim | None:
    weight = table(node)
    if weight is None:
        return None
    needs = (present(node.inputs[1]),)
    return Claim(node, weight, needs, node.outputs[0], lambda values, y: looked_up(values[0], y, weight))


def _readers(node: ir.Node, weight: Stored) -> list[Claim]:
    """Those that read a restored weight; itself where one of them cannot be judged."""
    value = node.outputs[0]
    found = [_reader(use.node, use.idx, weight) for use in value.uses()]
    out = [claim for claim in found if claim is not None]
    if len(out) < len(found) or not found:
        out.append(Claim(node, weight, (), value, lambda values, y: same(y, weight.whole())))
    return out


def _reader(node: ir.Node, position: int, weight: Stored) -> Claim | None:
    y = node.outputs[0]
    if node.op_type == "Gather" and not node.domain and position == 0 and not number(node, "axis"):
        places = (present(node.inputs[1]),)
        return Claim(node, weight, places, y, lambda values, out: looked_up(values[0], out, weight))
    if position != 1:
        return None
    needs = tuple(v for v in (node.inputs[0], optional(node, 2)) if v is not None)
    if node.op_type == "Conv" and not node.domain:
        return Claim(
            node,
            weight,
            needs,
            y,
            lambda values, out: convolution(node, values[0], out, weight, values[1] if len(values) > 1 else None),
        )
    matrix = {("", "MatMul"), ("", "Gemm"), (MICROSOFT, "FusedMatMul")}
    batched = any(number(node, name) for name in ("transBatchA", "transBatchB"))
    if (node.domain, node.op_type) not in matrix or len(weight.shape) != 2 or batched:
        return None
    alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))

    def judge(values: list[Array], out: Array) -> Sample:
        x = np.swapaxes(values[0], -1, -2) if number(node, "transA") else values[0]
        added = beta * values[1] if len(values) > 1 else None
        return product(x, out, weight, bool(number(node, "transB")), alpha, added)

    return Claim(node, weight, needs, y, judge)


def _is_table(node: ir.Node) -> bool:
    tensor = constant(node.inputs[0])
    return tensor is not None and tensor.dtype in INTEGERS | HALVES and not number(node, "axis")


def _look_up(node: ir.Node) -> tuple[list[Claim], set[ir.Node]]:
    """Rows of stored integers, with what restores them: Cast, Sub and Mul with rows of other tables."""
    inside, top = {node}, node
    while len(top.outputs[0].uses()) == 1 and not top.outputs[0].is_graph_output():
        reader = next(iter(top.outputs[0].uses())).node
        others = {present(v).producer() for v in reader.inputs if v is not top.outputs[0]}
        beside = {n for n in others if n is not None and n.op_type == "Gather" and constant(n.inputs[0]) is not None}
        if reader.domain or reader.op_type not in ROUNDING or others != beside:
            break
        inside |= {reader, *beside}
        top = reader
    if top is node:
        return [], set()
    weight = plain(present(node.inputs[0]))
    places = list(dict.fromkeys(present(n.inputs[1]) for n in inside if n.op_type == "Gather"))

    def judge(values: list[Array], y: Array) -> Sample:
        indices = dict(zip(places, values, strict=True))
        return same(y, _evaluated(top, indices))

    named = replace(weight, format=f"{weight.format} rows")
    return [Claim(top, named, tuple(places), top.outputs[0], judge)], inside


def _evaluated(node: ir.Node, indices: Mapping[ir.Value, Array]) -> NDArray[np.float64]:
    """Such a look-up in float64."""
    if node.op_type == "Gather":
        held = plain(present(node.inputs[0]))
        at = indices[present(node.inputs[1])].astype(np.int64)
        return held.rows(at.reshape(-1) % held.shape[0]).reshape(*at.shape, *held.shape[1:])
    made = [_evaluated(present(present(value).producer()), indices) for value in node.inputs]
    if node.op_type == "Cast":
        return made[0]
    return np.asarray(made[0] - made[1] if node.op_type == "Sub" else made[0] * made[1])
