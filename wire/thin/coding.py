"""A whole update, thin: which differences go, in which order, and what a reader makes of them (docs/adapter.md).

Both sides know what was sent: the version that the update names, at the update's rank. Arrays go in one order: of every
slot by name A, then B, unless it rests; changes of biases in the order that the metadata says; the head's weight, then
its bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.adapter import Adapter
from wire.kinds.head import Head, pick
from wire.kinds.lora import Lora
from wire.kinds.thin_file import Thin, Told
from wire.thin.feedback import Learns, Product, coded
from wire.thin.table import Codec, codec_of, joined

Single = NDArray[np.float32]


class Sending:
    """Codes differences, one array after the other, and keeps the pieces."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.pieces: list[Mapping[str, NDArray[np.generic]]] = []

    def __call__(self, difference: Single) -> Single:
        """The difference as it arrives; its pieces are kept."""
        piece = self.codec.encode(np.ascontiguousarray(difference, np.float32).reshape(-1))
        self.pieces.append(piece)
        (arrived,) = self.codec.decode(piece, [difference.size])
        return arrived.reshape(difference.shape)


def thinned(update: Adapter, sent: Adapter, codec: Codec, learns: Learns, lost: Adapter) -> tuple[Adapter, Adapter]:
    """An update as thin, and what it loses.

    Args:
        update: factors of all slots of `sent` or of none, at the rank of `sent`; changes of biases; at most one head.
        sent: what the board started from: its rank's prefix, the version's heads and biases (0 where it has none).
        codec: how.
        learns: which factors are sent.
        lost: what earlier updates lost, as the second result; without slots where they lost nothing.

    Returns:
        The update without what became thin; what is lost now. Of slots that is a product: A [in, R], B [R, out] and a
        scale of 1.
    """
    code, gone = Sending(codec), Adapter(update.model)
    for slot in sorted(update.lora):
        old = lost.lora.get(slot)
        own, found = sent.lora[slot], update.lora[slot]
        before = None if old is None or not _alike(old, found) else Product(*_doubles(old))
        _, left = coded(own, found, before, code, learns)
        gone.lora[slot] = Lora(left.left.astype(np.float32), left.right.astype(np.float32), 1.0)
    for slot in sorted(update.bias):
        gone.bias[slot] = _plain(update.bias[slot], sent.bias[slot], lost.bias.get(slot), code)
    for rank, head in update.heads.items():
        began, old_head = _head(sent, rank, head), lost.heads.get(rank)
        parts = [
            _plain(getattr(head, part), getattr(began, part), getattr(old_head, part, None), code)
            for part in ("weight", "bias")
        ]
        gone.heads[rank] = Head(*parts)
    told = Told(codec.name, update.rank, learns if update.lora else "none", tuple(sorted(update.bias)), _of(update))
    thin = Thin(told, joined(code.pieces, codec))
    return replace(update, lora={}, bias={}, heads={}, thin=thin), gone


def rebuilt(update: Adapter, sent: Adapter) -> Adapter:
    """The update as the board had it made arrive: what was sent, and the decoded differences.

    Args:
        update: a thin one.
        sent: as in `thinned`.

    Raises:
        BadData: it is not what its metadata and `sent` promise.
    """
    if update.thin is None:
        return update
    told, began = update.thin.told, _began(update.thin.told, sent)
    codec = codec_of(told.codec)
    try:
        found = codec.decode(update.thin.tensors, [one.size for one in began])
    except ValueError as error:
        raise BadData(f"expected a thin update of {told.codec}, but {error}; send it again") from error
    arrived = iter([old + new.reshape(old.shape) for old, new in zip(began, found, strict=True)])
    lora = {}
    for slot in sorted(sent.lora) if told.factors != "none" else ():
        own = sent.lora[slot]
        a = own.a if told.factors == "b" else next(arrived)
        lora[slot] = Lora(a, own.b if told.factors == "a" else next(arrived), own.scale)
    biases = {slot: next(arrived) for slot in told.biases}
    heads = {told.head: Head(next(arrived), next(arrived))} if told.head >= 0 else {}
    return replace(update, lora=lora, bias=biases, heads=heads, thin=None)


def _began(told: Told, sent: Adapter) -> list[Single]:
    """What was sent, array by array, in the order of the file."""
    unknown = [slot for slot in told.biases if slot not in sent.bias]
    if unknown or len(set(told.biases)) < len(told.biases):
        raise BadData(f"expected biases that the model has, each once, found {unknown or list(told.biases)}")
    arrays = []
    for slot in sorted(sent.lora) if told.factors != "none" else ():
        own = sent.lora[slot]
        arrays += [own.a] if told.factors != "b" else []
        arrays += [own.b] if told.factors != "a" else []
    arrays += [sent.bias[slot] for slot in told.biases]
    if told.head >= 0:
        head = pick(sent.heads, told.head)
        if head is None:
            raise BadData("expected a version with a head under a thin head, found none; send the head whole")
        arrays += [head.weight, head.bias]
    return arrays


def _of(update: Adapter) -> int:
    return next(iter(update.heads), -1)


def _head(sent: Adapter, rank: int, like: Head) -> Head:
    began = pick(sent.heads, rank)
    if began is None or began.weight.shape != like.weight.shape:
        raise BadData("expected a version with a head to send a trained one thin, found none; send it whole")
    return began


def _plain(value: Single, began: Single, lost: Single | None, code: Sending) -> Single:
    """Send what needs no common basis; what is lost of it."""
    wanted = value - began
    if lost is not None and lost.shape == wanted.shape:
        wanted = wanted + lost
    left: Single = wanted - code(wanted)
    return left


def _alike(old: Lora, found: Lora) -> bool:
    return bool(old.a.shape[0] == found.a.shape[0] and old.b.shape[1] == found.b.shape[1])


def _doubles(old: Lora) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return old.scale * old.a.astype(np.float64), old.b.astype(np.float64)
