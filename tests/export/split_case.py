"""Bundles of two fronts of different depth and of their tail, made by the exporter within seconds.

The graphs are built, verified and written as an export does it; only measuring, which takes a fresh process for each
graph, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from console.progress import progress
from devices.fronts import BoardSplit, Front
from devices.memory import MIB
from devices.plan import Board
from export.chain import PLAIN
from export.measure import Peak
from export.pipeline import ExportRequest, write_bundles
from export.prepare import Prepared, prepare
from export.settle import Stages
from export.split import settle_split
from export.stage import Stage
from wire.bundle import Bundle, open_bundle
from wire.keys import PrivateKey, new_key

SHALLOW, DEEP, TAIL = "gate", "barn", "hall"
LABELS = ("a", "b", "c")
WIDTH, LAYERS = 36, 4  # smaller matrices are not quantized
MICRO_BATCH = 2


@dataclass(frozen=True)
class SplitBundles:
    """Two fronts, the first less deep than the second, and their tail; all signed by one publisher."""

    shallow: Bundle
    deep: Bundle
    tail: Bundle
    key: PrivateKey
    prepared: Prepared

    @property
    def fronts(self) -> tuple[Bundle, Bundle]:
        """Both."""
        return (self.shallow, self.deep)


class Unmeasured(Stages):
    """Stages whose graphs take nothing and run with plain options."""

    def _measured(self, stage: Stage, rank: int, name: str) -> Stage:
        for path in (path for link in stage.links for _, path, _ in link.graphs()):
            stage.peaks[path.name] = Peak(PLAIN, 0, 0, 0, 0, 0.0)
            stage.predicted[path.name] = {"activations": 0}
        return stage


def mlp(path: Path, *, width: int = WIDTH, layers: int = LAYERS, seed: int = 3) -> Path:
    """An ONNX file: x [batch, width] through layers y = tanh(x W + b), whose last output is `hidden`."""
    generator = np.random.default_rng(seed)
    nodes, weights, given = [], [], "x"
    for k in range(layers):
        made = "hidden" if k == layers - 1 else f"y{k}"
        drawn = {
            f"layer.{k}.weight": generator.normal(0, width**-0.5, (width, width)),
            f"layer.{k}.bias": generator.normal(0, 0.1, width),
        }
        weights += [numpy_helper.from_array(value.astype(np.float32), name) for name, value in drawn.items()]
        nodes += [
            helper.make_node("MatMul", [given, f"layer.{k}.weight"], [f"p{k}"], name=f"/layer.{k}/MatMul"),
            helper.make_node("Add", [f"p{k}", f"layer.{k}.bias"], [f"s{k}"], name=f"/layer.{k}/Add"),
            helper.make_node("Tanh", [f"s{k}"], [made], name=f"/layer.{k}/Tanh"),
        ]
        given = made
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name in ("x", "hidden")]
    graph = helper.make_graph(nodes, "mlp", sides[:1], sides[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def split_request(
    source: str,
    task: str,
    labels: Sequence[str],
    out: Path,
    borders: tuple[int, int],
    quant: str = "fp32",
    mode: str = "train",
) -> ExportRequest:
    """Two fronts that end at some units, and a tail."""

    def board(name: str, rank: int, mode: str = "train") -> Board:
        return Board(name, 1024 * MIB, mode, quant, rank)

    fronts = tuple(Front(board(name, 2, mode), at) for name, at in zip((SHALLOW, DEEP), borders, strict=True))
    wanted = BoardSplit(fronts, board(TAIL, 4))
    key = new_key("publisher", "tests")
    return ExportRequest(
        source, task, tuple(labels), (), key, out, 9, splits=(wanted,), micro_batches=(MICRO_BATCH,), targets="auto"
    )


def quick_export(request: ExportRequest) -> tuple[list[Bundle], Prepared]:
    """Everything that an export does but measuring; the bundles in the order of the boards."""
    formats = tuple(dict.fromkeys(board.quant for board in request.everyone))
    work = request.out / "work"
    with progress("exporting", 1, quiet=True) as bar:
        modes = tuple(board.mode for board in request.everyone)
        prepared = prepare(request.wanted, formats, modes, work)
        settled = settle_split(prepared, request.splits[0], Unmeasured(prepared, work, bar))
        made = write_bundles(request, prepared, settled, bar)
    return [open_bundle(one.folder, None) for one in made], prepared


def split_bundles(
    folder: Path,
    source: str = "",
    task: str = "",
    labels: Sequence[str] = LABELS,
    borders: tuple[int, int] | None = None,
    quant: str = "fp32",
    mode: str = "train",
) -> SplitBundles:
    """Two fronts and a tail, of a small MLP where no source is named.

    Args:
        folder: gets `gate`, `barn` and `hall`, and what is in between.
        source: of the model.
        task: of a model of Hugging Face.
        labels: of a head.
        borders: units where the fronts end; by default after the first layer of the MLP, and after the second.
        quant: format of all weights.
        mode: of the fronts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = source or str(mlp(folder / "mlp.onnx"))
    request = split_request(source, task, labels, folder, borders or (6, 12), quant, mode)
    (shallow, deep, tail), prepared = quick_export(request)
    return SplitBundles(shallow, deep, tail, request.key, prepared)
