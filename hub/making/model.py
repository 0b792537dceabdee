"""What the hub knows of a model: the shapes that updates must have. It comes from signed bundles.

One bundle of a model holds all of its slots. Others may hold some of them: a front, whose tail is elsewhere, or a board
that has no room for more. What such a board learns counts in the slots that it has (docs/aggregation.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from console.errors import HubError, join
from wire.manifest import Manifest, parse_manifest

Scales = tuple[str, str, str, tuple[int, ...]]  # weight, format, digest of its stored bytes, shape of its scales


@dataclass(frozen=True)
class Slot:
    """A place for LoRA factors: A [features_in, r], B [r, features_out]; `module` is its path in the original.

    `window` and `groups` are a convolution's (`wire.manifest.Slot`).
    """

    name: str
    module: str
    features_in: int
    features_out: int
    window: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True)
class Model:
    """A model as far as a hub, which runs none, must know it."""

    id: str
    slots: tuple[Slot, ...]
    labels: tuple[str, ...]
    features: int  # 0: it has no head
    biases: tuple[tuple[str, int], ...] = ()  # places for a change of a bias: name, features_out
    scales: tuple[Scales, ...] = ()  # of quantized weights, that can be moved; boards of other formats have others
    split: str = ""  # of a front, and of a tail's whole model: which export's halves meet; empty: of neither
    front: bool = False


def model_of(manifest: Manifest) -> Model:
    """The shapes that a bundle promises."""
    ordered = sorted(manifest.slots_of("lora"), key=lambda s: s.name)
    slots = tuple(Slot(s.name, s.module, s.features_in, s.features_out, s.window, s.groups) for s in ordered)
    features = 0 if manifest.head is None else manifest.head.features
    biases = tuple(sorted((s.name, s.features_out) for s in manifest.slots_of("bias")))
    scales = tuple(sorted(((s.weight, s.format, s.digest, s.shape) for s in manifest.scales), key=lambda s: s[0]))
    split, front = ("", False) if manifest.split is None else (manifest.split.id, manifest.split.role == "front")
    return Model(manifest.model.id, slots, manifest.labels, features, biases, scales, split, front)


@lru_cache(maxsize=256)
def read_model(manifest: bytes) -> Model:
    """The same, from a manifest as the ledger keeps it."""
    return model_of(parse_manifest(manifest, "a bundle in the ledger"))


def whole_of(bundles: Iterable[Model]) -> Model:
    """Of the bundles of a model the one that holds all of it; the first one where several do."""
    return max(bundles, key=lambda m: (not m.front, len(m.slots), m.features > 0, len(m.biases)))


def agree(known: Model, found: Model, where: str) -> None:
    """Check that another bundle of a model promises what the whole one does, or a part of that.

    Raises:
        HubError: naming the first thing that differs.
    """
    more = [slot.name for slot in found.slots if slot.name not in {s.name for s in known.slots}]
    if more:
        raise HubError(
            f"expected a bundle with slots of the model {known.id} that this hub serves, found {_some(more)} besides "
            f"in {where}; the first bundle of a model must hold all that boards will learn, so export all boards in "
            f"one run and make another hub with `edgequilt hub init`"
        )
    pairs = {
        "labels": known.labels == found.labels,
        "features of the head": found.features in (0, known.features),
        "slots": bool(found.slots or not known.slots) and set(found.slots) <= set(known.slots),
        "biases": set(found.biases) <= set(known.biases),
    }
    for what, same in pairs.items():
        if not same:
            raise HubError(
                f"expected a bundle with the {what} of the model {known.id} that this hub serves, found others in "
                f"{where}; export all boards in one run, or make another hub with `edgequilt hub init`"
            )


def _some(names: list[str]) -> str:
    return join([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])
