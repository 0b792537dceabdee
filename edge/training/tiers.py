"""The tiers of an adapter that a bundle offers, from biases alone to the plan's rank, and where each of them starts.

LoRA starts as in Hu et al., arXiv 2106.09685, section 4.1: A random, B = 0, so the start is the model itself. A is
Kaiming-uniform (He et al., arXiv 1502.01852) with the gain that PEFT takes, whose bound is 1 / sqrt(in). Its columns
are streams of Philox words, one each: a tier's A is the beginning of every larger tier's, and every machine draws the
same bits. The scale is alpha / r, or alpha / sqrt(r) by rsLoRA (Kalajdzievski, arXiv 2312.03732, section 3), with
which gradients neither vanish nor explode as ranks grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError
from edge.trainers.interface import Array
from edge.training.learned import Factors
from wire.adapter import Adapter
from wire.inputs import check_adapter
from wire.kinds.lora import Lora
from wire.ladder import refactor
from wire.manifest import Manifest, Slot
from wire.philox import key_of, words

KINDS = ("lora", "bias", "head")
ALPHA = 16.0  # at rank 8 the scale of 2 that a hub begins with
Scaling = Literal["lora", "rslora"]


@dataclass(frozen=True)
class Offer:
    """What could be trained beside a frozen model.

    Attributes:
        name: as a user knows it: "head", "bias", "rank 4", "rank 4 with biases".
        rank: of its factors; 0 without.
        biases: whether biases are trained.
        head: whether it is the head alone.
        parameters: how many numbers are trained.
    """

    name: str
    rank: int
    biases: bool
    head: bool
    parameters: int


def offers(
    manifest: Manifest, kinds: Sequence[str] = KINDS, rank: int | None = None, factors: Factors = "both"
) -> tuple[Offer, ...]:
    """The tiers of some kinds, those with fewer parameters first; ranks are powers of two, and the largest asked.

    Args:
        manifest: of the bundle.
        kinds: some of `KINDS`; those that the bundle has no place for are left out.
        rank: the largest; None takes the plan's.
        factors: which of A and B learn.

    Raises:
        UsageError: no kind, an unknown one, or a rank below 1.
        BadData: the bundle has a place for none of them.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        odd = ", ".join(unknown) or "none"
        raise UsageError(f"expected kinds of {', '.join(KINDS)}, found {odd}; name those that the bundle has")
    if rank is not None and rank < 1:
        raise UsageError(f"expected a rank of at least 1, found {rank}; leave it out to take the plan's")
    slots = manifest.slots_of("lora") if "lora" in kinds else ()
    bias = sum(s.features_out for s in manifest.slots_of("bias")) if "bias" in kinds else 0
    a, b = factors != "b", factors != "a"
    each, found = sum(a * s.features_in + b * s.features_out for s in slots), list[Offer]()
    if "head" in kinds and manifest.head is not None:
        size = (manifest.head.features + 1) * len(manifest.labels)
        found.append(Offer("head", 0, biases=False, head=True, parameters=size))
    if bias:
        found.append(Offer("bias", 0, biases=True, head=False, parameters=bias))
    for r in ranks(rank or manifest.plan.rank) if each else ():
        name = f"rank {r}" + (" with biases" if bias else "")
        found.append(Offer(name, r, biases=bool(bias), head=False, parameters=r * each + bias))
    if not found:
        raise BadData(
            f"expected a bundle with places for {', '.join(kinds)}, found none; export with --mode train, "
            "--adapter-kinds and --labels"
        )
    return tuple(sorted(found, key=lambda offer: offer.parameters))


def ranks(largest: int) -> list[int]:
    """Powers of two up to a rank, and the rank.

    >>> ranks(6), ranks(1), ranks(0)
    ([1, 2, 4, 6], [1], [])
    """
    powers = [1 << i for i in range(largest.bit_length())]
    return sorted({*powers, largest}) if largest else []


def scale_of(scaling: Scaling, rank: int, alpha: float = ALPHA) -> float:
    """The scale of factors.

    >>> scale_of("lora", 4), scale_of("rslora", 4), scale_of("lora", 0)
    (4.0, 8.0, 16.0)
    """
    return alpha / (math.sqrt(max(1, rank)) if scaling == "rslora" else max(1, rank))


def start(
    manifest: Manifest,
    offer: Offer,
    *,
    seed: int = 0,
    scaling: Scaling = "lora",
    alpha: float = ALPHA,
    begun: Adapter | None = None,
) -> Adapter:
    """The adapter that a tier is trained from.

    Args:
        manifest: of the bundle.
        offer: one of `offers`.
        seed: of the columns of A.
        scaling: see `scale_of`; factors that were begun keep their scale.
        alpha: see `scale_of`.
        begun: what to go on from: more columns are put beside its factors, or the best of its rank are kept; its
            heads and biases stay. A kind that the tier does not train stays as it is.

    Raises:
        BadData: `begun` is an adapter of another model.
    """
    if begun is not None:
        check_adapter(manifest, begun)
    base, scale = begun or Adapter(manifest.model.id), scale_of(scaling, offer.rank, alpha)
    lora, bias = dict(base.lora), dict(base.bias)
    if offer.rank:
        for slot in manifest.slots_of("lora"):
            held, key = lora.get(slot.name), key_of("start", manifest.model.id, slot.name, seed)
            lora[slot.name] = fitted(held if held is not None and held.rank else _none(slot, scale), offer.rank, key)
    if offer.biases:
        for slot in manifest.slots_of("bias"):
            bias.setdefault(slot.name, np.zeros(slot.features_out, np.float32))
    return Adapter(base.model, base.version, lora, bias, dict(base.heads), metadata=dict(base.metadata))


def _none(slot: Slot, scale: float) -> Lora:
    return Lora(np.zeros((slot.features_in, 0), np.float32), np.zeros((0, slot.features_out), np.float32), scale)


def fitted(factors: Lora, rank: int, key: int) -> Lora:
    """Factors at a rank: with more columns the product stays, bit for bit; with fewer it is the best of that rank."""
    if rank < factors.rank:
        found = refactor(factors.a.astype(np.float64), factors.b.astype(np.float64), rank)
        best = Lora(found.u.astype(np.float32), (found.s[:, None] * found.vt).astype(np.float32), factors.scale)
        return fitted(best, rank, key)  # a product of a lower rank leaves directions free
    more = [column(key, i, len(factors.a)) for i in range(factors.rank, rank)]
    a = np.concatenate([factors.a, *(c[:, None] for c in more)], axis=1)
    b = np.concatenate([factors.b, np.zeros((len(more), factors.b.shape[1]), np.float32)])
    return Lora(a, b, factors.scale)


def column(key: int, index: int, rows: int) -> Array:
    """A column of A: uniform between -1 / sqrt(rows) and 1 / sqrt(rows), float32 [rows].

    The upper 24 bits of a word of the stream (key, index) are a whole number w; the entry is the float32 product of
    (w - 2^23) / 2^23, which is exact, and of 1 / sqrt(rows).

    >>> bool(np.abs(column(1, 0, 100)).max() <= 0.1)
    True
    """
    raw: NDArray[np.int64] = (words(key, index, rows) >> np.uint64(40)).astype(np.int64) - (1 << 23)
    unit = raw.astype(np.float32) / np.float32(1 << 23)
    return np.asarray(unit * np.float32(1 / math.sqrt(rows)), np.float32)
