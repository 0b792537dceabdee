"""A bundle's graphs measured again: what each takes in a fresh process, beside what the manifest predicts.

What the runtime takes for itself belongs to the machine: to its versions, and to how its kernel maps libraries (those
that were just installed lie in large pages, which count whole: 15 MiB more were seen). So a session of one small node
is measured first, and predictions are moved by what it takes more or less than the constants say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import VerificationError, join
from console.table import mib
from devices.memory import JUDGED_FROM_BYTES, allowed_miss, base_bytes, session_bytes
from export.chain import PLAIN, chain_of
from export.measure import Measurer, Peak
from export.write import read_golden
from wire.bundle import Bundle
from wire.manifest import Graph

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Remeasured:
    """One graph; `predicted_bytes` and `measured_bytes` lie above the runtime base."""

    file: str
    predicted_bytes: int
    peak: Peak

    @property
    def measured_bytes(self) -> int:
        """What the graph added to the process."""
        return self.peak.growth_bytes

    @property
    def anonymous_bytes(self) -> int:
        """The part of it that no file is behind."""
        return self.peak.peak_anon_bytes - self.peak.base_anon_bytes

    @property
    def pss_bytes(self) -> int:
        """What the process has grown by after the runs, its share of mapped files counted."""
        return self.peak.pss_bytes - self.peak.base_pss_bytes

    @property
    def judged(self) -> bool:
        """Whether it is large enough for a miss to count."""
        return self.measured_bytes >= JUDGED_FROM_BYTES

    @property
    def missed(self) -> bool:
        """Whether the prediction counts and is further off than is allowed."""
        allowed = allowed_miss(self.measured_bytes, 0)
        return self.judged and abs(self.predicted_bytes - self.measured_bytes) > allowed

    def row(self) -> list[object]:
        """For a table with `HEADER`."""
        sizes = (self.predicted_bytes, self.measured_bytes, self.anonymous_bytes, self.pss_bytes)
        verdict = "missed" if self.missed else "within the bar" if self.judged else "small, not judged"
        return [self.file, *(mib(size) for size in sizes), verdict]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        names = ("file", "predicted_bytes", "measured_bytes", "anonymous_bytes", "pss_bytes", "judged", "missed")
        return {name: getattr(self, name) for name in names} | {"base_bytes": self.peak.base_bytes}


HEADER = ["graph", "predicted", "measured", "anonymous", "PSS", "bar"]


def remeasure(bundle: Bundle, advance: Callable[[], None] = lambda: None) -> list[Remeasured]:
    """Run every graph of a bundle in a process of its own, with the options of the manifest.

    Args:
        bundle: whose golden input is fed; adapters are as large as the plan says.
        advance: called after each graph.

    Raises:
        VerificationError: a graph does not run.
    """
    manifest, kind = bundle.manifest, bundle.manifest.preprocess.kind
    values, out = _values(bundle), []
    with tempfile.TemporaryDirectory(prefix="edgequilt-") as name:
        moved = runtime_offset(Path(name), kind)
        for graph in [graph for segment in manifest.segments for graph in segment.graphs]:
            fed = _feeds(graph, values, manifest.plan.rank)
            peak = Measurer(Path(name), (graph.options,), kind).best(bundle.path(graph.file), fed)
            out.append(Remeasured(graph.file, graph.memory.predicted_bytes + moved - peak.base_bytes, peak))
            advance()
    return out


def runtime_offset(folder: Path, kind: str) -> int:
    """What a session of one small node takes on this machine beyond what the constants say, in bytes.

    Args:
        folder: for its files.
        kind: of the worker's preprocessing, which decides what it imports.
    """
    x, y = (ir.val(name, ir.DataType.FLOAT, [1]) for name in "xy")
    graph = ir.Graph([x], [y], nodes=[ir.node("Neg", [x], outputs=[y])], opset_imports={"": 21}, name="small")
    ir.save(ir.Model(graph, ir_version=10), folder / "small.onnx")
    feeds = {"x": np.ones(1, np.float32)}
    peak = Measurer(folder, (PLAIN,), kind).best(folder / "small.onnx", feeds)
    return peak.peak_bytes - base_bytes(kind) - session_bytes(nodes=1, operators=1, tensors=0)


def refuse_misses(found: list[Remeasured]) -> None:
    """Fail where a prediction does not hold.

    Raises:
        VerificationError: naming every graph that it does not hold for.
    """
    misses = [
        f"{one.file} takes {mib(one.measured_bytes)} above the runtime, predicted {mib(one.predicted_bytes)}"
        for one in found
        if one.missed
    ]
    if misses:
        raise VerificationError(
            f"expected measured memory within 10 % of the prediction, found that {join(misses)}; "
            f"export with the onnxruntime of this machine, or give the board a --budget with that much room"
        )


def _values(bundle: Bundle) -> Values:
    """The golden input and all that the chain computes from it."""
    fed, _ = read_golden(bundle.path(bundle.manifest.golden.file))
    zeros = {state.input: np.zeros(state.shape, state.dtype) for state in bundle.manifest.states}
    return chain_of(bundle).forward({**zeros, **fed})


def _feeds(graph: Graph, values: Values, rank: int) -> dict[str, NDArray[Any]]:
    """Every input of a graph; zeros where nothing of that shape is known (labels, gradients, adapters)."""
    out = {}
    for tensor in graph.inputs:
        shape = tuple(rank if isinstance(dim, str) else dim for dim in tensor.shape)
        known = values.get(tensor.name, np.zeros(shape, tensor.dtype))
        part = known[tuple(slice(size) for size in shape)] if known.ndim == len(shape) else known  # of smaller buckets
        out[tensor.name] = part if part.shape == shape else np.zeros(shape, tensor.dtype)
    return out
