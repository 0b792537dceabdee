"""Outputs of formats against those of fp32 and against labels, call by call; what is summed, not what is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from console.errors import VerificationError
from export.sources.captured import Values
from export.sources.decoder import LOGITS
from export.study.calls import NOTHING, Call
from export.study.rows import Quality, Share
from export.study.temperatures import Temperatures, log_softmax
from quant.variants import Tally

Array = NDArray[Any]
MOST_ENTRIES = 3_000_000_000  # probabilities at all temperatures and formats: about a minute


class Judge(Protocol):
    """Takes the outputs of a call by format; `fp32` is among them and must be numbers."""

    def add(self, call: Call, outputs: Mapping[str, Values]) -> None:
        """Add one call.

        Raises:
            VerificationError: fp32 computes NaN or infinity.
        """

    def of(self, name: str) -> Quality:
        """What is known of a format."""


class Tokens:
    """Next tokens of a decoder: perplexity, agreement of the likeliest one, and distances by temperature.

    Temperatures take their time: of many tokens with large vocabularies only every `every`-th is compared at them.
    """

    def __init__(self, formats: Sequence[str], temperatures: Sequence[float], most_tokens: int = 0) -> None:
        """`most_tokens`: how many there will be, as far as that is known."""
        self._entropy, self._same, self._bad = (dict.fromkeys(formats, 0.0), dict.fromkeys(formats, 0), _none(formats))
        self._count, self.every, self._most = 0, 1, most_tokens * len(formats) * len(temperatures)
        self._temperatures = Temperatures(formats, temperatures)

    def add(self, call: Call, outputs: Mapping[str, Values]) -> None:
        """Add a window: logits [1, tokens, vocabulary] of every format."""
        count, targets = len(call.targets), call.targets
        logits = {name: np.asarray(values[LOGITS])[0, :count] for name, values in outputs.items()}
        first = _numbers(logits["fp32"], "the next token")
        likeliest = first.argmax(axis=1)
        for name, got in logits.items():
            finite = np.isfinite(got).all(axis=1)
            self._bad[name] += int((~finite).sum())
            if finite.all():
                self._entropy[name] -= float(log_softmax(got)[np.arange(count), targets].sum())
            self._same[name] += int(((got.argmax(axis=1) == likeliest) & finite).sum())
        self.every = max(1, -(-self._most * first.shape[1] // MOST_ENTRIES))
        asked = slice(-self._count % self.every, None, self.every)
        self._count += count
        sound = {name: got[asked] for name, got in logits.items() if not self._bad[name]}
        self._temperatures.add(first[asked], sound, targets[asked])

    def of(self, name: str) -> Quality:
        """Perplexity, agreement and temperatures; without the first and the last where something is no number."""
        bad, agreement = self._bad[name], Share(self._same[name], self._count)
        if bad:
            return Quality(agreement=agreement, not_numbers=bad)
        mean = self._entropy[name] / self._count
        perplexity = math.exp(mean) if mean < 700 else math.inf
        return Quality(perplexity=perplexity, agreement=agreement, temperatures=self._temperatures.of(name))


class Classes:
    """Classes of items: accuracy where labels are known, and agreement of the likeliest one."""

    def __init__(self, formats: Sequence[str], output: str) -> None:
        self.output = output
        self._right, self._same, self._bad = _none(formats), _none(formats), _none(formats)
        self._tallies = {name: Tally() for name in formats}
        self._count, self._known = 0, 0

    def add(self, call: Call, outputs: Mapping[str, Values]) -> None:
        """Add a call: logits [batch, classes] of every format."""
        logits = {name: np.asarray(values[self.output])[: call.items] for name, values in outputs.items()}
        likeliest = _numbers(logits["fp32"], self.output).argmax(axis=1)
        for name, got in logits.items():
            finite = np.isfinite(got).all(axis=1)
            found = np.where(finite, got.argmax(axis=1), NOTHING - 1)
            self._bad[name] += int((~finite).sum())
            self._right[name] += int((found == call.targets).sum())
            self._same[name] += int((found == likeliest).sum())
            if finite.any() and got.shape[1] > 1:
                numbers = self._count + np.flatnonzero(finite)
                self._tallies[name].add(logits["fp32"][finite], got[finite], numbers.tolist())
        self._count += call.items
        self._known += int((call.targets != NOTHING).sum())

    def of(self, name: str) -> Quality:
        """Accuracy of labelled items, agreement, and the margins and items in another class, beside fp32."""
        accuracy = Share(self._right[name], self._known) if self._known else None
        agreement, tally = Share(self._same[name], self._count), self._tallies[name]
        decided = tally.result() if tally.samples and name != "fp32" else None
        return Quality(accuracy=accuracy, agreement=agreement, not_numbers=self._bad[name], decided=decided)


class Features:
    """Outputs that are no classes: the cosine of each item's with those of fp32, the least over several outputs.

    Of an output [batch, tokens, ...] of a text only marked tokens count.
    """

    def __init__(self, formats: Sequence[str], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._cosines: dict[str, list[float]] = {name: [] for name in formats}
        self._bad = _none(formats)

    def add(self, call: Call, outputs: Mapping[str, Values]) -> None:
        """Add a call: every output of every format, [batch, ...] each."""
        for item in range(call.items):
            first = [_numbers(self._part(outputs["fp32"], name, call, item), name) for name in self.names]
            for name, values in outputs.items():
                got = [self._part(values, output, call, item) for output in self.names]
                if all(np.isfinite(g).all() for g in got):
                    self._cosines[name].append(min(_cosine(f, g) for f, g in zip(first, got, strict=True)))
                else:
                    self._bad[name] += 1

    def _part(self, values: Values, name: str, call: Call, item: int) -> Array:
        array, mask = np.asarray(values[name]), call.feeds.get("attention_mask")
        if array.ndim == 0:
            return array
        if mask is not None and array.ndim > 2 and array.shape[:2] == mask.shape:
            return np.asarray(array[item][mask[item] > 0])
        # a graph whose outputs have no rows of items is called with one item
        return np.asarray(array[item]) if len(array) == len(next(iter(call.feeds.values()))) else array

    def of(self, name: str) -> Quality:
        """The mean and the least cosine."""
        cosines = self._cosines[name]
        if not cosines:
            return Quality(not_numbers=self._bad[name])
        return Quality(cosine=float(np.mean(cosines)), least_cosine=min(cosines), not_numbers=self._bad[name])


def _none(formats: Sequence[str]) -> dict[str, int]:
    return dict.fromkeys(formats, 0)


def _numbers(array: Array, what: str) -> Array:
    if not np.isfinite(array).all():
        raise VerificationError(
            f"expected the model in fp32 to compute numbers, found NaN or infinity in {what}; is the input real?"
        )
    return array


def _cosine(first: Array, second: Array) -> float:
    """Of two arrays as vectors; 1 where both are zero."""
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0:
        return float(not a.any() and not b.any())
    return min(1.0, max(-1.0, float(a @ b) / lengths))
