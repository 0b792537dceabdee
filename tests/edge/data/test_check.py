"""`edgequilt data check`, by the command: what it counts, what it warns of, and how it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgequilt
from edge.data import open_data
from edge.data.doubts import doubts
from edge.data.survey import survey
from edge.runner import Runner
from tests.edge.bundles import VOCABULARY, make_bundle
from tests.edge.data.models import LABELS
from tests.edge.data.waves import write_wave
from wire.bundle import Bundle, open_bundle
from wire.keys import new_key, write_key
from wire.manifest import Generate, Preprocess, Tensor

WORDS = VOCABULARY[2:]


def bundle_of(folder: Path, kind: str) -> Bundle:
    """A bundle of texts of at most 6 tokens, or of pictures of 4 x 4; micro-batches of two."""
    make_bundle(folder / kind, kind=kind, labels=LABELS)
    return open_bundle(folder / kind, None)


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and complaint of the command."""
    code = edgequilt.main(["data", "check", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What the command prints with --json."""
    code, out, err = check(capsys, *arguments, "--json")
    assert code == (11 if err else 0)
    found: dict[str, Any] = json.loads(out)
    return found


def test_counts_are_those_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows per class on both sides and truncated texts are those that a runner gets from the same file."""
    bundle, path = bundle_of(tmp_path, "text"), tmp_path / "data.csv"
    texts = [" ".join(WORDS[(i + k) % len(WORDS)] for k in range(1 + i % 9)) for i in range(60)]
    path.write_text("text,label\n" + "".join(f"{text},{LABELS[i % 2]}\n" for i, text in enumerate(texts)))

    found = as_json(capsys, path, "--bundle", tmp_path / "text", "--holdout", 0.3, "--batch", 8)
    data, runner = open_data(path, bundle.manifest, 0.3), Runner(bundle)

    for index, label in enumerate(LABELS):
        sides = [sum(row.label == index for row in side) for side in (data.train, data.holdout)]
        assert list(found["classes"][label].values()) == sides
    for frugal in (False, True):
        ready = Runner(bundle, frugal=frugal).ready([row.sample for row in data.all])
        assert ready.truncated == found["samples"]["truncated"] == sum(len(t.split()) > 6 for t in texts)
    assert (found["rows"], found["samples"]["longest"], found["samples"]["limit"]) == (60, 9, 6)
    assert found["without_rows"] == ["c"]
    assert found["steps_per_pass"] == -(-len(data.train) // 8)
    assert found["runs_per_step"] == 4
    assert doubts(data, LABELS) == [told for told in found["warnings"] if "class" in told]
    runner.close()


def test_repeats_and_contradictions_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that comes again, and one that comes again with another label, are counted and placed."""
    bundle_of(tmp_path, "text")
    path = tmp_path / "data.jsonl"
    rows = [("red", "a"), ("blue", "b"), ("red", "a"), ("blue", "a"), ("red", "a")]
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))

    found = as_json(capsys, path, "--bundle", tmp_path / "text", "--holdout", 0)

    assert (found["repeated"], found["contradicting"], found["on_both_sides"]) == (3, 1, 0)
    assert any("3 rows repeat a sample, the first in line 3" in told for told in found["warnings"])
    assert any("the first in line 4" in told for told in found["warnings"])


def test_one_class_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data of one class can be checked and opened; the command says what comes of it and ends with 0."""
    bundle = bundle_of(tmp_path, "text")
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "b"}) + "\n" for text in WORDS))

    code, out, err = check(capsys, path, "--bundle", tmp_path / "text")

    assert (code, err) == (0, "")
    assert "warning: every row to learn from is of class 'b'" in out
    assert "no row to learn from for 2 of 3 classes: a, c" in out
    assert len(open_data(path, bundle.manifest, 0.0).train) == len(WORDS)


def test_pictures_are_decoded_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes are counted, a picture that is torn inside is named with its class, and equal bytes count as repeats."""
    bundle_of(tmp_path, "image")
    folder = tmp_path / "pictures"
    for label, sizes in (("a", ((4, 4), (6, 4))), ("b", ((4, 4), (64, 64)))):
        (folder / label).mkdir(parents=True)
        for i, (width, height) in enumerate(sizes):
            pixels = np.random.default_rng(i).integers(0, 256, (height, width), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    good = as_json(capsys, folder, "--bundle", tmp_path / "image", "--holdout", 0)
    torn = folder / "b" / "1.png"
    torn.write_bytes(torn.read_bytes()[:-900])

    code, out, err = check(capsys, folder, "--bundle", tmp_path / "image", "--holdout", 0)

    assert good["samples"] == {"wanted": "4x4", "resized": 2, "sizes": {"4x4": 2, "6x4": 1, "64x64": 1}}
    assert good["contradicting"] == 1
    assert code == 11
    assert "b/1.png: expected a picture" in err
    assert "image folder, 3 rows" in out


def test_sounds_are_measured_against_the_model(tmp_path: Path) -> None:
    """Rates, lengths, and what is cut or padded, are told of a WAV folder for a model of half a second at 8 kHz."""
    folder, bundle = tmp_path / "sounds", bundle_of(tmp_path, "text")
    for label, name, rate, frames in (("a", "x", 8000, 4000), ("a", "y", 16000, 16000), ("b", "z", 4000, 1000)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        write_wave(folder / label / f"{name}.wav", np.zeros(frames), rate)
    inputs = (Tensor("samples", "float32", (2, 4000)),)
    given = replace(bundle.manifest, preprocess=Preprocess("tensors", (), {"sampling_rate": 8000}), inputs=inputs)

    found = survey(folder, replace(bundle, manifest=given), 0.0)

    plain = found.trait.plain()
    assert (plain["rates"], plain["cut"], plain["padded"]) == ({"8000": 1, "16000": 1, "4000": 1}, 1, 1)
    assert (plain["shortest_s"], plain["longest_s"]) == (0.25, 1.0)
    assert any("1 files have a lower rate" in told for told in found.told())
    assert found.train == {"a": 2, "b": 1}


def test_texts_for_a_model_that_generates(tmp_path: Path) -> None:
    """Texts are counted in tokens with their prompts, without classes and without warnings about them."""
    bundle, path = bundle_of(tmp_path, "text"), tmp_path / "lines.jsonl"
    path.write_text('{"text": "red green"}\n\n{"prompt": "sea sea", "text": "sea sea sea sea sea"}\n')
    generate = Generate("prefix", "input_ids", "logits", 6)
    given = replace(bundle.manifest, generate=generate, labels=(), head=None)

    found = survey(path, replace(bundle, manifest=given), 0.0)

    assert (found.rows, found.labels) == (2, ())
    assert found.trait.plain() == {"limit": 6, "longest": 7, "truncated": 1, "tokens": 9}
    assert not any("class" in told for told in found.told())


def test_what_cannot_be_checked_ends_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file, an absent one, broken lines, a wrong key and a wrong share have the exit codes of the docs."""
    bundle_of(tmp_path, "text")
    _, public = write_key(new_key("publisher", "other"), tmp_path)
    path = tmp_path / "data.jsonl"
    path.write_text("\n")
    cases = (
        ((path,), 11, "expected rows in"),
        ((tmp_path / "absent.jsonl",), 18, "check the path"),
        ((path, "--holdout", "2"), 2, "expected --holdout from 0 to 1"),
        ((path, "--trust", public), 14, ""),
    )
    for arguments, code, words in cases:
        found, out, err = check(capsys, *arguments, "--bundle", tmp_path / "text")
        assert (found, out) == (code, "")
        assert words in err
    path.write_text('{"text": "red", "label": "a"}\n{"text": "red", "label": "dgo"}\n')
    found = as_json(capsys, path, "--bundle", tmp_path / "text")["problems"]
    assert found == ["line 2: unknown label 'dgo', expected one of a, b, c"]
