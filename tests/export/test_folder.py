from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from console.errors import UnsupportedModel
from export.sources.folder import read_json, resolve, source_digest, weight_files, weight_names


def copied(folder: Path, to: Path) -> Path:
    """A model folder that a test may change."""
    return Path(shutil.copytree(folder, to / "model"))


def test_a_digest_is_of_the_bytes_that_make_the_model(bert_folder: Path, tmp_path: Path) -> None:
    """One flipped bit in the weights or the configuration changes the digest; a README does not."""
    folder = copied(bert_folder, tmp_path)
    before = source_digest(folder)
    assert before == source_digest(bert_folder)
    (folder / "README.md").write_text("words")
    assert source_digest(folder) == before
    for name in ("model.safetensors", "config.json"):
        data = bytearray((folder / name).read_bytes())
        data[-3] ^= 1
        (folder / name).write_bytes(data)
        assert source_digest(folder) != before
        before = source_digest(folder)


def test_safetensors_are_preferred(bert_folder: Path, tmp_path: Path) -> None:
    """A folder with both formats is known by its safetensors, which is what transformers loads."""
    folder = copied(bert_folder, tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"other")
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert [path.name for path in weight_files(folder)] == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere/at/all", "expected a model folder at nowhere/at/all, found nothing; check the path"),
        ("./nowhere", "expected a model folder at ./nowhere, found nothing"),
        (__file__, "found the file .*test_folder.py; give the folder that save_pretrained wrote"),
        ("nobody/no-such-model", "expected to fetch nobody/no-such-model .* check the name and the network"),
    ],
)
def test_a_source_that_is_not_there_is_refused(source: str, words: str) -> None:
    """Paths to nothing, files, and ids without a network end with what to do."""
    with pytest.raises(UnsupportedModel, match=words):
        resolve(source)


def test_a_folder_without_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    """Which file is missing is said."""
    with pytest.raises(UnsupportedModel, match=r"expected config.json in .*, found none"):
        read_json(tmp_path, "config.json", required=True)
    with pytest.raises(UnsupportedModel, match=r"expected model.safetensors or pytorch_model.bin in .* found neither"):
        source_digest(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_broken_weight_file_is_refused(name: str, tmp_path: Path) -> None:
    """A file that does not hold weights is named, not traced back."""
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(UnsupportedModel, match=f"expected weights in .*{name}, found something else"):
        weight_names(tmp_path)


@pytest.mark.parametrize(("content", "words"), [("{", "expected JSON in"), ("[1]", "expected a JSON object in")])
def test_a_broken_description_is_refused(content: str, words: str, tmp_path: Path) -> None:
    """A description file that does not hold a JSON object is named."""
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UnsupportedModel, match=words):
        read_json(tmp_path, "config.json")
