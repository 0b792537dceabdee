"""What a board found when it evaluated versions on data it kept back: counts per class, nothing else.

An update of kind `scores` is JSON: `{"schema": 1, "scores": [{version, rank, count, correct, both}, ...]}`. `both`
counts the rows that are right under this version and under the first one of the job, too (at the same rank); whoever
does not say it (older agents) leaves it out. Of a decoder, which has no classes, `tokens` says how well it goes on
with texts: sums over all of them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from console.errors import BadData
from wire.json_text import parse_json
from wire.record import DIGEST, at_least, matching, plain, read_record

SCHEMA = 1
LARGEST = 1e15  # of a sum: no board has so many tokens, and squares of it are numbers still


def perplexity(loss: float) -> float:
    """e to the loss of a token.

    >>> perplexity(0.0)
    1.0
    """
    return math.exp(min(loss, 700.0))


@dataclass(frozen=True)
class Tokens:
    """How a decoder goes on with texts: sums over texts, each with tokens t and a loss l, the sum of their losses.

    Attributes:
        rows: texts.
        tokens: of them that were to be predicted: the sum of t.
        right: tokens that were the likeliest.
        loss: the sum of l, in nats.
        apart: the sum of d squared, where d is how much larger l is than under the first version of the job (at the
            same rank).
        crossed: the sum of d times t.
        squared: the sum of t squared.
    """

    rows: int = field(default=0, metadata=at_least(0))
    tokens: int = field(default=0, metadata=at_least(0))
    right: int = field(default=0, metadata=at_least(0))
    loss: float = field(default=0.0, metadata=at_least(0, LARGEST))
    apart: float = field(default=0.0, metadata=at_least(0, LARGEST**2))
    crossed: float = field(default=0.0, metadata=at_least(-(LARGEST**2), LARGEST**2))
    squared: float = field(default=0.0, metadata=at_least(0, LARGEST**2))
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The loss of a token; 0 without tokens.

        >>> Tokens(rows=2, tokens=8, loss=4.0).mean
        0.5
        """
        return self.loss / max(1, self.tokens)

    @property
    def impossible(self) -> bool:
        """Whether no texts have such sums."""
        return not self.right <= self.tokens or self.rows > self.tokens or (not self.tokens and self.loss > 0)


@dataclass(frozen=True)
class Score:
    """One version at one rank: rows seen and rows right, per class; of a decoder `tokens`, and no class."""

    version: str = field(metadata=matching(DIGEST))
    rank: int = field(metadata=at_least(0))
    count: tuple[int, ...] = field(metadata=at_least(0))
    correct: tuple[int, ...] = field(metadata=at_least(0))
    both: tuple[int, ...] = field(default=(), metadata=at_least(0))  # right here and under the job's first version
    tokens: Tokens | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of all rows that are right, of a decoder of all tokens; 0 without any."""
        if self.tokens is not None:
            return self.tokens.right / max(1, self.tokens.tokens)
        return sum(self.correct) / max(1, sum(self.count))

    @property
    def macro_accuracy(self) -> float:
        """Mean over the classes that were seen of the share that is right.

        >>> Score("0" * 64, 2, (4, 0, 2), (2, 0, 2)).macro_accuracy
        0.75
        """
        seen = [(n, c) for n, c in zip(self.count, self.correct, strict=True) if n]
        return sum(c / n for n, c in seen) / max(1, len(seen))


@dataclass(frozen=True)
class Scores:
    """The payload of an update of kind `scores`."""

    schema: int
    scores: tuple[Score, ...]
    extra: dict[str, Any] = field(default_factory=dict)


def to_bytes(scores: list[Score]) -> bytes:
    """JSON bytes."""
    return json.dumps(plain(Scores(SCHEMA, tuple(scores)))).encode()


def read_scores(data: bytes, classes: int, where: str) -> list[Score]:
    """Read scores over a known number of classes.

    Raises:
        BadData: not JSON, another schema, or counts that contradict each other; sums of tokens of a model with
            classes, or none of one without.
    """
    try:
        decoded = parse_json(data)
    except ValueError as error:
        raise BadData(
            f"expected scores as JSON in {where}, found something else ({error}); they were ignored"
        ) from error
    found = read_record(Scores, decoded, where).scores
    for score in found:
        lengths = {len(score.count), len(score.correct), len(score.both or score.count)} == {classes}
        pairs = [(score.count, score.correct), *([(score.correct, score.both)] if score.both else [])]
        if (score.tokens is None) != bool(classes) or (score.tokens is not None and score.tokens.impossible):
            what = "counts of classes alone" if classes else "sums over tokens, none above its total,"
            raise BadData(f"expected {what} in {where}; found others")
        if not lengths or any(c > n for whole, part in pairs for n, c in zip(whole, part, strict=True)):
            raise BadData(f"expected counts of {classes} classes, none above its total, in {where}; found others")
    return list(found)
