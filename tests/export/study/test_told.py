"""A study as words, as JSON and as a page: every figure is there, and nothing of foreign origin acts."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np

from console.plots import Bar, Curve, Point, bars, curves, points
from export.study.page import page
from export.study.rows import Quality, Share
from export.study.table import as_json, main_table, temperature_tables, words
from quant.variants import decisions
from tests.export.study.studied import EVIL, told
from tests.sim.browser import Page


def test_the_table_has_a_row_per_format() -> None:
    """Bytes, share of fp32, SQNR, quality with its interval, times and their ratios; dashes where there is nothing."""
    header, body = main_table(told())
    assert header == [
        *("format", "take it", "bytes", "of fp32", "SQNR", "perplexity", "same next token"),
        *("1 row", "16 rows", "1 / fp32", "16 / fp32"),
    ]
    assert body[1] == [
        *("int8", "7 of 9", "1.0 MiB", "25.0 %", "41.5 dB", "17.25", "77.5 % (62.5 to 87.7)"),
        *("0.5 ms", "2 ms", "0.50", "0.50"),
    ]
    assert body[2][5:7] == ["-", "0.0 % (0.0 to 8.8)"]
    assert body[3] == ["int4", *["-"] * 10]


def test_accuracy_has_a_column_where_there_are_labels() -> None:
    """Classes with and without labels, and features."""
    known = Quality(accuracy=Share(8, 10), agreement=Share(9, 10))
    rows = tuple(replace(row, quality=known) for row in told().rows[:2])
    assert main_table(told(kind="classes", rows=rows))[0][5:7] == ["accuracy", "same class"]
    bare = tuple(replace(row, quality=Quality(agreement=Share(9, 10))) for row in rows)
    assert main_table(told(kind="classes", rows=bare))[0][5:7] == ["same class", "1 row"]
    near = tuple(replace(row, quality=Quality(cosine=0.98765432, least_cosine=0.9)) for row in rows)
    assert main_table(told(kind="features", rows=near))[1][1][5:7] == ["0.987654", "0.900000"]


def test_words_say_what_was_not_measured() -> None:
    """The reason of a format that no weight takes, outputs that are no numbers, remarks, the machine, the counts."""
    said = words(told())
    for part in (
        "on 3 of 30 items of ", "40 next tokens", "16 tokens a call", "measured on a machine", "a remark",
        "int4: no weight can take it", "nf4: NaN or infinity in 40 of its outputs",
        "int8: weights 7 in int8, 2 in fp32; worst layer.1 at 39.2 dB", "total variation distance from fp32",
    ):  # fmt: skip
        assert part in said


def test_classes_that_changed_are_told() -> None:
    """Margins beside fp32 and the first five items in words, all of them in JSON; nothing where there are none."""
    exact = np.tile(np.eye(3), (3, 1))[:7]
    row = told().rows[1]
    flipped = replace(row, quality=replace(row.quality, decided=decisions(exact, np.roll(exact, 1, axis=1))))
    same = replace(row, format="nf4", quality=replace(row.quality, decided=decisions(exact, exact)))
    study = told(kind="classes", rows=(told().rows[0], flipped, same))
    said = words(study)
    assert "int8: median margin 1, 1 in fp32; in another class: item 0 (0 to 1, margin 1 in fp32), item 1" in said
    assert "nf4: median margin 1, 1 in fp32; no item in another class" in said
    assert len(as_json(study)["rows"][1]["quality"]["decided"]["flips"]) == 7
    assert "item 4" in said
    assert "item 5" not in said
    assert ", and 2 more" in said


def test_temperatures_have_tables() -> None:
    """Distances without fp32, chances with it; formats that compute no numbers are in none."""
    found = {title: body for title, _, body in temperature_tables(told())}
    assert found["total variation distance from fp32"] == [["int8", "0.0875"]]
    assert found["chance that a draw is that of fp32"] == [["fp32", "0.625"], ["int8", "0.625"]]


def test_json_holds_every_figure() -> None:
    """Shares with their intervals, times with their ratios; infinity is a text, since JSON has no such number."""
    exact = replace(told().rows[1], sqnr_db=math.inf)
    found = json.loads(json.dumps(as_json(told(rows=(told().rows[0], exact))), allow_nan=False))
    row = found["rows"][1]
    assert row["sqnr_db"] == "inf"
    assert row["quality"]["agreement"]["share"] == 31 / 40
    assert row["quality"]["agreement"]["interval95"] == list(Share(31, 40).interval)
    assert row["times"]["16"] == {"median_s": 0.002, "low_s": 0.002, "high_s": 0.0025, "runs": 7, "of_fp32": 0.5}
    assert row["quality"]["temperatures"][0]["divergence_nats"] == 0.0123
    assert (found["of_items"], found["machine"], found["options"]["graph_optimization"]) == (30, "a machine", "all")


def test_the_page_is_well_formed_and_asks_for_nothing() -> None:
    """Every element is closed in turn, no script runs, nothing is fetched, and every figure of the tables is there."""
    found = Page(page(told()))
    assert (found.wrong, found.open) == ([], [])
    assert "script" not in found.seen
    assert not [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert EVIL in found.text
    header, body = main_table(told())
    cells = [*header, *(cell for row in body for cell in row)]
    cells += [cell for _, names, rows in temperature_tables(told()) for row in [names, *rows] for cell in row]
    assert [cell for cell in cells if cell not in found.text] == []
    assert found.seen.count("svg") == 3 + 2 + 2 + 2 + 4


def test_pages_of_other_kinds() -> None:
    """Accuracy and cosines are drawn, and a study in which only fp32 was measured is a page as well."""
    known = Quality(accuracy=Share(8, 10), agreement=Share(9, 10))
    first = told().rows[0]
    found = Page(page(told(kind="classes", rows=(replace(first, quality=known), told().rows[3]))))
    assert "80.0 % (49.0 to 94.3)" in found.text
    assert "Sampling" not in found.text
    near = replace(first, quality=Quality(cosine=0.75, least_cosine=0.5))
    assert "1 - 0.750000" in Page(page(told(kind="features", rows=(near,)))).text


def test_bars_share_a_scale() -> None:
    """A bar is as long as its value; what is infinite fills the width, and the level is where its value would end."""
    drawn = Page(bars(EVIL, [Bar("a", 2.0, "two"), Bar("b", 1.0, "one", (0.5, 1.5)), Bar("c", math.inf, "inf")], 2.0))
    assert (drawn.wrong, drawn.open) == ([], [])
    assert "script" not in drawn.seen
    widths = [float(value or 0) for name, value in drawn.attributes if name == "width"]
    assert widths[0] == 2 * widths[1]
    assert widths[2] > widths[0]
    level = [float(value or 0) for name, value in drawn.attributes if name == "x1"][-1]
    assert math.isclose(level - 150, widths[0])


def test_points_stand_where_their_numbers_are() -> None:
    """From zero to the widest across, logarithmic upwards where they span much; what is no number is left out."""
    rows = [Point(EVIL, 0.5, 0.001), Point("b", 1.0, 0.1), Point("c", 0.25, 0.01), Point("d", 1.0, math.nan)]
    drawn = Page(points("t", EVIL, rows))
    assert (drawn.wrong, drawn.open) == ([], [])
    assert "script" not in drawn.seen
    across = sorted(float(value or 0) - 90 for name, value in drawn.attributes if name == "cx")
    heights = sorted(float(value or 0) for name, value in drawn.attributes if name == "cy")
    assert [round(x / across[0], 1) for x in across] == [1.0, 2.0, 4.0]
    assert math.isclose(heights[2] - heights[1], heights[1] - heights[0], abs_tol=0.2)
    assert points("t", "x", rows[3:]) == ""


def test_curves_leave_out_what_is_no_number() -> None:
    """Infinite points are not drawn; nothing to draw is no picture; a wide span is on a logarithmic scale."""
    drawn = Page(curves("t", ["1", "2", "3"], [Curve("a", [1.0, math.inf, 100.0]), Curve("b", [10.0, 10.0, 10.0])]))
    heights = [float(value or 0) for name, value in drawn.attributes if name == "cy"]
    assert len(heights) == 5
    assert math.isclose(heights[0] - heights[2], heights[2] - heights[1], abs_tol=0.2)
    assert curves("t", ["1"], [Curve("a", [math.nan])]) == ""
