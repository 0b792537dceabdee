"""int8 weights and uint8 activations with scales that are fixed beforehand, on calibration items.

    x_u8 = QuantizeLinear(x, s_x, z_x)
    y = MatMulIntegerToFloat(x_u8, W_q, s_x, s_W, z_x, 0)                    float: sums and normalizations read it
    y_u8 = QLinearConv(x_u8, s_x, z_x, W_q, s_W, 0, s_y, z_y, b_i32)         uint8 again

W_q is int8 with a scale s_W for every output channel. A Relu behind a convolution is the end of its range, and what
only moves numbers (MaxPool, Reshape, Flatten, ...) moves uint8. The tool writes QDQ; `fuse` makes operators of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from console.errors import BadData
from export.activations.calibrate import check_runs
from export.activations.carry import check_size, receive, reports, send
from export.activations.fuse import CARRIERS, fuse
from export.activations.methods import Method
from export.activations.readers import readers
from export.activations.tools import Run, static_file
from export.formats.report import WeightReport

FORMAT = "int8-static"
# they become the end of a range; the tool takes all of these only where they read integers already
CUTS = frozenset({"Relu", "Clip"})


def static(
    model: ir.Model,
    weights: Collection[str],
    runs: Sequence[Run],
    method: Method,
    work: Path,
    *,
    reduce: bool = False,
) -> tuple[ir.Model, list[WeightReport]]:
    """A copy of a graph whose products with the named weights are of integers with scales from calibration.

    Args:
        model: a graph without slots; it is left as it is.
        weights: names of initializers that MatMul, Gemm or Conv read.
        runs: feeds of the graph to calibrate with, see `export.activations.calibrate`.
        method: "minmax", all that was seen is in range; "entropy", the range whose histogram differs least from the
            float one; "percentile", all but 0.001 % of what was seen.
        work: a folder for the tool's files; it is empty afterwards if it was before.
        reduce: weights in seven bits, for processors whose products of eight bits saturate
            (`export.activations.saturation`).

    Returns:
        The graph, and a report for every named weight in their order; what stays float says why. A weight that Gemm
        reads transposed is reported, and stored, as `NAME.t`.

    Raises:
        UsageError: a name that is no initializer of the graph.
        BadData: no runs, runs that do not fit the graph, or numbers in them that make no finite ranges.
        UnsupportedModel: a weight holds NaN or infinity, the model is too large for the tool, or the tool gives up.
        StorageError: the work folder cannot be written.
    """
    check_size(model)
    check_runs(model, runs)
    before = model.clone()
    found = readers(before, weights)
    if not found.nodes:
        return before, reports(before, before, found, FORMAT)
    around = [node for node in before.graph if node.op_type in CARRIERS | CUTS and not node.domain and node.name]
    nodes = [*found.nodes, *around]
    with TemporaryDirectory(dir=work) as folder:
        source, target = send(before, Path(folder)), Path(folder) / "integers.onnx"
        named, types = [str(node.name) for node in nodes], [node.op_type for node in nodes]
        static_file(source, target, named, types, runs, method, reduce=reduce)
        after = receive(target, before)
    fuse(after)
    _check_scales(after)
    return after, reports(after, before, found, FORMAT)


def _check_scales(model: ir.Model) -> None:
    for node in model.graph:
        scale = node.inputs[1] if node.op_type == "QuantizeLinear" else None
        if scale is None or scale.const_value is None:
            continue
        s = scale.const_value.numpy()
        if not (np.isfinite(s).all() and (s > 0).all()):
            name = node.inputs[0].name if node.inputs[0] is not None else node.name
            raise BadData(
                f"expected calibration items that give {name} a finite range, found the scale {s.ravel()[0]}; "
                "give other items with --calibration FILE"
            )
