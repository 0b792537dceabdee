"""What a training run would see of a data file, without running it: `edgequilt data check` prints it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import BadData
from edge.data.doubts import doubts_of_counts
from edge.data.formats import format_of, rows_of
from edge.data.problems import Problems
from edge.data.repeats import Repeats
from edge.data.row import is_held_out
from edge.data.traits import Nothing, PictureSizes, SoundLengths, TokenCounts, Trait
from edge.data.wanted import PASSAGES, Found, Wanted, wanted_by
from edge.data.wav import sound_length
from edge.encode import open_tokenizer
from edge.feeds import forward_bucket, training_bucket
from wire.bundle import Bundle
from wire.manifest import Bucket, Manifest


@dataclass
class Survey:
    """What was found.

    Attributes:
        format: of the file.
        kind: of sample that the bundle takes.
        labels: classes of the bundle; empty for texts without labels.
        train: rows to learn from, by class; "" where there are no classes.
        kept_back: rows kept back, likewise.
        micro_batch: rows in one run of the training graphs; None where the bundle cannot be trained.
        trait: what samples of this kind have about them.
        repeats: samples that come again.
        problems: what is broken.
    """

    format: str
    kind: str
    labels: tuple[str, ...]
    micro_batch: int | None
    trait: Trait
    problems: Problems
    train: Counter[str] = field(default_factory=Counter)
    kept_back: Counter[str] = field(default_factory=Counter)
    repeats: Repeats = field(default_factory=Repeats)

    def see(self, found: Found, holdout: float) -> None:
        """Count a row, unless it is broken."""
        wrong = self.trait.see(found.sample)
        if wrong is not None:
            self.problems.add(found.where, wrong)
            return
        held = is_held_out(found.key, found.label, holdout)
        (self.kept_back if held else self.train)[found.label] += 1
        self.repeats.see(found, kept_back=held)

    @property
    def rows(self) -> int:
        """Rows that can be used."""
        return self.train.total() + self.kept_back.total()

    def told(self) -> list[str]:
        """Warnings, a sentence each."""
        labels = self.labels or ("",)
        counts = ([side[label] for label in labels] for side in (self.train, self.kept_back))
        classes = doubts_of_counts(labels, *counts)
        if not self.labels:
            classes = [told for told in classes if "of class" not in told]
        untrained = [] if self.micro_batch else ["the bundle has no graphs to train with: export with --mode train"]
        return [*untrained, *classes, *self.repeats.told(), *self.trait.told()]

    def steps(self, batch: int) -> dict[str, int]:
        """Steps of `batch` rows in one pass over all rows to learn from, and graph runs in one step."""
        micro, rows = self.micro_batch or 1, self.train.total()
        size = max(1, min(batch, rows))
        return {"batch": size, "steps_per_pass": -(-rows // size), "runs_per_step": -(-size // micro)}

    def plain(self, batch: int) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "format": self.format,
            "kind": self.kind,
            "rows": self.rows,
            "train": self.train.total(),
            "kept_back": self.kept_back.total(),
            "classes": {n: {"train": self.train[n], "kept_back": self.kept_back[n]} for n in self.labels},
            "without_rows": [n for n in self.labels if not self.train[n] + self.kept_back[n]],
            "samples": self.trait.plain(),
            "repeated": self.repeats.again,
            "contradicting": self.repeats.contradicting,
            "on_both_sides": self.repeats.across,
            **self.steps(batch),
            "warnings": self.told(),
            "problems": self.problems.sentences,
            "problems_in_all": self.problems.count,
        }


def survey(path: Path, bundle: Bundle, holdout: float) -> Survey:
    """Look at all rows of a file for a bundle; what is broken is in the survey's problems, and all else goes on.

    Raises:
        StorageError: the file cannot be read.
        BadData: it is of another kind of model, or the bundle learns from no rows.
    """
    manifest = bundle.manifest
    bucket = _training(manifest)
    micro = None if bucket is None else bucket.batch
    if manifest.loss is not None or manifest.generate is not None or not manifest.labels:
        wanted = PASSAGES if manifest.preprocess.files else wanted_by(manifest)
    else:
        wanted = wanted_by(manifest)
    form = format_of(path, wanted)
    trait = _trait(bundle, wanted, form.name, bucket)
    made = Survey(form.name, wanted.kind, wanted.labels, micro, trait, Problems(path, form.parts))
    for found in rows_of(path, wanted, made.problems, thorough=False):
        made.see(found, holdout)
    made.trait.close()
    return made


def _training(manifest: Manifest) -> Bucket | None:
    try:
        return training_bucket(manifest)
    except BadData:
        return None


def _tokens(bundle: Bundle, bucket: Bucket | None) -> TokenCounts:
    manifest = bundle.manifest
    files = [name for name in manifest.preprocess.files if name.endswith("tokenizer.json")]
    if not files:
        raise BadData("expected a tokenizer in the bundle to count tokens with, found none; export it with the model")
    sequence = (bucket or forward_bucket(manifest)).sequence
    if sequence is None and manifest.generate is not None:
        sequence = manifest.generate.context
    limit = min(int(manifest.preprocess.parameters.get("max_length", 1 << 30)), sequence or 1 << 30)
    return TokenCounts(open_tokenizer(bundle.path(files[0])), limit)


def _trait(bundle: Bundle, wanted: Wanted, form: str, bucket: Bucket | None) -> Trait:
    if wanted.kind == "text":
        return _tokens(bundle, bucket)
    if wanted.kind == "image":
        given, shape = bundle.manifest.preprocess.parameters, wanted.inputs[0].shape
        return PictureSizes((int(given.get("width", shape[-1])), int(given.get("height", shape[-2]))))
    if form == "NPZ":
        return Nothing()
    try:
        return SoundLengths(sound_length(wanted.inputs), wanted.rate)
    except BadData:
        if form == "WAV folder":
            raise
        return Nothing()  # lines that name arrays
