"""Formats put into the graphs of a model: weights alone, or by onnxruntime's tools weights and activations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import BadData, UnsupportedModel, join
from export.activations.dynamic import dynamic
from export.activations.saturation import saturates
from export.activations.static import static
from export.chain import Graph
from export.choice.assign import with_kept
from export.choice.probe import heard, put_probes_in
from export.formats.grid import Grid
from export.formats.report import WeightReport
from export.formats.rewrite import Formats, quantize_weights, weights_of
from export.formats.stock import Stock
from export.mapped import reading
from export.sources.captured import Values
from export.study.variant import ACTIVATIONS, DYNAMIC, FP32, Variant
from export.write import write_graphs

ITEMS = "items"  # the graph that the items of the data file go through


class Refused(Exception):
    """A format cannot be put into a graph; the words say why."""


class Workshop:
    """The graphs of a model by name, and for each of them what it is calibrated with."""

    def __init__(
        self,
        graphs: Mapping[str, ir.Model],
        runs: Mapping[str, Sequence[Values]],
        work: Path,
        keep: Mapping[str, str] | None = None,
    ) -> None:
        """`keep` is the formats that some weights have in every variant but fp32, by patterns of their names."""
        self.graphs, self._runs, self._work, self._keep = graphs, runs, work, keep or {}
        self._stocks: dict[Grid, Stock] = {}

    @cached_property
    def energies(self) -> dict[str, float]:
        """The sum of squares of every float weight of two dimensions or more, by its name.

        Raises:
            UnsupportedModel: naming every weight that holds NaN or infinity.
        """
        out = {}
        for name, value in self.graphs[ITEMS].graph.initializers.items():
            tensor = value.const_value
            if tensor is not None and value.dtype == ir.DataType.FLOAT and len(tensor.shape) >= 2:
                with reading(tensor) as held:
                    out[name] = sum(float(np.square(part, dtype=np.float64).sum()) for part in held)
        broken = [name for name, energy in out.items() if not math.isfinite(energy)]
        if broken:
            raise UnsupportedModel(
                f"expected weights that are numbers, found NaN or infinity in {join(broken)}; mend them"
            )
        return out

    def put(self, variant: Variant, name: str) -> tuple[ir.Model, list[WeightReport]]:
        """A graph in a format, and what became of its weights; the graph itself stays as it is.

        Raises:
            Refused: a weight is beyond its range, or onnxruntime's tools cannot do it.
        """
        model = self.graphs[name].clone()
        try:
            if variant.format in ACTIVATIONS:
                return self._rounded(variant, model, name)
            return model, quantize_weights(model, self._formats(variant, model), self._stock(variant.grid))
        except (BadData, UnsupportedModel) as refusal:
            raise Refused(str(refusal)) from refusal

    def _rounded(self, variant: Variant, model: ir.Model, name: str) -> tuple[ir.Model, list[WeightReport]]:
        """Integers for activations too; tables, which multiply none, get int8 as they do elsewhere."""
        weights = weights_of(model)
        asked = with_kept(weights, variant.format, self._keep, variant.grid)
        tables = [w.name for w in weights if w.layout is not None and w.layout.kind == "table"]
        products = [name for name, fmt in asked.items() if fmt == variant.format and name not in tables]
        others = {name: "int8" if fmt == variant.format else fmt for name, fmt in asked.items() if name not in products}
        alone = [r for r in quantize_weights(model, others, self._stock(variant.grid)) if r.name in others]
        self._work.mkdir(parents=True, exist_ok=True)
        if variant.format == DYNAMIC:
            made, reports = dynamic(model, products, self._work, reduce=self._saturates)
        else:
            runs = self._runs[name]
            made, reports = static(model, products, runs, variant.method, self._work, reduce=self._saturates)
        return made, [*alone, *reports]

    def _formats(self, variant: Variant, model: ir.Model) -> Formats:
        if not self._keep or variant.format == FP32:
            return variant.format
        return with_kept(weights_of(model), variant.format, self._keep, variant.grid)

    @cached_property
    def _saturates(self) -> bool:
        return saturates()

    def _stock(self, grid: Grid) -> Stock:
        if grid not in self._stocks:
            self._stocks[grid] = Stock(grid, self._inputs if grid.scales == "gptq" else {})
        return self._stocks[grid]

    @cached_property
    def _inputs(self) -> dict[str, NDArray[np.float32]]:
        """What every matrix is multiplied with in the calibration runs: float32 [rows, columns] by its name."""
        model = self.graphs[ITEMS].clone()
        probes = put_probes_in(model)
        self._work.mkdir(parents=True, exist_ok=True)
        write_graphs({"probe": model}, self._work, "probe.weights.bin")
        return heard(Graph(self._work / "probe.onnx"), probes, self._runs[ITEMS])
