"""The gate of a decoder: a version that goes on with texts worse than the one in use is not rolled out.

Both versions are judged on the same texts. What is compared is the loss of a token, summed losses over summed tokens,
so the difference is a ratio of sums over texts and its standard error that of a ratio (Cochran, Sampling Techniques,
1977, section 2.11): texts are drawn, not tokens, and those of one text are alike. Of a single text no error is known,
and none is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wire.scores import Score, Tokens, perplexity


@dataclass(frozen=True)
class Sums:
    """Over boards and ranks.

    Attributes:
        rows: texts.
        tokens: of them.
        new: the losses of the new version.
        old: those of the old one.
        apart: the squares of d, the new loss of a text less its old one.
        crossed: d times the tokens of its text.
        squared: the squares of tokens.
    """

    rows: int = 0
    tokens: int = 0
    new: float = 0.0
    old: float = 0.0
    apart: float = 0.0
    crossed: float = 0.0
    squared: float = 0.0

    @property
    def error(self) -> float:
        """The standard error of the difference of the losses of a token.

        >>> Sums(rows=2, tokens=8, new=6.0, old=2.0, apart=10.0, crossed=16.0, squared=32.0).error
        0.25
        """
        if self.rows < 2 or not self.tokens:
            return 0.0
        ratio = (self.new - self.old) / self.tokens
        rest = self.apart - 2 * ratio * self.crossed + ratio**2 * self.squared
        return math.sqrt(max(0.0, rest) * self.rows / (self.rows - 1)) / self.tokens

    def plus(self, new: Tokens, old: Tokens) -> Sums:
        """With those of a board at a rank: d is told by the version that was not the first of the job."""
        told, sign = (new, 1) if new.apart > old.apart else (old, -1)
        return Sums(
            self.rows + new.rows,
            self.tokens + new.tokens,
            self.new + new.loss,
            self.old + old.loss,
            self.apart + told.apart,
            self.crossed + sign * told.crossed,
            self.squared + told.squared,
        )


def summed(boards: Iterable[Sequence[Score]], candidate: str, parent: str) -> tuple[Sums, int]:
    """The sums over boards and ranks, and how many boards judged the two versions on different texts."""
    found, left_out = Sums(), 0
    for scores in boards:
        new, old = (
            {s.rank: s.tokens for s in scores if s.version == version and s.tokens is not None}
            for version in (candidate, parent)
        )
        if new.keys() != old.keys() or any(_texts(new[rank]) != _texts(old[rank]) for rank in new):
            left_out += 1
            continue
        for rank, tokens in new.items():
            found = found.plus(tokens, old[rank])
    return found, left_out


def _texts(tokens: Tokens) -> tuple[int, int]:
    return tokens.rows, tokens.tokens


def said_of(found: Sums, tolerance: float, noise: float) -> tuple[bool, float, float, str]:
    """Whether it is released, the losses of a token of both versions, and why, in words.

    Args:
        found: with tokens.
        tolerance: by how much the loss of a token may rise (0.01 is a perplexity of one percent more), noise aside.
        noise: by how many standard errors of the difference it may rise beyond that.
    """
    new, old, limit = found.new / found.tokens, found.old / found.tokens, noise * found.error
    released = new <= old + tolerance + limit
    found_so = verdict(new <= old + tolerance, released, "higher")
    words = (
        f"loss of a token {new:.4f} after {old:.4f} (perplexity {perplexity(new):.4g} after {perplexity(old):.4g}) on "
        f"{found.rows} texts of {found.tokens} tokens that boards kept back (noise {limit:.4f}): {found_so}"
    )
    return released, new, old, words


def verdict(alike: bool, released: bool, moved: str) -> str:
    """What is said of a version: as good, within the noise, or neither.

    >>> verdict(True, True, "higher"), verdict(False, True, "higher"), verdict(False, False, "higher")
    ('not worse', 'higher, but not beyond the noise', 'worse beyond the noise')
    """
    if not released:
        return "worse beyond the noise"
    return "not worse" if alike else f"{moved}, but not beyond the noise"
