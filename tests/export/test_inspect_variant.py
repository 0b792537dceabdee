"""What `inspect` tells of a variant: words, a page, and nothing that an outsider could smuggle in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.cli_inspect import inspect
from tests.export.reports import VERIFIED, changed, told
from tests.sim.browser import Page

NASTY = "<script>alert('1')</script> & \"quoted\" \x1b[31mred"


def variant(output: str = "logits", enters: str = "x", **more: Any) -> dict[str, Any]:
    """A record as an export leaves it."""
    size = {"size": 0.01, "exact": 0.5, "variant": 0.75, "exact_high": 1.0, "variant_high": 1.1}
    flip = {"sample": 17, "exact_class": 2, "variant_class": 0, "exact_margin": 0.25, "variant_margin": 0.125}
    quantiles = {"quantiles": [0.05, 0.5], "exact_margins": [0.5, 2.0], "variant_margins": [0.25, 1.75]}
    angles = {"turned_mean": 0.5, "turned_most": 1.25, "nearest_exact": 60.0, "nearest_variant": 59.5}
    place = {"angle_exact": 70.0, "angle_variant": 71.5, "length": 0.875}
    place |= {"distance_exact": 0.5, "distance_variant": 0.375}
    counts = {"output": output, "samples": 40, "classes": 3, "flipped": 1, "flips": [flip]}
    return {
        "noise": {"enters": [enters], "output": output, "sizes": [size], "growth": 1.5, "bar": 1.2},
        "decided": {**counts, **quantiles, "angles": angles, "geometry": place},
        **more,
    }


def bundle(folder: Path, record: dict[str, Any]) -> Path:
    """A bundle whose checks hold the record."""
    told(folder)
    changed(folder, lambda m: replace(m, extra={**m.extra, "verified": {**VERIFIED, "variant": record}}))
    return folder


WORDS = """\
noise on x, how much more of it is in logits:
noise  fp32  variant  growth  fp32, 95 %  variant, 95 %  growth, 95 %
-----  ----  -------  ------  ----------  -------------  ------------
  1 %   0.5     0.75     1.5           1            1.1           1.1

margins of 40 samples, largest less second of logits:
of the margins  fp32  variant
--------------  ----  -------
   5 % at most   0.5     0.25
  50 % at most     2     1.75

samples in another class, 1 of 40:
sample  fp32  margin  variant  its margin
------  ----  ------  -------  ----------
    17  c       0.25  a             0.125

directions of the classes:
degrees                fp32  variant
-------------------  ------  -------
nearest two classes  60.000   59.500
turned, mean              -    0.500
turned, most              -    1.250

features beside the class that fp32 chooses:
median                        fp32  variant
--------------------------  ------  -------
degrees to its direction    70.000   71.500
length                           1    0.875
distance to the next class     0.5    0.375
"""


def test_the_words_of_a_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two lines among the facts, then a table each for noise, margins, flips and directions."""
    assert inspect([str(bundle(tmp_path / "zero", variant()))]) == 0
    said = capsys.readouterr().out
    assert "variant   int8 amplifies small noise on x 1.50 times as much as fp32 (bar 1.2, at logits)\n" in said
    assert "\n          1 of 40 samples in another class than in fp32\n" in said
    assert WORDS in said


def test_a_variant_without_classes_says_how_far_it_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Degrees of the features instead of flips; and why noise was not measured, where it was not."""
    turned = {"output": "features", "samples": 8, "median": 0.25, "most": 1.5}
    assert inspect([str(bundle(tmp_path / "zero", {"turned": turned, "unmeasured": "every output is zero"}))]) == 0
    said = capsys.readouterr().out
    assert "variant   noise was not measured: every output is zero\n" in said
    assert "features of 8 samples turned by 0.25 degrees, at most 1.50\n" in said
    assert "margins" not in said


def test_names_of_a_variant_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup in a tensor's name stays text on the page, and a terminal gets no escapes."""
    folder = bundle(tmp_path / "zero", variant(NASTY, NASTY, unmeasured=NASTY))
    assert inspect([str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert inspect([str(folder), "--html", str(tmp_path / "page.html")]) == 0
    found = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert (found.wrong, found.open) == ([], [])
    assert "script" not in found.seen
    assert found.text.count("<script>alert('1')</script>") > 2
