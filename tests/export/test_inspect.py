"""What `inspect` tells of bundles: words, JSON and a page, from manifests that a test has made."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.memory import SESSION_BYTES, WORKER_BASE_BYTES, base_bytes
from export.cli_inspect import inspect
from tests.conftest import ROOT
from tests.export.reports import MIB, chain_of, changed, poisoned, told
from tests.sim.browser import Page
from wire.bundle import MANIFEST
from wire.manifest import Chain, State, Tensor, parse_manifest

NASTY = "<script>alert('1')</script> & \"quoted\""
RUNTIME = (WORKER_BASE_BYTES + SESSION_BYTES) / MIB
WORKER = WORKER_BASE_BYTES / MIB + 27  # and less than a tenth of a MiB that is held beside
GOLDEN = f"""\
model     tiny (tiny), classification
source    sha256 0000000000000000000000000000000000000000000000000000000000000000
board     zero, mode train, rank 2, budget 80.0 MiB
plan      2 segment(s), micro-batch 2, int8 weights
because   rank 2
          two segments at least
memory    72.0 MiB predicted (runtime {RUNTIME:.1f}, activations {72 - RUNTIME:.1f}), {WORKER:.1f} MiB measured
input     pixel_values float32 [2, 1, 4, 4]
head      5 features to 3 classes, none pooling, in segment1
labels    a, b, c
distance  chain error 3e-07, feature cosine 0.995, gradient error 2e-06
bundle    DIGEST, 0.0 MiB in 5 files
made by   edgequilt 0

segments:
segment   graphs             boundary in  weights  slots
--------  -----------------  -----------  -------  -----
segment0  forward, backward          0 B      0 B      1
segment1  forward, backward         40 B      0 B      2

cuts, inputs and outputs of one run of a micro-batch:
tensor        type     shape         bytes  from      to
------------  -------  ------------  -----  --------  --------
pixel_values  float32  [2, 1, 4, 4]  128 B  input     segment0
cut0.0        float32  [2, 5]         40 B  segment0  segment1
features      float32  [2, 5]         40 B  segment1  output
logits        float32  [2, 3]         24 B  segment1  output

graphs, each in a fresh process on a bench:
segment   graph     bucket  predicted  measured      miss  anonymous       PSS     step  options
--------  --------  ------  ---------  --------  --------  ---------  --------  -------  -----------------
segment0  forward   train    65.0 MiB  66.0 MiB  +1.0 MiB   21.0 MiB  60.0 MiB  12.5 ms  disable, priority
segment0  backward  train    65.0 MiB  66.0 MiB  +1.0 MiB   21.0 MiB  60.0 MiB  12.5 ms  disable, priority
segment1  forward   train    70.0 MiB  77.0 MiB  +7.0 MiB   21.0 MiB  60.0 MiB  12.5 ms  disable, priority
segment1  backward  train    70.0 MiB  77.0 MiB  +7.0 MiB   21.0 MiB  60.0 MiB  12.5 ms  disable, priority

weights:
format  weights   before    after  worst error
------  -------  -------  -------  -----------
int8          2  9.8 KiB  2.7 KiB         0.03
fp32          1    900 B    900 B            -

stayed in fp32:
because       weights  bytes  which
------------  -------  -----  -----
not a matrix        1  900 B  norm

tied weights, a copy in each segment:
weight  segments            one copy  counted again
------  ------------------  --------  -------------
table   segment0, segment1   3.0 MiB        3.0 MiB

slots:
module   kind  in x out  segment
-------  ----  --------  --------
layer.0  lora    16 x 5  segment0
layer.1  lora     5 x 5  segment1
layer.2  lora     5 x 5  segment1
"""


def test_the_words_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Model, board, plan with reasons, memory in parts, edges, formats, distance, tied weights and slots are told."""
    assert inspect([str(told(tmp_path / "zero"))]) == 0
    assert re.sub(r"[0-9a-f]{64}, ", "DIGEST, ", capsys.readouterr().out) == GOLDEN


def test_json_is_the_manifest_and_what_follows_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest reads back as it was; sums beside it are those of its records, added up here by hand."""
    folder = told(tmp_path / "zero")
    assert inspect([str(folder), "--json"]) == 0
    given = json.loads(capsys.readouterr().out)
    derived = given.pop("derived")

    assert parse_manifest(json.dumps(given).encode()) == parse_manifest((folder / MANIFEST).read_bytes())
    assert derived["file_bytes"] == sum(
        p.stat().st_size for p in folder.iterdir() if p.suffix in (".onnx", ".safetensors")
    )
    shapes = {t["name"]: t["shape"] for s in given["segments"] for g in s["graphs"] for t in g["inputs"]}
    assert derived["crossing_bytes"] == 4 * math.prod(shapes["cut0.0"])
    by_format = {row["format"]: (row["weights"], row["bytes_before"], row["bytes_after"]) for row in derived["formats"]}
    assert by_format == {"int8": (2, 10000, 2800), "fp32": (1, 900, 900)}
    assert derived["tied_bytes"] == 3 * MIB
    assert derived["distance"] == {"chain_error": 3e-7, "feature_cosine": 0.995, "gradient_error": 2e-6}
    memory = derived["memory"]
    assert sum(memory["parts"].values()) == given["plan"]["predicted_bytes"]
    assert all(sum(g["parts"].values()) == g["predicted_bytes"] for g in memory["graphs"])
    # a worker: its base, what the largest graph added, four copies of (16 + 5 + 10 + 10) values of rank 2, and of
    # 16 items what entered the second segment, waits for its backward pass, and comes back as a gradient
    held = 4 * 4 * 2 * 41 + 16 * 20 * 2
    assert memory["measured_bytes"] == WORKER_BASE_BYTES + 27 * MIB + held
    assert memory["segment"] == "segment1"


def test_parts_that_an_exporter_states_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph that comes with its own parts is told with them, whatever they are called."""
    folder, parts = told(tmp_path / "zero"), {"runtime": 40 * MIB, "packed copies": 7 * MIB}

    def stated(m: Any) -> Any:
        first = m.segments[0].graphs[0]
        graph = replace(first, memory=replace(first.memory, extra={"parts": parts}))
        segment = replace(m.segments[0], graphs=(graph, *m.segments[0].graphs[1:]))
        return replace(m, segments=(segment, *m.segments[1:]))

    changed(folder, stated)
    assert inspect([str(folder), "--json"]) == 0
    graphs = json.loads(capsys.readouterr().out)["derived"]["memory"]["graphs"]
    assert graphs[0]["parts"] == {**parts, "activations": 18 * MIB}
    assert graphs[1]["parts"]["runtime"] == base_bytes("image") + SESSION_BYTES


def page_of(tmp_path: Path, *folders: Path) -> str:
    """The page that the command writes."""
    target = tmp_path / "page.html"
    assert inspect([*map(str, folders), "--html", str(target)]) == 0
    return target.read_text(encoding="utf-8")


def test_the_page_is_whole_and_holds_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every element is closed, nothing is asked of the network, and figures, cuts, slots and formats are there."""
    found = Page(page_of(tmp_path, told(tmp_path / "zero")))

    assert (found.wrong, found.open) == ([], [])
    assert not {"script", "img", "link", "iframe", "use", "image"} & {*found.seen}
    assert not [name for name, _ in found.attributes if name in ("src", "href", "xlink:href") or name.startswith("on")]
    for words in (
        "zero, budget 80.0 MiB", f"72.0 MiB predicted, {WORKER:.1f} measured", "65.0 MiB predicted, 66.0 measured",
        "cut0.0 [2, 5] float32, 40 B", "pixel_values [2, 1, 4, 4] float32, 128 B", "logits [2, 3] float32, 24 B",
        f"runtime {RUNTIME:.1f} MiB", "chain error 3e-07, feature cosine 0.995, gradient error 2e-06",
        "not a matrix", "tied weights, a copy in each segment", "layer.2",
    ):  # fmt: skip
        assert words in found.text, words
    assert found.words.count("◆ 1 slot") == 3
    assert f"wrote {tmp_path / 'page.html'}" in capsys.readouterr().out


def test_a_budget_that_is_exceeded_stands_out(tmp_path: Path) -> None:
    """A worker that was measured above the budget is marked, one below is not."""
    folder = told(tmp_path / "zero")
    assert ("class", "bad") not in Page(page_of(tmp_path, folder)).attributes
    changed(folder, lambda m: replace(m, plan=replace(m.plan, budget_bytes=76 * MIB)))
    assert Page(page_of(tmp_path, folder)).attributes.count(("class", "bad")) == 3  # the worker and two graphs of 77


def test_names_are_words_not_elements(tmp_path: Path) -> None:
    """Whatever a manifest or a graph calls things, the page has the same elements and shows the names as they are."""
    harmless = "harmless".ljust(len(NASTY), "h")  # as long, so that both are shortened alike
    plain, nasty = (Page(page_of(tmp_path, poisoned(tmp_path / f"of{words[0]}", words))) for words in (harmless, NASTY))

    assert nasty.seen == plain.seen
    assert (nasty.wrong, nasty.open) == ([], [])
    assert nasty.text.count(NASTY) == plain.text.count(harmless) > 50
    # in the drawing, names are shortened, but whole in the tooltips
    assert f"layer.0 {NASTY}" in nasty.text


def test_names_cannot_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control letters in names are spelled out in the words."""
    assert inspect([str(poisoned(tmp_path / "zero", "\x1b[31mred\r\n\x07"))]) == 0
    said = capsys.readouterr().out
    assert r"\x1b[31mred" in said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)


def test_several_bundles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Boards of one export come as they were named, with an overview; JSON is a list, the page has a bar for each."""
    folders = [told(tmp_path / name, name) for name in ("zero", "four")]
    names = list(map(str, folders))

    assert inspect(names) == 0
    said = capsys.readouterr().out
    overview = said.split("\n\n")[0].splitlines()
    assert overview[0].split() == [
        "board",
        "segments",
        "crosses",
        "batch",
        "rank",
        "budget",
        "predicted",
        "measured",
        "files",
    ]
    assert [line.split()[0] for line in overview[2:]] == ["zero", "four"]
    assert said.count("\nslots:\n") == 2
    assert inspect([*names, "--json"]) == 0
    assert [m["plan"]["device"] for m in json.loads(capsys.readouterr().out)] == ["zero", "four"]
    found = Page(page_of(tmp_path, *folders))
    assert found.text.count("the worker at its largest segment") == 2
    assert found.text.index("zero, budget") < found.text.index("four, budget")


def test_stages_of_a_chain_are_told_in_running_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However the folders are named, stages follow each other, between a board that belongs to no chain."""
    alone = told(tmp_path / "alone", "alone")
    first, second, third = chain_of(tmp_path, ("a", "b", "c"))
    assert inspect([str(f) for f in (third, alone, first, second)] + ["--json"]) == 0
    assert [m["plan"]["device"] for m in json.loads(capsys.readouterr().out)] == ["a", "b", "c", "alone"]

    assert inspect([str(second), str(first)]) == 0
    said = capsys.readouterr().out
    assert "chain line lacks c" in said
    assert said.index("stage 1 of 3 of line (a -> b -> c), objective throughput") < said.index("stage 2 of 3 of line")
    assert "Chain line lacks c." in Page(page_of(tmp_path, first, second)).text


def test_boundaries_between_boards_name_the_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a stage gets from the board before it, and gives to the one after it, is told with the boards' names."""

    def stage(m: Any, which: int) -> Any:
        segment = m.segments[which]
        slots = tuple(slot for slot in m.slots if slot.segment == segment.name)
        head = m.head if which else None
        return replace(m, segments=(segment,), slots=slots, head=head, inputs=() if which else m.inputs)

    folders = chain_of(tmp_path, ("a", "b"))
    for which, folder in enumerate(folders):
        changed(folder, lambda m, which=which: stage(m, which))  # type: ignore[misc]  # bound at once
    assert inspect([*map(str, folders), "--json"]) == 0
    first, second = (m["derived"] for m in json.loads(capsys.readouterr().out))
    crossing = [[t for t in told["tensors"] if t["value"]["name"] == "cut0.0"] for told in (first, second)]
    assert [(t["source"], t["targets"]) for (t,) in crossing] == [("segment0", ["b"]), ("a", ["segment1"])]
    assert (first["crossing_bytes"], second["crossing_bytes"]) == (0, 40)
    found = Page(page_of(tmp_path, *folders))
    assert {"to b", "from a"} <= {*found.words}


def test_many_states_share_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Caches of many layers are one row in words and few lines in the picture, with their bytes added up."""
    folder, count = told(tmp_path / "zero"), 30

    def cached(m: Any) -> Any:
        states = tuple(State(f"past.{i}", f"present.{i}", "float32", (1, 2, 8, 4)) for i in range(count))
        first = m.segments[1]
        reads = (*first.inputs, *(state.input for state in states))
        segment = replace(first, inputs=reads, outputs=(*first.outputs, *(state.output for state in states)))
        taken = [Tensor(s.input, s.dtype, s.shape) for s in states]
        given = [Tensor(s.output, s.dtype, s.shape) for s in states]
        graphs = tuple(replace(g, inputs=(*g.inputs, *taken), outputs=(*g.outputs, *given)) for g in segment.graphs)
        return replace(m, segments=(m.segments[0], replace(segment, graphs=graphs)), states=states)

    changed(folder, cached)
    assert inspect([str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"past\.0 to past\.29 +float32 +30 x \[1, 2, 8, 4\] +7\.5 KiB +state +segment1\n", said)
    assert re.search(r"state +past\.0 -> present\.0 .*, and 28 more; 7\.5 KiB in all\n", said)
    found = Page(page_of(tmp_path, folder))
    assert "and 27 more, 6.8 KiB" in found.words
    assert found.text.count("past.17") == 0


def test_the_words_need_no_onnx(tmp_path: Path) -> None:
    """Words and JSON come from the manifest: no ONNX library and no runtime is loaded for them."""
    folder = told(tmp_path / "zero")
    code = (
        "import sys; from export.cli_inspect import inspect; inspect(sys.argv[1:]); "
        "print(sorted({'onnx', 'onnx_ir', 'onnxruntime', 'torch'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_a_bundle_without_a_graph_can_be_drawn(tmp_path: Path) -> None:
    """A manifest may list no segment, or one without graphs; the page says so instead of stopping."""
    folder = told(tmp_path / "zero")
    changed(folder, lambda m: replace(m, buckets=(), segments=tuple(replace(s, graphs=()) for s in m.segments)))
    assert "segment1" in Page(page_of(tmp_path, folder)).text
    changed(folder, lambda m: replace(m, segments=(), slots=(), head=None, chain=Chain("line", 0, (), "")))
    assert "0 segment(s)" in Page(page_of(tmp_path, folder)).text
