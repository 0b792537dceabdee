"""The task of texts: an adapter of a decoder learns to predict the next token.

The loss of a step is the mean over the tokens that are to be predicted, whatever rows they are in: a long text counts
for more than a short one, as in transformers' own loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from console.errors import BadData
from edge.runner import Runner
from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.training.blocks import Blocks
from edge.training.learned import learned, relearned
from edge.training.passages import Passage
from edge.training.passing import Passing
from edge.training.scales import Factors
from edge.training.task import Score
from wire.adapter import Adapter
from wire.manifest import Bucket


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
        self._backward = backward = backward and scales is None
        self._passing = Passing(runner, backward=backward, micro_batch=micro_batch)
        if scales is None and not learned(runner.manifest, adapter):
            raise BadData("expected an adapter with something to train, found rank 0 and no bias; give a rank")
        self.runner, self._adapter, self._scales = runner, adapter, scales
        self.blocks = self._passing.blocks(train, pack=packed)
        if not len(self.blocks):
            raise BadData(f"expected texts of two tokens or more to train on, found none among {len(train)}")
        self.kept_back = self._passing.blocks(kept_back, pack=packed) if kept_back else None

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def bucket(self) -> Bucket:
        """The one that rows are made for."""
        return self._passing.bucket

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
            sums = self._passing.gradients(self.blocks, chosen, self.adapter(arrays))
            return [Gradients(sums.loss, sums.by_input, count)]

        return Rows(loss, gradients if self._backward else None)

    def score(self, arrays: Arrays) -> Score | None:
        """Mean loss of the tokens of texts that were kept back, and how many of them are the likeliest."""
        if self.kept_back is None or not len(self.kept_back):
            return None
        return self._judged(self.kept_back, list(range(len(self.kept_back))), arrays)

    def _judged(self, blocks: Blocks, chosen: Sequence[int], arrays: Arrays) -> Score:
        loss, right = self._passing.losses(blocks, chosen, self.adapter(arrays))
        count = blocks.targets(chosen)
        return Score(float(loss.sum()) / max(1, count), int(right.sum()), count)
