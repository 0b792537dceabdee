"""Encoded texts as rows of a bucket: each its own, cut and filled up, or one after the other in full rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.training.passages import Encoded

IGNORED = -100


@dataclass(frozen=True)
class Blocks:
    """Rows [n, sequence].

    Attributes:
        ids: int32 tokens.
        mask: which of them are there; the others fill up.
        learned: which of them are to be predicted; never the first of a row.
        cut: how many texts were longer than a row and lost their end.
        lone: how many texts are left out, because no token of theirs is to be predicted.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    learned: NDArray[np.bool_]
    cut: int = 0
    lone: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        """The token after each one, int64 [rows, sequence]; -100 where there is none to predict."""
        index = np.asarray(chosen, np.int64)
        out = np.full((len(index), self.ids.shape[1]), IGNORED, np.int64)
        out[:, :-1] = np.where(self.learned[index, 1:], self.ids[index, 1:], IGNORED)
        return out

    def lengths(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        """Tokens of some rows, without what fills them up: int64 [rows]."""
        return np.asarray(self.mask[np.asarray(chosen, np.int64)].sum(axis=1), np.int64)

    def targets(self, chosen: Sequence[int]) -> int:
        """How many tokens of some rows are to be predicted."""
        return int(self.learned[np.asarray(chosen, np.int64)].sum())


def filled(texts: Sequence[Encoded], sequence: int, pad: int, end: int | None, side: str = "right") -> Blocks:
    """A row per text: cut to `sequence`, filled up on one side with `pad`.

    Args:
        texts: what to learn from.
        sequence: tokens of a row.
        pad: what fills up.
        end: the token that ends a text and is learned as well; None for none.
        side: "right" or "left".

    >>> blocks = filled([Encoded(np.array([5, 6, 7], np.int32), 1), Encoded(np.array([8], np.int32))], 4, 0, 2)
    >>> blocks.ids.tolist(), blocks.labels([0, 1]).tolist()
    ([[5, 6, 7, 2], [8, 2, 0, 0]], [[6, 7, 2, -100], [2, -100, -100, -100]])
    """
    shape = (len(texts), sequence)
    ids, mask, learned = np.full(shape, pad, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
    cut = 0
    for row, text in enumerate(texts):
        whole = _ended(text.ids, end)
        cut += len(whole) > sequence
        count = min(len(whole), sequence)
        first = sequence - count if side == "left" else 0
        ids[row, first : first + count], mask[row, first : first + count] = whole[:count], True
        learned[row, first + max(1, text.given) : first + count] = True
    kept = learned.any(axis=1)
    return Blocks(ids[kept], mask[kept], learned[kept], cut, int((~kept).sum()))


def packed(texts: Sequence[Encoded], sequence: int, pad: int, end: int | None) -> Blocks:
    """Texts one after the other, in rows that are full but for the last: nothing is cut off.

    >>> blocks = packed([Encoded(np.array([5, 6], np.int32)), Encoded(np.array([7, 8], np.int32), 1)], 4, 0, 2)
    >>> blocks.ids.tolist(), blocks.labels([0, 1]).tolist()
    ([[5, 6, 2, 7], [8, 2, 0, 0]], [[6, 2, -100, -100], [2, -100, -100, -100]])
    """
    whole = [_ended(text.ids, end) for text in texts]
    stream = np.concatenate([*whole, np.zeros(0, np.int32)])
    # of a text that has no prompt, the first token is to be predicted from the end of the one before
    counts = [np.arange(len(ids)) >= text.given for ids, text in zip(whole, texts, strict=True)]
    wanted = np.concatenate([*counts, np.zeros(0, bool)])
    rows = -(-len(stream) // sequence)
    ids = np.full(rows * sequence, pad, np.int32)
    mask, learned = (np.zeros(rows * sequence, bool) for _ in range(2))
    ids[: len(stream)], mask[: len(stream)], learned[: len(stream)] = stream, True, wanted
    learned[::sequence] = False
    kept = learned.reshape(rows, sequence).any(axis=1)
    shape = (rows, sequence)
    return Blocks(ids.reshape(shape)[kept], mask.reshape(shape)[kept], learned.reshape(shape)[kept])


def _ended(ids: NDArray[np.int32], end: int | None) -> NDArray[np.int32]:
    if end is None or (len(ids) and ids[-1] == end):
        return ids
    return np.append(ids, np.int32(end))
