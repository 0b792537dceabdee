"""What `edgequilt demo` refuses before it begins; what it does is shown by test_demo."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

import edgequilt
from sim.cli import MARK
from sim.minilm import PACKAGE, WEIGHTS_SHA256

GOOD = [{"text": f"sentence number {i}", "label": "abc"[i % 3]} for i in range(60)]


def rows_file(path: Path, *more: object) -> Path:
    """Sixty good rows and some more lines."""
    lines = [json.dumps(row) for row in GOOD] + [line if isinstance(line, str) else json.dumps(line) for line in more]
    path.write_text("\n".join(lines) + "\n")
    return path


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def demo(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one sentence on standard error; the lines that it lists are indented."""
    code = edgequilt.main(["demo", *map(str, arguments)])
    said = capsys.readouterr()
    assert said.out == ""
    first, *listed = [line for line in said.err.splitlines() if not line.endswith(" ...")]  # titles of progress
    assert first.startswith("edgequilt: ")
    assert all(line.startswith("  line ") for line in listed)
    return code, "\n".join([first, *listed])


REFUSED = {
    "no round": (["--rounds", "0"], "expected at least one round, found --rounds 0"),
    "less than no round": (["--rounds", "-3"], "expected at least one round, found --rounds -3"),
    "rounds in words": (["--rounds", "two"], "argument --rounds: invalid int value: 'two'"),
    "a seed below zero": (["--seed", "-1"], "expected a seed of 0 or more, found --seed -1"),
    "an unknown scenario": (["--scenario", "sounds"], "invalid choice: 'sounds' (choose from "),
    "an unknown option": (["--epochs", "3"], "unrecognized arguments: --epochs 3"),
    "cameras with a model": (
        ["--scenario", "cameras", "--model", "."],
        "expected no --model and no --data with --scenario cameras, which makes its own",
    ),
    "cameras with data": (
        ["--scenario", "cameras", "--data", "rows.jsonl"],
        "expected no --model and no --data with --scenario cameras, which makes its own",
    ),
    "a model that is not there": (
        ["--model", "no-such/folder"],
        "expected the folder of a local encoder, found none at --model no-such/folder",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_options_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong option ends with exit code 2 and its sentence, and nothing is made."""
    code, said = demo(capsys, *arguments, "--out", tmp_path / "out")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert words in said


def test_a_folder_with_foreign_files_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that no demo has made is refused as it is, also where it looks like one."""
    for name in ("report.html", "data/mine.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)

    code, said = demo(capsys, "--scenario", "cameras", "--out", tmp_path)

    assert code == 2
    assert f"expected a new or empty folder, or one of an earlier demo, at {tmp_path}; choose another --out" in said
    assert contents(tmp_path) == before


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--out` that names a file is refused; one below a file cannot be made. The file stays as it is."""
    path = tmp_path / "file"
    path.write_text("mine")
    code, said = demo(capsys, "--scenario", "cameras", "--out", path)
    assert (code, "expected a new or empty folder" in said) == (2, True)
    code, said = demo(capsys, "--scenario", "cameras", "--out", path / "below")
    assert (code, f"expected to make the folder {path / 'below'}, could not (Not a directory)" in said) == (18, True)
    assert contents(tmp_path) == {"file": hashlib.sha256(b"mine").hexdigest()}


BROKEN = {
    "one line": (["{oops"], ["found 1 broken line; correct or delete them:", "line 61: not JSON"]),
    "two lines": (
        [{"text": "no label"}, {"text": "t", "label": "a", "device": "moon"}],
        [
            "found 2 broken lines; correct or delete them:",
            "line 61: 'label' is missing, found 'text'",
            "line 62: unknown device 'moon', expected one of raspberry-pi-zero-2w, raspberry-pi-4-2gb, jetson-orin-na",
        ],
    ),
}


@pytest.mark.parametrize(("lines", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_rows_are_named_and_nothing_is_left(
    lines: list[object], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken lines of the user's rows end with exit code 11 and their numbers before a folder is made."""
    data = rows_file(tmp_path / "rows.jsonl", *lines)
    code, said = demo(capsys, "--data", data, "--out", tmp_path / "out")
    assert code == 11
    assert [line for line in words if line not in said] == []
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_board_without_rows_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that all name one board leave two boards without: they are named before a folder is made."""
    lines = [json.dumps({**row, "device": "raspberry-pi-4-2gb"}) for row in GOOD]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    code, said = demo(capsys, "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert code == 11
    assert "expected training rows for every board, found none for raspberry-pi-zero-2w, jetson-orin-nano" in said
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def earlier_demo(folder: Path) -> Path:
    """What a demo has left, and a file that somebody put beside it."""
    for name in ("bundles/zero/manifest.json", "report.html", MARK, "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_an_earlier_report_survives_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that cannot be used do not cost the results of an earlier demo in the same folder."""
    out = earlier_demo(tmp_path / "out")
    before = contents(out)
    code, _ = demo(capsys, "--data", rows_file(tmp_path / "rows.jsonl", "{oops"), "--out", out)
    assert code == 11
    assert contents(out) == before


@pytest.mark.parametrize("option", ["--data", "--model"])
def test_what_a_demo_needs_is_not_where_it_writes(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows or a model inside the folder of an earlier demo would be removed before they are read: refused."""
    out = earlier_demo(tmp_path / "out")
    needed = out / "bundles" if option == "--model" else rows_file(out / "rows.jsonl")
    before = contents(out)
    code, said = demo(capsys, option, needed, "--out", out)
    assert code == 2
    assert f"expected {needed} outside of {out}, whose files are replaced; choose another --out" in said
    assert contents(out) == before


def test_a_model_that_cannot_be_captured_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a model ends with exit code 10; what was made is taken back, other files are not touched."""
    (tmp_path / "model").mkdir()
    out = earlier_demo(tmp_path / "out")
    data = rows_file(tmp_path / "rows.jsonl")

    code, said = demo(capsys, "--model", tmp_path / "model", "--data", data, "--out", out)

    assert code == 10
    assert f"expected config.json in {tmp_path / 'model'}, found none" in said
    assert contents(out) == {"notes.txt": hashlib.sha256(b"notes.txt").hexdigest()}
    code, _ = demo(capsys, "--model", tmp_path / "model", "--data", data, "--out", tmp_path / "new")
    assert (code, (tmp_path / "new").exists()) == (10, False)


def test_weights_that_are_not_the_expected_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package with other weights than we trust ends with exit code 13 before a folder is made."""
    package = tmp_path / "packages" / PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    data = rows_file(tmp_path / "rows.jsonl")

    code, said = demo(capsys, "--data", data, "--out", tmp_path / "out")

    assert code == 13
    found = hashlib.sha256(b"other weights").hexdigest()
    assert f"expected weights with SHA-256 {WEIGHTS_SHA256} at {package / 'model' / 'model.safetensors'}" in said
    assert f"found {found}; do not use them" in said
    assert not (tmp_path / "out").exists()
