"""An adapter's arrays under the names of a model's graph inputs, once it is known to belong to that model.

Boards feed them to sessions, the exporter writes them into onnxruntime's adapter files: both must refuse the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, join
from wire.adapter import Adapter
from wire.kinds.scales import problems_of
from wire.manifest import Manifest, Plan

Array = NDArray[Any]


def inputs_of(manifest: Manifest, adapter: Adapter | None) -> dict[str, Array]:
    """What to feed for an adapter, by graph input; what is absent keeps its default.

    Raises:
        BadData: see `check_adapter`.
    """
    if adapter is None:
        return {}
    check_adapter(manifest, adapter)
    feeds: dict[str, Array] = {}
    for name, lora in adapter.lora.items():
        slot = manifest.slot(name)
        feeds[slot.a], feeds[slot.b], feeds[slot.scale] = lora.a, lora.b, np.asarray(lora.scale, np.float32)
    feeds |= {manifest.slot(name, "bias").bias: delta for name, delta in adapter.bias.items()}
    if adapter.scales is not None:
        of_weight = {one.weight: one.input for one in manifest.scales}
        feeds |= {of_weight[weight]: factor for weight, factor in adapter.scales.factors.items()}
    if adapter.head is not None and manifest.head is not None:
        feeds[manifest.head.weight], feeds[manifest.head.bias] = adapter.head.weight, adapter.head.bias
    return feeds


def places_of(manifest: Manifest, adapter: Adapter) -> Adapter:
    """What of a version's adapter a bundle has places for: a board that holds some slots of a model leaves the others.

    Shapes are not looked at: `check_adapter` says what is wrong with them.
    """
    lora, biases = ({slot.name for slot in manifest.slots_of(kind)} for kind in ("lora", "bias"))
    if lora >= adapter.lora.keys() and biases >= adapter.bias.keys():
        return adapter
    return replace(
        adapter,
        lora={name: factors for name, factors in adapter.lora.items() if name in lora},
        bias={name: delta for name, delta in adapter.bias.items() if name in biases},
    )


def at_ranks(plan: Plan, adapter: Adapter, *, own: bool = True) -> Adapter:
    """An adapter as a board trains it: of each slot the directions that its plan has room for (docs/plan.md).

    Args:
        plan: of its bundle; where it has no ranks of single slots, the adapter is returned as it is.
        adapter: of the slots of the bundle.
        own: False where all slots must have one rank, since others make their directions again by it; slots that
            learn nothing here are left out all the same.
    """
    if not plan.ranks:
        return adapter
    kept = {name: w for name, w in adapter.lora.items() if plan.rank_of(name)}
    return replace(adapter, lora={n: w.prefix(min(w.rank, plan.rank_of(n))) if own else w for n, w in kept.items()})


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """The stages of a chain as an adapter sees them: one model with the segments, slots and head of all.

    Raises:
        BadData: they are not stages of one model.
    """
    models = list(dict.fromkeys(m.model.id for m in manifests))
    places = {-1 if m.chain is None else m.chain.position for m in manifests}
    if len(models) > 1 or len(manifests) != len(places):
        found = f"models {' and '.join(models)}" if len(models) > 1 else "one of them twice"
        raise BadData(f"expected bundles of one chain, found {found}; name every stage of one export once")
    ended = next((m for m in manifests if m.head is not None), manifests[-1])
    return replace(
        manifests[0],
        segments=tuple(segment for m in manifests for segment in m.segments),
        slots=tuple(slot for m in manifests for slot in m.slots),
        scales=tuple(one for m in manifests for one in m.scales),
        head=ended.head,
        labels=ended.labels,
        chain=manifests[0].chain if len(manifests) == 1 else None,
    )


def changes_layers(adapter: Adapter | None) -> bool:
    """Whether an adapter brings anything to a slot: a head alone, or factors of rank 0, do not."""
    return adapter is not None and (adapter.rank > 0 or bool(adapter.bias))


def check_adapter(manifest: Manifest, adapter: Adapter) -> None:
    """Compare an adapter with the model.

    Raises:
        BadData: naming every slot that differs.
    """
    problems = [f"it belongs to model {adapter.model}"] if adapter.model != manifest.model.id else []
    problems += _lora_problems(manifest, adapter) + _bias_problems(manifest, adapter)
    if adapter.scales is not None:
        there = [(one.weight, one.format, one.digest, one.shape) for one in manifest.scales]
        problems += problems_of(adapter.scales, there)
    if adapter.head is not None and manifest.head is not None:
        expected = (manifest.head.features, len(manifest.labels))
        if adapter.head.weight.shape != expected:
            problems.append(f"the head needs {expected}, not {adapter.head.weight.shape}")
    if problems:
        stage = manifest.chain is not None and len(manifest.chain.devices) > 1
        hint = "; slots of a chain are spread over its bundles: name every stage" if stage else ""
        raise BadData(f"expected an adapter for {manifest.model.id}, but {join(problems)}{hint}")


def _lora_problems(manifest: Manifest, adapter: Adapter) -> list[str]:
    slots = {s.name: s for s in manifest.slots_of("lora")}
    problems = [f"slot {name} is not in the model" for name in adapter.lora if name not in slots]
    for name, lora in adapter.lora.items():
        slot = slots.get(name)
        if slot is not None and (len(lora.a), lora.b.shape[1]) != (slot.features_in, slot.features_out):
            problems.append(
                f"slot {name} needs {slot.features_in} x {slot.features_out}, not {len(lora.a)} x {lora.b.shape[1]}"
            )
    return problems


def _bias_problems(manifest: Manifest, adapter: Adapter) -> list[str]:
    slots = {s.name: s for s in manifest.slots_of("bias")}
    problems = [f"the model has no bias slot {name}" for name in adapter.bias if name not in slots]
    for name, delta in adapter.bias.items():
        slot = slots.get(name)
        if slot is not None and delta.shape != (slot.features_out,):
            problems.append(f"bias slot {name} needs {slot.features_out} numbers, not {list(delta.shape)}")
    return problems
