"""A prepared model in the numbers that a plan of a fleet is made of."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from devices.split.work import ModelWork, SlotWork, Units
from devices.units import Unit
from export.gradient.path import NoGradientRule
from export.prepare import Prepared
from export.slots import SlotSite


class _Numbers(Mapping[tuple[int, str], Units]):
    """Units by micro-batch and mode, counted when somebody asks."""

    def __init__(self, prepared: Prepared, modes: Sequence[str]) -> None:
        self._prepared = prepared
        self._keys = [(batch, mode) for batch in prepared.batches for mode in modes]

    def __getitem__(self, key: tuple[int, str]) -> tuple[Unit, ...]:
        if key not in self._keys:
            raise KeyError(key)
        return self._prepared.cost(*key).units

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def model_work(prepared: Prepared) -> ModelWork:
    """The model at every micro-batch that it may run at; without backward numbers where it cannot be differentiated.

    Raises:
        UnsupportedModel: a shape is not known.
    """
    smallest = prepared.batches[-1]
    modes: tuple[str, ...] = ("train", "train-forward")
    try:
        prepared.cost(smallest, "train")
    except NoGradientRule:
        modes = ("train-forward",)
    numbers = prepared.cost(smallest, modes[0])
    slots = slot_works(prepared.frozen(smallest).graph, numbers.positions, prepared.sites)
    head = prepared.head.features * prepared.classes if prepared.head else 0
    return ModelWork(_Numbers(prepared, modes), slots, head)


def slot_works(graph: ir.Graph, positions: Sequence[int], sites: Sequence[SlotSite]) -> tuple[SlotWork, ...]:
    """The slots of kind `lora`, each in the last unit that uses it, in the order of the units.

    Args:
        graph: frozen.
        positions: of the nodes before which the second and every later unit begin.
        sites: its slots.
    """
    index_of = {node: index for index, node in enumerate(graph)}
    inputs = {value.name: value for value in graph.inputs}
    found = []
    for site in sites:
        readers = [index_of[node] for node in inputs[site.a].consumers()] if site.a in inputs else []
        if site.kind == "lora" and readers:
            unit = bisect.bisect_right(positions, max(readers))
            size = site.features_in + site.features_out
            found.append(SlotWork(site.name, unit, size, site.features_in * site.features_out))
    return tuple(sorted(found, key=lambda slot: slot.unit))
