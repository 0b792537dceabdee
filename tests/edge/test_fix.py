"""The fix job by itself: what it reports against torch, pictures, and what it cannot do."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from console.errors import BadData
from edge.data import Row
from edge.data.row import Data
from edge.fix import fix
from edge.runner import Runner
from tests.edge.bundles import make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import pictures, random_adapter, runner
from wire.adapter import Adapter, read_adapter
from wire.fixes import KEY, AtRank, Report, read_report, text_of
from wire.kinds.edit import apply

RANKS = (1, 2)


def png(picture: Any) -> str:
    """A picture's file in base64."""
    made = io.BytesIO()
    PIL.Image.fromarray(picture).save(made, "PNG")
    return base64.b64encode(made.getvalue()).decode()


class World:
    """A model of pictures with calibration rows whose labels are what it answers at the highest rank."""

    def __init__(self, folder: Path, **bundle: Any) -> None:
        self.run: Runner = runner(folder, forward_batch=8, **bundle)
        self.adapter = random_adapter(self.run.manifest)
        self.samples = pictures(61)
        answers = self.logits(self.adapter, 2, self.samples).argmax(axis=1)
        rows = [Row(s, int(label)) for s, label in zip(self.samples[1:], answers[1:], strict=True)]
        self.data = Data(tuple(rows[:50]), tuple(rows[50:]))
        self.was = self.run.manifest.labels[int(answers[0])]

    def logits(self, adapter: Adapter, rank: int, samples: list[Any]) -> Any:
        """By torch."""
        lora = {slot: factors.prefix(rank) for slot, factors in adapter.lora.items()}
        return Oracle(make_weights(2), replace(adapter, lora=lora)).logits(pixels(samples)).detach().numpy()

    def fix(self, expect: str, **told: Any) -> tuple[Adapter, Report]:
        """The payload, read, and the report."""
        settings = {"expect": expect, "input": {"data": png(self.samples[0])}, **told}
        payload, report = fix(self.run, self.adapter, self.data, settings, RANKS, "r7-fix-server")
        return read_adapter(payload, "the payload"), report


def test_a_report_is_what_torch_finds(tmp_path: Path) -> None:
    """Of a picture in a file, at two ranks: answer before, success, lead, lost and gained rows are those of torch."""
    world = World(tmp_path)
    expect = next(label for label in world.run.manifest.labels if label != world.was)

    made, report = world.fix(expect)

    assert read_report(made.metadata[KEY], "the payload") == report
    assert (report.job, report.rows, report.paraphrases, report.fitted) == ("r7-fix-server", 60, 0, False)
    assert set(made.edits) == set(RANKS)
    labels = np.array([row.label for row in world.data.all])
    edited = replace(world.adapter, heads=apply(world.adapter.heads, [made.edits]))
    for at in report.at:
        every = [world.samples[0], *(row.sample for row in world.data.all)]
        # an oracle knows one head; that of the rank
        own = replace(edited, heads={0: edited.heads[at.rank]})
        before, after = world.logits(world.adapter, at.rank, every), world.logits(own, at.rank, every)
        was, now = before[1:].argmax(axis=1) == labels, after[1:].argmax(axis=1) == labels
        label = world.run.manifest.labels.index(expect)
        assert at.before == world.run.manifest.labels[int(before[0].argmax())]
        assert at.right == (int(after[0].argmax()) == label)
        assert at.right
        assert at.lead == pytest.approx(after[0, label] - np.delete(after[0], label).max(), abs=1e-4)
        assert (at.right_before, at.lost, at.gained) == (was.sum(), (was & ~now).sum(), (~was & now).sum())


def test_rows_that_are_the_input_are_left_out(tmp_path: Path) -> None:
    """A calibration row that is the very file is not counted; without any other row there is nothing to keep."""
    world = World(tmp_path)
    path = tmp_path / "same.png"
    path.write_bytes(base64.b64decode(png(world.samples[0])))
    same = Row(path, world.run.manifest.labels.index(world.was))
    expect = next(label for label in world.run.manifest.labels if label != world.was)
    rows = len(world.data.all)
    world.data = Data((*world.data.train, same), world.data.holdout)
    assert world.fix(expect)[1].rows == rows

    world.data = Data((same,), ())
    with pytest.raises(BadData, match="expected calibration rows in this agent's data folder, found none"):
        world.fix(expect)


def test_what_cannot_be_fixed_is_said(tmp_path: Path) -> None:
    """No such label, no head, and what is no file: a sentence each, before anything is computed."""
    world = World(tmp_path)
    with pytest.raises(BadData, match=r"expected a label of the model \(a, b, c\), found 'z'"):
        world.fix("z")
    with pytest.raises(BadData, match="expected a file in base64"):
        world.fix("a", input={"data": "not base64!"})
    world.adapter = replace(world.adapter, heads={})
    with pytest.raises(BadData, match="expected a version with a head, found none"):
        world.fix("a")


def test_a_report_that_contradicts_itself_is_refused() -> None:
    """More rows lost than were right, and a report of no rank, are no report."""
    good = AtRank(2, "a", True, 0.5, 0, 9, 1, 0)
    assert read_report(text_of(Report(1, "j", 10, 0, False, (good,))), "x").at == (good,)
    with pytest.raises(BadData, match="expected no count above its total at rank 2 in x"):
        read_report(text_of(Report(1, "j", 10, 0, False, (replace(good, lost=10),))), "x")
    with pytest.raises(BadData, match="expected what a fix does at one rank at least in x"):
        read_report(text_of(Report(1, "j", 10, 0, False, ())), "x")
    for text in (None, "[", "{}"):
        with pytest.raises(BadData):
            read_report(text, "x")
