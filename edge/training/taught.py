"""The task that a board's rows are: classes to tell apart, or of a decoder texts to go on with."""

from __future__ import annotations

from collections.abc import Sequence

from edge.data.row import Row
from edge.runner import Runner
from edge.training.classes import Classes
from edge.training.learned import head_of
from edge.training.tokens import NextTokens
from wire.adapter import Adapter


def taught(
    runner: Runner, adapter: Adapter, rows: Sequence[Row], *, head: bool = False, backward: bool = True
) -> Classes | NextTokens:
    """What learns from rows, none of which is kept back.

    Args:
        runner: of the bundle.
        adapter: where to start.
        rows: what to learn from.
        head: whether the adapter's head learns too.
        backward: whether the bucket of the backward graphs is used.

    Raises:
        BadData: no rows; nothing that could learn; a head is to learn, and the model has none.
    """
    if runner.manifest.loss is None:
        return Classes(runner, adapter, rows, head=head, backward=backward)
    if head:
        head_of(runner.manifest)
    return NextTokens(runner, adapter, [row.sample for row in rows], backward=backward)
