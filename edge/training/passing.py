"""Rows of tokens through a decoder's graphs: what a task of texts, and whoever judges by them, has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.feeds import by_bucket, forward_bucket, smaller_buckets, training_bucket
from edge.gradients import Gradients
from edge.runner import Runner
from edge.text import FILE, positions_of
from edge.trainers.interface import Array
from edge.training.blocks import Blocks, filled, packed
from edge.training.losses import cross_entropy
from edge.training.passages import Encoded, Passage, encode_passages, encode_passages_apart
from wire.adapter import Adapter
from wire.inputs import changes_layers, inputs_of
from wire.manifest import Bucket, Generate

Judged = tuple[NDArray[np.float64], NDArray[np.int64]]  # of rows: summed loss, and how many tokens are the likeliest
ROWS_AT_ONCE = 8  # of logits that are judged in float64: a vocabulary of 32,000 takes 2 MiB then


class Passing:
    """How texts go through a bundle.

    Args:
        runner: of a bundle whose loss is "next-token".
        backward: whether the bucket of the backward graphs is used; else that of the forward graphs.
        micro_batch: rows of a backward graph's run; None takes the plan's.

    Raises:
        BadData: the bundle has another loss, or no graphs of that micro-batch.
    """

    def __init__(self, runner: Runner, *, backward: bool, micro_batch: int | None = None) -> None:
        manifest = runner.manifest
        if manifest.loss is None or manifest.generate is None:
            raise BadData(
                "expected a decoder that learns by its next token, found another bundle; export one with "
                "--task text-generation --mode train"
            )
        self.runner, self._record = runner, manifest.generate
        self.bucket = training_bucket(manifest, micro_batch) if backward else forward_bucket(manifest)
        self._buckets = smaller_buckets(manifest, self.bucket, training=backward)
        self._left = str(manifest.preprocess.parameters.get("padding_side", "right")) == "left"

    def blocks(self, passages: Sequence[Passage], *, pack: bool = False) -> Blocks:
        """Texts as rows of the bucket, see `edge.training.blocks`.

        Raises:
            BadData: the bundle has no tokenizer.
        """
        manifest = self.runner.manifest
        path = next((self.runner.bundle.path(f) for f in manifest.preprocess.files if f.endswith(FILE)), None)
        if path is None:
            raise BadData("expected a bundle with a tokenizer for texts, found none; export it again")
        if self.runner.frugal:
            texts = encode_passages_apart(path, passages)
        else:
            from edge.encode import open_tokenizer

            texts = encode_passages(open_tokenizer(path), passages)
        return blocks_of(texts, self.bucket, self._record, "left" if self._left else "right", pack=pack)

    def gradients(self, blocks: Blocks, chosen: Sequence[int], adapter: Adapter) -> Gradients:
        """Loss and gradients summed over the tokens of some rows that are to be predicted."""
        shared, sums = inputs_of(self.runner.manifest, adapter), Gradients()
        for bucket, parts in self._parts(blocks, chosen):
            batches = [self._batch(blocks, bucket, part) for part in parts]
            sums.merge(self.runner.chain.gradients(batches, bucket.name, shared))
        return sums

    def losses(self, blocks: Blocks, chosen: Sequence[int], adapter: Adapter) -> Judged:
        """Of each of some rows the summed loss of its tokens, and how many of them are the likeliest: [rows] each."""
        shared, bare = inputs_of(self.runner.manifest, adapter), not changes_layers(adapter)
        found: dict[int, tuple[float, int]] = {}
        for bucket, parts in self._parts(blocks, chosen):
            step = self.runner.window_batches(bucket)
            for start in range(0, len(parts), step):
                some = parts[start : start + step]
                batches = [self._batch(blocks, bucket, part) for part in some]
                labels = iter([fed["labels"].reshape(bucket.batch, -1) for fed in batches])

                def take(made: dict[str, Array], labels: Any = labels) -> Judged:
                    return judge(made[self._record.logits], next(labels))

                judged = self.runner.chain.each(batches, bucket.name, shared, (self._record.logits,), take, bare=bare)
                for part, (loss, right) in zip(some, judged, strict=True):
                    found.update(zip(part, zip(loss.tolist(), right.tolist(), strict=False), strict=False))
        kept = [found[row] for row in chosen]
        return np.array([loss for loss, _ in kept], np.float64), np.array([right for _, right in kept], np.int64)

    def _parts(self, blocks: Blocks, chosen: Sequence[int]) -> list[tuple[Bucket, list[list[int]]]]:
        """Rows in micro-batches by their bucket; rows of like length go together where there are shorter buckets."""
        parts = by_bucket(len(chosen), self._buckets, blocks.lengths(chosen).tolist())
        return [(bucket, [[chosen[at] for at in places] for places in found]) for bucket, found in parts]

    def _batch(self, blocks: Blocks, bucket: Bucket, part: Sequence[int]) -> dict[str, Array]:
        """The graphs' inputs for a micro-batch; rows that are missing repeat the last one and have no labels."""
        missing = bucket.batch - len(part)
        index = np.array([*part, *([part[-1]] * missing)], np.int64)
        cut = bucket.sequence if bucket.sequence != self.bucket.sequence else None
        kept = slice(cut) if not self._left or cut is None else slice(-cut, None)
        labels = blocks.labels(index.tolist())[:, kept]
        labels[len(part) :] = -100
        fed: dict[str, Any] = _inputs(self._record, blocks.ids[index, kept], blocks.mask[index, kept])
        return {**fed, "labels": labels.ravel(), "weights": np.ones(labels.size, np.float32)}


def blocks_of(texts: Sequence[Encoded], bucket: Bucket, record: Generate, side: str, *, pack: bool) -> Blocks:
    """Rows of a bucket; a text ends with the model's own end token, which it learns to say."""
    sequence, end = bucket.sequence or record.context, record.end[0] if record.end else None
    return packed(texts, sequence, record.pad, end) if pack else filled(texts, sequence, record.pad, end, side)


def judge(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Judged:
    """Summed loss, and how many labels are the likeliest, of each row.

    Args:
        logits: [rows, tokens, V].
        labels: [rows or less, tokens]; -100 where there is none.

    >>> judge(np.zeros((1, 2, 4), np.float32), np.array([[0, -100]]))
    (array([1.38629436]), array([1]))
    """
    flat, wanted, tokens = logits[: len(labels)].reshape(-1, logits.shape[-1]), labels.ravel(), labels.shape[1]
    at = np.flatnonzero(wanted >= 0)
    loss, right = np.zeros(len(labels)), np.zeros(len(labels), np.int64)
    for start in range(0, len(at), ROWS_AT_ONCE):
        part = at[start : start + ROWS_AT_ONCE]
        np.add.at(loss, part // tokens, cross_entropy(flat[part], wanted[part]))
        np.add.at(right, part // tokens, flat[part].argmax(axis=1) == wanted[part])
    return loss, right


def _inputs(record: Generate, ids: NDArray[np.int32], mask: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    made: list[tuple[str | None, Callable[[], NDArray[np.int64]]]] = [
        (record.tokens, lambda: ids.astype(np.int64)),
        (record.mask, lambda: mask.astype(np.int64)),
        (record.positions, lambda: positions_of(mask)),
    ]
    return {name: make() for name, make in made if name is not None}
