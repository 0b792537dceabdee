"""Statistics, scores, data files, preprocessing, and bundles that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from console.errors import BadData, EdgequiltError, IntegrityError, SignatureError, StorageError
from edge import load
from edge.assemble import assemble, prefix
from edge.data import Row, read_data
from edge.evaluate import evaluate, score_of
from edge.features import statistics
from edge.jobs import settings_of
from edge.runner import Runner
from edge.train import TrainSettings, train
from tests.edge.bundles import MODEL, flip, make_bundle, make_weights, trust_of
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import pictures, random_adapter, rows, runner
from wire.adapter import Adapter, to_bytes
from wire.bundle import open_bundle
from wire.kinds.lora import Lora
from wire.ladder import rungs

TEXTS = ["red sun", "green leaf leaf", "blue sea sea sun red red red red", "nothing known"]


def test_statistics_of_parts_add_up_to_those_of_the_whole(tmp_path: Path) -> None:
    """Counts, sums and grams of two halves add to those of all rows, and are those of the features."""
    run = runner(tmp_path, forward_batch=4)
    adapter, given = random_adapter(run.manifest), rows(9)

    (whole, n), (left, _), (right, _) = (statistics(run, adapter, part) for part in (given, given[:4], given[4:]))

    x = Oracle(make_weights(2), adapter).features(pixels([r.sample for r in given])).detach().numpy()
    assert n == 9
    np.testing.assert_allclose((left + right).gram, whole.gram, rtol=1e-6)
    np.testing.assert_allclose(whole.gram, x.T @ x, atol=1e-5)
    np.testing.assert_allclose(whole.sum[1], x[1::3].sum(axis=0), atol=1e-5)
    assert whole.count.tolist() == [3, 3, 3]


def test_a_class_with_few_rows_is_left_out(tmp_path: Path) -> None:
    """With a minimum of two rows per class a class with one row appears nowhere; with none left, words say so."""
    run = runner(tmp_path)
    given = rows(4)  # labels 0 1 2 0

    found, n = statistics(run, None, given, 2)

    assert (n, found.count.tolist()) == (2, [2, 0, 0])
    assert not found.sum[1:].any()
    with pytest.raises(BadData, match="expected at least 5 rows of one class, found 2"):
        statistics(run, None, given, 5)


def test_scores_count_what_is_right(tmp_path: Path) -> None:
    """Counts per class are those of the oracle's largest logit; a version without a head gets nothing right."""
    run = runner(tmp_path, forward_batch=4)
    adapter, given = random_adapter(run.manifest), rows(11)
    labels = np.array([r.label for r in given])
    guess = Oracle(make_weights(2), adapter).logits(pixels([r.sample for r in given])).detach().numpy().argmax(axis=1)

    score = evaluate(run, adapter, given, "0" * 64, 2)
    headless = evaluate(run, Adapter(MODEL, lora=adapter.lora), given, "0" * 64, 2)

    assert score.count == (4, 4, 3)
    assert score.correct == tuple(int(((guess == labels) & (labels == c)).sum()) for c in range(3))
    assert sum(score.correct) > 0
    assert headless.correct == (0, 0, 0)


def test_scores_say_which_rows_two_versions_share() -> None:
    """The paired count per class is that of rows right under both, counted by hand."""
    given = [Row({}, label) for label in (0, 0, 0, 1, 1)]
    first, right = np.array([True, True, False, True, False]), np.array([True, False, True, True, True])

    score = score_of(given, right, "0" * 64, 2, 3, first)

    assert (score.count, score.correct, score.both) == ((3, 2, 0), (2, 2, 0), (1, 1, 0))


def test_rungs_make_the_adapter_again() -> None:
    """Pieces [0,1), [1,2), [2,4) cut at rank 3 are the first three directions; a piece of another ladder is refused."""
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=shape).astype(np.float32) for shape in ((5, 4), (4, 3)))
    whole = Lora(a, b, 2.0)
    files = [
        to_bytes(Adapter(MODEL, lora={"layer.0": Lora(whole.a[:, low:high], whole.b[low:high], 2.0)}))
        for low, high in rungs(4)
    ]

    found = assemble(MODEL, "0" * 64, files, None, 3)

    np.testing.assert_array_equal(found.lora["layer.0"].a, whole.a[:, :3])
    np.testing.assert_array_equal(prefix(found, 2).lora["layer.0"].b, whole.b[:2])
    stranger = to_bytes(Adapter(MODEL, lora={"layer.9": Lora(whole.a[:, :1], whole.b[:1], 2.0)}))
    with pytest.raises(BadData, match=r"slot layer\.0 is not in every rung; slot layer\.9 is not in every rung"):
        assemble(MODEL, "0" * 64, [files[0], stranger], None, 2)


def test_text_is_cut_and_padded_to_the_bucket(tmp_path: Path) -> None:
    """Short, long and unknown texts give the masked mean of their first six words, and the same when asked alone."""
    key = make_bundle(tmp_path / "b", kind="text", forward_batch=3)
    model = load(tmp_path / "b", trust_of(key))
    weights = make_weights()
    ids = [[2, 5], [3, 7, 7], [4, 6, 6, 5, 2, 2], [1, 1]]
    x = np.stack([weights.table[i].mean(axis=0) for i in ids])
    expected = Oracle(weights, random_adapter(model.runner.manifest, rank=0)).features(x).detach().numpy()

    np.testing.assert_allclose(model.features(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(model.features(TEXTS[2]), expected[2:3], atol=1e-6)
    found = model.infer(TEXTS)
    assert [f["label"] for f in found] == ["a"] * 4
    assert found[0]["scores"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_texts_that_are_encoded_apart_are_the_same(tmp_path: Path) -> None:
    """A frugal runner, whose tokenizer lives in another process, gives the same bits; a broken one gives words."""
    make_bundle(tmp_path / "b", kind="text")
    bundle = open_bundle(tmp_path / "b", None)

    usual, frugal = (Runner(bundle, frugal=f).forward([*TEXTS, "\u2603 red\n"]).features for f in (False, True))

    np.testing.assert_array_equal(usual, frugal)
    assert Runner(bundle, frugal=True).forward([]).features.shape == (0, 5)
    (tmp_path / "b" / "tokenizer.json").write_text("{}")
    for f in (False, True):
        with pytest.raises(IntegrityError, match=r"expected a tokenizer in tokenizer\.json, found something else"):
            Runner(bundle, frugal=f).forward(TEXTS)


def test_pictures_are_the_same_as_paths_and_arrays(tmp_path: Path) -> None:
    """A PNG, a Pillow image, an array, and a larger colour picture of one colour are read as the manifest says."""
    make_bundle(tmp_path / "b")
    model = load(tmp_path / "b")
    grey = pictures(1)[0]
    PIL.Image.fromarray(grey).save(tmp_path / "grey.png")
    large = np.full((9, 12, 3), 200, np.uint8)

    as_array, as_path, as_image = (
        model.features([s]) for s in (grey, tmp_path / "grey.png", PIL.Image.fromarray(grey))
    )

    np.testing.assert_array_equal(as_array, as_path)
    np.testing.assert_array_equal(as_array, as_image)
    np.testing.assert_allclose(model.features([large]), model.features([np.full((4, 4), 200, np.uint8)]), atol=1e-6)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"expected a picture, found .*broken\.png"):
        model.features([tmp_path / "broken.png"])


def test_an_adapter_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    """Wrong slots, shapes and model id are all named at once, before anything runs."""
    make_bundle(tmp_path / "b")
    model = load(tmp_path / "b")
    good = random_adapter(model.runner.manifest)
    bad = Adapter("other", lora={"layer.7": good.lora["layer.0"], "layer.1": good.lora["layer.0"]})

    with pytest.raises(BadData) as found:
        model.apply(bad)

    for words in ("slot layer.7 is not in the model", "slot layer.1 needs 5 x 5, not 16 x 5", "belongs to model other"):
        assert words in str(found.value)
    model.apply(good)
    assert model.infer(pictures(1)) != load(tmp_path / "b").infer(pictures(1))


DAMAGE: dict[str, tuple[Any, str, type[EdgequiltError]]] = {
    "a flipped byte in a graph": (lambda f: flip(f / "segment0.forward.train.onnx"), "another SHA-256", IntegrityError),
    "a missing file": (lambda f: (f / "golden.safetensors").unlink(), "golden.safetensors is missing", IntegrityError),
    "a changed manifest": (lambda f: edit(f, '"rank": 2', '"rank": 3'), "found other bytes", SignatureError),
    "no signature": (lambda f: (f / "manifest.sig").unlink(), "expected a signature", SignatureError),
}


def edit(folder: Path, old: str, new: str) -> None:
    """Change the manifest without signing it."""
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(("damage", "words", "error"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_bundle_is_refused(tmp_path: Path, damage: Any, words: str, error: type[EdgequiltError]) -> None:
    """Nothing of a bundle that was changed is loaded, and the words say what is wrong."""
    key = make_bundle(tmp_path / "b")
    load(tmp_path / "b", trust_of(key))
    damage(tmp_path / "b")

    with pytest.raises(error, match=words):
        load(tmp_path / "b", trust_of(key))


def test_inputs_that_the_manifest_does_not_name_are_refused(tmp_path: Path) -> None:
    """A graph whose adapter inputs the manifest forgot would silently run the base model; it is refused by name."""
    make_bundle(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["slots"], manifest["segments"][0]["slots"] = manifest["slots"][1:], []  # else it contradicts itself
    for graph in manifest["segments"][0]["graphs"]:
        graph["inputs"] = [t for t in graph["inputs"] if not t["name"].endswith("layer.0.B")]
    path.write_text(json.dumps(manifest))

    with pytest.raises(IntegrityError, match=r"input slot\.layer\.0\.B is not in the manifest"):
        load(tmp_path / "b").features(pictures(1))


LINES = {
    "not JSON": ("{", "line 2: expected a JSON object"),
    "a list": ("[1]", "line 2: expected a JSON object, found list"),
    "no text": ('{"label": "a"}', "line 2: expected 'text' with some text, found 'None'"),
    "an empty text": ('{"text": " ", "label": "a"}', "line 2: expected 'text' with some text"),
    "no label": ('{"text": "red"}', "line 2: expected 'label' with some text"),
    "an unknown label": ('{"text": "red", "label": "dgo"}', "line 2: unknown label 'dgo', expected one of a, b, c"),
}


@pytest.mark.parametrize(("line", "words"), LINES.values(), ids=LINES)
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    """Every kind of broken line is refused with its number and what was found."""
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "red", "label": "a"}\n' + line + "\n")

    with pytest.raises(BadData) as found:
        read_data(path, ("a", "b", "c"), "text", 0.2)

    assert words in str(found.value)


def test_all_broken_lines_are_named_at_once(tmp_path: Path) -> None:
    """Two broken lines are both in the message; a file without rows and a file that is not there are words too."""
    path = tmp_path / "data.jsonl"
    path.write_text('{\n{"text": "red", "label": "a"}\n{"text": "red", "label": "x"}\n')
    with pytest.raises(BadData, match=r"line 1: .*line 3: unknown label 'x'.*mend these lines"):
        read_data(path, ("a",), "text", 0.2)
    path.write_text("\n\n")
    with pytest.raises(BadData, match="expected rows in"):
        read_data(path, ("a",), "text", 0.2)
    with pytest.raises(StorageError, match="expected a data file"):
        read_data(tmp_path / "absent", ("a",), "text", 0.2)


def test_the_hold_out_is_a_stable_share(tmp_path: Path) -> None:
    """About the share asked for is kept back, disjoint from training, and growing the file moves no row across."""
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"text": f"sentence {i}", "label": "a"}) for i in range(1000)]
    path.write_text("\n".join(lines[:600]))
    small = read_data(path, ("a",), "text", 0.15)
    path.write_text("\n".join(reversed(lines)))
    large = read_data(path, ("a",), "text", 0.15)

    assert 100 < len(large.holdout) < 200
    assert len(large.all) == 1000
    assert not {r.sample for r in large.train} & {r.sample for r in large.holdout}
    assert {r.sample for r in small.holdout} <= {r.sample for r in large.holdout}


def test_settings_are_checked_and_unknown_ones_left_out() -> None:
    """Unknown settings are ignored; wrong ones are all named."""
    assert settings_of({"steps": 3, "batch": 4, "colour": "red"}) == TrainSettings(steps=3, batch=4)
    with pytest.raises(BadData, match=r"steps: expected at least 1, found 0; learning_rate: expected float"):
        settings_of({"steps": 0, "learning_rate": "fast"})


def test_training_says_what_it_lacks(tmp_path: Path) -> None:
    """No rows, no directions and a loss that runs away end with words, not with NaN factors."""
    run = runner(tmp_path)
    adapter = random_adapter(run.manifest)
    with pytest.raises(BadData, match="expected rows to train on"):
        train(run, adapter, [], TrainSettings())
    with pytest.raises(BadData, match="found rank 0"):
        train(run, random_adapter(run.manifest, rank=0), rows(3), TrainSettings())
    assert adapter.head is not None
    adapter.head.weight[:] = 3e38
    with pytest.raises(BadData, match="expected a finite loss"):
        train(run, adapter, rows(3), TrainSettings(steps=2))
