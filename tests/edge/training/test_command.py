"""`edgequilt train`, as a user runs it: on a bundle and a file, killed, out of disk, on bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData, Declined, StorageError, UsageError
from edge.model import load
from edge.training.cli import train
from tests.conftest import ROOT
from tests.edge.bundles import VOCABULARY, make_bundle
from tests.processes import PATIENCE_S, started, until
from wire.adapter import read_adapter
from wire.keys import write_key

COMMAND = [sys.executable, "edgequilt.py", "train"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of texts with biases, the publisher's key, and data."""
    folder = tmp_path_factory.mktemp("bench")
    key = make_bundle(folder / "bundle", kind="text", biases=True, rank=4)
    write_key(key, folder / "keys")
    words = VOCABULARY[2:]
    lines = [
        {"text": f"{first} {second} {third}", "label": "abc"[i % 3]}
        for i, first in enumerate(words)
        for second in words
        for third in words
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines[::2])
    (folder / "data.jsonl").write_text(text, encoding="utf-8")
    return folder


def arguments(bench: Path, out: Path, *more: str) -> list[str]:
    """A command line."""
    return [str(bench / "bundle"), "--data", str(bench / "data.jsonl"), "--out", str(out), "--force", *more]


def call(bench: Path, out: Path, *more: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, perhaps after some Python."""
    command = [*COMMAND, *arguments(bench, out, *more)]
    if code:
        command = [sys.executable, "-c", f"{code}\nimport edgequilt, sys; sys.exit(edgequilt.main(sys.argv[1:]))"]
        command += ["train", *arguments(bench, out, *more)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_an_adapter_comes_out_that_labels_better(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds factors, biases and a head; with it rows kept back are labelled better than by guessing."""
    out, page = tmp_path / "a.safetensors", tmp_path / "page.html"
    more = ("--trust", str(bench / "keys" / "tester.pub"), "--epochs", "20", "--rate", "0.004", "--json")
    assert train(arguments(bench, out, "--trainer", "backprop", "--html", str(page), *more)) == 0
    said = json.loads(capsys.readouterr().out)

    adapter = read_adapter(out.read_bytes(), "it")
    assert (set(adapter.lora), set(adapter.bias)) == ({"layer.0", "layer.1"}, {"layer.0", "layer.1"})
    assert adapter.head is not None
    assert any(np.abs(lora.b).max() > 0 for lora in adapter.lora.values())
    assert said["trainer"] == "backprop"
    assert said["best"]["score"]["loss"] <= said["looks"][0]["score"]["loss"]
    assert not out.with_name(f"{out.name}.checkpoint").exists()
    model = load(bench / "bundle")
    model.apply(adapter)
    assert model.infer(["red sun"])[0]["label"] in ("a", "b", "c")
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text
    assert "mean loss by step" in text
    assert "Rows kept back" in text


def test_one_factor_may_learn_alone(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--factors b` moves B from zero below the seeded A; `--factors a` goes on from that file, and needs one."""
    first, second = tmp_path / "b.safetensors", tmp_path / "a.safetensors"
    more = ("--trainer", "backprop", "--kinds", "lora", "--rank", "2", "--steps", "3", "--kept-back", "0", "--json")
    with pytest.raises(UsageError, match="expected an adapter to go on from for --factors a"):
        train(arguments(bench, second, *more, "--factors", "a"))

    assert train(arguments(bench, first, *more, "--factors", "b")) == 0
    said = json.loads(capsys.readouterr().out)
    assert train(arguments(bench, second, *more, "--factors", "a", "--adapter", str(first))) == 0

    began, went_on = (read_adapter(path.read_bytes(), "it") for path in (first, second))
    assert said["parameters"] == sum(lora.b.size for lora in began.lora.values())
    for slot, lora in went_on.lora.items():
        assert began.lora[slot].b.any()
        assert np.array_equal(lora.b, began.lora[slot].b)
        assert not np.array_equal(lora.a, began.lora[slot].a)


@pytest.mark.parametrize("trainer", ["backprop", "spry", "ridge"])
def test_the_same_command_gives_the_same_bytes(bench: Path, tmp_path: Path, trainer: str) -> None:
    """Nothing of a run depends on the clock or on chance; another seed gives another file."""
    files = [tmp_path / name for name in ("one", "two", "three")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        train(arguments(bench, file, "--trainer", trainer, "--steps", "3", "--seed", seed, "--json"))
    one, two, three = (file.read_bytes() for file in files)
    assert one == two
    assert trainer == "ridge" or one != three


def test_a_killed_run_goes_on_to_the_same_bytes(bench: Path, tmp_path: Path) -> None:
    """After SIGKILL in the middle the same command goes on, says so, and ends with the bytes of a run left alone.

    What was decided before the first step is not decided again: free memory may have changed meanwhile.
    """
    more = ("--trainer", "auto", "--steps", "100", "--patience", "0", "--checkpoint-every", "0")
    assert call(bench, tmp_path / "whole", *more).returncode == 0
    kept = tmp_path / "killed.checkpoint"
    with started([*COMMAND, *arguments(bench, tmp_path / "killed", *more)], stderr=subprocess.DEVNULL) as run:
        until(kept.exists, run)
        run.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed").exists()

    again = call(bench, tmp_path / "killed", *more)

    assert again.returncode == 0
    assert "It goes on after step" in again.stderr
    assert "Backpropagation:" not in again.stderr
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not kept.exists()


def test_ctrl_c_keeps_what_was_done(bench: Path, tmp_path: Path) -> None:
    """It ends with 130 and says that the same command goes on; nothing is lost but the step under way."""
    more = ("--trainer", "backprop", "--steps", "100000", "--patience", "0", "--checkpoint-every", "0")
    command = [*COMMAND, *arguments(bench, tmp_path / "a", *more)]
    with started(command, stderr=subprocess.PIPE) as run:
        until((tmp_path / "a.checkpoint").exists, run)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 130
    assert "the same command goes on" in said
    assert (tmp_path / "a.checkpoint").exists()
    assert "Traceback" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"a.checkpoint"}


def test_a_full_disk_stops_checkpoints_and_not_the_training(bench: Path, tmp_path: Path) -> None:
    """Where a checkpoint does not fit, one sentence says so, training goes on, and the adapter is written."""
    more = ("--trainer", "backprop", "--steps", "4", "--checkpoint-every", "0")
    assert call(bench, tmp_path / "whole", *more).returncode == 0
    size = (tmp_path / "whole").stat().st_size
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 200}, {size + 200}))"

    found = call(bench, tmp_path / "tight", *more, code=limit)

    assert found.returncode == 0, found.stderr
    assert found.stderr.count("training goes on") == 1
    assert (tmp_path / "tight").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_disk_that_is_full_at_the_end_loses_nothing(bench: Path, tmp_path: Path) -> None:
    """Where the adapter does not fit, exit 18, nothing half is left, and the same command ends from the checkpoint."""
    more = ("--trainer", "backprop", "--steps", "4", "--checkpoint-every", "0")
    out = tmp_path / "a"
    code = (
        "import edge.training.result as result\n"
        "from console.errors import StorageError\n"
        "def full(path, data): raise StorageError('expected to write, stopped (No space left on device)')\n"
        "result.write_atomic = full"
    )
    found = call(bench, out, *more, code=code)
    assert (found.returncode, out.exists()) == (18, False)
    assert "No space left" in found.stderr
    assert (tmp_path / "a.checkpoint").exists()

    again = call(bench, out, *more)

    assert again.returncode == 0
    assert "It goes on after step 4" in again.stderr
    assert call(bench, tmp_path / "whole", *more).returncode == 0
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


def test_another_runs_checkpoint_is_refused_until_told(bench: Path, tmp_path: Path) -> None:
    """A checkpoint of other settings is neither used nor lost: --restart begins anew."""
    code = "import edge.training.result as r; r.write_atomic = lambda *a: (_ for _ in ()).throw(KeyboardInterrupt())"
    more = ("--trainer", "backprop", "--checkpoint-every", "0", "--steps")
    call(bench, tmp_path / "a", *more, "3", code=code)
    with pytest.raises(BadData, match="another run's; --restart begins anew"):
        train(arguments(bench, tmp_path / "a", *more, "4", "--json"))
    assert train(arguments(bench, tmp_path / "a", *more, "4", "--json", "--restart")) == 0


BAD = {
    "an unknown label": ('{"text": "red", "label": "z"}\n', "unknown label 'z'"),
    "an empty file": ("", "expected rows in"),
    "no JSON": ("red\n", "expected a JSON object"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_bad_data_is_refused_by_words(bench: Path, tmp_path: Path, content: str, words: str) -> None:
    """What is wrong with the data is said before anything is trained, and nothing is written."""
    (tmp_path / "data.jsonl").write_text(content, encoding="utf-8")
    asked = [str(bench / "bundle"), "--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "a"), "--json"]
    with pytest.raises(BadData, match=words):
        train(asked)
    assert not list(tmp_path.glob("a*"))


def test_one_class_is_trained_with_a_warning(bench: Path, tmp_path: Path) -> None:
    """Rows of one class alone teach that class: it is said, and the others are never chosen."""
    lines = [json.dumps({"text": f"red {word}", "label": "b"}) for word in ("sun", "sea", "leaf", "blue")]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = [str(bench / "bundle"), "--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "a"), "--force"]
    done = subprocess.run([*COMMAND, *asked], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 classes have no rows and are never chosen" in done.stderr


WRONG = {
    "a rate of zero": (("--rate", "0"), UsageError, "rate: expected at least"),
    "no steps": (("--steps", "0"), UsageError, "steps: expected at least 1"),
    "everything kept back": (("--kept-back", "1"), UsageError, "kept_back: expected at most 0.9"),
    "an unknown kind": (("--kinds", "lora,moe"), UsageError, "found moe"),
    "an edit of nothing": (("--trainer", "edit"), BadData, "expected the adapter whose answers are to be mended"),
}


@pytest.mark.parametrize(("more", "error", "words"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_refused_by_words(
    bench: Path, tmp_path: Path, more: tuple[str, ...], error: type[Exception], words: str
) -> None:
    """Numbers out of bounds and kinds that nobody knows are refused, and nothing is written."""
    with pytest.raises(error, match=words):
        train(arguments(bench, tmp_path / "a", "--json", *more))
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_none_is_refused_before_training(bench: Path, tmp_path: Path) -> None:
    """A folder that is not there is found out at once, not after an hour."""
    with pytest.raises(StorageError, match="expected a file to write at"):
        train(arguments(bench, tmp_path / "absent" / "a"))


def test_the_environment_is_not_needed(bench: Path, tmp_path: Path) -> None:
    """Neither a home nor a network is asked for."""
    bare = {"PATH": os.environ["PATH"]}
    command = [*COMMAND, *arguments(bench, tmp_path / "a", "--steps", "1", "--trainer", "backprop")]
    assert subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, check=False, timeout=60).returncode == 0


def test_too_few_rows_are_declined_with_the_numbers(bench: Path, tmp_path: Path) -> None:
    """Four rows support no adapter for 500 steps: it is declined, and --force trains all the same."""
    rows = (bench / "data.jsonl").read_text(encoding="utf-8").splitlines()[::27]
    (tmp_path / "few.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = [str(bench / "bundle"), "--data", str(tmp_path / "few.jsonl"), "--out", str(tmp_path / "a"), "--json"]
    more = ["--kept-back", "0", "--trainer", "backprop", "--kinds", "lora,bias", "--steps", "500", "--rate", "0.01"]
    with pytest.raises(Declined, match=r"found too few rows for every one of them; .*--force"):
        train([*asked, *more])
    assert not (tmp_path / "a").exists()
    assert train([*asked, *more, "--force"]) == 0


def test_auto_says_why(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a word about the trainer it takes backpropagation here, and the tier that the rows support."""
    out = tmp_path / "a"
    asked = [str(bench / "bundle"), "--data", str(bench / "data.jsonl"), "--out", str(out), "--json", "--steps", "4"]
    assert train(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["trainer"] == "backprop"
    assert any(words.startswith("Backpropagation:") for words in said["sentences"])
    assert any(words.startswith("Train ") for words in said["sentences"])
    assert said["trained"].split()[0] in ("rank", "bias")


def test_an_edit_mends_what_is_wrong(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text that the adapter labels wrong is labelled right after an edit, and the kept rows' answers stay."""
    base, out = tmp_path / "base", tmp_path / "edited"
    train(arguments(bench, base, "--trainer", "ridge", "--json"))
    model = load(bench / "bundle")
    model.apply(read_adapter(base.read_bytes(), "it"))
    rows = [json.loads(line) for line in (bench / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    found = model.infer([row["text"] for row in rows])
    answers = [one["label"] for one in found]
    wrongs = [i for i, row in enumerate(rows) if answers[i] != row["label"]]
    wrong = max(wrongs, key=lambda i: found[i]["scores"][rows[i]["label"]])
    (tmp_path / "wrong.jsonl").write_text(json.dumps(rows[wrong]) + "\n", encoding="utf-8")
    asked = [str(bench / "bundle"), "--data", str(tmp_path / "wrong.jsonl"), "--out", str(out), "--json"]
    capsys.readouterr()
    kept = str(bench / "data.jsonl")

    assert train([*asked, "--trainer", "edit", "--adapter", str(base), "--keep", kept, "--bound", "0.1"]) == 0

    said = json.loads(capsys.readouterr().out)
    model.apply(read_adapter(out.read_bytes(), "it"))
    after = [found["label"] for found in model.infer([row["text"] for row in rows])]
    assert after[wrong] == rows[wrong]["label"]
    assert sum(a != b for a, b in zip(answers, after, strict=True)) <= 12
    assert said["trainer"] == "edit"


def test_texts_that_are_too_long_are_counted(bench: Path, tmp_path: Path) -> None:
    """A text longer than the bucket loses its end, and a sentence says how many did."""
    lines = (bench / "data.jsonl").read_text(encoding="utf-8").splitlines()
    long = {"text": " ".join(["red", "sun"] * 6), "label": "a"}
    (tmp_path / "data.jsonl").write_text("\n".join([*lines, json.dumps(long)]) + "\n", encoding="utf-8")
    asked = [
        str(bench / "bundle"),
        "--data",
        str(tmp_path / "data.jsonl"),
        "--out",
        str(tmp_path / "a"),
        "--steps",
        "1",
    ]
    command = [*COMMAND, *asked, "--kept-back", "0", "--trainer", "backprop", "--force"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "1 of 109 rows are longer than the bucket and lose their end." in done.stderr


def test_rows_of_earlier_runs_are_mixed_in_and_kept(bench: Path, tmp_path: Path) -> None:
    """A first run leaves rows in the folder, a second one learns from them too and says how many it kept."""
    lines = (bench / "data.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    said = []
    for number, part in enumerate((lines[:54], lines[54:])):
        (tmp_path / "data.jsonl").write_text("".join(part), encoding="utf-8")
        asked = [str(bench / "bundle"), "--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / f"a{number}")]
        command = [*COMMAND, *asked, "--trainer", "ridge", "--force", "--replay", str(tmp_path / "kept")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    assert "rows of this run are kept in" in said[0]
    kept = (tmp_path / "kept" / "rows.jsonl").read_text(encoding="utf-8")
    assert sum(json.loads(line)["text"] in kept for line in lines[:54]) > 20
    assert sum(json.loads(line)["text"] in kept for line in lines[54:]) > 20


def test_a_micro_batch_that_the_bundle_has_not_is_refused(bench: Path, tmp_path: Path) -> None:
    """Only micro-batches with graphs can be asked for, and they are named."""
    with pytest.raises(BadData, match=r"expected a micro-batch of the bundle \(2\), found 3"):
        train(arguments(bench, tmp_path / "a", "--trainer", "backprop", "--micro-batch", "3", "--json"))
