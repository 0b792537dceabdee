"""The weights that slots stand beside, in the frozen graph of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.convs import Convolution
from export.gradient.present import present
from export.mapped import reading
from export.targets import layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.slots import SlotSite

Array = NDArray[Any]
TURNED = ".t"  # see `export.gemm`


@dataclass(frozen=True)
class SlotWeight:
    """A slot, the initializer of its weight, and how that is stored."""

    slot: str
    value: ir.Value
    out_first: bool

    @property
    def name(self) -> str:
        """Of the initializer."""
        return str(self.value.name)

    @property
    def bytes(self) -> int:
        """Of its gradient in float32."""
        return 4 * int(np.prod(present(self.value.shape).numpy()))

    def matrix(self, stored: Array) -> Array:
        """The weight, or its gradient, as a matrix [in, out]; a convolution's window is its input."""
        return stored.reshape(len(stored), -1).T if self.out_first else stored

    def read(self) -> Array:
        """The weight [in, out]."""
        with reading(present(self.value.const_value)) as stored:
            return np.array(self.matrix(stored), np.float32)


def weights_of(model: ir.Model, sites: Sequence[SlotSite]) -> list[SlotWeight]:
    """The weight of every slot of kind `lora` whose layer is in a frozen graph, in the order of the slots.

    Freezing may turn a weight (its name then ends with `.t`) or fold a normalisation into it, under another name; what
    has none of a slot's names is found by the module.
    """
    every = layers(model)
    by_name = {str(layer.weight.name): layer for layer in every}
    by_module = {(layer.module, layer.features_in, layer.features_out): layer for layer in every}
    found = []
    for site in sites:
        sizes = site.features_in, site.features_out
        named = by_name.get(site.weight) or by_name.get(f"{site.weight}{TURNED}")
        fits = named is not None and (named.features_in, named.features_out) == sizes
        layer = named if fits else by_module.get((site.module, *sizes))
        if site.kind == "lora" and layer is not None:
            found.append(SlotWeight(site.name, layer.weight, isinstance(layer, Convolution) or layer.transposed))
    return found
