"""How near another processor comes to the outputs of graphs that round activations.

Rounding is where small differences become large: a sum that another order of additions changes in its last bit moves
an activation by a whole step now and then, and the layers behind it see another number. Measured on MiniLM between
two ways to run the same graph (sums of normalizations in another order, 7e-7 apart in fp32): 0.066 of the largest
output with dynamic scales, 0.031 with static ones. Where every float is made by operators that are exact to the last
bit everywhere (products of integers, and one rounding per number), nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from export.activations.fuse import CARRIERS

ROUNDED_TOLERANCE = 0.1  # of max(1, max|expected|)
ROUNDING = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})
# one rounding of IEEE 754 for every number, or none; DynamicQuantizeLinear is exact, but for what it is fed
STEADY = frozenset(
    {
        *("QLinearConv", "MatMulIntegerToFloat", "ConvInteger", "QuantizeLinear", "DequantizeLinear"),
        *("DynamicQuantizeLinear", "Cast", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Max", "Min", "Relu", "Clip"),
        *("Concat", "Split", "Slice", "Gather", "Identity", "Expand", "Pad", "Where", "Constant", "Shape"),
        *CARRIERS,
    }
)


def tolerance(graphs: Iterable[ir.Graph], otherwise: float) -> float:
    """What golden outputs of a chain may differ by; `otherwise` where nothing is rounded, or nothing can tip it."""
    nodes = {node.op_type for graph in graphs for node in graph}
    return ROUNDED_TOLERANCE if nodes & ROUNDING and nodes - STEADY else otherwise
