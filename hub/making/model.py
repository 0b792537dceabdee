"""What the hub knows of a model: the shapes that updates must have. It comes from signed bundles."""

from __future__ import annotations

from dataclasses import dataclass

from console.errors import HubError
from wire.manifest import Manifest

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


def model_of(manifest: Manifest) -> Model:
    """The shapes that a bundle promises."""
    ordered = sorted(manifest.slots_of("lora"), key=lambda s: s.name)
    slots = tuple(Slot(s.name, s.module, s.features_in, s.features_out, s.window, s.groups) for s in ordered)
    features = 0 if manifest.head is None else manifest.head.features
    biases = tuple(sorted((s.name, s.features_out) for s in manifest.slots_of("bias")))
    scales = tuple(sorted(((s.weight, s.format, s.digest, s.shape) for s in manifest.scales), key=lambda s: s[0]))
    return Model(manifest.model.id, slots, manifest.labels, features, biases, scales)


def agree(known: Model, found: Model, where: str) -> None:
    """Check that another bundle of a model promises what those that are known do.

    Raises:
        HubError: naming the first thing that differs.
    """
    pairs = {
        "labels": (known.labels, found.labels),
        "features of the head": (known.features, found.features),
        "slots": (known.slots, found.slots),
        "biases": (known.biases, found.biases),
    }
    for what, (old, new) in pairs.items():
        if old != new:
            raise HubError(
                f"expected a bundle with the {what} of the model {known.id} that this hub serves, found others in "
                f"{where}; export all boards in one run, or make another hub with `edgequilt hub init`"
            )
