"""Class folders of pictures and of sounds: what is read, in which order, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from console.errors import BadData, StorageError
from edge.data import count_data, open_data
from tests.edge.data.models import LABELS, listener, manifest_of, tensors_of
from tests.edge.data.waves import write_wave
from wire.manifest import Tensor


def pictures(folder: Path) -> Path:
    """Two classes of pictures, some below a further folder, of several formats."""
    for i, name in enumerate(("b/2.png", "b/1.JPG", "b/deep/er/0.bmp", "a/x.gif", "a/y.webp")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 40 * i, np.uint8)).save(path)
    return folder


def test_an_image_folder_has_a_folder_per_class(tmp_path: Path) -> None:
    """Every file below a class's folder is a row of it, classes and files in order; what is hidden is passed over."""
    folder, manifest = pictures(tmp_path / "it"), manifest_of(tmp_path, "image")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "old.png").write_bytes(b"")
    (folder / "a" / "Thumbs.db").write_bytes(b"left behind")

    found = open_data(folder, manifest, 0.0).train

    names = ["a/x.gif", "a/y.webp", "b/1.JPG", "b/2.png", "b/deep/er/0.bmp"]
    assert [(r.sample.relative_to(folder).as_posix(), LABELS[r.label]) for r in found] == [(n, n[0]) for n in names]


def test_the_side_of_a_file_stays_where_the_folder_moves(tmp_path: Path) -> None:
    """A copy of the folder elsewhere keeps the same files back, and a share of 1 keeps all."""
    manifest = manifest_of(tmp_path, "image")
    for i in range(40):
        (tmp_path / "it" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / "it" / "a" / f"{i}.png")
    shutil.copytree(tmp_path / "it", tmp_path / "there")

    here, there = (open_data(tmp_path / name, manifest, 0.4).holdout for name in ("it", "there"))

    assert [r.sample.name for r in here] == [r.sample.name for r in there]
    assert 4 < len(here) < 36
    assert len(open_data(tmp_path / "it", manifest, 1.0).holdout) == 40


def test_everything_wrong_with_an_image_folder_is_named(tmp_path: Path) -> None:
    """A broken picture, a stray file, a file of another kind and an unknown class are in one message."""
    folder, manifest = pictures(tmp_path / "it"), manifest_of(tmp_path, "image")
    (folder / "a" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "a" / "notes.txt").write_text("red")
    (folder / "stray.png").write_bytes(b"")
    (folder / "dgo").mkdir()
    (folder / "dgo" / "it.png").write_bytes(b"")

    with pytest.raises(BadData) as found:
        open_data(folder, manifest, 0.0)

    for words in (
        "a/torn.png: expected a picture",
        "a/notes.txt: expected .bmp, .gif",
        "stray.png: expected a folder per class",
        "folder dgo: unknown label 'dgo', expected one of a, b, c",
        "mend these files",
    ):
        assert words in str(found.value)


def test_empty_and_absent_folders_are_words(tmp_path: Path) -> None:
    """A folder without classes, classes without files, and a folder that is not there."""
    manifest = manifest_of(tmp_path, "image")
    (tmp_path / "it").mkdir()
    with pytest.raises(BadData, match="expected rows in .*make a folder per class"):
        open_data(tmp_path / "it", manifest, 0.0)
    (tmp_path / "it" / "a").mkdir()
    with pytest.raises(BadData, match="expected rows in"):
        count_data(tmp_path / "it", manifest)
    with pytest.raises(StorageError, match="check the path"):
        open_data(tmp_path / "absent", manifest, 0.0)


def test_pictures_that_lines_name_must_be_there(tmp_path: Path) -> None:
    """JSONL and CSV that name absent pictures say which lines, and take those that are there."""
    pictures(tmp_path / "it")
    manifest, path = manifest_of(tmp_path, "image"), tmp_path / "data.csv"
    path.write_text("image,label\nit/b/2.png,b\nit/b/3.png,b\n")
    with pytest.raises(BadData, match="line 3: expected a file, found none at 3.png"):
        count_data(path, manifest)
    path.write_text("image,label\nit/b/2.png,b\n")
    assert open_data(path, manifest, 0.0).train[0].sample == tmp_path / "it/b/2.png"


def test_a_wav_folder_is_read_and_its_faults_named(tmp_path: Path) -> None:
    """WAV files come with their class; a text with that suffix, a torn file and a picture are in one message."""
    folder, manifest = tmp_path / "it", listener(tmp_path)
    for label in ("a", "c"):
        (folder / label).mkdir(parents=True)
        write_wave(folder / label / "x.wav", np.zeros(100), 8000)
    assert [r.label for r in open_data(folder, manifest, 0.0).train] == [0, 2]
    (folder / "a" / "text.wav").write_text("no sound")
    (folder / "a" / "torn.wav").write_bytes((folder / "a" / "x.wav").read_bytes()[:90])
    (folder / "c" / "y.png").write_bytes(b"")

    with pytest.raises(BadData) as found:
        count_data(folder, manifest)

    for words in (
        "a/text.wav: expected a WAV file",
        "a/torn.wav: expected a WAV file",
        "it is torn",
        "c/y.png: expected .wav",
    ):
        assert words in str(found.value)


def test_sounds_need_a_model_that_listens_and_one_rate(tmp_path: Path) -> None:
    """A WAV folder for a model of frames is refused; where the bundle names no rate, files must agree on one."""
    folder = tmp_path / "it"
    for label, rate in (("a", 8000), ("b", 16000)):
        (folder / label).mkdir(parents=True)
        write_wave(folder / label / "x.wav", np.zeros(100), rate)
    frames = tensors_of(tmp_path / "frames", Tensor("input_features", "float32", (1, 80, 3000)))
    with pytest.raises(BadData, match=r"takes input_features float32 \[1, 80, 3000\]; compute these arrays"):
        open_data(folder, frames, 0.0)
    with pytest.raises(BadData, match="b/x.wav: expected 8000 Hz, as files before it.*found 16000 Hz"):
        count_data(folder, listener(tmp_path / "unsaid", rate=None))
    assert count_data(folder, listener(tmp_path / "said", rate=8000)) == 2
