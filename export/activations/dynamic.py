"""int8 weights, and activations that become uint8 when a graph runs, with a scale of their own every time.

    x_u8, s_x, z_x = DynamicQuantizeLinear(x)
    y = MatMulIntegerToFloat(x_u8, W_q, s_x, s_W, z_x, 0)      W_q int8, s_W for every output column
    y = ConvInteger(x_u8, W_q, z_x, z_W) s_x s_W + b           W_q uint8, one s_W and one z_W

A convolution's weight is uint8 with one scale: runtimes up to 1.23 have no ConvInteger of int8 (they refuse to load
it), and the tool knows no scales by channel there. The scale of x spans the whole batch: what one item gets depends a
little on its neighbours, and a wide outlier costs all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from export.activations.carry import check_size, receive, reports, send
from export.activations.fuse import fuse
from export.activations.readers import readers
from export.activations.tools import dynamic_file
from export.formats.report import WeightReport

FORMAT = "int8-dynamic"


def dynamic(
    model: ir.Model, weights: Collection[str], work: Path, *, reduce: bool = False
) -> tuple[ir.Model, list[WeightReport]]:
    """A copy of a graph whose products with the named weights are of integers; all else is as it was.

    Args:
        model: a graph without slots; it is left as it is.
        weights: names of initializers that MatMul, Gemm or Conv read.
        work: a folder for the tool's files; it is empty afterwards if it was before.
        reduce: weights of matrix products in seven bits, for processors whose products of eight bits saturate
            (`export.activations.saturation`).

    Returns:
        The graph, and a report for every named weight in their order; what stays float says why. A weight that Gemm
        reads transposed is reported, and stored, as `NAME.t`.

    Raises:
        UsageError: a name that is no initializer of the graph.
        UnsupportedModel: a weight holds NaN or infinity, the model is too large for the tool, or the tool gives up.
        StorageError: the work folder cannot be written.
    """
    check_size(model, weights)
    before = model.clone()
    found = readers(before, weights)
    after = before
    for op_type in ("MatMul", "Conv"):
        nodes = found.of(op_type)
        if nodes:
            after = _pass(after, found.taken, nodes, op_type, work, reduce=reduce)
    fuse(after)
    return after, reports(after, before, found, FORMAT)


def _pass(
    model: ir.Model, held: Collection[str], nodes: list[str], op_type: str, work: Path, *, reduce: bool
) -> ir.Model:
    """One call of the tool, which takes one type of weights at a time."""
    matrices = op_type == "MatMul"
    with TemporaryDirectory(dir=work) as folder:
        source, target = send(model, Path(folder), held), Path(folder) / "integers.onnx"
        dynamic_file(source, target, nodes, op_type, signed=matrices, per_channel=matrices, reduce=reduce and matrices)
        after = receive(target, model)
    for node in after.graph:
        if node.op_type == "DynamicQuantizeLinear" and str(node.name).endswith("_QuantizeLinear"):
            # a second pass over the same input would choose the tool's names once more
            x = node.inputs[0].name if node.inputs[0] is not None else ""
            node.name = f"{x}/{op_type}/DynamicQuantizeLinear"
            for value, part in zip(node.outputs, ("u8", "scale", "zero_point"), strict=True):
                value.name = f"{x}/{op_type}/{part}"
    return after
