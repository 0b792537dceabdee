"""The closing table of an export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from export.pipeline import ExportedBundle
from export.summary import closing, summaries
from tests.export.reports import MIB, chain_of, changed, told


def made(tmp_path: Path, *names: str) -> list[ExportedBundle]:
    """Bundles as `export_model` returns them."""
    folders = [told(tmp_path / str(i) / name, name) for i, name in enumerate(names)]
    return [ExportedBundle(folder, changed(folder, lambda m: m), 77 * MIB) for folder in folders]


GOLDEN = """\
board  cuts  crosses  batch  rank    budget  predicted  measured    files  distance   loss
-----  ----  -------  -----  ----  --------  ---------  --------  -------  --------  -----
zero      1     40 B      2     2  80.0 MiB   72.0 MiB  77.0 MiB  0.0 MiB     3e-07  0.005
four      1     40 B      2     2  80.0 MiB   72.0 MiB  77.0 MiB  0.0 MiB     3e-07  0.005
weights: 2 in int8 (9.8 KiB to 2.7 KiB), 1 in fp32 (900 B)
stayed in fp32, not a matrix: norm
warning: table is tied and in segment0, segment1: 3.0 MiB more than once
warning: segment1.forward was measured 7.0 MiB above its prediction
warning: segment1.backward was measured 7.0 MiB above its prediction"""


def test_what_people_read(tmp_path: Path) -> None:
    """A row per board with cuts, what crosses, prediction beside measurement, and distance; then what all share."""
    assert closing(made(tmp_path, "zero", "four")) == GOLDEN


def test_what_only_some_boards_have_names_them(tmp_path: Path) -> None:
    """A note that does not hold for all boards begins with those for which it holds."""
    first, second = made(tmp_path, "zero", "four")
    second = replace(second, manifest=replace(second.manifest, extra={}, quantization=()))
    lines = closing([first, second]).splitlines()
    assert lines[3].split()[-2:] == ["-", "-"]
    assert "zero: stayed in fp32, not a matrix: norm" in lines
    assert "warning: segment1.forward was measured 7.0 MiB above its prediction" in lines


def test_what_has_another_format_than_asked_for(tmp_path: Path) -> None:
    """A weight that its format could not take is named with what it got, and what formats buy on the board is said."""
    [one] = made(tmp_path, "zero")
    kernel = {"name": "conv", "format": "int8", "bytes_before": 40, "bytes_after": 10}
    kernel["reason"] = "int4 has no convolution; int8 instead"
    extra = {
        **one.manifest.plan.extra,
        "reasons": ["rank 2", "formats on zero: fp32", "formats on zero: int8 saves memory only at 8 rows"],
    }
    plan = replace(one.manifest.plan, extra=extra)
    lines = closing([replace(one, manifest=replace(one.manifest, plan=plan, quantization=(kernel,)))]).splitlines()
    assert "int4 has no convolution; int8 instead: conv" in lines
    assert "formats on zero: int8 saves memory only at 8 rows" in lines
    assert not {"rank 2", "formats on zero: fp32"} & set(lines)


def test_a_chain_has_a_line(tmp_path: Path) -> None:
    """The boards of a chain are named in running order, with what goes from one to the next."""
    bundles = [ExportedBundle(f, changed(f, lambda m: m), 77 * MIB) for f in chain_of(tmp_path, ("a", "b"))]
    second = bundles[1]
    later = replace(second.manifest, segments=second.manifest.segments[1:], slots=second.manifest.slots[1:])
    lines = closing([replace(second, manifest=later), bundles[0]]).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["a", "b"]
    assert lines[4] == "line: a -> b, 40 B between boards"


@pytest.mark.parametrize("length", [9, 40, 63])
def test_lines_are_short(length: int, tmp_path: Path) -> None:
    """No line is longer than 120 letters, however long names are; boards with long names can still be told apart."""
    names = [f"{letter}-{'board' * 13}"[: length - 2] + f"-{letter}" for letter in "ab"]
    bundles = made(tmp_path, *names)
    long = {"weight": "w" * 300, "segments": ["segment0"] * 40, "bytes": 10**15}

    def larger(m: Any) -> Any:
        plan = replace(m.plan, budget_bytes=10**12, predicted_bytes=10**12)
        return replace(m, plan=plan, extra={**m.extra, "tied": [long]})

    bundles = [replace(b, manifest=larger(b.manifest), measured_bytes=10**12) for b in bundles]
    lines = closing(bundles).splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[2].split()[0] != lines[3].split()[0]
    assert lines[2].startswith(names[0][:3])


def test_json_is_full(tmp_path: Path) -> None:
    """Numbers are numbers, and formats, exceptions, ties, graphs, reasons and warnings are all there."""
    (row,) = json.loads(json.dumps(summaries(made(tmp_path, "zero"))))
    assert (row["board"], row["segments"], row["crossing_bytes"], row["slots"]) == ("zero", 2, 40, 3)
    assert (row["budget_bytes"], row["predicted_bytes"], row["measured_bytes"]) == (80 * MIB, 72 * MIB, 77 * MIB)
    assert row["distance"] == 3e-7
    assert row["cosine_loss"] == pytest.approx(0.005)
    assert [(f["format"], f["weights"]) for f in row["formats"]] == [("int8", 2), ("fp32", 1)]
    assert [(f["reason"], f["names"]) for f in row["stayed_fp32"]] == [("not a matrix", ["norm"])]
    assert row["tied"] == [{"weight": "table", "segments": ["segment0", "segment1"], "bytes": 3 * MIB}]
    assert [(g["segment"], g["kind"], g["measured_bytes"]) for g in row["graphs"]][2] == (
        "segment1",
        "forward",
        77 * MIB,
    )
    assert row["reasons"] == ["rank 2", "two segments at least"]
    assert len(row["warnings"]) == 3


def test_a_prediction_is_missed_beyond_its_bar_only(tmp_path: Path) -> None:
    """The bar is the larger of 4 MiB and a tenth of what a graph added: 7 of 27 MiB is a miss, 7 of 80 is none."""
    (bundle,) = made(tmp_path, "zero")

    def heavier(m: Any) -> Any:
        graph = m.segments[1].graphs[0]
        memory = replace(graph.memory, base_bytes=10 * MIB, measured_bytes=90 * MIB, predicted_bytes=83 * MIB)
        segment = replace(m.segments[1], graphs=(replace(graph, memory=memory),))
        return replace(m, segments=(m.segments[0], segment), extra={})

    assert len(summaries([bundle])[0]["warnings"]) == 3
    assert summaries([replace(bundle, manifest=heavier(bundle.manifest))])[0]["warnings"] == []
