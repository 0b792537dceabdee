"""What each format costs each layer, at the model's outputs, measured on calibration input.

Quantizing a weight adds noise to its layer's output, n = x (W' - W), which is formed in numpy from what the layer was
fed. That noise alone is put into the float model, once per layer, and what it changes of the outputs is its gain:

    error(layer, format) = gain(layer) |n|^2 / |y|^2,      gain = (|o' - o|^2 / |o|^2) / (|n|^2 / |y|^2)

with n of the coarsest format that the layer can take. Noises of different layers are nearly independent, so that
errors add up: their sum predicts the squared relative error of the outputs. (Zhou, Moosavi-Dezfooli, Cheung and
Frossard, "Adaptive Quantization for Deep Neural Network", AAAI 2018, section 3, do the same with noise of their own.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.chain import Graph
from export.choice.probe import Array, Probe, Session, heard, put_probes_in
from export.formats.grid import Grid
from export.formats.layout import Layout
from export.formats.registry import STORED
from export.formats.stock import Stock
from export.gemm import split_gemm
from export.gradient.present import present
from export.mapped import reading
from export.values import is_weight
from export.write import write_graphs

if TYPE_CHECKING:
    from export.prepare import Prepared

HEARD = "heard.npz"
AT_ONCE = 8  # layers whose inputs and outputs are in memory together
MOST_OUTPUTS = 512  # of a product, whose noise is formed; they stand for all
MOST_ROWS = 256  # of what a layer is fed
BUDGET_S = 60.0  # for gains; layers beyond have their nearest neighbour's


def measure(prepared: Prepared, formats: Sequence[str], work: Path) -> dict[str, dict[str, float]]:
    """Errors of every weight that has a format.

    Args:
        prepared: the model; its own samples are the calibration input, real ones where it has some.
        formats: to measure, besides fp32; a weight has those that it can take.
        work: a folder for the probing graph, which is removed again.

    Returns:
        By the name of the weight, the squared relative error of the outputs by format.

    Raises:
        UnsupportedModel: a weight holds NaN or infinity.
    """
    batch = prepared.batches[-1]
    model = prepared.frozen(batch).clone()
    split_gemm(model)
    probes = put_probes_in(model)
    constants = {str(v.name): t.numpy() for p in probes if is_weight(v := p.fed) and (t := v.const_value) is not None}
    write_graphs({"probe": model}, work, "probe.weights.bin")
    try:
        session = Session(prepared, Graph(work / "probe.onnx"), batch, constants)
        gains = _Gains(session, len(probes))
        out: dict[str, dict[str, float]] = {}
        for start in range(0, len(probes), AT_ONCE):
            group = probes[start : start + AT_ONCE]
            names = [name for probe in group for name in (str(probe.fed.name), probe.made)]
            runs = [session.fetch(run, names) for run in session.runs]
            for probe in group:
                found = _measured(probe, session.at, runs, gains, formats, prepared.stock)
                before = out.get(probe.weight.name, dict.fromkeys(found, 0.0))  # uses of one weight add up
                out[probe.weight.name] = {fmt: before[fmt] + error for fmt, error in found.items() if fmt in before}
        return out
    finally:
        for name in ("probe.onnx", "probe.weights.bin"):
            (work / name).unlink(missing_ok=True)


class _Gains:
    """Gains of layers, as many as there is time for."""

    def __init__(self, session: Session, count: int) -> None:
        started = time.perf_counter()
        session.change({})
        once = time.perf_counter() - started
        self.session, self.every = session, max(1, round(count * once / BUDGET_S))
        self.seen, self.last = 0, 1.0

    def of(self, probe: Probe, noise: Array, share: float) -> float:
        """That of a layer for noise which is `share` of its output in power."""
        if share > 0 and self.seen % self.every == 0:
            self.last = self.session.change({probe.noise: noise}) / share
        self.seen += 1
        return self.last


def listen(prepared: Prepared, work: Path) -> None:
    """Write what every matrix is fed on calibration input to a file `HEARD` in a folder, arrays by weight."""
    batch = prepared.batches[-1]
    model = prepared.frozen(batch).clone()
    probes = put_probes_in(model)
    write_graphs({"probe": model}, work, "probe.weights.bin")
    graph = Graph(work / "probe.onnx")
    found: dict[str, Any] = dict(heard(graph, probes, Session(prepared, graph, batch, {}).runs))
    np.savez(work / HEARD, **found)


def _measured(
    probe: Probe, at: int, runs: Sequence[Mapping[str, Array]], gains: _Gains, formats: Sequence[str], stock: Stock
) -> dict[str, float]:
    """Errors of one weight by format, from the inputs and outputs of its layer; run `at` is that of the gains."""
    rows = _Rows(probe, runs, at)
    shares, coarsest, problem = dict[str, float](), (0.0, np.zeros(1, np.float32)), None
    for fmt in formats:
        if STORED[fmt].refuses(rows.layout, stock.grid):
            continue
        try:
            lost = rows.lost(fmt, stock.grid)
        except UnsupportedModel as refusal:  # beyond the range of 16 bits, say, or no number at all
            problem = refusal
            continue
        share, noise = rows.noise(lost)
        shares[fmt] = rows.share(lost, share)
        coarsest = max(coarsest, (share, noise), key=lambda pair: pair[0])
    if problem is not None and not shares:
        raise problem
    gain = gains.of(probe, coarsest[1], coarsest[0])
    return {"fp32": 0.0, **{fmt: gain * share for fmt, share in shares.items()}}


class _Rows:
    """A weight as rows, with what its layer was fed and what it made; of a large product some rows only."""

    def __init__(self, probe: Probe, runs: Sequence[Mapping[str, Array]], at: int) -> None:
        self.name, self.layout, self.use, name = probe.weight.name, probe.layout, probe.use, str(probe.fed.name)
        self.fed, self.made = runs[at][name], runs[at][probe.made]
        self.inputs: Array | None = None
        self.outputs: Array = np.arange(self.layout.rows)
        self.tensor = present(probe.weight.value.const_value)
        with reading(self.tensor) as held:
            if self.use == "table":  # only what is looked up: rows are stored one by one
                found = np.ascontiguousarray(held[self.fed.reshape(-1)])
                self.layout, self.tensor = Layout("table", found.shape), ir.tensor(found, name=self.name)
                self.fed = np.arange(self.fed.size).reshape(self.fed.shape)
                self.exact = np.array(found, np.float32)
            else:
                self.exact = self._taken(self.layout.to_rows(held))
        if self.use == "product":
            self.inputs = _some(np.concatenate([run[name].reshape(-1, self.layout.columns) for run in runs]))

    def _taken(self, rows: Array) -> Array:
        """The rows, evenly spaced ones of a product that has many."""
        if self.use != "product" or len(rows) <= MOST_OUTPUTS:
            return np.array(rows, np.float32)
        self.outputs = np.linspace(0, len(rows) - 1, MOST_OUTPUTS).astype(int)
        taken = np.array(rows[self.outputs], np.float32)
        shape = taken.shape if self.layout.kind == "table" else taken.shape[::-1]
        self.layout = Layout(self.layout.kind, shape)
        self.tensor = ir.tensor(self.layout.from_rows(taken), name=self.name)
        return taken

    def lost(self, fmt: str, grid: Grid) -> Array:
        """W' - W in a format, [rows, columns]."""
        stock = Stock(grid, {} if self.inputs is None else {self.name: self.inputs})
        stored = stock.get(self.name, self.tensor, self.layout, STORED[fmt])
        parts = {end: tensor.numpy() for end, tensor in stored.tensors.items()}
        return STORED[fmt].restore(parts, self.layout, grid) - self.exact

    def share(self, lost: Array, otherwise: float) -> float:
        """|x E^T|^2 / |x W^T|^2 over all calibration rows, where they are known."""
        if self.inputs is None:
            return otherwise
        return _ratio(self.inputs @ lost.T, self.inputs @ self.exact.T)

    def noise(self, lost: Array) -> tuple[float, Array]:
        """What the layer's output would have of noise in one run: its share in power, and itself."""
        if self.use == "product":
            noise = np.zeros(self.made.shape, np.float32)
            noise.reshape(-1, self.made.shape[-1])[:, self.outputs] = self.fed.reshape(-1, self.layout.columns) @ lost.T
        elif self.use == "table":
            noise = lost[self.fed]
        else:  # as much as the weight has, of a convolution or of a batch of products: their inputs overlap
            power = _ratio(lost, self.exact) * np.mean(np.square(self.made, dtype=np.float64))
            noise = np.random.default_rng(1).standard_normal(self.made.shape) * np.sqrt(power)
        noise = np.asarray(noise, np.float32)
        return _ratio(noise, self.made), noise


def _some(fed: Array) -> Array:
    """At most `MOST_ROWS` of the rows, evenly spaced."""
    found: Array = fed[np.linspace(0, len(fed) - 1, min(len(fed), MOST_ROWS)).astype(int)]
    return found


def _ratio(noise: Array, signal: Array) -> float:
    size = float(np.square(signal, dtype=np.float64).sum())
    return float(np.square(noise, dtype=np.float64).sum()) / size if size else 0.0
