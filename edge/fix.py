"""The fix job: an edit of the heads that gives one input the label that it should have, and what else it changes.

For each rank that boards serve at, since each has features and a head of its own. What is reported is measured with
the graphs and the factors that are sent: of the input, its paraphrases, and all rows of the calibration data, of which
those that were kept back had no part in the choice.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from console.errors import BadData
from edge.assemble import prefix
from edge.data.row import Data, Row
from edge.runner import Ready, Runner
from edge.training.head_edits import Found, Labels, Outputs, Wish, found, leads_of
from wire.adapter import Adapter, to_bytes
from wire.fixes import KEY, SCHEMA, AtRank, Report, text_of
from wire.kinds.edit import apply
from wire.kinds.head import pick
from wire.record import at_least, read_record

Advance = Callable[[float, float], None]


@dataclass(frozen=True)
class Asked:
    """An input or a paraphrase: a text, or a picture's file in base64."""

    text: str = ""
    data: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FixSettings:
    """What the hub asks for.

    Attributes:
        expect: the label that the input should have.
        input: what is answered wrong.
        paraphrases: others that should have the same label.
        drawdown: the share of calibration rows that were right and may be wrong afterwards.
        rank: of the edit, at most.
    """

    expect: str
    input: Asked
    paraphrases: tuple[Asked, ...] = ()
    drawdown: float = field(default=0.001, metadata=at_least(0, 1))
    rank: int = field(default=2, metadata=at_least(1, 64))
    ranks: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def fix(
    runner: Runner,
    adapter: Adapter,
    data: Data,
    told: dict[str, Any],
    ranks: Sequence[int],
    job: str,
    advance: Advance = lambda done, of: None,
) -> tuple[bytes, Report]:
    """Compute an edit.

    Args:
        runner: the bundle.
        adapter: the version in use, at the highest of the ranks.
        data: calibration rows.
        told: the settings of the job, see `FixSettings`.
        ranks: at which boards serve.
        job: its name.
        advance: told how many passes over all rows are done, and of how many.

    Returns:
        The payload, and the report that is in it.

    Raises:
        BadData: there is no head, no such label, no calibration row, or an input that the model does not take.
    """
    settings, samples = asked_of(told)
    label = _label(runner, adapter, settings.expect)
    rows = _others(data, samples)
    every = runner.ready([*samples, *(row.sample for row in rows.all)])
    measure = _Measure(runner, settings, label, len(samples), rows, every)
    before: dict[int, Outputs] = {}
    edits: dict[int, Found] = {}
    for done, rank in enumerate(ranks):
        before[rank] = measure.outputs(prefix(adapter, rank))
        advance(done + 1, 2 * len(ranks))
        edits[rank] = measure.edit(before[rank])
    made = {rank: one.edit for rank, one in edits.items()}
    edited = replace(adapter, heads=apply(adapter.heads, [made]))
    at = []
    for done, rank in enumerate(ranks):
        at.append(measure.at_rank(rank, before[rank], measure.outputs(prefix(edited, rank))))
        advance(len(ranks) + done + 1, 2 * len(ranks))
    fitted = any(one.fitted for one in edits.values())
    report = Report(SCHEMA, job, len(rows.all), len(samples) - 1, fitted, tuple(at))
    return to_bytes(Adapter(adapter.model, adapter.version, edits=made, metadata={KEY: text_of(report)})), report


def asked_of(told: dict[str, Any]) -> tuple[FixSettings, list[str | bytes]]:
    """The settings of a fix, and its samples: the input, then its paraphrases.

    Raises:
        BadData: they are not such settings.
    """
    settings = read_record(FixSettings, told, "the settings of the job")
    return settings, [_sample(one) for one in (settings.input, *settings.paraphrases)]


@dataclass(frozen=True)
class _Measure:
    """One fix under way: of the prepared samples the first `asked` are the input and its paraphrases."""

    runner: Runner
    settings: FixSettings
    label: int
    asked: int
    rows: Data
    every: Ready

    @property
    def labels(self) -> Labels:
        """Of all calibration rows, those to learn from first."""
        return np.array([row.label for row in self.rows.all], np.int64)

    def outputs(self, adapter: Adapter) -> Outputs:
        """Of all samples."""
        made = self.runner.forward(self.every, adapter)
        return Outputs(made.features, made.logits)

    def edit(self, before: Outputs) -> Found:
        """The edit at a rank; chosen without the rows that were kept back, as long as there are others."""
        chosen = len(self.rows.train) or len(self.rows.all)
        start, end = self.asked, self.asked + chosen
        asked = Outputs(before.features[:start], before.logits[:start])
        known = Outputs(before.features[start:end], before.logits[start:end])
        told = self.settings
        return found(Wish(asked, self.label, known, self.labels[:chosen], told.drawdown, told.rank))

    def at_rank(self, rank: int, before: Outputs, after: Outputs) -> AtRank:
        """What the edit does at a rank."""
        was, now = (made.logits[self.asked :].argmax(axis=1) == self.labels for made in (before, after))
        asked = after.logits[: self.asked]
        right = asked.argmax(axis=1) == self.label
        return AtRank(
            rank,
            self.runner.manifest.labels[int(before.logits[0].argmax())],
            bool(right[0]),
            float(leads_of(asked[:1], np.array([self.label]))[0]),
            int(right[1:].sum()),
            int(was.sum()),
            int(np.sum(was & ~now)),
            int(np.sum(~was & now)),
        )


def _label(runner: Runner, adapter: Adapter, expect: str) -> int:
    labels = runner.manifest.labels
    if expect not in labels:
        raise BadData(f"expected a label of the model ({', '.join(labels)}), found {expect!r}")
    if pick(adapter.heads, adapter.rank) is None:
        raise BadData("expected a version with a head, found none; open a statistics round first")
    return labels.index(expect)


def _others(data: Data, samples: Sequence[str | bytes]) -> Data:
    """The calibration rows without those that are the input or a paraphrase: their answers are meant to change.

    Raises:
        BadData: no row is left.
    """
    asked = set(samples)

    def kept(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(row for row in rows if _content(row.sample) not in asked)

    left = Data(kept(data.train), kept(data.holdout))
    if not left.all:
        raise BadData("expected calibration rows in this agent's data folder, found none; put labelled rows there")
    return left


def _content(sample: Any) -> Any:
    """What tells whether two samples are one and the same."""
    return sample.read_bytes() if isinstance(sample, Path) else sample if isinstance(sample, str | bytes) else None


def _sample(one: Asked) -> str | bytes:
    """What the model is given: a text, or the bytes of a picture's file."""
    if not one.data:
        return one.text
    try:
        return base64.b64decode(one.data, validate=True)
    except ValueError as error:
        raise BadData(
            f"expected a file in base64 in the settings of the job, found something else ({error})"
        ) from error
