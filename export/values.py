"""What nodes read, what their values weigh, and which nodes nothing but weights decide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of, is_rank_symbol, most_of

FED_AS = "edgequilt.fed_as"  # in the meta of an input that is made of another one: that one
COST_RANK = 16  # what a rank symbol counts where no board is known yet: the largest rank of a plan


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """Inputs of a node, and what the bodies of If, Loop and Scan take from outside."""
    yield from (value for value in node.inputs if value is not None)
    for body in bodies(node):
        inside = {value for inner in body for value in inner.outputs} | set(body.inputs)
        taken = (value for inner in body for value in reads(inner))
        yield from (v for v in (*taken, *body.outputs) if v not in inside and v.name not in body.initializers)


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs inside a node."""
    out = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            out.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            out.extend(attribute.as_graphs())
    return out


def value_bytes(value: ir.Value, rank: int = COST_RANK) -> int:
    """Bytes of a value with the batch that the graph is frozen for; a rank symbol counts `rank`, factors are whole.

    Raises:
        UnsupportedModel: its shape or type is not known.
    """
    size_bits = dtype_of(value).bitwidth
    for dim in dims_of(value):
        size_bits *= rank if is_rank_symbol(dim) else most_of(dim) or int(dim)
    return -(-size_bits // 8)


def in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The tensor itself, or a copy of it where it lies in a file that is not ours."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name)


def is_weight(value: ir.Value) -> bool:
    """A constant tensor of the graph: an initializer that nobody can feed."""
    return value.is_initializer() and not value.is_graph_input()


def constant_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that depend on weights only: they cost nothing at a cut, every segment may have its own copy."""
    found: set[ir.Node] = set()
    for node in graph:
        if all(is_weight(value) or value.producer() in found for value in reads(node)):
            found.add(node)
    return found
