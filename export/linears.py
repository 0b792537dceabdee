"""The linear layers of a captured graph, and the module of the original model that each node came from.

torch's tracing exporter names nodes after the module that ran them (`/encoder/layer.0/attention/self/query/MatMul`)
and forgets the names of transposed weights (`onnx::MatMul_740`); others do other things: see `export.modules`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx_ir as ir

from export.modules import module_of, module_path, positions

# a block is a numbered member of a list of modules: encoder.layer.3, transformer.h.11, blocks.0
BLOCK = re.compile(r"(?:^|\.)(?P<list>[A-Za-z_]\w*)\.(?P<index>\d+)(?=\.|$)")


@dataclass(frozen=True)
class Linear:
    """y = x W (+ b), with W a constant matrix.

    `transposed` says that the node stores W as [out, in] (a Gemm with transB), not as [in, out].
    """

    node: ir.Node
    module: str
    weight: ir.Value
    features_in: int
    features_out: int
    transposed: bool

    @property
    def block(self) -> int | None:
        """The number of the block that the module belongs to; None outside the blocks."""
        return block_of(self.module)


def block_of(module: str) -> int | None:
    """The number of the outermost block that a module belongs to; None outside the blocks.

    >>> block_of("encoder.layer.3.attention.self.query"), block_of("pooler.dense")
    (3, None)
    """
    found = BLOCK.search(module)
    return int(found["index"]) if found else None


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind a value that nothing can change: an initializer that is not also a graph input."""
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    producer = value.producer()
    if producer is None or producer.op_type != "Constant" or producer.domain:
        return None
    held = producer.attributes.get("value")
    return held.as_tensor() if held is not None else None


def linears(model: ir.Model) -> list[Linear]:
    """Every MatMul and Gemm of the main graph with a constant 2-D weight on its right, in file order."""
    found, at = [], positions(model.graph)
    for node in model.graph:
        if node.domain or node.op_type not in {"MatMul", "Gemm"}:
            continue
        weight = node.inputs[1]
        tensor = constant(weight)
        if weight is None or tensor is None or len(tensor.shape) != 2:
            continue
        rows, columns = tensor.shape.numpy()
        transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
        sizes = (columns, rows) if transposed else (rows, columns)
        found.append(Linear(node, module_of(node, weight, at[node]), weight, *sizes, transposed))
    return found


def name_weights(model: ir.Model) -> dict[str, str]:
    """Name each linear weight after its module, in place; the map from those names to module paths.

    Only modules that node names tell: what is renamed here was nameless.
    """
    modules: dict[str, str] = {}
    taken = set(model.graph.initializers)
    for linear in linears(model):
        module = module_path(linear.node.name)
        if not module or not linear.weight.is_initializer() or linear.weight.name in modules:
            continue
        name = f"{module}.weight"
        if name not in taken:
            taken.add(name)
            linear.weight.name = name
        modules[str(linear.weight.name)] = module
    return modules
