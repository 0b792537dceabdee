"""Which nodes of a graph something can be said about: what they need to be judged, and what judges them.

node                                                          judged by
MatMulNBits, MatMulBnb4, GatherBlockQuantized                 its output
what restores a stored weight (`export.oracle.restored`)      the product, convolution or look-up that reads it;
                                                              its own output where something else does
Gather of stored integers or halves, then Cast, Sub, Mul      the last of them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.gradient.present import present
from export.oracle.expected import Sample, convolution, looked_up, product, products, rounded_product, same
from export.oracle.numbers import constant, numbers
from export.oracle.restored import is_float, plain, restored
from export.oracle.stored import HALVES, INTEGERS, Stored, bnb4, nbits, number, optional, table

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


def claims(graph: ir.Graph) -> tuple[list[Claim], list[ir.Node]]:
    """What can be said about a graph's nodes, in their order; and those that nothing can be said about."""
    found = [claim for node in graph for claim in _claims_of(node)]
    covered = {node for claim in found for node in (claim.node, *claim.weight.nodes)}
    return found, [node for node in graph if node not in covered and any(_is_integer(value) for value in node.inputs)]


def _is_integer(value: ir.Value | None) -> bool:
    tensor = constant(value)
    # one number alone is a zero point of activations
    return tensor is not None and tensor.dtype in INTEGERS and tensor.size > 1


def _claims_of(node: ir.Node) -> list[Claim]:
    """The claims that a stored weight at this node allows."""
    maker = MAKERS.get((node.domain, node.op_type))
    if maker is not None:
        claim = maker(node) if is_float(node.outputs[0]) else None
        return [] if claim is None else [claim]
    weight = restored(node.outputs[0]) if len(node.outputs) == 1 else None
    if weight is not None:
        return _readers(node, weight)
    return _look_up(node) if node.op_type == "Gather" and not node.domain and _is_table(node) else []


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


MAKERS = {
    (MICROSOFT, "MatMulNBits"): _nbits,
    (MICROSOFT, "MatMulBnb4"): _bnb4,
    (MICROSOFT, "GatherBlockQuantized"): _rows,
}


def _readers(node: ir.Node, weight: Stored) -> list[Claim]:
    """Those that read a restored weight; itself where one of them cannot be judged."""
    value = node.outputs[0]
    # another shape of it has readers of its own
    uses = [use for use in value.uses() if use.node.op_type != "Reshape" or restored(use.node.outputs[0]) is None]
    found = [_reader(use.node, use.idx, weight) for use in uses]
    out = [claim for claim in found if claim is not None]
    if len(out) < len(found) or value.is_graph_output():
        out.append(Claim(node, weight, (), value, lambda values, y: same(y, weight.whole())))
    return out


def _reader(node: ir.Node, position: int, weight: Stored) -> Claim | None:
    if node.op_type == "Gather" and not node.domain and position == 0 and not number(node, "axis"):
        places = (present(node.inputs[1]),)
        return Claim(node, weight, places, node.outputs[0], lambda values, y: looked_up(values[0], y, weight))
    judge = {("", "Conv"): _convolution, ("", "MatMul"): _product, ("", "Gemm"): _product}
    judge[MICROSOFT, "FusedMatMul"] = _product
    maker = judge.get((node.domain, node.op_type))
    batched = any(number(node, name) for name in ("transBatchA", "transBatchB"))
    if maker is None or position != 1 or batched or len(weight.shape) < 2:
        return None
    needs = tuple(v for v in (node.inputs[0], optional(node, 2)) if v is not None)
    return Claim(node, weight, needs, node.outputs[0], maker(node, weight))


def _convolution(node: ir.Node, weight: Stored) -> Judge:
    return lambda values, y: convolution(node, values[0], y, weight, values[1] if len(values) > 1 else None)


def _product(node: ir.Node, weight: Stored) -> Judge:
    alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
    turned = bool(number(node, "transB"))

    def judge(values: list[Array], y: Array) -> Sample:
        x = np.swapaxes(values[0], -1, -2) if number(node, "transA") else values[0]
        if len(weight.shape) > 2:
            return products(x, y, weight, turned, alpha)
        return product(x, y, weight, turned, alpha, beta * values[1] if len(values) > 1 else None)

    return judge


def _is_table(node: ir.Node) -> bool:
    tensor = constant(node.inputs[0])
    return tensor is not None and tensor.dtype in INTEGERS | HALVES and not number(node, "axis")


def _look_up(node: ir.Node) -> list[Claim]:
    """Rows of stored integers, with what restores them: Cast, Sub and Mul with rows of other tables."""
    inside, top = [node], node
    while len(top.outputs[0].uses()) == 1 and not top.outputs[0].is_graph_output():
        reader = next(iter(top.outputs[0].uses())).node
        others = {present(v).producer() for v in reader.inputs if v is not top.outputs[0]}
        beside = [n for n in others if n is not None and n.op_type == "Gather" and constant(n.inputs[0]) is not None]
        if reader.domain or reader.op_type not in ROUNDING or len(others) != len(beside):
            break
        inside += [reader, *beside]
        top = reader
    if top is node or not is_float(top.outputs[0]):
        return []
    weight = plain(present(node.inputs[0]))
    named = replace(weight, format=f"{weight.format} rows", nodes=tuple(inside))
    places = tuple(dict.fromkeys(present(n.inputs[1]) for n in inside if n.op_type == "Gather"))

    def judge(values: list[Array], y: Array) -> Sample:
        return same(y, numbers(top.outputs[0], dict(zip(places, values, strict=True))))

    return [Claim(top, named, places, top.outputs[0], judge)]
