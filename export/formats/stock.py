"""The weights of a model in their formats, each made once for all graphs that share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import UnsupportedModel
from export.formats.format import Format, Stored, tensors_of
from export.formats.grid import Grid
from export.formats.layout import Layout
from export.mapped import Turned, reading
from quant.loss import error

# by the tensor that holds the numbers, whether its rows are those that are stored, what it is, and the format
Key = tuple[int, bool, str, str]


@dataclass
class Stock:
    """Formats' settings, what layers were fed (by the name of their weight, [n, columns]), and what was made so far."""

    grid: Grid = field(default_factory=Grid)
    inputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    made: dict[Key, Stored] = field(default_factory=dict)

    def get(self, name: str, tensor: ir.TensorProtocol, layout: Layout, fmt: Format) -> Stored:
        """A weight in a format.

        Raises:
            UnsupportedModel: it holds NaN or infinity, or a number that the format cannot hold.
        """
        turned = isinstance(tensor, Turned) and layout.kind == "matrix"
        source = tensor.source if isinstance(tensor, Turned) and turned else tensor
        key = (id(source), turned, layout.kind, fmt.name)
        if key not in self.made:
            with reading(source) as held:
                rows = held if turned else layout.to_rows(held)
                self.made[key] = self._stored(name, source, rows, layout, fmt)
        return self.made[key]

    def _stored(self, name: str, source: ir.TensorProtocol, rows: NDArray[Any], layout: Layout, fmt: Format) -> Stored:
        try:
            tensors = tensors_of(name, fmt.store(rows, layout, self.grid, self.inputs.get(name)))
        except ValueError as problem:
            raise UnsupportedModel(
                f"cannot store the weight {name} as {fmt.name}: {problem}; mend the model or keep the weight with "
                f"--keep {name}=fp32"
            ) from problem
        restored = fmt.restore({end: t.numpy() for end, t in tensors.items()}, layout, self.grid)
        return Stored(source, tensors, error(rows, restored))
