"""What each stretch of a model does, before its weights have formats and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from devices.products import product_nodes
from export.formats.registry import ACTIVATIONS
from export.values import constant_nodes, is_weight
from export.weight_cost import MULTIPLY, Stored
from export.work import node_works, together
from wire.work import Work

PRODUCT = {"FusedMatMul": "MatMul"}  # of a weight, whichever way it is stored
Both = tuple[tuple[Work, ...], tuple[Work, ...]]


@dataclass(frozen=True)
class Counted:
    """Work of one item in one stretch: of its nodes, and of its products with weights, by the weight's name."""

    plain: tuple[Work, ...]
    products: tuple[tuple[str, Work], ...]

    def stored(self, called: str, kept: Mapping[str, Stored], mode: str) -> Both:
        """What is done at every run, and for each item, where weights are stored so.

        Args:
            called: what the formats are called together.
            kept: of weights; those that are not named are in float32.
            mode: of the plan; while something goes back, every weight is restored.
        """
        per_run, per_item = list[Work](), list(self.plain)
        for name, work in self.products:
            fmt = kept[name].format if name in kept else "fp32"
            fmt = called if called in ACTIVATIONS and fmt != "fp32" and mode == "serve" else fmt
            operator = PRODUCT.get(work.operator, work.operator)
            if operator == "DepthwiseConv" and fmt != "fp32":  # a weight of next to nothing
                fmt = "fp32"
            rows, read, made = work.shape
            nodes = product_nodes(fmt, rows, read, made, operator=operator, written=mode == "train")
            per_run += [replace(one, count=one.count * work.count) for one in nodes.per_run]
            per_item += [replace(one, count=one.count * work.count, batch=work.batch) for one in nodes.per_rows]
        return together(per_run), together(per_item)


def count_work(graph: ir.Graph, unit_of: Mapping[ir.Node, int], batch: int) -> tuple[Counted, ...]:
    """Of each unit, for one item of a graph that is frozen for `batch`."""
    count, free = max(unit_of.values(), default=0) + 1, constant_nodes(graph)
    plain: Sequence[list[Work]] = [[] for _ in range(count)]
    products: Sequence[list[tuple[str, Work]]] = [[] for _ in range(count)]
    for node in graph:
        if node in free:
            continue
        works = [_of_one(work, batch) for work in node_works(node)]
        weight = node.inputs[1] if node.op_type in {*MULTIPLY, "Gemm"} and len(node.inputs) > 1 else None
        if weight is not None and is_weight(weight) and len(works) == 1 and len(works[0].shape) == 3:
            products[unit_of[node]].append((str(weight.name), works[0]))
        else:
            plain[unit_of[node]] += works
    return tuple(Counted(together(p), tuple(q)) for p, q in zip(plain, products, strict=True))


def _of_one(work: Work, batch: int) -> Work:
    """A share of the rows, or of products side by side; see `devices.times.of_items`."""
    if work.batch > 1 and work.batch % batch == 0:
        return replace(work, batch=work.batch // batch)
    return replace(work, shape=(-(-work.shape[0] // batch), *work.shape[1:]))
