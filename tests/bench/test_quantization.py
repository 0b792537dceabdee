"""Which bars of the quantization bench are met, on numbers made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.quantized.case import ROWS, Case, Run
from bench.quantized.measured import Found, bars
from bench.quantized.texts import read_texts
from bench.quantized.variant import Memory

NOTHING = Memory(0, 0, 1000)


class Judged(Case):
    """Accuracy decides, exactly."""

    def module(self, folder: Path) -> Any:
        """Nothing runs here."""

    def judge(self, run: Run) -> dict[str, float]:
        """Nothing is run here."""
        return {}

    def as_good(self, ours: dict[str, float], theirs: dict[str, float]) -> bool:
        """No less."""
        return ours["accuracy"] >= theirs["accuracy"]


CASE = Judged("case", Path(), Path(), "y", 9)


def one(name: str, family: str, size: int, ms: float, accuracy: float, anonymous: int = 1000) -> Found:
    """A variant that takes the same time at all rows."""
    memory, times = Memory(0, 0, anonymous), dict.fromkeys(ROWS, ms)
    return Found("case", name, family, size, memory, times, {"accuracy": accuracy})


def missed(*found: Found) -> set[str]:
    """The bars that are not met."""
    return {bar.what for bar in bars(CASE, found, NOTHING) if not bar.met}


BOTH = {f"smaller and not slower than optimum dynamic, {rows} rows" for rows in ROWS}
THEIRS = one("optimum dynamic", "onnxruntime", 100, 10.0, 0.9)


def test_a_better_variant_meets_every_bar() -> None:
    """As good, faster, smaller and light: nothing is missed; a variant of a twentieth more time still is as fast."""
    ours = one("ours int8", "ours", 99, 10.4, 0.9)

    assert missed(ours, THEIRS) == set()
    assert len(list(bars(CASE, [ours, THEIRS], NOTHING))) == 2 * len(ROWS) + 2


def test_each_bar_can_be_missed() -> None:
    """Time per number of rows, size and anonymous memory are missed one by one."""
    ours = one("ours int8", "ours", 99, 10.0, 0.9)
    slow = replace(ours, milliseconds={**ours.milliseconds, 16: 11.0})
    light = "ours int8: anonymous at load at most 1.2 x the weights"

    assert missed(slow, THEIRS) == {
        "not slower than optimum dynamic, 16 rows",
        "smaller and not slower than optimum dynamic, 16 rows",
    }
    assert missed(replace(ours, file_bytes=100), THEIRS) == {"smaller than optimum dynamic", *BOTH}
    assert missed(replace(ours, memory=Memory(0, 0, 1000 + 119)), THEIRS) == {light}
    assert missed(replace(ours, memory=Memory(0, 0, 1000 + 118)), THEIRS) == set()


def test_what_is_worse_is_not_compared() -> None:
    """Speed and size of a variant that is not as good count for nothing, and having no other is a bar missed."""
    worse, good = one("ours int4", "ours", 10, 1.0, 0.8), one("ours fp32", "ours", 400, 9.0, 0.9)

    assert missed(worse, THEIRS) == {"as good as optimum dynamic"}
    assert missed(worse, good, THEIRS) == {"smaller than optimum dynamic", *BOTH}


def test_one_variant_must_be_both() -> None:
    """A fast one and a small one meet the two bars, but not that one of ours is both."""
    fast, small = one("ours int8-dynamic", "ours", 101, 9.0, 0.9), one("ours int4", "ours", 50, 20.0, 0.9)

    assert missed(fast, small, THEIRS) == BOTH


def test_what_was_not_made_is_not_judged() -> None:
    """Where another tool fails, or one of ours is refused, there is no bar for it."""
    failed = Found("case", "onnxruntime dynamic", "", reason="it raised")

    assert {bar.what for bar in bars(CASE, [failed], NOTHING)} == set()


def test_texts_are_even_over_labels(tmp_path: Path) -> None:
    """As many of each label as can be, and none of the test in the training."""
    path = tmp_path / "texts.json"
    pairs = ", ".join(f'["{label}{number}", "{label}"]' for label in "ab" for number in range(9 if label == "a" else 2))
    path.write_text(f'{{"train": [{pairs}], "test": [["c", "a"], ["d", "b"]]}}', encoding="utf-8")

    texts = read_texts(path, 4, 10)

    assert np.bincount([label for _, label in texts.train]).tolist() == [2, 2]
    assert [label for _, label in sorted(texts.test)] == [0, 1]
    assert texts.labels == 2
