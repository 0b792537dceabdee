"""Convolutions, and the slot beside one.

Beside y = Conv(x, W), with W [out, C, kh, kw] (C channels per group), the slot adds what the weight's matrix
[in, out], in = C kh kw flattened in that order, gains by scale A B:

    one group     (scale B)^T times the pixels of Conv(x, A'), A' = A^T as [r, C, kh, kw]
    more groups   Conv(x, (scale A B)^T as [out, C, kh, kw]) with the same groups

The first is what PEFT's Conv2d layer computes (Hugging Face PEFT, tuners/lora/layer.py: lora_A has the layer's
window, strides and pads, lora_B is 1 x 1; it forgets dilations, which are kept here), and never makes a tensor of
the weight's size. With groups the narrow form would need r channels for every group: for a depthwise layer, whose
matrix is [kh kw, out], more than the change itself. PEFT means something else by grouped layers (a group's outputs
see r / groups of the directions): there this is the one low-rank change of the layer's matrix, and no PEFT adapter
is written of it.

The second factor is a product of two matrices, [out, r] by [r, pixels of the batch], and not the 1 x 1 convolution
that it could be: at rank 0 the sum is over nothing, and onnxruntime (1.23 to 1.31) then leaves what a convolution or
a batched MatMul should have written as the memory was. Of two matrices it writes zeros.

Where a BatchNormalization alone reads the convolution, the sum stands behind it and the change is multiplied by its
factor gamma / sqrt(variance + epsilon) per channel: the same number, and the normalisation can still be folded into
the convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.edit import Attribute, Edit
from export.linears import block_of, constant
from export.modules import module_of, positions

COPIED = ("auto_pad", "dilations", "pads", "strides")


@dataclass(frozen=True)
class Convolution:
    """y = Conv(x, W) (+ b), with W a constant [out, *window]; the window is channels per group and kernel."""

    node: ir.Node
    module: str
    weight: ir.Value
    features_out: int
    window: tuple[int, ...]
    groups: int

    @property
    def features_in(self) -> int:
        """Rows of the weight's matrix: channels per group times the kernel's size."""
        return math.prod(self.window)

    @property
    def block(self) -> int | None:
        """The number of the block that the module belongs to; None outside the blocks."""
        return block_of(self.module)


def convolutions(model: ir.Model) -> list[Convolution]:
    """Every Conv of the main graph with a constant weight, in file order; 1-D, 2-D and 3-D."""
    found, at = [], positions(model.graph)
    for node in model.graph:
        if node.domain or node.op_type != "Conv":
            continue
        weight = node.inputs[1]
        tensor = constant(weight)
        if weight is None or tensor is None or len(tensor.shape) < 3:
            continue
        out, *window = (int(size) for size in tensor.shape.numpy())
        groups = node.attributes.get_int("group", 1)
        found.append(Convolution(node, module_of(node, weight, at[node]), weight, out, tuple(window), groups))
    return found


def normalization(convolution: Convolution) -> tuple[ir.Node, np.ndarray] | None:
    """The BatchNormalization that alone reads a convolution, and its factor [out]; None where there is none."""
    output = convolution.node.outputs[0]
    uses = list(output.uses())
    if output.is_graph_output() or len(uses) != 1:
        return None
    node = uses[0].node
    if node.op_type != "BatchNormalization" or node.domain or node.attributes.get_int("training_mode", 0) != 0:
        return None
    gamma, variance = constant(node.inputs[1]), constant(node.inputs[4])
    if uses[0].idx != 0 or gamma is None or variance is None:
        return None
    spread = np.sqrt(variance.numpy().astype(np.float64) + node.attributes.get_float("epsilon", 1e-5))
    return node, (gamma.numpy() / spread).astype(np.float32)


def change_of(
    edit: Edit,
    convolution: Convolution,
    base: ir.Value,
    inputs: tuple[ir.Value, ir.Value, ir.Value],
    factor: np.ndarray | None,
) -> ir.Value:
    """What the slot adds, as nodes of `edit`: shaped as `base`; `factor` [out] is that of the normalisation behind."""
    a, b, scale = inputs
    node, x = convolution.node, convolution.node.inputs[0]
    settings: dict[str, Attribute] = {
        name: attribute.value for name, attribute in node.attributes.items() if name in COPIED
    }
    columns = edit.op("Mul", b, scale)
    if factor is not None:
        columns = edit.op("Mul", columns, edit.constant("factor", factor))
    if convolution.groups > 1:
        product = edit.op("Transpose", edit.op("MatMul", a, columns), attributes={"perm": [1, 0]})
        shape = edit.constant("shape", [convolution.features_out, *convolution.window], np.int64)
        settings["group"] = convolution.groups
        return edit.op("Conv", x, edit.op("Reshape", product, shape), attributes=settings)
    # 0 keeps a dimension as it is: the rank is not known here, and may be 0
    window = edit.constant("window", [0, *convolution.window], np.int64)
    rows = edit.op("Transpose", a, attributes={"perm": [1, 0]})
    narrow = edit.op("Conv", x, edit.op("Reshape", rows, window), attributes=settings)
    swapped = [1, 0, *range(2, len(convolution.window) + 1)]  # channels before items
    pixels = edit.op("Flatten", edit.op("Transpose", narrow, attributes={"perm": swapped}), attributes={"axis": 1})
    change = edit.op("MatMul", edit.op("Transpose", columns, attributes={"perm": [1, 0]}), pixels)
    shape = edit.op("Gather", edit.op("Shape", base), edit.constant("swapped", swapped, np.int64))
    return edit.op("Transpose", edit.op("Reshape", change, shape), attributes={"perm": swapped})
