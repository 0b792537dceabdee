"""The command: what it prints and writes, and what it refuses before a model is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import edgequilt
from export.prepare import Wanted
from export.study.subject import subject
from export.study.times import rows_of, shapes
from tests.export.study.studied import arrays, lines, net
from tests.sim.browser import Page


def run(*words: str) -> int:
    """The command's exit code."""
    return edgequilt.main(["quant", "study", *words])


def test_it_prints_json_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but JSON on standard output, and a page with the same figures; names of classes come from a file."""
    labels = lines(tmp_path, *"abcde", name="labels.txt")
    data = arrays(tmp_path / "data.npz", 8, labels=np.array(list("abcdeabc")))
    model, html = net(tmp_path / "net.onnx"), tmp_path / "page.html"
    words = ("--labels", str(labels), "--formats", "int8,int8-blocks", "--limit", "6", "--html", str(html), "--json")
    assert run(str(model), "--data", str(data), *words) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert [row["format"] for row in found["rows"]] == ["fp32", "int8", "int8-blocks"]
    assert (found["items"], found["of_items"], found["kind"]) == (6, 8, "classes")
    assert found["rows"][0]["stored_bytes"] == 4 * (64 * 64 + 64 * 5)
    assert list(found["rows"][1]["times"]) == ["1", "16", "128"]
    assert "int8-blocks" in Page(html.read_text(encoding="utf-8")).text


def test_it_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row per format, and what became of the weights."""
    assert run(str(net(tmp_path / "net.onnx")), "--data", str(arrays(tmp_path / "d.npz", 2)), "--formats", "int4") == 0
    out = capsys.readouterr().out
    assert "int4" in out
    assert "int4: weights 1 in int4, 1 in fp32" in out


REFUSED = {
    "no items": (["--limit", "0"], 2, "expected a --limit of at least 1 item, found 0"),
    "no folder": (["--html", "nowhere/page.html"], 2, "expected --html in a folder that exists, found nowhere"),
    "a format": (["--formats", "int8,int3"], 2, "expected --formats among fp32, .*, found 'int3'"),
    "a choice": (["--formats", "nf4+hqq"], 2, r"expected \+nested, \+16, .* after 'nf4', found '\+hqq'"),
    "a block": (["--formats", "int4+48"], 2, r"\+gptq, \+zeros, \+16, .* after 'int4', found '\+48'"),
    "a choice of none": (["--formats", "fp16+64"], 2, r"expected nothing after 'fp16', found '\+64'"),
    "a temperature": (["--temperatures", "0.5,zero"], 2, "expected --temperatures of 0.01 to 100 .*, found '0.5,zero'"),
    "too cold": (["--temperatures", "0"], 2, "expected --temperatures of 0.01 to 100"),
    "what to keep": (["--keep", "a=int3"], 2, "expected --keep PATTERN=FORMAT with one of fp32, .*, found 'a=int3'"),
    "a size": (["--size", "n"], 2, "expected --size NAME=N"),
    "no data": (["--data", "nowhere.txt"], 18, "expected a file of texts at nowhere.txt, found none"),
    "a model": ([], 10, "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "code", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_one_sentence(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit code that the documentation lists, and nothing on standard output."""
    assert run("nowhere/model", "--data", str(lines(tmp_path, "a cat")), "--task", "fill-mask", *words) == code
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("edgequilt: ")]
    assert re.search(said, line)


def test_rows_are_those_of_the_widest_product(vit_folder: Path, tmp_path: Path) -> None:
    """A picture has its 17 positions in a product, so that calls are of one picture and of eight; a net has one row."""
    model = subject(Wanted(str(vit_folder), "feature-extraction", targets=""), None, tmp_path)
    frozen = model.frozen(1)
    assert rows_of(frozen) == 17
    assert shapes(model, frozen) == {17: (1, None), 136: (8, None)}
    plain = subject(Wanted(str(net(tmp_path / "net.onnx")), targets=""), None, tmp_path / "w")
    assert shapes(plain, plain.frozen(1)) == {1: (1, None), 16: (16, None), 128: (128, None)}
