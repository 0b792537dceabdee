"""The order of the file is the order of the run.

With all optimizations off and priority order, onnxruntime runs the nodes as the file lists them. Each
DequantizeLinear is therefore put directly before the product that needs its weight: anywhere earlier, float
weights wait in memory for their turn (measured on MiniLM: 223 instead of 161 MiB).
"""

from __future__ import annotations

import onnx_ir as ir


def order_just_in_time(model: ir.Model) -> int:
    """Move every DequantizeLinear directly before its first use, in place; how many moved.

    All other nodes keep their order. A node that comes after something it needs stays after it: the inputs of
    a DequantizeLinear are initializers, or were made before its old place, which is earlier.
    """
    graph = model.graph
    place = {node: index for index, node in enumerate(graph)}
    moved = 0
    for node in list(graph):
        if node.op_type != "DequantizeLinear" or node.domain:
            continue
        users = [use.node for use in node.outputs[0].uses() if use.node in place]
        if not users:
            continue
        first = min(users, key=place.__getitem__)
        if place[first] != place[node] + 1:
            graph.remove(node)
            graph.insert_before(first, node)
            moved += 1
    return moved
