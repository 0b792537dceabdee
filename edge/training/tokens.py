"""The task of texts: an adapter of a decoder learns to predict the next token.

The loss of a step is the mean over the tokens that are to be predicted, whatever rows they are in: a long text counts
for more than a short one, as in transformers' own loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.feeds import by_bucket, forward_bucket, smaller_buckets, training_bucket
from edge.gradients import Gradients as Sums
from edge.runner import Runner
from edge.text import FILE, positions_of
from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.training.blocks import Blocks, filled, packed
from edge.training.learned import learned, relearned
from edge.training.losses import cross_entropy
from edge.training.passages import Encoded, Passage, encode_passages, encode_passages_apart
from edge.training.scales import Factors
from edge.training.task import Score
from wire.adapter import Adapter
from wire.inputs import changes_layers, inputs_of
from wire.manifest import Bucket, Generate

ROWS_AT_ONCE = 8  # of logits that are judged in float64: a vocabulary of 32,000 takes 2 MiB then


class NextTokens:
    """Texts of a board, some of them kept back.

    Args:
        runner: of a bundle whose loss is "next-token".
        adapter: where to start; it is not changed, and what is not trained stays as it is.
        train: texts to learn from.
        kept_back: texts to judge by.
        packed: texts one after the other in full rows, instead of a row each that is cut and filled up.
        backward: whether the bucket of the backward graphs is used; else that of the forward graphs.
        scales: factors of the bundle's scales, which learn then instead of the adapter, by forward graphs.
        micro_batch: rows of a backward graph's run; None takes the plan's.

    Raises:
        BadData: the bundle has another loss; no text with a token to predict; nothing that could learn; no graphs of
            that micro-batch.
    """

    def __init__(
        self,
        runner: Runner,
        adapter: Adapter,
        train: Sequence[Passage],
        kept_back: Sequence[Passage] = (),
        *,
        packed: bool = False,
        backward: bool = True,
        scales: Factors | None = None,
        micro_batch: int | None = None,
    ) -> None:
        manifest = runner.manifest
        if manifest.loss is None or manifest.generate is None:
            raise BadData(
                "expected a decoder that learns by its next token, found another bundle; export one with "
                "--task text-generation --mode train"
            )
        if scales is None and not learned(manifest, adapter):
            raise BadData("expected an adapter with something to train, found rank 0 and no bias; give a rank")
        self.runner, self._adapter, self._scales = runner, adapter, scales
        self._backward = backward = backward and scales is None
        self._record = manifest.generate
        self.bucket = training_bucket(manifest, micro_batch) if backward else forward_bucket(manifest)
        self._buckets = smaller_buckets(manifest, self.bucket, training=backward)
        self._left = str(manifest.preprocess.parameters.get("padding_side", "right")) == "left"
        self.blocks = self._blocks(train, packed)
        if not len(self.blocks):
            raise BadData(f"expected texts of two tokens or more to train on, found none among {len(train)}")
        self.kept_back = self._blocks(kept_back, packed) if kept_back else None

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def truncated(self) -> int:
        """How many texts to train on were longer than a row and lost their end."""
        return self.blocks.cut

    def start(self) -> dict[str, Array]:
        """The arrays of the adapter that learn: copies."""
        if self._scales is not None:
            return self._scales.start()
        return learned(self.runner.manifest, self._adapter)

    def adapter(self, arrays: Arrays) -> Adapter:
        """The adapter with these arrays."""
        if self._scales is not None:
            return self._scales.moving(arrays)
        return relearned(self.runner.manifest, self._adapter, arrays)

    def rows(self, chosen: Sequence[int]) -> Rows:
        """Loss and gradients of some rows; what counts as a row to a trainer is a token that is to be predicted."""
        chosen, count = list(chosen), self.blocks.targets(chosen)

        def loss(arrays: Arrays) -> float:
            return self._judged(self.blocks, chosen, arrays).loss

        def gradients(arrays: Arrays) -> list[Gradients]:
            shared, sums = inputs_of(self.runner.manifest, self.adapter(arrays)), Sums()
            for bucket, parts in self._parts(self.blocks, chosen):
                batches = [self._batch(self.blocks, bucket, part) for part in parts]
                sums.merge(self.runner.chain.gradients(batches, bucket.name, shared))
            return [Gradients(sums.loss, sums.by_input, count)]

        return Rows(loss, gradients if self._backward else None)

    def score(self, arrays: Arrays) -> Score | None:
        """Mean loss of the tokens of texts that were kept back, and how many of them are the likeliest."""
        if self.kept_back is None or not len(self.kept_back):
            return None
        return self._judged(self.kept_back, list(range(len(self.kept_back))), arrays)

    def _judged(self, blocks: Blocks, chosen: Sequence[int], arrays: Arrays) -> Score:
        adapter, manifest = self.adapter(arrays), self.runner.manifest
        shared, bare = inputs_of(manifest, adapter), not changes_layers(adapter)
        loss, right, count, name = 0.0, 0, blocks.targets(chosen), self._record.logits
        for bucket, parts in self._parts(blocks, chosen):
            step = self.runner.window_batches(bucket)
            for start in range(0, len(parts), step):
                batches = [self._batch(blocks, bucket, part) for part in parts[start : start + step]]
                labels = iter([fed["labels"].reshape(bucket.batch, -1) for fed in batches])

                def take(found: dict[str, Array], labels: Any = labels) -> tuple[float, int]:
                    return judge(found[name], next(labels))

                sums = self.runner.chain.each(batches, bucket.name, shared, (name,), take, bare=bare)
                loss, right = loss + sum(s[0] for s in sums), right + sum(s[1] for s in sums)
        return Score(loss / max(1, count), right, count)

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

    def _blocks(self, passages: Sequence[Passage], pack: bool) -> Blocks:
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


def blocks_of(texts: Sequence[Encoded], bucket: Bucket, record: Generate, side: str, *, pack: bool) -> Blocks:
    """Rows of a bucket; a text ends with the model's own end token, which it learns to say."""
    sequence, end = bucket.sequence or record.context, record.end[0] if record.end else None
    return packed(texts, sequence, record.pad, end) if pack else filled(texts, sequence, record.pad, end, side)


def judge(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, int]:
    """Summed loss, and how many labels are the likeliest: logits [rows, tokens, V], labels [rows or less, tokens].

    >>> judge(np.zeros((1, 2, 4), np.float32), np.array([[0, -100]]))
    (1.3862943611198906, 1)
    """
    flat, wanted = logits[: len(labels)].reshape(-1, logits.shape[-1]), labels.ravel()
    at = np.flatnonzero(wanted >= 0)
    loss, right = 0.0, 0
    for start in range(0, len(at), ROWS_AT_ONCE):
        part = at[start : start + ROWS_AT_ONCE]
        loss += float(cross_entropy(flat[part], wanted[part]).sum())
        right += int((flat[part].argmax(axis=1) == wanted[part]).sum())
    return loss, right


def perplexity(score: Score) -> float:
    """e to the mean loss of a token."""
    return math.exp(min(score.loss, 700.0))


def _inputs(record: Generate, ids: NDArray[np.int32], mask: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    made: list[tuple[str | None, Callable[[], NDArray[np.int64]]]] = [
        (record.tokens, lambda: ids.astype(np.int64)),
        (record.mask, lambda: mask.astype(np.int64)),
        (record.positions, lambda: positions_of(mask)),
    ]
    return {name: make() for name, make in made if name is not None}
