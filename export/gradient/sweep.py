"""The reverse sweep: from cotangents of seeds to gradients of targets.

Reverse mode as in Griewank and Walther, Evaluating Derivatives, 2nd edition, section 3.2: visit the nodes on
the path backwards, hand each one's cotangent to its inputs, add where a value has several uses. Sums are
formed at once, so that at most one cotangent per value is alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from export.gradient import (
    activations,
    convolution,
    einsum,
    elementwise,
    indexing,
    linear,
    normalization,
    piecewise,
    places,
    pooling,
    reductions,
    resizing,
    sampling,
    shapes,
    slicing,
    trigonometry,
)
from export.gradient.dims import dims_of, dtype_of
from export.gradient.path import Visit, refuse_problems, trace
from export.gradient.present import present
from export.gradient.registry import Call, find
from export.gradient.tape import Tape

# Importing a family registers its rules.
FAMILIES = (
    *(activations, convolution, einsum, elementwise, indexing, linear, normalization, piecewise, places),
    *(pooling, reductions, resizing, sampling, shapes, slicing, trigonometry),
)


def differentiate(
    graph: ir.Graph, seeds: Mapping[ir.Value, ir.Value], targets: Sequence[ir.Value]
) -> dict[ir.Value, ir.Value]:
    """Append the backward nodes to `graph` and return the gradient of every target.

    Args:
        graph: In execution order, with known shapes; ranks of adapters may be symbols `r_0`, `r_1`, ...
        seeds: Cotangent by value; each of the value's shape and type.
        targets: Graph inputs, initializers or values inside the graph.

    Returns:
        Per target the gradient of `sum(seed * value)`, of the target's shape and type; zeros where no
        path leads to a seed. Two targets may share one gradient value, and it may be a seed.

    Raises:
        NoGradientRule: Operators on the path have no rule; all of them are named.
        UnknownDimension: Values on the path have an unknown shape; all of them are named.
        UnsupportedModel: The graph is older than opset 16.
    """
    visits = trace(graph, seeds, targets)
    refuse_problems(visits)
    tape = Tape(graph)
    cotangents: dict[ir.Value, ir.Value] = {}
    for value, seed in seeds.items():
        if dims_of(value) != dims_of(seed) or dtype_of(value) != dtype_of(seed):
            raise ValueError(f"the seed '{seed.name}' has not the shape and type of '{value.name}'")
        cotangents[value] = seed
    for visit in reversed(visits):
        _pull(tape, visit, cotangents)
    tape.scope = "zeros"
    return {target: cotangents.get(target) or tape.zeros(target) for target in targets}


def _pull(tape: Tape, visit: Visit, cotangents: dict[ir.Value, ir.Value]) -> None:
    """Hand the cotangents of a node's outputs to its wanted inputs."""
    node = visit.node
    entry = present(find(node))
    tape.scope = node.name or node.op_type
    call = Call(node, tuple(cotangents.get(output) for output in node.outputs), visit.wanted)
    products = entry.products(tape, call)
    for index in sorted(visit.wanted):
        value = call.input(index)
        gradient = products[index]()
        if value in cotangents:
            gradient = tape.add(cotangents[value], gradient)
        cotangents[value] = gradient
