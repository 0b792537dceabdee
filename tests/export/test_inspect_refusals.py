"""What `inspect` cannot tell: fields, files and targets that are wrong end in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, EdgequiltError, IntegrityError, StorageError, UsageError
from export.cli_inspect import inspect
from tests.export.reports import changed, told
from wire.bundle import MANIFEST


def broken(folder: Path, **fields: Any) -> Path:
    """A bundle with fields of its manifest replaced by anything."""
    given = json.loads((told(folder) / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps({**given, **fields}))
    return folder


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "weights that are no records": (
        {"quantization": [{"name": "w", "format": "int8", "bytes_before": "many", "bytes_after": -1}]},
        r"quantization\[0\]\.bytes_before: expected int, found str 'many'; quantization\[0\]\.bytes_after: expected at",
    ),
    "tied weights that are none": ({"tied": [{"weight": "w"}]}, r"tied\[0\]\.segments: missing; tied\[0\]\.bytes"),
    "checks that are a list": ({"verified": [1]}, r"verified: expected a table with text keys"),
    "a variant whose figures are none": (
        {
            "verified": {
                "variant": {
                    "noise": {"enters": "x", "output": "y", "sizes": [{"size": "small"}], "growth": -1, "bar": 10**999},
                    "decided": {"flips": [{"sample": 0.5}]},
                }
            }
        },
        r"variant\.noise\.enters: expected a list, found str.*sizes\[0\]\.size: .*growth: expected at least 0",
    ),
    "a size of a thousand digits": (
        {"tied": [{"weight": "w", "segments": [], "bytes": 10**999}]},
        r"tied\[0\]\.bytes: expected a number of at most 64 bits",
    ),
}


@pytest.mark.parametrize(("fields", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_open_fields_that_are_wrong_are_named(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    """What the schema leaves open is checked before it is told, and every problem is named at once."""
    with pytest.raises(BadData, match=words):
        inspect([str(broken(tmp_path / "zero", **fields))])


def test_odd_findings_are_told_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checks that are no numbers, or no finite ones, do not stop anything."""
    verified = {"chain_error": float("nan"), "by": "hand", "huge": 10**400, "worst": {"a": float("inf")}, "none": {}}
    assert inspect([str(broken(tmp_path / "zero", verified=verified))]) == 0
    assert "distance  chain error nan, by hand, huge 1000000" in capsys.readouterr().out


REFUSED: dict[str, tuple[type[EdgequiltError], str]] = {
    "absent": (StorageError, "expected a bundle's manifest at .*absent"),
    "empty": (StorageError, "expected a bundle's manifest at .*empty"),
    "text": (BadData, "expected JSON in .*manifest.json"),
    "flipped": (IntegrityError, r"segment0\.forward\.train\.onnx has another SHA-256"),
    "no graph": (BadData, r"expected an ONNX graph in .*segment0\.forward\.train\.onnx, found something else"),
    "nobody": (UsageError, "the following arguments are required: bundle"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_one_sentence_and_no_file(case: str, tmp_path: Path) -> None:
    """Absent, empty, damaged and false bundles end in a sentence, beside a good one too, and no page is written."""
    folder, good, target = tmp_path / case, told(tmp_path / "good"), tmp_path / "pages" / "page.html"
    if case == "empty":
        folder.mkdir()
    elif case in ("text", "flipped", "no graph"):
        told(folder)
        path = folder / (MANIFEST if case == "text" else "segment0.forward.train.onnx")
        data = b"not one" if case == "text" else path.read_bytes()[:-1] + b"!"
        if case == "no graph":
            data = b"\xffnot one"
        path.write_bytes(data)
        if case == "no graph":
            from wire.files import digest

            changed(folder, lambda m: replace(m, files=tuple(
                replace(f, bytes=len(data), sha256=digest(data)) if f.path == path.name else f for f in m.files
            )))  # fmt: skip
    error, words = REFUSED[case]
    with pytest.raises(error, match=words) as raised:
        inspect([*([] if case == "nobody" else [str(good), str(folder)]), "--html", str(target)])
    assert "\n" not in str(raised.value)
    assert not target.parent.exists()


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    """A page cannot go where a file is in the way of its folder; nothing is left, and what was there stays."""
    folder, stone = told(tmp_path / "zero"), tmp_path / "stone"
    stone.write_text("here")
    with pytest.raises(StorageError, match=r"expected to write .*stone/page\.html"):
        inspect([str(folder), "--html", str(stone / "page.html")])
    with pytest.raises(StorageError, match="expected a file or nothing at"):
        inspect([str(folder), "--html", str(folder)])
    assert stone.read_text() == "here"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stone", "zero"]
    assert (folder / MANIFEST).exists()
