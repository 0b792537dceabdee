from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sim.report import honest_words, page, write_result
from sim.result import Check, Result
from tests.sim.browser import Page
from tests.sim.results import result

NASTY = "<script>alert('1')</script> & \"quoted\""
PICTURES = [(f"clean {NASTY}", b"\x89PNG not really")]


REPORTS: dict[str, tuple[Result, list[tuple[str, bytes]]]] = {
    "text": (result(), []),
    "cameras with pictures": (result(scenario="cameras", unadapted=0.31), PICTURES),
    "a peak above its budget, nothing released, one board": (
        result(boards=(result().boards[0].__class__(**{**vars(result().boards[0]), "peak_bytes": 1 << 40}),),
               candidate={16: 0.1}, joint={16: 0.0}, by_round=(("head", 0.0),)),
        [],
    ),
    "everything failed": (
        result(invariants=(Check("a", False, "b"),), learning=(Check("c", False),), gate="", seconds={}),
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made", "pictures"), REPORTS.values(), ids=REPORTS.keys())
def test_the_page_is_well_formed_and_asks_for_nothing(made: Result, pictures: Any) -> None:
    """Every element is closed in turn; no script, and no address of anything outside the page."""
    found = Page(page(made, pictures, ["a note"]))

    assert found.wrong == []
    assert found.open == []
    assert "script" not in found.seen
    sources = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert all(str(source).startswith("data:image/png;base64,") for source in sources)
    assert len(sources) == len(pictures)
    assert "h1" in found.seen
    assert "table" in found.seen
    assert "svg" in found.seen


def test_labels_and_names_are_words_not_elements() -> None:
    """Whatever a label, a model's name, a gate's sentence or a check says is shown as it is."""
    plain, nasty = (
        Page(
            page(
                result(
                    model=words, gate=words, by_round=((words, 0.5),), invariants=(Check(words, True, words),),
                    seconds={words: 1.0}, scenario=words,
                ),
                [(words, b"png")], [words],
            )
        )
        for words in ("harmless", NASTY)
    )  # fmt: skip

    assert nasty.seen == plain.seen
    assert nasty.text.count(NASTY) == plain.text.count("harmless") > 6


def test_the_page_holds_the_figures() -> None:
    """Accuracies, memory against budget, rounds, the gate, the checks with tick or cross, and the seconds are there."""
    made = result(invariants=(Check("nothing is lost", True), Check("in budget", False, "at most 120 % used")))
    found = Page(page(made, [], ["zero holds a, four holds b"]))

    for words in (
        "One text model, three unequal boards", "75.0 %", "joint (version 5, released)", "best board alone",
        "zero holds a, four holds b", "90 of 120 MiB", "Used: zero 75.0 %", "head again", "centralised 80.0 %",
        "Gate: 0.741 on the hold-outs, 0.739 before: released.", "in budget (at most 120 % used)", "60.5",
        "720 test rows, seed 7",
    ):  # fmt: skip
        assert words in found.text
    assert found.attributes.count(("class", "bad")) == 1


SAME = "+1.0 points from the pooled head without adapter, within the test set's 95 % interval of 3.2 points"
BETTER = "+10.0 points from the pooled head without adapter, beyond the test set's 95 % interval of 3.2 points."
LITTLE = ": on text that a good encoder already separates, adapters add little, and the closed-form head does the work."
HONEST = {
    "text, the same within the interval": ("text", 0.75, SAME + LITTLE),
    "text, a little worse": ("text", 0.72, SAME.replace("+1.0", "-2.0") + LITTLE),
    "text, better": ("text", 0.84, BETTER),
    "text, worse": ("text", 0.64, BETTER.replace("+", "-")),
    "cameras, the same": ("cameras", 0.75, SAME + "."),
    "cameras, better": ("cameras", 0.84, BETTER),
}


@pytest.mark.parametrize(("scenario", "joint", "words"), HONEST.values(), ids=HONEST.keys())
def test_it_is_said_what_adapters_were_worth(scenario: str, joint: float, words: str) -> None:
    """Gain or loss against the head alone is said with its sign and whether it is more than chance."""
    made = result(scenario=scenario, joint={2: 0.1, 16: joint}, head_only=0.74)
    assert honest_words(made) == [f"The joint model is {words}"]


def test_both_files_are_written(tmp_path: Path) -> None:
    """`result.json` can be read back and `report.html` is the page; nothing else is left."""
    made = result()
    write_result(tmp_path, made, PICTURES, ["a note"])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "result.json"]
    assert (tmp_path / "report.html").read_text() == page(made, PICTURES, ["a note"])
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["released"], found["joint"]["16"], found["boards"][0]["name"]) == (5, 0.75, "zero")
